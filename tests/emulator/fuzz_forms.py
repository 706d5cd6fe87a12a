"""Instruction forms that random programs are made of. `{a}` is a register of 32 bits, `{d}` of 64, `{h}` of 16."""

# ruff: noqa: E501 - lines of PTX

import itertools

HALF = [
    *(f"{op}.{kind} {{h}}, {{h}}, {{h}};" for op in ("add", "sub", "mul") for kind in ("f16", "bf16")),
    *(
        f"{op}.{m}f16 {{h}}, {{h}}, {{h}};"
        for op in ("add", "sub", "mul")
        for m in ("ftz.", "sat.", "ftz.sat.", "rn.")
    ),
    *(
        f"{op}.{m}{kind} {{a}}, {{a}}, {{a}};"
        for op in ("add", "sub", "mul")
        for kind in ("f16x2",)
        for m in ("", "ftz.", "sat.", "rn.ftz.sat.")
    ),
    *(f"{op}.bf16x2 {{a}}, {{a}}, {{a}};" for op in ("add", "sub", "mul")),
    *(f"fma.rn{m}.{kind} {{a}}, {{a}}, {{a}}, {{a}};" for kind in ("f16x2", "bf16x2") for m in ("", ".relu")),
    *(f"fma.rn{m}.{kind} {{h}}, {{h}}, {{h}}, {{h}};" for kind in ("f16", "bf16") for m in ("", ".relu")),
    *(f"fma.rn{m}.f16x2 {{a}}, {{a}}, {{a}}, {{a}};" for m in (".ftz", ".sat", ".ftz.relu")),
    *(
        f"{op}{m}.{kind} {{a}}, {{a}}, {{a}};"
        for op in ("min", "max")
        for kind in ("f16x2", "bf16x2")
        for m in ("", ".NaN", ".xorsign.abs", ".NaN.xorsign.abs")
    ),
    *(
        f"{op}{m}.{kind} {{h}}, {{h}}, {{h}};"
        for op in ("min", "max")
        for kind in ("f16", "bf16")
        for m in ("", ".NaN", ".xorsign.abs")
    ),
    *(f"{op}.{kind} {{a}}, {{a}};" for op in ("neg", "abs") for kind in ("f16x2", "bf16x2")),
    *(f"{op}.{kind} {{h}}, {{h}};" for op in ("neg", "abs") for kind in ("f16", "bf16", "ftz.f16")),
    *(
        f"set.{c}.{kind}.{kind} {{a}}, {{a}}, {{a}};"
        for c in ("eq", "ltu", "ge", "nan")
        for kind in ("f16x2", "bf16x2")
    ),
    *(f"set.{c}.{to}.f16 {{a}}, {{h}}, {{h}};" for c in ("ne", "lt", "num") for to in ("u32", "s32")),
    *(
        f"setp.{c}.{kind} %p0|%p1, {{a}}, {{a}}; selp.b32 {{a}}, {{a}}, {{a}}, %p0;"
        for c in ("lt", "geu", "neu", "equ")
        for kind in ("f16x2", "bf16x2")
    ),
    "setp.lt.and.f16 %p2, {h}, {h}, %p1; @%p2 add.bf16x2 {a}, {a}, {a};",
    "mov.b32 {a}, {{h}, {h}};",
    "mov.b32 {%h0, %h1}, {a};",
    "mov.b32 {%h2, %h3}, {a};",
    "ex2.approx.f16x2 {a}, {a};",
    "tanh.approx.f16x2 {a}, {a};",
    "ex2.approx.ftz.bf16x2 {a}, {a};",
    "tanh.approx.bf16 {h}, {h};",
]
"""Arithmetic and comparison of halves."""

_NARROW = ("u8", "s8", "u16", "s16")
_REGISTER = {**dict.fromkeys((*_NARROW, "f16", "bf16"), "h"), **dict.fromkeys(("u32", "s32", "f32"), "a"),
             **dict.fromkeys(("u64", "s64", "f64"), "d")}  # fmt: skip
_INTEGERS = (*_NARROW, "u32", "s32", "u64", "s64")
_FLOATS = ("f16", "bf16", "f32", "f64")


def _cvt(modifiers: str, target: str, source: str) -> str:
    return f"cvt{modifiers}.{target}.{source} {{{_REGISTER[target]}}}, {{{_REGISTER[source]}}};"


