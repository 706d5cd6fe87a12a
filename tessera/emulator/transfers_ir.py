"""LLVM IR of loads and stores: lanes side by side as one access; all are checked before any moves."""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

from tessera.emulator.bounds_ir import ARGUMENTS, V64, spread
from tessera.emulator.emit_ir import IOTA, WARP, vector_text

_HALF_STARTS = vector_text([lane // 16 * 16 for lane in range(WARP)], 32)


def side_by_side(size: int) -> str:
    """`%near`: whether the active lanes' addresses `%h` are `%base` plus the lane times `size`."""
    steps = vector_text([lane * size for lane in range(WARP)], 64)
    return f"""
  %f = call i32 @llvm.cttz.i32(i32 %mask, i1 true)
  %h0 = extractelement {V64} %h, i32 %f
  %f64 = zext i32 %f to i64
  %back = mul i64 %f64, {size}
  %base = sub i64 %h0, %back{spread("base")}
  %want = add {V64} %base.all, {steps}
  %eq = icmp eq {V64} %h, %want
  %eqm = bitcast <{WARP} x i1> %eq to i32
  %not = xor i32 %eqm, -1
  %miss = and i32 %not, %mask
  %near = icmp eq i32 %miss, 0
  %p = inttoptr i64 %base to ptr
  %lanes = bitcast i32 %mask to <{WARP} x i1>
  %full = icmp eq i32 %mask, -1"""


def read_lanes(name: str, bits_text: str) -> str:
    """`read_<bits>`: one element per lane from checked host addresses.

    Lanes side by side, all at one place, or in two such halves (blocks 16 wide) take one or two loads.
    """
    bits = int(bits_text)
    size, kind = bits // 8, f"<{WARP} x i{bits}>"
    half_steps = vector_text([lane % 16 * size for lane in range(WARP)], 64)
    return f"""
define internal {kind} @{name}({V64} %h, i32 %mask) {{
  %none = icmp eq i32 %mask, 0
  br i1 %none, label %nothing, label %some
nothing:
  ret {kind} zeroinitializer
some:{side_by_side(size)}
  br i1 %near, label %row, label %apart
row:
  br i1 %full, label %whole, label %part
whole:
  %v0 = load {kind}, ptr %p, align {size}
  ret {kind} %v0
part:
  %v1 = call {kind} @llvm.masked.load.v{WARP}i{bits}.p0(ptr %p, i32 {size}, <{WARP} x i1> %lanes, {kind} zeroinitializer)
  ret {kind} %v1
apart:{spread("h0")}
  %same = icmp eq {V64} %h, %h0.all
  %samem = bitcast <{WARP} x i1> %same to i32
  %differ = xor i32 %samem, -1
  %others = and i32 %differ, %mask
  %one = icmp eq i32 %others, 0
  br i1 %one, label %single, label %halves
single:
  %q = inttoptr i64 %h0 to ptr
  %s = load i{bits}, ptr %q, align {size}{spread("s", f"i{bits}")}
  ret {kind} %s.all
halves:
  br i1 %full, label %try, label %gather
try:
  %first = shufflevector {V64} %h, {V64} poison, <{WARP} x i32> {_HALF_STARTS}
  %d = sub {V64} %h, %first
  %rows = icmp eq {V64} %d, {half_steps}
  %rowsm = bitcast <{WARP} x i1> %rows to i32
  %two_rows = icmp eq i32 %rowsm, -1
  %ha = extractelement {V64} %h, i32 0
  %hb = extractelement {V64} %h, i32 16
  %pa = inttoptr i64 %ha to ptr
  %pb = inttoptr i64 %hb to ptr
  br i1 %two_rows, label %rows2, label %try2
rows2:
  %ra = load <16 x i{bits}>, ptr %pa, align {size}
  %rb = load <16 x i{bits}>, ptr %pb, align {size}
  %rab = shufflevector <16 x i{bits}> %ra, <16 x i{bits}> %rb, <{WARP} x i32> {IOTA}
  ret {kind} %rab
try2:
  %ones = icmp eq {V64} %d, zeroinitializer
  %onesm = bitcast <{WARP} x i1> %ones to i32
  %two_ones = icmp eq i32 %onesm, -1
  br i1 %two_ones, label %ones2, label %gather
ones2:
  %ea = load i{bits}, ptr %pa, align {size}
  %eb = load i{bits}, ptr %pb, align {size}
  %eaa = insertelement {kind} poison, i{bits} %ea, i32 0
  %eab = insertelement {kind} %eaa, i{bits} %eb, i32 16
  %both = shufflevector {kind} %eab, {kind} poison, <{WARP} x i32> {_HALF_STARTS}
  ret {kind} %both
gather:
  %ps = inttoptr {V64} %h to <{WARP} x ptr>
  %v2 = call {kind} @llvm.masked.gather.v{WARP}i{bits}.v{WARP}p0(<{WARP} x ptr> %ps, i32 {size}, <{WARP} x i1> %lanes, {kind} zeroinitializer)
  ret {kind} %v2
}}"""


def write_lanes(name: str, bits_text: str) -> str:
    """`write_<bits>`: one element per lane to checked host addresses; the highest lane wins.

    Lanes side by side, in two such halves, or two halves at one place each take one or two stores.
    """
    bits = int(bits_text)
    size, kind, half = bits // 8, f"<{WARP} x i{bits}>", f"<16 x i{bits}>"
    half_steps = vector_text([lane % 16 * size for lane in range(WARP)], 64)
    low, high = (", ".join(f"i32 {i}" for i in range(first, first + 16)) for first in (0, 16))
    return f"""
define internal void @{name}({V64} %h, i32 %mask, {kind} %v) {{
  %none = icmp eq i32 %mask, 0
  br i1 %none, label %end, label %some
some:{side_by_side(size)}
  br i1 %near, label %row, label %apart
apart:
  br i1 %full, label %halves, label %scatter
halves:
  %first = shufflevector {V64} %h, {V64} poison, <{WARP} x i32> {_HALF_STARTS}
  %d = sub {V64} %h, %first
  %rows = icmp eq {V64} %d, {half_steps}
  %rowsm = bitcast <{WARP} x i1> %rows to i32
  %two_rows = icmp eq i32 %rowsm, -1
  %ha = extractelement {V64} %h, i32 0
  %hb = extractelement {V64} %h, i32 16
  %pa = inttoptr i64 %ha to ptr
  %pb = inttoptr i64 %hb to ptr
  br i1 %two_rows, label %rows2, label %try2
rows2:
  %va = shufflevector {kind} %v, {kind} poison, <16 x i32> <{low}>
  %vb = shufflevector {kind} %v, {kind} poison, <16 x i32> <{high}>
  store {half} %va, ptr %pa, align {size}
  store {half} %vb, ptr %pb, align {size}
  ret void
try2:
  %ones = icmp eq {V64} %d, zeroinitializer
  %onesm = bitcast <{WARP} x i1> %ones to i32
  %two_ones = icmp eq i32 %onesm, -1
  br i1 %two_ones, label %ones2, label %scatter
ones2:
  %oa = extractelement {kind} %v, i32 15
  %ob = extractelement {kind} %v, i32 31
  store i{bits} %oa, ptr %pa, align {size}
  store i{bits} %ob, ptr %pb, align {size}
  ret void
row:
  br i1 %full, label %whole, label %part
whole:
  store {kind} %v, ptr %p, align {size}
  ret void
part:
  call void @llvm.masked.store.v{WARP}i{bits}.p0({kind} %v, ptr %p, i32 {size}, <{WARP} x i1> %lanes)
  ret void
scatter:
  %ps = inttoptr {V64} %h to <{WARP} x ptr>
  call void @llvm.masked.scatter.v{WARP}i{bits}.v{WARP}p0({kind} %v, <{WARP} x ptr> %ps, i32 {size}, <{WARP} x i1> %lanes)
  ret void
end:
  ret void
}}"""


def stamp_lanes(name: str, bits_text: str) -> str:
    """`stamp_<bits>`: writes one element per lane; where several lanes meet, `%crowd` is or'ed to it.

    Of lanes in no pattern all count as meeting if any two do.
    """
    bits = int(bits_text)
    size, kind, half = bits // 8, f"<{WARP} x i{bits}>", f"<16 x i{bits}>"
    half_steps = vector_text([lane % 16 * size for lane in range(WARP)], 64)
    low, high = (", ".join(f"i32 {i}" for i in range(first, first + 16)) for first in (0, 16))
    return f"""
define internal void @{name}({V64} %h, i32 %mask, {kind} %v, i{bits} %crowd) {{
  %none = icmp eq i32 %mask, 0
  br i1 %none, label %end, label %some
some:{side_by_side(size)}{spread("crowd", f"i{bits}")}
  %met = or {kind} %v, %crowd.all
  %row = and i1 %near, %full
  br i1 %row, label %whole, label %apart
whole:
  store {kind} %v, ptr %p, align {size}
  ret void
apart:
  br i1 %full, label %halves, label %each
halves:
  %first = shufflevector {V64} %h, {V64} poison, <{WARP} x i32> {_HALF_STARTS}
  %d = sub {V64} %h, %first
  %ha = extractelement {V64} %h, i32 0
  %hb = extractelement {V64} %h, i32 16
  %pa = inttoptr i64 %ha to ptr
  %pb = inttoptr i64 %hb to ptr
  %rows = icmp eq {V64} %d, {half_steps}
  %rowsm = bitcast <{WARP} x i1> %rows to i32
  %two_rows = icmp eq i32 %rowsm, -1
  br i1 %two_rows, label %rows2, label %try2
rows2:
  %gap = sub i64 %ha, %hb
  %shifted = add i64 %gap, {16 * size}
  %overlap = icmp ult i64 %shifted, {32 * size}
  br i1 %overlap, label %touching, label %separate
separate:
  %va = shufflevector {kind} %v, {kind} poison, <16 x i32> <{low}>
  %vb = shufflevector {kind} %v, {kind} poison, <16 x i32> <{high}>
  store {half} %va, ptr %pa, align {size}
  store {half} %vb, ptr %pb, align {size}
  ret void
touching:
  %ma = shufflevector {kind} %met, {kind} poison, <16 x i32> <{low}>
  %mb = shufflevector {kind} %met, {kind} poison, <16 x i32> <{high}>
  store {half} %ma, ptr %pa, align {size}
  store {half} %mb, ptr %pb, align {size}
  ret void
try2:
  %ones = icmp eq {V64} %d, zeroinitializer
  %onesm = bitcast <{WARP} x i1> %ones to i32
  %two_ones = icmp eq i32 %onesm, -1
  br i1 %two_ones, label %ones2, label %each
ones2:
  %oa = extractelement {kind} %met, i32 15
  %ob = extractelement {kind} %met, i32 31
  store i{bits} %oa, ptr %pa, align {size}
  store i{bits} %ob, ptr %pb, align {size}
  ret void
each:
  call void @write_{bits}({V64} %h, i32 %mask, {kind} %v)
  %kept = call {kind} @read_{bits}({V64} %h, i32 %mask)
  %other = icmp ne {kind} %kept, %v
  %otherm = bitcast <{WARP} x i1> %other to i32
  %lost = and i32 %otherm, %mask
  %fine = icmp eq i32 %lost, 0
  br i1 %fine, label %end, label %again
again:
  call void @write_{bits}({V64} %h, i32 %mask, {kind} %met)
  br label %end
end:
  ret void
}}"""


def _checked(space: str, size: int, *, vector: bool) -> str:
    kind, helper = (V64, "hosts") if vector else ("i64", "host")
    return f"""
  %c = call {{ {kind}, i1 }} @{helper}_{space}_{size}(ptr %ctx, ptr %blk, ptr %warp, i32 %site, i32 %mask, {kind} %a)
  %h = extractvalue {{ {kind}, i1 }} %c, 0
  %bad = extractvalue {{ {kind}, i1 }} %c, 1
  br i1 %bad, label %fault, label %fine"""


def _offset(k: int, size: int) -> str:
    return f"\n  %h{k}x = add {V64} %h, {vector_text([k * size] * WARP, 64)}"


def load(name: str, space: str, bits_text: str, count_text: str) -> str:
    """`ld_<space>_<bits>_<count>`: `count` elements per lane, then whether the access faults."""
    bits, count = int(bits_text), int(count_text)
    size, kind = bits // 8, f"<{WARP} x i{bits}>"
    result = "{ " + ", ".join([kind] * count) + ", i1 }"
    body = ""
    last = "poison"
    for k in range(count):
        body += f"""{_offset(k, size)}
  %e{k} = call {kind} @read_{bits}({V64} %h{k}x, i32 %mask)
  %r{k} = insertvalue {result} {last}, {kind} %e{k}, {k}"""
        last = f"%r{k}"
    wide = _wide_load(result, kind, bits, count) if count > 1 else ""
    fine = "some" if count > 1 else "each"
    return f"""
define internal {result} @{name}({ARGUMENTS}, {V64} %a) {{{_checked(space, size * count, vector=True)}
fine:
  br label %{fine}{wide}
each:{body}
  %done = insertvalue {result} {last}, i1 false, {count}
  ret {result} %done
fault:
  %f0x = insertvalue {result} zeroinitializer, i1 true, {count}
  ret {result} %f0x
}}"""


def _wide_load(result: str, kind: str, bits: int, count: int) -> str:
    """Vectors side by side: one long load, then its elements dealt out."""
    size, total = bits // 8 * count, WARP * count
    body, last = "", "poison"
    for k in range(count):
        places = ", ".join(f"i32 {lane * count + k}" for lane in range(WARP))
        body += f"""
  %w{k} = shufflevector <{total} x i{bits}> %long, <{total} x i{bits}> poison, <{WARP} x i32> <{places}>
  %wr{k} = insertvalue {result} {last}, {kind} %w{k}, {k}"""
        last = f"%wr{k}"
    return f"""
some:{side_by_side(size)}
  %all_near = and i1 %near, %full
  br i1 %all_near, label %wide, label %each
wide:
  %long = load <{total} x i{bits}>, ptr %p, align {bits // 8}{body}
  %wide_done = insertvalue {result} {last}, i1 false, {count}
  ret {result} %wide_done"""


def uniform_load(name: str, space: str, bits_text: str, count_text: str) -> str:
    """`uld_<space>_<bits>_<count>`: the same where all lanes read one place."""
    bits, count = int(bits_text), int(count_text)
    result = "{ " + ", ".join([f"i{bits}"] * count) + ", i1 }"
    body, last = "\n  %p = inttoptr i64 %h to ptr", "poison"
    for k in range(count):
        body += f"""
  %q{k} = getelementptr i{bits}, ptr %p, i32 {k}
  %e{k} = load i{bits}, ptr %q{k}, align {bits // 8}
  %r{k} = insertvalue {result} {last}, i{bits} %e{k}, {k}"""
        last = f"%r{k}"
    return f"""
define internal {result} @{name}({ARGUMENTS}, i64 %a) {{{_checked(space, bits // 8 * count, vector=False)}
fine:{body}
  %done = insertvalue {result} {last}, i1 false, {count}
  ret {result} %done
fault:
  %f0 = insertvalue {result} zeroinitializer, i1 true, {count}
  ret {result} %f0
}}"""


def store(name: str, space: str, bits_text: str, count_text: str) -> str:
    """`st_<space>_<bits>_<count>`: `count` elements per lane; whether the access faults."""
    bits, count = int(bits_text), int(count_text)
    kind = f"<{WARP} x i{bits}>"
    values = "".join(f", {kind} %v{k}" for k in range(count))
    body = "".join(
        f"{_offset(k, bits // 8)}\n  call void @write_{bits}({V64} %h{k}x, i32 %mask, {kind} %v{k})"
        for k in range(count)
    )
    return f"""
define internal i1 @{name}({ARGUMENTS}, {V64} %a{values}) {{{_checked(space, bits // 8 * count, vector=True)}
fine:{body}
  ret i1 false
fault:
  ret i1 true
}}"""
