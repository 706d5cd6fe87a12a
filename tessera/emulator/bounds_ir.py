"""LLVM IR that turns device addresses into host addresses: bounds and alignment.

Every access names its place in the code. Device memory: the place remembers the allocation that it hit
last, so the check is one comparison; a miss searches the table of allocations.
"""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

from tessera.emulator.emit_ir import IOTA, WARP, vector_text
from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.layout import (
    BLOCK,
    CLUSTER_SHARED,
    CLUSTER_STATES,
    CONTEXT,
    FAULT,
    FAULTS,
    HOSTS,
    LOCAL_BASE,
    SITE_BYTES,
    SITES,
)
from tessera.emulator.table_search_ir import search_table

SPACES = {"global": 0, "shared": 1, "local": 2}
ENDED = next(code for code, name in FAULTS.items() if name == "ended")
V64 = f"<{WARP} x i64>"
_SPLAT = f"<{WARP} x i32> zeroinitializer"
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
  br i1 %sok, label %keep_shared, label %remote
remote:
  ; Higher bits are the rank, plus 1, of a block of the cluster.
  %high_bits = lshr i64 %so, {RANK_SHIFT}
  %rank = sub i64 %high_bits, 1
  %cluster_at = getelementptr i8, ptr %blk, i64 {BLOCK["cluster"]}
  %cluster_int = load i64, ptr %cluster_at
  %cluster = inttoptr i64 %cluster_int to ptr
  %blocks = load i64, ptr %cluster
  %member = icmp ult i64 %rank, %blocks
  %far_off = and i64 %so, {(1 << RANK_SHIFT) - 1}
  %far_ok = icmp ult i64 %far_off, %send
  %named = and i1 %member, %far_ok
  br i1 %named, label %there, label %outside
there:
  %states = getelementptr i8, ptr %cluster, i64 {CLUSTER_STATES}
  %state_at = getelementptr i64, ptr %states, i64 %rank
  %state_int = load i64, ptr %state_at
  %state = inttoptr i64 %state_int to ptr
  %alive_at = getelementptr i8, ptr %state, i64 {BLOCK["alive"]}
  %alive = load i64, ptr %alive_at
  %ended = icmp eq i64 %alive, 0
  %bases = getelementptr i8, ptr %cluster, i64 {CLUSTER_SHARED}
  %base_at = getelementptr i64, ptr %bases, i64 %rank
  %far_base = load i64, ptr %base_at
  %far = add i64 %far_base, %far_off
  br i1 %ended, label %gone, label %next
gone:
  %bit3 = shl i32 1, %lane
  call void @fault(ptr %blk, ptr %warp, i32 {ENDED}, i32 %site, i32 %bit3, i64 %rank)
  ret i32 {FAULT}
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
{search_table(after="in_global", words=2, found="cache_global")}
cache_global:
  call void @remember(ptr %cache, i64 %start, i64 %end, i64 0)
  br label %next
next:
  %host = phi i64 [ %sh, %keep_shared ], [ %sh, %cache_shared ], [ %lh, %in_local ], [ %far, %there ], [ %a, %cache_global ]
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


def spread(name: str, kind: str = "i64") -> str:
    """`%<name>.all`: a scalar in every lane."""
    return f"""
  %{name}.one = insertelement <{WARP} x {kind}> poison, {kind} %{name}, i32 0
  %{name}.all = shufflevector <{WARP} x {kind}> %{name}.one, <{WARP} x {kind}> poison, {_SPLAT}"""


def hosts(name: str, space: str, size_text: str) -> str:
    """`hosts_<space>_<bytes>`: host addresses of lanes, and whether the access faults."""
    size = int(size_text)
    most = vector_text([size - 1] * WARP, 64)
    own = ""
    if space == "local":
        own = f"""{spread("bytes")}
  %lane = zext <{WARP} x i32> {IOTA} to {V64}
  %mine = mul {V64} %lane, %bytes.all
  %h1 = add {V64} %h0, %mine"""
    else:
        own = f"\n  %h1 = add {V64} %h0, zeroinitializer"
    return f"""
define internal {{ {V64}, i1 }} @{name}({ARGUMENTS}, {V64} %a) {{{_window(space, size)}{spread("low")}{spread("end")}{spread("delta")}
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


def host(name: str, space: str, size_text: str) -> str:
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