CONVERSIONS = [
    *(_cvt(m, t, s) for t, s in itertools.product(_INTEGERS, _INTEGERS) for m in ("", ".sat")),
    *(_cvt(f".{r}{m}", t, s) for t in _INTEGERS for s in _FLOATS for r in ("rni", "rzi", "rmi", "rpi") for m in ("", ".sat")
      if not (t in ("u8", "s8") and s == "bf16")),
    *(_cvt(f".{r}", t, s) for t in ("f16", "f32", "f64", "bf16") for s in _INTEGERS for r in ("rn", "rz", "rm", "rp")
      if not (t == "bf16" and s in ("u8", "s8"))),
    *(_cvt(f".{r}{m}", t, s) for t, s in (("f16", "f32"), ("f16", "f64"), ("f32", "f64"), ("bf16", "f32"), ("bf16", "f64")) for r in ("rn", "rz", "rm", "rp")
      for m in ("", ".sat") if not (t == "bf16" and m)),
    *(_cvt(m, t, s) for t, s in (("f32", "f16"), ("f64", "f16"), ("f64", "f32"), ("f32", "bf16"), ("f64", "bf16")) for m in ("",)),
    *(_cvt(f".{r}{m}", t, t) for t in ("f16", "f32", "f64") for r in ("rni", "rzi", "rmi", "rpi") for m in ("", ".sat")),
    *(f"cvt.{r}.ftz{m}.f32.f32 {{a}}, {{a}};" for r in ("rni", "rzi") for m in ("", ".sat")),
    *(f"cvt.{r}.ftz.s32.f32 {{a}}, {{a}};" for r in ("rni", "rpi")), "cvt.rn.ftz.f32.f64 {a}, {d};", "cvt.ftz.f32.f16 {a}, {h};", "cvt.ftz.f64.f32 {d}, {a};",
    *(f"cvt.{r}{m}.{t}.f32 {{a}}, {{a}}, {{a}};" for r in ("rn", "rz") for m in ("", ".relu", ".satfinite", ".relu.satfinite") for t in ("f16x2", "bf16x2")),
    *(f"cvt.{r}{m}.{t}.f32 {{h}}, {{a}};" for r in ("rn", "rz") for m in (".relu", ".satfinite", ".relu.satfinite") for t in ("f16", "bf16")),
    *(f"cvt.{m}.tf32.f32 {{a}}, {{a}};" for m in ("rna", "rn", "rz", "rn.relu", "rz.relu", "rn.satfinite", "rz.satfinite", "rz.satfinite.relu")),
    *(f"cvt.rn.satfinite{m}.{t}.f32 {{h}}, {{a}}, {{a}};" for m in ("", ".relu") for t in ("e4m3x2", "e5m2x2")),
    *(f"cvt.rn.satfinite{m}.{t}.f16x2 {{h}}, {{a}};" for m in ("", ".relu") for t in ("e4m3x2", "e5m2x2")),
    *(f"cvt.rn{m}.f16x2.{t} {{a}}, {{h}};" for m in ("", ".relu") for t in ("e4m3x2", "e5m2x2")),
    *(f"cvt.pack.sat.{t}.s32.b32 {{a}}, {{a}}, {{a}}, {{a}};" for t in ("u8", "s8")), *(f"cvt.pack.sat.{t}.s32 {{a}}, {{a}}, {{a}};" for t in ("u16", "s16")),
]  # fmt: skip
"""`cvt`, by types and roundings."""
BETWEEN = [
    "mov.b32 {a}, {{h}, {h}};",
    "mov.b32 {%h0, %h1}, {a};",
    "mov.b64 {d}, {{a}, {a}};",
    "mov.b64 {%t0, %t1}, {d}; mov.b32 {a}, %t0;",
    "xor.b32 {a}, {a}, {a};",
]
"""Moves between registers of different width."""

