"""Random programs on both implementations: the engine and the lockstep interpreter agree bit for bit."""

# ruff: noqa: E501 - lines of PTX

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.emulator.lockstep import launch
from tests.emulator.differential import (
    COMMON,
    ENGINE,
    INTEGERS,
    LABELS,
    REGISTERS,
    THREADS,
    Array,
    a,
    both,
    d,
    float_inputs,
    integer_inputs,
    program,
    whole_warps,
)

TWO_32 = ["add.s32", "sub.u32", "mul.lo.s32", "mul.hi.s32", "mul.hi.u32", "div.u32", "div.s32", "rem.u32",
          "rem.s32", "min.s32", "max.u32", "and.b32", "or.b32", "xor.b32", "shl.b32", "shr.u32", "shr.s32",
          "add.sat.s32", "sub.sat.s32"]  # fmt: skip
TWO_64 = ["add.s64", "sub.u64", "mul.lo.u64", "mul.hi.u64", "mul.hi.s64", "div.s64", "rem.u64", "min.u64", "max.s64",
          "and.b64", "xor.b64"]  # fmt: skip
ONE_32 = ["neg.s32", "abs.s32", "not.b32", "cnot.b32", "popc.b32", "clz.b32", "brev.b32", "bfind.u32",
          "bfind.s32", "bfind.shiftamt.u32", "cvt.s32.s8", "cvt.u32.u16", "cvt.s32.s16", "cvt.sat.u8.s32",
          "cvt.sat.s16.s32"]  # fmt: skip
THREE_32 = ["mad.lo.s32", "mad.hi.u32", "bfe.u32", "bfe.s32", "prmt.b32", "shf.l.clamp.b32", "shf.r.wrap.b32",
            "sad.u32", "sad.s32", "dp4a.s32.u32"]  # fmt: skip
COMPARE = ["eq.s32", "ne.u32", "lt.s32", "le.u32", "gt.s32", "hs.u32"]


@st.composite
def integer_line(draw: st.DrawFn) -> str:
    guard = draw(st.sampled_from(["", "", "", "@%p0 ", "@!%p1 ", "@%p3 "]))
    form = draw(st.integers(0, 11))
    source = draw(st.sampled_from([a(draw), "5", "-3", "%i", "0x80000000"]))
    lines = {
        0: lambda: f"{draw(st.sampled_from(TWO_32))} {a(draw)}, {a(draw)}, {source};",
        1: lambda: f"{draw(st.sampled_from(TWO_64))} {d(draw)}, {d(draw)}, {d(draw)};",
        2: lambda: f"{draw(st.sampled_from(ONE_32))} {a(draw)}, {a(draw)};",
        3: lambda: f"{draw(st.sampled_from(THREE_32))} {a(draw)}, {a(draw)}, {a(draw)}, {a(draw)};",
        4: lambda: f"mad.wide.s32 {d(draw)}, {a(draw)}, {a(draw)}, {d(draw)};",
        5: lambda: f"bfi.b32 {a(draw)}, {a(draw)}, {a(draw)}, {a(draw)}, {a(draw)};",
        6: lambda: f"lop3.b32 {a(draw)}, {a(draw)}, {a(draw)}, {a(draw)}, {draw(st.integers(0, 255))};",
        7: lambda: f"setp.{draw(st.sampled_from(COMPARE))} %p0, {a(draw)}, {source};",
        8: lambda: f"selp.b32 {a(draw)}, {a(draw)}, {source}, %p{draw(st.integers(0, 3))};",
        9: lambda: f"cvt.{draw(st.sampled_from(['s64.s32', 'u64.u32']))} {d(draw)}, {a(draw)};",
        10: lambda: f"shr.{draw(st.sampled_from(['s64', 'u64']))} {d(draw)}, {d(draw)}, {a(draw)};",
        11: lambda: f"mov.b64 {{{a(draw)}, {a(draw)}}}, {d(draw)};",
    }  # fmt: skip
    line = lines[form]()
    if form == 11 and line.split("{")[1].split(",")[0] == line.split(", ")[1].split("}")[0]:
        return "mov.b32 %t0, 0;"
    return guard + line


