"""LLVM IR of memory accesses: bounds and alignment, lanes side by side as one access, atomics.

Every access names its place in the code. Device memory: the place remembers the allocation that it hit
last, so the check is one comparison; a miss searches the table of allocations. Nothing is read or written
before all lanes of the access have been checked.
"""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

import platform
import re
from collections.abc import Callable

from tessera.emulator.emit_ir import IOTA, WARP, vector_text
from tessera.emulator.layout import BLOCK, CONTEXT, FAULT, HOSTS, LOCAL_BASE, SITE_BYTES, SITES
from tessera.program.errors import CompileError

SPACES = {"global": 0, "shared": 1, "local": 2}
V64 = f"<{WARP} x i64>"
_SPLAT = f"<{WARP} x i32> zeroinitializer"
_HALF_STARTS = vector_text([lane // 16 * 16 for lane in range(WARP)], 32)
_KNOWN = {
    "llvm.cttz.i64": "declare i64 @llvm.cttz.i64(i64, i1)",
    "llvm.cttz.i32": "declare i32 @llvm.cttz.i32(i32, i1)",
    "llvm.ctpop.i32": "declare i32 @llvm.ctpop.i32(i32)",
    "llvm.usub.sat.i64": "declare i64 @llvm.usub.sat.i64(i64, i64)",
    "fesetround": "declare i32 @fesetround(i32)",
    "llvm.memset.p0.i64": "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
    **{name: f"declare double @{name}(double)" for name in ("exp2", "log2", "sin", "cos", "tanh")},
}


def declarations(text: str) -> set[str]:
    """Declarations of what the text calls beyond what it defines."""
    found = {line for name, line in _KNOWN.items() if f"@{name}(" in text}
    for name in re.findall(r"@(llvm\.experimental\.constrained\.\w+\.f64)\(", text):
        operands = ", ".join(["double"] * {"fma": 3, "sqrt": 1}.get(name.split(".")[3], 2))
        found.add(f"declare double @{name}({operands}, metadata, metadata)")
    for name in re.findall(r"@(llvm\.masked\.[a-z0-9.]+)\(", text):
        found.add(_masked_declaration(name))
    return found


def _masked_declaration(name: str) -> str:
    operation, kind = name.split(".")[2:4]
    vector = f"<{kind[1:].replace('i', ' x i')}>"
    mask, pointers = f"<{WARP} x i1>", f"<{WARP} x ptr>"
    return {
        "load": f"declare {vector} @{name}(ptr, i32, {mask}, {vector})",
        "store": f"declare void @{name}({vector}, ptr, i32, {mask})",
        "gather": f"declare {vector} @{name}({pointers}, i32, {mask}, {vector})",
        "scatter": f"declare void @{name}({vector}, {pointers}, i32, {mask})",
    }[operation]


def helpers_text(names: set[str]) -> str:
    """Definitions of the helpers with these names, and of all that they call."""
    texts: dict[str, str] = {"lookup": LOOKUP}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        texts[name] = _define(name)
        called = re.findall(r"@((?:read|write|hosts|host)_\w+)\(", texts[name])
        waiting += [c for c in called if c not in texts]
    return "\n".join(texts.values())


def _define(name: str) -> str:
    operation, *rest = name.split("_")
    makers: dict[str, Callable[..., str]] = {
        "ld": _load, "uld": _uniform_load, "st": _store, "read": _read_lanes, "write": _write_lanes,
        "hosts": _hosts, "host": _host, "atom": _atomic, "cas": _compare_and_swap, "map": _map, "map2": _map2,
        "permute": _permute, "round": _round,
    }  # fmt: skip
    return makers[operation](name, *rest)


# -- checks -------------------------------------------------------------------------------------

LOOKUP = f"""
; The slow way of an access: each lane's address in %warp's list becomes a host address, or the lane is
; reported. 0: all fine.
define internal i32 @lookup(ptr %ctx, ptr %blk, ptr %warp, i32 %site, i32 %mask, i64 %size, i32 %space) noinline cold {{
  %list = getelementptr i8, ptr %warp, i64 {HOSTS}
  %table_at = getelementptr i8, ptr %ctx, i64 {CONTEXT["table"]}
  %table_int = load i64, ptr %table_at
  %table = inttoptr i64 %table_int to ptr
  %count_at = getelementptr i8, ptr %ctx, i64 {CONTEXT["table_count"]}
  %count = load i64, ptr %count_at
  %sites = getelementptr i8, ptr %blk, i64 {SITES}
  %skip = mul i32 %site, {SITE_BYTES}
  %cache = getelementptr i8, ptr %sites, i32 %skip
  %shared_size_at = getelementptr i8, ptr %ctx, i64 {CONTEXT["shared_bytes"]}
  %shared_size = load i64, ptr %shared_size_at
  %local_size_at = getelementptr i8, ptr %ctx, i64 {CONTEXT["local_bytes"]}
  %local_size = load i64, ptr %local_size_at
  %shared_at = getelementptr i8, ptr %blk, i64 {BLOCK["shared"]}
  %shared = load i64, ptr %shared_at
  %local_at = getelementptr i8, ptr %warp, i64 {LOCAL_BASE}
  %local = load i64, ptr %local_at
  %most = sub i64 %size, 1
  br label %loop
loop:
  %m = phi i32 [ %mask, %0 ], [ %m1, %next ]
  %done = icmp eq i32 %m, 0
  br i1 %done, label %fine, label %body
body:
  %lane = call i32 @llvm.cttz.i32(i32 %m, i1 true)
  %less = sub i32 %m, 1
  %m1 = and i32 %m, %less
  %slot = getelementptr i64, ptr %list, i32 %lane
  %a = load i64, ptr %slot
  %odd = and i64 %a, %most
  %aligned = icmp eq i64 %odd, 0
  br i1 %aligned, label %where, label %misaligned
where:
  switch i32 %space, label %generic [ i32 1, label %in_shared i32 2, label %in_local ]
generic:
  %window = lshr i64 %a, 56
  switch i64 %window, label %in_global [ i64 126, label %in_shared i64 127, label %in_local ]
in_shared:
  %off = and i64 %a, 72057594037927935
  %as_shared = icmp eq i32 %space, 1
  %so = select i1 %as_shared, i64 %a, i64 %off
  %send = call i64 @llvm.usub.sat.i64(i64 %shared_size, i64 %most)
  %sok = icmp ult i64 %so, %send
  %sh = add i64 %so, %shared
  br i1 %sok, label %keep_shared, label %outside
keep_shared:
  %gen = icmp eq i32 %space, 0
  br i1 %gen, label %cache_shared, label %next
cache_shared:
  %delta = sub i64 %shared, 9079256848778919936
  call void @remember(ptr %cache, i64 9079256848778919936, i64 %send, i64 %delta)
  br label %next
in_local:
  %loff = and i64 %a, 72057594037927935
  %as_local = icmp eq i32 %space, 2
  %lo = select i1 %as_local, i64 %a, i64 %loff
  %lend = call i64 @llvm.usub.sat.i64(i64 %local_size, i64 %most)
  %lok = icmp ult i64 %lo, %lend
  %lane64 = zext i32 %lane to i64
  %mine = mul i64 %lane64, %local_size
  %l0 = add i64 %local, %mine
  %lh = add i64 %l0, %lo
  br i1 %lok, label %next, label %outside
in_global:
  br label %search
search:
  %low = phi i64 [ 0, %in_global ], [ %low1, %halve ]
  %high = phi i64 [ %count, %in_global ], [ %high1, %halve ]
  %empty = icmp uge i64 %low, %high
  br i1 %empty, label %found, label %halve
halve:
  %sum = add i64 %low, %high
  %mid = lshr i64 %sum, 1
  %entry = getelementptr [2 x i64], ptr %table, i64 %mid
  %base = load i64, ptr %entry
  %right = icmp ule i64 %base, %a
  %mid1 = add i64 %mid, 1
  %low1 = select i1 %right, i64 %mid1, i64 %low
  %high1 = select i1 %right, i64 %high, i64 %mid
  br label %search
found:
  %before = icmp eq i64 %low, 0
  br i1 %before, label %outside, label %inside
inside:
  %index = sub i64 %low, 1
  %own = getelementptr [2 x i64], ptr %table, i64 %index
  %start = load i64, ptr %own
  %length_at = getelementptr i64, ptr %own, i32 1
  %length = load i64, ptr %length_at
  %gend = call i64 @llvm.usub.sat.i64(i64 %length, i64 %most)
  %go = sub i64 %a, %start
  %gok = icmp ult i64 %go, %gend
  br i1 %gok, label %cache_global, label %outside
cache_global:
  call void @remember(ptr %cache, i64 %start, i64 %gend, i64 0)
  br label %next
next:
  %host = phi i64 [ %sh, %keep_shared ], [ %sh, %cache_shared ], [ %lh, %in_local ], [ %a, %cache_global ]
  store i64 %host, ptr %slot
  br label %loop
outside:
  %bit1 = shl i32 1, %lane
  call void @fault(ptr %blk, ptr %warp, i32 1, i32 %site, i32 %bit1, i64 %a)
  ret i32 {FAULT}
misaligned:
  %bit2 = shl i32 1, %lane
  call void @fault(ptr %blk, ptr %warp, i32 2, i32 %site, i32 %bit2, i64 %a)
  ret i32 {FAULT}
fine:
  ret i32 0
}}

define internal void @remember(ptr %cache, i64 %low, i64 %count, i64 %delta) {{
  store i64 %low, ptr %cache
  %p1 = getelementptr i64, ptr %cache, i32 1
  store i64 %count, ptr %p1
  %p2 = getelementptr i64, ptr %cache, i32 2
  store i64 %delta, ptr %p2
  ret void
}}
"""

ARGUMENTS = "ptr %ctx, ptr %blk, ptr %warp, i32 %site, i32 %mask"


def _window(space: str, size: int) -> str:
    """`%low`, `%end`, `%delta`: lowest good address, how many there are, and the way to host addresses."""
    if space == "global":
        return f"""
  %sites = getelementptr i8, ptr %blk, i64 {SITES}
  %skip = mul i32 %site, {SITE_BYTES}
  %cache = getelementptr i8, ptr %sites, i32 %skip
  %low = load i64, ptr %cache
  %end_at = getelementptr i64, ptr %cache, i32 1
  %end = load i64, ptr %end_at
  %delta_at = getelementptr i64, ptr %cache, i32 2
  %delta = load i64, ptr %delta_at"""
    where = f"ptr %blk, i64 {BLOCK['shared']}" if space == "shared" else f"ptr %warp, i64 {LOCAL_BASE}"
    return f"""
  %bytes_at = getelementptr i8, ptr %ctx, i64 {CONTEXT[space + "_bytes"]}
  %bytes = load i64, ptr %bytes_at
  %end = call i64 @llvm.usub.sat.i64(i64 %bytes, i64 {size - 1})
  %delta_at = getelementptr i8, {where}
  %delta = load i64, ptr %delta_at
  %low = add i64 0, 0"""


def _spread(name: str, kind: str = "i64") -> str:
    return f"""
  %{name}.one = insertelement <{WARP} x {kind}> poison, {kind} %{name}, i32 0
  %{name}.all = shufflevector <{WARP} x {kind}> %{name}.one, <{WARP} x {kind}> poison, {_SPLAT}"""


def _hosts(name: str, space: str, size_text: str) -> str:
    """`hosts_<space>_<bytes>`: host addresses of lanes, and whether the access faults."""
    size = int(size_text)
    most = vector_text([size - 1] * WARP, 64)
    own = ""
    if space == "local":
        own = f"""{_spread("bytes")}
  %lane = zext <{WARP} x i32> {IOTA} to {V64}
  %mine = mul {V64} %lane, %bytes.all
  %h1 = add {V64} %h0, %mine"""
    else:
        own = f"\n  %h1 = add {V64} %h0, zeroinitializer"
    return f"""
define internal {{ {V64}, i1 }} @{name}({ARGUMENTS}, {V64} %a) {{{_window(space, size)}{_spread("low")}{_spread("end")}{_spread("delta")}
  %o = sub {V64} %a, %low.all
  %far = icmp uge {V64} %o, %end.all
  %odd = and {V64} %a, {most}
  %crooked = icmp ne {V64} %odd, zeroinitializer
  %bad = or <{WARP} x i1> %far, %crooked
  %bits = bitcast <{WARP} x i1> %bad to i32
  %those = and i32 %bits, %mask
  %h0 = add {V64} %a, %delta.all{own}
  %any = icmp ne i32 %those, 0
  br i1 %any, label %slow, label %fine
fine:
  %r0 = insertvalue {{ {V64}, i1 }} poison, {V64} %h1, 0
  %r1 = insertvalue {{ {V64}, i1 }} %r0, i1 false, 1
  ret {{ {V64}, i1 }} %r1
slow:
  %list = getelementptr i8, ptr %warp, i64 {HOSTS}
  store {V64} %a, ptr %list, align 64
  %code = call i32 @lookup(ptr %ctx, ptr %blk, ptr %warp, i32 %site, i32 %mask, i64 {size}, i32 {SPACES[space]})
  %fault = icmp ne i32 %code, 0
  %found = load {V64}, ptr %list, align 64
  %r2 = insertvalue {{ {V64}, i1 }} poison, {V64} %found, 0
  %r3 = insertvalue {{ {V64}, i1 }} %r2, i1 %fault, 1
  ret {{ {V64}, i1 }} %r3
}}"""


def _host(name: str, space: str, size_text: str) -> str:
    """`host_<space>_<bytes>`: the same for one address that all lanes share."""
    size = int(size_text)
    return f"""
define internal {{ i64, i1 }} @{name}({ARGUMENTS}, i64 %a) {{{_window(space, size)}
  %o = sub i64 %a, %low
  %far = icmp uge i64 %o, %end
  %odd = and i64 %a, {size - 1}
  %crooked = icmp ne i64 %odd, 0
  %bad = or i1 %far, %crooked
  %h = add i64 %a, %delta
  br i1 %bad, label %slow, label %fine
fine:
  %r0 = insertvalue {{ i64, i1 }} poison, i64 %h, 0
  %r1 = insertvalue {{ i64, i1 }} %r0, i1 false, 1
  ret {{ i64, i1 }} %r1
slow:
  %lane = call i32 @llvm.cttz.i32(i32 %mask, i1 true)
  %bit = shl i32 1, %lane
  %list = getelementptr i8, ptr %warp, i64 {HOSTS}
  %slot = getelementptr i64, ptr %list, i32 %lane
  store i64 %a, ptr %slot
  %code = call i32 @lookup(ptr %ctx, ptr %blk, ptr %warp, i32 %site, i32 %bit, i64 {size}, i32 {SPACES[space]})
  %fault = icmp ne i32 %code, 0
  %found = load i64, ptr %slot
  %r2 = insertvalue {{ i64, i1 }} poison, i64 %found, 0
  %r3 = insertvalue {{ i64, i1 }} %r2, i1 %fault, 1
  ret {{ i64, i1 }} %r3
}}"""


# -- loads and stores ---------------------------------------------------------------------------


def _side_by_side(size: int) -> str:
    """`%near`: whether the active lanes' addresses `%h` are `%base` plus the lane times `size`."""
    steps = vector_text([lane * size for lane in range(WARP)], 64)
    return f"""
  %f = call i32 @llvm.cttz.i32(i32 %mask, i1 true)
  %h0 = extractelement {V64} %h, i32 %f
  %f64 = zext i32 %f to i64
  %back = mul i64 %f64, {size}
  %base = sub i64 %h0, %back{_spread("base")}
  %want = add {V64} %base.all, {steps}
  %eq = icmp eq {V64} %h, %want
  %eqm = bitcast <{WARP} x i1> %eq to i32
  %not = xor i32 %eqm, -1
  %miss = and i32 %not, %mask
  %near = icmp eq i32 %miss, 0
  %p = inttoptr i64 %base to ptr
  %lanes = bitcast i32 %mask to <{WARP} x i1>
  %full = icmp eq i32 %mask, -1"""


def _read_lanes(name: str, bits_text: str) -> str:
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
some:{_side_by_side(size)}
  br i1 %near, label %row, label %apart
row:
  br i1 %full, label %whole, label %part
whole:
  %v0 = load {kind}, ptr %p, align {size}
  ret {kind} %v0
part:
  %v1 = call {kind} @llvm.masked.load.v{WARP}i{bits}.p0(ptr %p, i32 {size}, <{WARP} x i1> %lanes, {kind} zeroinitializer)
  ret {kind} %v1
apart:{_spread("h0")}
  %same = icmp eq {V64} %h, %h0.all
  %samem = bitcast <{WARP} x i1> %same to i32
  %differ = xor i32 %samem, -1
  %others = and i32 %differ, %mask
  %one = icmp eq i32 %others, 0
  br i1 %one, label %single, label %halves
single:
  %q = inttoptr i64 %h0 to ptr
  %s = load i{bits}, ptr %q, align {size}{_spread("s", f"i{bits}")}
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


def _write_lanes(name: str, bits_text: str) -> str:
    """`write_<bits>`: one element per lane to checked host addresses; the highest lane wins."""
    bits = int(bits_text)
    size, kind = bits // 8, f"<{WARP} x i{bits}>"
    return f"""
define internal void @{name}({V64} %h, i32 %mask, {kind} %v) {{
  %none = icmp eq i32 %mask, 0
  br i1 %none, label %end, label %some
some:{_side_by_side(size)}
  br i1 %near, label %row, label %scatter
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


def _checked(space: str, size: int, *, vector: bool) -> str:
    kind, helper = (V64, "hosts") if vector else ("i64", "host")
    return f"""
  %c = call {{ {kind}, i1 }} @{helper}_{space}_{size}(ptr %ctx, ptr %blk, ptr %warp, i32 %site, i32 %mask, {kind} %a)
  %h = extractvalue {{ {kind}, i1 }} %c, 0
  %bad = extractvalue {{ {kind}, i1 }} %c, 1
  br i1 %bad, label %fault, label %fine"""


def _offset(k: int, size: int) -> str:
    return f"\n  %h{k}x = add {V64} %h, {vector_text([k * size] * WARP, 64)}"


def _load(name: str, space: str, bits_text: str, count_text: str) -> str:
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
some:{_side_by_side(size)}
  %all_near = and i1 %near, %full
  br i1 %all_near, label %wide, label %each
wide:
  %long = load <{total} x i{bits}>, ptr %p, align {bits // 8}{body}
  %wide_done = insertvalue {result} {last}, i1 false, {count}
  ret {result} %wide_done"""


def _uniform_load(name: str, space: str, bits_text: str, count_text: str) -> str:
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


def _store(name: str, space: str, bits_text: str, count_text: str) -> str:
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


# -- lane after lane ----------------------------------------------------------------------------


def _lane_loop(name: str, kind: str, result: str, operands: int, body: str) -> str:
    """A function over checked host addresses, one active lane after the other."""
    arguments = "".join(f", <{WARP} x {kind}> %v{k}" for k in range(operands))
    spill = "".join(
        f"\n  %s{k} = alloca <{WARP} x {kind}>, align 64\n  store <{WARP} x {kind}> %v{k}, ptr %s{k}, align 64"
        for k in range(operands)
    )
    fetch = "".join(
        f"\n  %x{k}p = getelementptr {kind}, ptr %s{k}, i32 %lane\n  %x{k} = load {kind}, ptr %x{k}p"
        for k in range(operands)
    )
    return f"""
define internal <{WARP} x {result}> @{name}({V64} %h, i32 %mask{arguments}) noinline {{
  %out = alloca <{WARP} x {result}>, align 64
  store <{WARP} x {result}> zeroinitializer, ptr %out, align 64
  %hs = alloca {V64}, align 64
  store {V64} %h, ptr %hs, align 64{spill}
  br label %loop
loop:
  %m = phi i32 [ %mask, %0 ], [ %m1, %put ]
  %done = icmp eq i32 %m, 0
  br i1 %done, label %end, label %body
body:
  %lane = call i32 @llvm.cttz.i32(i32 %m, i1 true)
  %less = sub i32 %m, 1
  %m1 = and i32 %m, %less
  %hp = getelementptr i64, ptr %hs, i32 %lane
  %hi = load i64, ptr %hp
  %p = inttoptr i64 %hi to ptr{fetch}{body}
  br label %put
put:
  %op = getelementptr {result}, ptr %out, i32 %lane
  store {result} %r, ptr %op
  br label %loop
end:
  %all = load <{WARP} x {result}>, ptr %out, align 64
  ret <{WARP} x {result}> %all
}}"""


def _atomic(name: str, operation: str, bits: str) -> str:
    """`atom_<LLVM operation>_<bits>`: the old values."""
    operation = operation.replace("-", "_")
    if operation in ("uincwrap", "udecwrap"):
        operation = f"{operation[:4]}_wrap"
    if operation == "fadd":
        kind = {"32": "float", "64": "double"}[bits]
        body = f"""
  %x = bitcast i{bits} %x0 to {kind}
  %old = atomicrmw fadd ptr %p, {kind} %x seq_cst
  %r = bitcast {kind} %old to i{bits}"""
    else:
        body = f"\n  %r = atomicrmw {operation} ptr %p, i{bits} %x0 seq_cst"
    return _lane_loop(name, f"i{bits}", f"i{bits}", 1, body)


def _compare_and_swap(name: str, bits: str) -> str:
    """`cas_<bits>`: the old values."""
    body = f"""
  %pair = cmpxchg ptr %p, i{bits} %x0, i{bits} %x1 seq_cst seq_cst
  %r = extractvalue {{ i{bits}, i1 }} %pair, 0"""
    return _lane_loop(name, f"i{bits}", f"i{bits}", 2, body)


def _map(name: str, function: str) -> str:
    """`map_<function>`: a C function of one double, lane by lane. The addresses are not used."""
    body = f"\n  %r = call double @{function}(double %x0)"
    return _lane_loop(name, "double", "double", 1, body)


def _map2(name: str, operation: str, bits: str) -> str:
    """`map2_<udiv, sdiv, urem, srem>_<bits>`: integer division; the divisors are not zero."""
    return _lane_loop(name, f"i{bits}", f"i{bits}", 2, f"\n  %r = {operation} i{bits} %x0, %x1")


def _permute(name: str, bits: str) -> str:
    """`permute_<bits>`: each lane's value from the lane that it names (in the addresses)."""
    body = f"\n  %from = getelementptr i{bits}, ptr %s0, i64 %hi\n  %r = load i{bits}, ptr %from"
    return _lane_loop(name, f"i{bits}", f"i{bits}", 1, body)


# Values of <fenv.h> by machine; the default is rounding to nearest, 0 everywhere.
_MODES = {
    "x86_64": {"rm": 0x400, "rp": 0x800, "rz": 0xC00},
    "aarch64": {"rp": 0x400000, "rm": 0x800000, "rz": 0xC00000},
}


def _round(name: str, operation: str, rounding: str) -> str:
    """`round_<operation>_<rz, rm, rp>`: f64 arithmetic in another rounding mode of the host."""
    modes = _MODES.get(platform.machine())
    if modes is None:
        raise CompileError(f"directed f64 rounding is not known on {platform.machine()}")
    count = {"fma": 3, "sqrt": 1}.get(operation, 2)
    function = operation if operation in ("fma", "sqrt") else f"f{operation}"
    operands = ", ".join(f"double %x{k}" for k in range(count))
    mode = 'metadata !"round.dynamic", metadata !"fpexcept.strict"'
    body = f"""
  %before = call i32 @fesetround(i32 {modes[rounding]}) strictfp
  %r = call double @llvm.experimental.constrained.{function}.f64({operands}, {mode}) strictfp
  %after = call i32 @fesetround(i32 0) strictfp"""
    text = _lane_loop(name, "double", "double", count, body)
    return text.replace(") noinline {", ") noinline strictfp {")