_TYPES = ("u32", "s32")
PACKED = [
    *(f"v{op}{n}.{t}.{s}.{u}{m} {{a}}, {{a}}, {{a}}, {{a}};" for op in ("add", "sub", "avrg", "absdiff", "min", "max") for n in (2, 4) for t, s, u in itertools.product(_TYPES, _TYPES, _TYPES)
      for m in ("", ".sat", ".add")),
    *(f"vset{n}.{s}.{u}.{c}{m} {{a}}, {{a}}, {{a}}, {{a}};" for n in (2, 4) for s, u in itertools.product(_TYPES, _TYPES) for c in ("eq", "lt", "ge") for m in ("", ".add")),
    "vadd2.s32.s32.u32.sat {a}.h1, {a}.h01, {a}.h32, {a};", "vsub4.u32.u32.u32.sat {a}.b20, {a}.b3175, {a}, {a};", "vabsdiff4.u32.u32.u32.add {a}.b321, {a}, {a}.b0000, {a};",
    *(f"v{op}.{t}.{s}.{u}{m} {{a}}, {{a}}{x}, {{a}}{y};" for op in ("add", "sub", "absdiff", "min", "max") for t, s, u in itertools.product(_TYPES, _TYPES, _TYPES) for m in ("", ".sat")
      for x, y in (("", ""), (".b2", ".h1"))),
    *(f"v{op}.{t}.{s}.{s}{m}.{second} {{a}}, {{a}}.h0, {{a}}, {{a}};" for op in ("add", "min") for t in _TYPES for s in _TYPES for m in ("", ".sat") for second in ("add", "min", "max")),
    *(f"v{op}.{t}.{t}.{t}{m} {{a}}.{part}, {{a}}, {{a}}.b1, {{a}};" for op in ("sub", "max") for t in _TYPES for m in ("", ".sat") for part in ("b0", "b3", "h0", "h1")),
    *(f"v{op}.{t}.{t}.u32{m}.{mode} {{a}}, {{a}}, {{a}};" for op in ("shl", "shr") for t in _TYPES for m in ("", ".sat") for mode in ("clamp", "wrap")),
    *(f"vmad.{t}.{s}.{u}{m} {{a}}, {{a}}, {{a}}, {{a}};" for t, s, u in itertools.product(_TYPES, _TYPES, _TYPES) for m in ("", ".sat", ".po.shr7", ".sat.shr15")),
    "vset.s32.u32.lt.add {a}, {a}.b1, {a}, {a};", "vset.u32.u32.ne {a}.b1, {a}, {a}, {a};",
    *(f"{op}.{t} {{a}}, {{a}}, {{a}};" for op in ("add", "min", "max") for t in ("u16x2", "s16x2")), "min.relu.s16x2 {a}, {a}, {a};", "max.relu.s32 {a}, {a}, {a};",
    *(f"dp4a.{t}.{s} {{a}}, {{a}}, {{a}}, {{a}};" for t in _TYPES for s in _TYPES), *(f"dp2a.{half}.{t}.{s} {{a}}, {{a}}, {{a}}, {{a}};" for half in ("lo", "hi") for t in _TYPES for s in _TYPES),
    *(f"{op}.{half}.{t} {{a}}, {{a}}, {{a}}{more};" for op, more in (("mul24", ""), ("mad24", ", {a}")) for half in ("lo", "hi") for t in _TYPES), "mad24.hi.sat.s32 {a}, {a}, {a}, {a};",
    *(f"bmsk.{m}.b32 {{a}}, {{a}}, {{a}};" for m in ("clamp", "wrap")), *(f"szext.{m}.{t} {{a}}, {{a}}, {{a}};" for m in ("clamp", "wrap") for t in _TYPES),
    "and.b32 %t0, {a}, 31; fns.b32 {a}, {a}, %t0, {a};", "and.b32 %t0, {a}, 31; and.b32 %t1, {a}, 15; sub.s32 %t1, %t1, 7; fns.b32 {a}, {a}, %t0, %t1;",
    *(f"shf.{way}.{m}.b32 {{a}}, {{a}}, {{a}}, {{a}};" for way in ("l", "r") for m in ("clamp", "wrap")), *(f"prmt.b32.{m} {{a}}, {{a}}, {{a}}, {{a}};" for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")),
    "lop3.or.b32 {a}|%p0, {a}, {a}, {a}, 0x5a, %p1;", "lop3.and.b32 {a}|%p1, {a}, {a}, {a}, 0xc8, %p0;", "bfe.s64 {d}, {d}, {a}, {a};", "bfi.b64 {d}, {d}, {d}, {a}, {a};", "bfind.shiftamt.s64 {a}, {d};",
    "add.cc.u32 {a}, {a}, {a}; addc.cc.u32 {a}, {a}, {a}; addc.u32 {a}, {a}, {a};", "sub.cc.u64 {d}, {d}, {d}; subc.u64 {d}, {d}, {d};", "mad.hi.cc.s32 {a}, {a}, {a}, {a}; madc.lo.u32 {a}, {a}, {a}, {a};",
    *(f"{op}.{t} {{h}}, {{h}}, {{h}};" for op in ("add", "sub", "mul.lo", "mul.hi", "div", "rem", "min", "max") for t in ("u16", "s16")), "mad.wide.s16 {a}, {h}, {h}, {a};", "mul.wide.u16 {a}, {h}, {h};",
    "shl.b16 {h}, {h}, {a};", "shr.s16 {h}, {h}, {a};", "and.b32 %t0, {a}, 15; shr.u16 {h}, {h}, %t0;", "neg.s16 {h}, {h};", "abs.s16 {h}, {h};", "sad.s16 {h}, {h}, {h}, {h};", "selp.b16 {h}, {h}, {h}, {p};", "slct.u16.s32 {h}, {h}, {h}, {a};",
]  # fmt: skip
"""Integers in pieces."""

SLOT = "and.b32 %t7, {a}, 248; mov.u32 %t6, memory; add.u32 %t6, %t6, %t7; "
OWN = "shl.b32 %t7, %i, 4; mov.u32 %t6, memory; add.u32 %t6, %t6, %t7; "
RETURNED = [
    "add.u32",
    "min.s32",
    "max.u32",
    "and.b32",
    "or.b32",
    "xor.b32",
    "exch.b32",
    "inc.u32",
    "dec.u32",
    "add.f32",
    "add.noftz.f16x2",
    "add.noftz.bf16x2",
    "relaxed.cta.add.s32",
    "acq_rel.gpu.exch.b32",
]
ATOMICS = [
    *(SLOT + f"red.shared.{op} [%t6], {{a}};" for op in ("add.u32", "add.s32", "min.s32", "max.u32", "and.b32", "or.b32", "xor.b32", "relaxed.cta.add.u32", "release.gpu.max.s32")),
    *(SLOT + f"red.shared.{op} [%t6], {{d}};" for op in ("add.u64", "min.s64", "max.u64", "and.b64", "or.b64", "xor.b64")),
    *(SLOT + f"atom.shared.{op} %t5, [%t6], {{a}};" for op in ("add.u32", "max.s32", "or.b32")),
    *(OWN + f"atom.shared.{op} {{a}}, [%t6], {{a}};" for op in RETURNED), *(OWN + f"atom.shared.{op} {{d}}, [%t6], {{d}};" for op in ("add.u64", "exch.b64", "max.s64", "min.u64", "xor.b64")),
    OWN + "atom.shared.cas.b32 {a}, [%t6], {a}, {a};", OWN + "atom.shared.cas.b64 {d}, [%t6+8], {d}, {d};", OWN + "atom.shared.cas.b16 {h}, [%t6+2], {h}, {h};", OWN + "atom.shared.add.noftz.f16 {h}, [%t6+4], {h};",
    *(f"atom.global.{op} {{a}}, [%out], {{a}};" for op in RETURNED), "red.global.add.v2.f32 [%out], {{a}, {a}};", "red.global.min.noftz.v2.f16x2 [%out], {{a}, {a}};", "red.global.max.noftz.v4.bf16 [%out+8], {{h}, {h}, {h}, {h}};",
    "atom.add.noftz.f16x2 {a}, [%out+4], {a};", "cvta.shared.u64 %wide, memory; and.b64 %d5, {d}, 252; add.u64 %wide, %wide, %d5; red.add.u32 [%wide], {a};", OWN + "ld.shared.u32 {a}, [%t6];", OWN + "ld.shared.u64 {d}, [%t6+8];", SLOT + "ld.shared.u32 {a}, [%t6];", "ld.global.u32 {a}, [%out+4];",
]  # fmt: skip
"""Atomic operations: several threads on one place where any order gives the same, else each on its own."""

SHARED = [
    OWN + "st.shared.b32 [%t6], {a};", OWN + "st.shared.v2.b32 [%t6+8], {{a}, {a}};", OWN + "st.shared.b64 [%t6], {d};", OWN + "st.shared.b16 [%t6+6], {h};", OWN + "st.shared.u8 [%t6+13], {a};", OWN + "st.shared.v4.b16 [%t6+8], {{h}, {h}, {h}, {h}};",
    *(f"xor.b32 %t7, %i, {n}; and.b32 %t7, %t7, 31; shl.b32 %t7, %t7, 4; mov.u32 %t6, memory; add.u32 %t6, %t6, %t7; {load}" for n in (0, 1, 7, 16, 31)
      for load in ("ld.shared.b32 {a}, [%t6];", "ld.shared.v2.b32 {%t0, %t1}, [%t6+8]; add.u32 {a}, %t0, %t1;", "ld.shared.s8 {a}, [%t6+13];", "ld.shared.u16 {a}, [%t6+6];", "ld.volatile.shared.b64 {d}, [%t6];")),
    "and.b32 %t7, {a}, 1020; mov.u32 %t6, memory; add.u32 %t6, %t6, %t7; ld.shared.b32 {a}, [%t6];", "cvta.shared.u64 %wide, memory; ld.b32 {a}, [%wide+4];", "and.b32 %t7, {a}, 1016; cvt.u64.u32 %d4, %t7; cvta.shared.u64 %wide, memory; add.u64 %wide, %wide, %d4; ld.b64 {d}, [%wide];",
]  # fmt: skip
"""Shared memory, to be put between barriers."""
LOCAL = [
    *(f"and.b32 %t7, {{a}}, {mask}; mov.u32 %t6, stack; add.u32 %t6, %t6, %t7; {access}" for mask, access in (
        (124, "st.local.b32 [%t6], {a};"), (124, "ld.local.b32 {a}, [%t6];"), (120, "st.local.b64 [%t6], {d};"), (120, "ld.local.b64 {d}, [%t6];"), (126, "st.local.b16 [%t6], {h};"), (127, "ld.local.s8 {a}, [%t6];"),
        (112, "st.local.v4.b32 [%t6], {{a}, {a}, {a}, {a}};"), (112, "ld.local.v4.b32 {%t0, %t1, %t2, %t3}, [%t6]; xor.b32 {a}, %t1, %t3;"), (127, "st.local.u8 [%t6], {a};"))),
    "and.b32 %t7, {a}, 124; cvt.u64.u32 %wide, %t7; cvta.local.u64 %d5, stack; add.u64 %wide, %wide, %d5; st.b32 [%wide], {a}; ld.b32 {a}, [%wide]; mov.u64 %d5, 5;", "@{p} st.local.b32 [stack+12], {a};", "@!{p} ld.local.u32 {a}, [stack+40];",
]  # fmt: skip
"""A local array with computed places."""
BEFORE = "mov.u32 %t6, %lanemask_lt; and.b32 %t6, %t6, %t5; bfind.u32 %t7, %t6; setp.eq.u32 %q3, %t6, 0; mov.u32 %t6, %laneid; selp.b32 %t7, %t6, %t7, %q3; "
"""`%t7`: the lane in `%t5` before this one, or itself. What a lane outside of the mask gives is undefined."""
WARP = [
    "bfind.u32 %t7, %t5; shfl.sync.idx.b32 {a}|{p}, {a}, %t7, 31, %t5;",
    BEFORE + "shfl.sync.idx.b32 {a}|{p}, {a}, %t7, 31, %t5;",
    BEFORE + "mov.u32 %t6, %laneid; sub.u32 %t7, %t6, %t7; shfl.sync.up.b32 {a}|{p}, {a}, %t7, 0, %t5;",
    BEFORE + "mov.u32 %t6, %laneid; xor.b32 %t7, %t6, %t7; shfl.sync.bfly.b32 {a}|{p}, {a}, %t7, 31, %t5;",
    "vote.sync.ballot.b32 {a}, {p}, %t5;", "vote.sync.any.pred %q0, {p}, %t5; selp.b32 {a}, {a}, {a}, %q0;", "vote.sync.uni.pred %q1, {p}, %t5; selp.b32 {a}, {a}, {a}, %q1;",
    "match.any.sync.b32 {a}, {a}, %t5;", "and.b32 %t7, {a}, 3; match.any.sync.b32 {a}, %t7, %t5;", "match.all.sync.b64 {a}|{p}, {d}, %t5;", "elect.sync _|%q2, %t5; selp.b32 {a}, {a}, {a}, %q2;", "bar.warp.sync %t5;",
    *(f"redux.sync.{op} {{a}}, {{a}}, %t5;" for op in ("add.u32", "add.s32", "min.s32", "max.u32", "and.b32", "or.b32", "xor.b32", "min.f32", "max.abs.f32", "min.NaN.f32", "max.f32")), "activemask.b32 {a};",
]  # fmt: skip
"""Warp operations for the lanes in `%t5`."""