@COMMON
@given(st.lists(integer_line(), min_size=1, max_size=30), integer_inputs())
def test_straight_integer_programs_agree(lines: list[str], inputs: Array) -> None:
    ours, theirs = both(program("\n".join("    " + line for line in lines)), inputs)
    np.testing.assert_array_equal(ours, theirs)


FLOAT_TWO = ["add.f32", "sub.rn.f32", "mul.f32", "add.ftz.f32", "mul.rz.f32", "add.rm.f32", "sub.rp.f32", "div.rn.f32",
             "min.f32", "max.f32", "max.ftz.f32", "add.sat.f32", "mul.ftz.sat.f32"]  # fmt: skip
FLOAT_ONE = ["neg.f32", "abs.f32", "sqrt.rn.f32", "rcp.rn.f32", "cvt.rni.f32.f32", "cvt.rzi.f32.f32",
             "cvt.rmi.ftz.f32.f32", "cvt.rzi.s32.f32", "cvt.rni.u32.f32", "cvt.sat.f32.f32"]  # fmt: skip


@st.composite
def float_line(draw: st.DrawFn) -> str:
    form = draw(st.integers(0, 4))
    if form == 0:
        return f"{draw(st.sampled_from(FLOAT_TWO))} {a(draw)}, {a(draw)}, {a(draw)};"
    if form == 1:
        return f"{draw(st.sampled_from(FLOAT_ONE))} {a(draw)}, {a(draw)};"
    if form == 2:
        rounding = draw(st.sampled_from(["rn", "rz", "rm", "rp", "rn.ftz"]))
        return f"fma.{rounding}.f32 {a(draw)}, {a(draw)}, {a(draw)}, {a(draw)};"
    if form == 3:
        compare = draw(st.sampled_from(["lt", "geu", "num", "neu", "eq", "nan"]))
        return f"setp.{compare}.f32 %p0, {a(draw)}, {a(draw)};"
    return f"selp.f32 {a(draw)}, {a(draw)}, {a(draw)}, %p0;"


@COMMON
@given(st.lists(float_line(), min_size=1, max_size=12), float_inputs())
def test_straight_float_programs_agree(lines: list[str], inputs: Array) -> None:
    ours, theirs = both(program("\n".join("    " + line for line in lines)), inputs)
    # Which NaN a result is has no meaning: implementations differ in its bits.
    floats = [x.astype(np.uint32).view(np.float32) for x in (ours[:, 1::2], theirs[:, 1::2])]
    same = (floats[0].view(np.uint32) == floats[1].view(np.uint32)) | (
        np.isnan(floats[0]) & np.isnan(floats[1])
    )
    assert same.all()


@pytest.mark.parametrize("line", ["cvt.rn.f32.s32", "cvt.rz.f32.u32", "cvt.rp.f32.s32", "cvt.rm.f32.u32"])
def test_integers_become_the_same_floats(line: str, rng: np.random.Generator) -> None:
    inputs = rng.integers(0, 1 << 32, (THREADS, REGISTERS), np.uint64)
    inputs[:, 1] = rng.choice(INTEGERS, THREADS)
    ours, theirs = both(program(f"    {line} %a0, %a1;\n    {line} %a2, %a3;"), inputs)
    np.testing.assert_array_equal(ours, theirs)


@st.composite
def branching(draw: st.DrawFn, depth: int = 3) -> str:
    """Nested branches and loops of a few trips, with warp operations where all lanes are together."""
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 3 if depth else 1))
        label = f"L{next(LABELS)}"
        if kind <= 1:
            lines += draw(st.lists(integer_line(), min_size=1, max_size=4))
        elif kind == 2:
            inside, other = draw(branching(depth - 1)), draw(branching(depth - 1))
            p = f"%p{draw(st.integers(0, 3))}"
            lines += [f"@{p} bra {label}a;", inside, f"bra {label}b;", f"{label}a:", other, f"{label}b:"]
        else:
            inside = draw(branching(0))
            counter, trips = f"%t{depth}", draw(st.integers(1, 3))
            lines += [
                f"and.b32 {counter}, {a(draw)}, {trips};", f"{label}a:", inside,
                f"sub.u32 {counter}, {counter}, 1;", f"setp.gt.s32 %q{depth}, {counter}, 0;",
                f"@%q{depth} bra {label}a;",
            ]  # fmt: skip
    return "\n".join(lines)


@COMMON
@given(branching(), integer_inputs())
def test_branching_programs_agree(body: str, inputs: Array) -> None:
    ours, theirs = both(program(body), inputs)
    np.testing.assert_array_equal(ours, theirs)


WARP = [
    "shfl.sync.bfly.b32 {a}, {b}, 5, 31, -1;", "shfl.sync.idx.b32 {a}|%p0, {b}, {c}, 31, -1;",
    "shfl.sync.up.b32 {a}|%p1, {b}, 3, 0, -1;", "shfl.sync.down.b32 {a}, {b}, {c}, 0x1807, -1;",
    "vote.sync.ballot.b32 {a}, %p0, -1;", "vote.sync.any.pred %p0, %p1, -1;", "vote.sync.all.pred %p1, %p3, -1;",
    "match.any.sync.b32 {a}, {b}, -1;", "match.all.sync.b32 {a}|%p0, {b}, -1;", "redux.sync.add.u32 {a}, {b}, -1;",
    "redux.sync.min.s32 {a}, {b}, -1;", "redux.sync.xor.b32 {a}, {b}, -1;", "bar.sync 0;",
    "bar.red.popc.u32 {a}, 0, %p0;", "bar.red.or.pred %p0, 0, %p1;", "activemask.b32 {a};",
    "and.b32 %t7, {b}, 252; mov.u32 %t6, memory; add.u32 %t6, %t6, %t7; atom.shared.add.u32 {a}, [%t6], {c};",
    "and.b32 %t7, {b}, 252; mov.u32 %t6, memory; add.u32 %t6, %t6, %t7; red.shared.max.s32 [%t6], {c};",
    "and.b32 %t7, {b}, 252; mov.u32 %t6, memory; add.u32 %t6, %t6, %t7; ld.shared.u32 {a}, [%t6];",
]  # fmt: skip


@st.composite
def warp_body(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(1, 8))):
        # Between barriers: two warps' accesses to the same word have no order.
        form = draw(st.sampled_from(WARP))
        if "shared" in form:
            lines.append("bar.sync 0;\n@!%p3 bra SKIP{0};\n".replace("{0}", str(len(lines))))
            lines.append(form.format(a=a(draw), b=a(draw), c=a(draw)))
            lines.append(f"SKIP{len(lines) - 2}:\nbar.sync 0;")
        else:
            lines.append(form.format(a=a(draw), b=a(draw), c=a(draw)))
        lines += draw(st.lists(integer_line(), max_size=2))
    # A predicate that the shared accesses rely on stays as it began: only the first 17 threads.
    return "\n".join(lines)


@COMMON
@given(warp_body(), integer_inputs())
def test_warp_operations_agree(body: str, inputs: Array) -> None:
    # Lanes that do not exist have no values: only whole warps shuffle.
    ours, theirs = both(program(body, shared=True), whole_warps(inputs))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("threads", [1, 31, 33, 64, 100])
def test_any_number_of_threads_agrees(threads: int) -> None:
    text = program("    add.u32 %a0, %a1, %i;\n    bar.sync 0;\n    vote.sync.ballot.b32 %a2, %p3, -1;")
    inputs = np.arange(threads * REGISTERS, dtype=np.uint64).reshape(threads, REGISTERS)
    found = []
    for run in (ENGINE.launch, launch):
        out = np.zeros((threads, 2 * REGISTERS), np.uint64)
        run(text, "k", (1,), (threads,), [inputs.copy(), out])
        found.append(out)
    np.testing.assert_array_equal(found[0], found[1])
