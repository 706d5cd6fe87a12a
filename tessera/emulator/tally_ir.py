"""LLVM IR that counts what the accesses of a warp cost: sectors of global memory, wavefronts of shared memory.

Each function is a module of its own, compiled apart from the kernels that call it, optimized and kept on
disk. Its arguments: the four counters of a place in the code (requests, threads, passes, ideal passes), the
address of each lane, and which lanes are active. What most accesses are (side by side, in one line of
shared memory) takes a few vector instructions; all others a loop over what is distinct.

Source: CUDA C++ Programming Guide, "Compute Capability 5.x" to "9.x" on global and shared memory; Nsight
Compute, Kernel Profiling Guide, "Memory Tables". That atomics touch a sector once a turn was measured on an
H200 (`benchmarks/gpu_counters.py`).
"""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

from tessera.emulator.emit_ir import WARP, vector_text

V64, V32 = f"<{WARP} x i64>", f"<{WARP} x i32>"
LINE_BYTES = 128
"""All banks of shared memory side by side."""
COUNTERS = 4
"""Counters of a place in the code."""
_SPLAT = f"<{WARP} x i32> zeroinitializer"
_DECLARED = """
declare i32 @llvm.cttz.i32(i32, i1)
declare i32 @llvm.ctlz.i32(i32, i1)
declare i32 @llvm.ctpop.i32(i32)
declare i64 @llvm.umin.i64(i64, i64)
declare i32 @llvm.umax.i32(i32, i32)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i32 @llvm.vector.reduce.or.v32i32(<32 x i32>)
"""
_ADD = """
define internal void @add(ptr %s, i64 %threads, i64 %passes, i64 %ideal) alwaysinline {
  %c0 = insertelement <4 x i64> <i64 1, i64 0, i64 0, i64 0>, i64 %threads, i32 1
  %c1 = insertelement <4 x i64> %c0, i64 %passes, i32 2
  %c2 = insertelement <4 x i64> %c1, i64 %ideal, i32 3
  %old = load <4 x i64>, ptr %s, align 8
  %new = add <4 x i64> %old, %c2
  store <4 x i64> %new, ptr %s, align 8
  ret void
}
"""
_DISTINCT = f"""
; How many different numbers the lanes in %mask hold; at least one lane is in it.
define internal i64 @distinct({V64} %v, i32 %mask) noinline {{
  %at = alloca {V64}, align 64
  store {V64} %v, ptr %at, align 64
  br label %loop
loop:
  %m = phi i32 [ %mask, %0 ], [ %m1, %loop ]
  %n = phi i64 [ 0, %0 ], [ %n1, %loop ]
  %lane = call i32 @llvm.cttz.i32(i32 %m, i1 true)
  %p = getelementptr i64, ptr %at, i32 %lane
  %x = load i64, ptr %p
  %one = insertelement {V64} poison, i64 %x, i32 0
  %all = shufflevector {V64} %one, {V64} poison, {_SPLAT}
  %eq = icmp eq {V64} %v, %all
  %bits = bitcast <{WARP} x i1> %eq to i32
  %rest = xor i32 %bits, -1
  %m1 = and i32 %m, %rest
  %n1 = add i64 %n, 1
  %done = icmp eq i32 %m1, 0
  br i1 %done, label %end, label %loop
end:
  ret i64 %n1
}}
"""

_TURNS = f"""
; Sectors of atomics: lanes that meet at one place take turns, and each turn touches its sectors anew.
define internal i64 @turns({V64} %a, {V64} %v, i32 %mask) noinline {{
  %at = alloca {V64}, align 64
  store {V64} %a, ptr %at, align 64
  br label %turn
turn:
  %m = phi i32 [ %mask, %0 ], [ %m1, %touch ]
  %n = phi i64 [ 0, %0 ], [ %n1, %touch ]
  br label %loop
loop:
  %rest = phi i32 [ %m, %turn ], [ %rest1, %loop ]
  %first = phi i32 [ 0, %turn ], [ %first1, %loop ]
  %lane = call i32 @llvm.cttz.i32(i32 %rest, i1 true)
  %bit = shl i32 1, %lane
  %first1 = or i32 %first, %bit
  %p = getelementptr i64, ptr %at, i32 %lane
  %x = load i64, ptr %p
  %one = insertelement {V64} poison, i64 %x, i32 0
  %all = shufflevector {V64} %one, {V64} poison, {_SPLAT}
  %eq = icmp eq {V64} %a, %all
  %same = bitcast <{WARP} x i1> %eq to i32
  %others = xor i32 %same, -1
  %rest1 = and i32 %rest, %others
  %none = icmp eq i32 %rest1, 0
  br i1 %none, label %touch, label %loop
touch:
  %own = call i64 @distinct({V64} %v, i32 %first1)
  %n1 = add i64 %n, %own
  %taken = xor i32 %first1, -1
  %m1 = and i32 %m, %taken
  %done = icmp eq i32 %m1, 0
  br i1 %done, label %end, label %turn
end:
  ret i64 %n1
}}
"""


def _banks(count: int, *, atomic: bool) -> str:
    """`@busiest`: of the lanes in %mask, the most different numbers in one of `count` banks.

    Atomic: the most lanes in one bank, as those that meet at one place take turns too.
    """
    low = vector_text([count - 1] * WARP, 64)
    same = f"""
  %one = insertelement {V64} poison, i64 %x, i32 0
  %all = shufflevector {V64} %one, {V64} poison, {_SPLAT}
  %eq = icmp eq {V64} %v, %all
  %bits = bitcast <{WARP} x i1> %eq to i32
  %rest = xor i32 %bits, -1
  %m1 = and i32 %m, %rest"""
    single = """
  %less = sub i32 %m, 1
  %m1 = and i32 %m, %less"""
    return f"""
define internal i32 @busiest({V64} %v, i32 %mask) noinline {{
  %banks = and {V64} %v, {low}
  %banks32 = trunc {V64} %banks to {V32}
  %hot = shl {V32} {vector_text([1] * WARP, 32)}, %banks32
  %lanes = bitcast i32 %mask to <{WARP} x i1>
  %own = select <{WARP} x i1> %lanes, {V32} %hot, {V32} zeroinitializer
  %used = call i32 @llvm.vector.reduce.or.v32i32({V32} %own)
  %banks_used = call i32 @llvm.ctpop.i32(i32 %used)
  %active = call i32 @llvm.ctpop.i32(i32 %mask)
  %free = icmp eq i32 %banks_used, %active
  br i1 %free, label %none, label %some
none:
  ret i32 1
some:
  %at = alloca {V64}, align 64
  store {V64} %v, ptr %at, align 64
  %counts = alloca [{count} x i32], align 64
  call void @llvm.memset.p0.i64(ptr align 64 %counts, i8 0, i64 {4 * count}, i1 false)
  br label %loop
loop:
  %m = phi i32 [ %mask, %some ], [ %m1, %loop ]
  %most = phi i32 [ 0, %some ], [ %most1, %loop ]
  %lane = call i32 @llvm.cttz.i32(i32 %m, i1 true)
  %p = getelementptr i64, ptr %at, i32 %lane
  %x = load i64, ptr %p{single if atomic else same}
  %bank = and i64 %x, {count - 1}
  %q = getelementptr i32, ptr %counts, i64 %bank
  %old = load i32, ptr %q
  %new = add i32 %old, 1
  store i32 %new, ptr %q
  %most1 = call i32 @llvm.umax.i32(i32 %most, i32 %new)
  %done = icmp eq i32 %m1, 0
  br i1 %done, label %end, label %loop
end:
  ret i32 %most1
}}
"""


def _head(name: str, linkage: str = "") -> str:
    return f"""
define {linkage}void @{name}(ptr %s, {V64} %a, i32 %mask) {{
  %nobody = icmp eq i32 %mask, 0
  br i1 %nobody, label %end, label %some
end:
  ret void
some:
  %threads32 = call i32 @llvm.ctpop.i32(i32 %mask)
  %threads = zext i32 %threads32 to i64
  %f = call i32 @llvm.cttz.i32(i32 %mask, i1 true)
  %f64 = zext i32 %f to i64
  %a0 = extractelement {V64} %a, i32 %f"""


def _least(size: int) -> str:
    return f"""
  %asked = mul i64 %threads, {size}
  %up = add i64 %asked, 31
  %least = lshr i64 %up, 5
  %ideal = call i64 @llvm.umin.i64(i64 %least, i64 %sectors)
  call void @add(ptr %s, i64 %threads, i64 %sectors, i64 %ideal)
  ret void
}}
"""


def _global(name: str, size: int, linkage: str = "", *, atomic: bool = False) -> str:
    """Different sectors of 32 bytes; one subtraction where lanes are side by side without a gap."""
    call = f"@turns({V64} %a, {V64} %v" if atomic else f"@distinct({V64} %v"
    steps = vector_text([lane * size for lane in range(WARP)], 64)
    return f"""{_head(name, linkage)}
  %back = mul i64 %f64, {size}
  %base = sub i64 %a0, %back
  %one = insertelement {V64} poison, i64 %base, i32 0
  %all = shufflevector {V64} %one, {V64} poison, {_SPLAT}
  %want = add {V64} %all, {steps}
  %eq = icmp eq {V64} %a, %want
  %bits = bitcast <{WARP} x i1> %eq to i32
  %not = xor i32 %bits, -1
  %miss = and i32 %not, %mask
  %near = icmp eq i32 %miss, 0
  %zeros = call i32 @llvm.ctlz.i32(i32 %mask, i1 true)
  %l = sub i32 31, %zeros
  %span = sub i32 %l, %f
  %span1 = add i32 %span, 1
  %dense = icmp eq i32 %span1, %threads32
  %row = and i1 %near, %dense
  br i1 %row, label %side, label %apart
side:
  %span64 = zext i32 %span1 to i64
  %bytes = mul i64 %span64, {size}
  %past = add i64 %a0, %bytes
  %last = sub i64 %past, 1
  %high = lshr i64 %last, 5
  %low = lshr i64 %a0, 5
  %more = sub i64 %high, %low
  %n1 = add i64 %more, 1
  br label %put
apart:
  %v = lshr {V64} %a, {vector_text([5] * WARP, 64)}
  %n2 = call i64 {call}, i32 %mask)
  br label %put
put:
  %sectors = phi i64 [ %n1, %side ], [ %n2, %apart ]{_least(size)}"""


def _local(name: str, size: int, linkage: str = "") -> str:
    """Local memory is laid out so that the same word of all threads is one row: eight threads a sector."""
    words = max(size // 4, 1)
    octets = "".join(
        f"""
  %o{k} = and i32 %mask, {0xFF << 8 * k}
  %z{k} = icmp ne i32 %o{k}, 0
  %i{k} = zext i1 %z{k} to i64"""
        for k in range(4)
    )
    return f"""{_head(name, linkage)}
  %word = lshr {V64} %a, {vector_text([2] * WARP, 64)}
  %w0 = lshr i64 %a0, 2
  %one = insertelement {V64} poison, i64 %w0, i32 0
  %all = shufflevector {V64} %one, {V64} poison, {_SPLAT}
  %eq = icmp eq {V64} %word, %all
  %bits = bitcast <{WARP} x i1> %eq to i32
  %not = xor i32 %bits, -1
  %miss = and i32 %not, %mask
  %alike = icmp eq i32 %miss, 0
  br i1 %alike, label %row, label %apart
row:{octets}
  %s1 = add i64 %i0, %i1
  %s2 = add i64 %i2, %i3
  %n1 = add i64 %s1, %s2
  br label %put
apart:
  %quad = shl {V64} %word, {vector_text([2] * WARP, 64)}
  %v = or {V64} %quad, {vector_text([lane // 8 for lane in range(WARP)], 64)}
  %n2 = call i64 @distinct({V64} %v, i32 %mask)
  br label %put
put:
  %n = phi i64 [ %n1, %row ], [ %n2, %apart ]
  %sectors = mul i64 %n, {words}{_least(size)}"""


def _shared(name: str, size: int, linkage: str = "", *, atomic: bool = False) -> str:
    """Wavefronts: 32 lanes share one if each takes 4 bytes or less, 16 if 8, 8 if 16."""
    unit = max(size, 4)
    lanes = WARP if unit == 4 else LINE_BYTES // unit
    text = f"""{_head(name, linkage)}
  %v = lshr {V64} %a, {vector_text([unit.bit_length() - 1] * WARP, 64)}
  %lines = lshr {V64} %a, {vector_text([7] * WARP, 64)}
  br label %g0"""
    before = "some"
    for k in range(WARP // lanes):
        group = ((1 << lanes) - 1) << lanes * k
        check = f"""
  %f{k} = call i32 @llvm.cttz.i32(i32 %m{k}, i1 true)
  %x{k} = extractelement {V64} %lines, i32 %f{k}
  %one{k} = insertelement {V64} poison, i64 %x{k}, i32 0
  %all{k} = shufflevector {V64} %one{k}, {V64} poison, {_SPLAT}
  %eq{k} = icmp eq {V64} %lines, %all{k}
  %bits{k} = bitcast <{WARP} x i1> %eq{k} to i32
  %not{k} = xor i32 %bits{k}, -1
  %miss{k} = and i32 %not{k}, %m{k}
  %line{k} = icmp eq i32 %miss{k}, 0
  br i1 %line{k}, label %next{k}, label %slow{k}"""
        if atomic:
            check = f"\n  br label %slow{k}"
        into = "" if atomic else f"[ 1, %try{k} ], "
        text += f"""
g{k}:
  %sum{k} = phi i32 [ {"0" if k == 0 else f"%sum{k}x"}, %{before} ]
  %groups{k} = phi i32 [ {"0" if k == 0 else f"%groups{k}x"}, %{before} ]
  %m{k} = and i32 %mask, {group - (1 << 32) if group >> 31 else group}
  %empty{k} = icmp eq i32 %m{k}, 0
  br i1 %empty{k}, label %next{k}, label %try{k}
try{k}:{check}
slow{k}:
  %most{k} = call i32 @busiest({V64} %v, i32 %m{k})
  br label %next{k}
next{k}:
  %own{k} = phi i32 [ 0, %g{k} ], {into}[ %most{k}, %slow{k} ]
  %sum{k + 1}x = add i32 %sum{k}, %own{k}
  %full{k} = xor i1 %empty{k}, true
  %inc{k} = zext i1 %full{k} to i32
  %groups{k + 1}x = add i32 %groups{k}, %inc{k}
  br label %g{k + 1}"""
        before = f"next{k}"
    last = WARP // lanes
    return f"""{text}
g{last}:
  %passes = zext i32 %sum{last}x to i64
  %ideal = zext i32 %groups{last}x to i64
  call void @add(ptr %s, i64 %threads, i64 %passes, i64 %ideal)
  ret void
}}
"""


def _generic(name: str, size: int, *, atomic: bool) -> str:
    """Lanes by the window that their addresses lie in; four counters for each of global, shared, local."""
    return f"""
define void @{name}(ptr %s, {V64} %a, i32 %mask) {{
  %top = lshr {V64} %a, {vector_text([56] * WARP, 64)}
  %is_shared = icmp eq {V64} %top, {vector_text([126] * WARP, 64)}
  %is_local = icmp eq {V64} %top, {vector_text([127] * WARP, 64)}
  %in_shared = bitcast <{WARP} x i1> %is_shared to i32
  %in_local = bitcast <{WARP} x i1> %is_local to i32
  %m1 = and i32 %mask, %in_shared
  %m2 = and i32 %mask, %in_local
  %both = or i32 %in_shared, %in_local
  %neither = xor i32 %both, -1
  %m0 = and i32 %mask, %neither
  %s1 = getelementptr i64, ptr %s, i64 {COUNTERS}
  %s2 = getelementptr i64, ptr %s, i64 {2 * COUNTERS}
  call void @in_global(ptr %s, {V64} %a, i32 %m0)
  call void @in_shared(ptr %s1, {V64} %a, i32 %m1)
  call void @in_local(ptr %s2, {V64} %a, i32 %m2)
  ret void
}}
{_global("in_global", size, "internal ", atomic=atomic)}{_shared("in_shared", size, "internal ", atomic=atomic)}{_local("in_local", size, "internal ")}"""


def tally_name(space: str, size: int, *, atomic: bool) -> str:
    """The name of the function that counts accesses of `size` bytes per lane.

    Args:
        space: `global`, `shared`, `local` or `generic`.
        size: Bytes, a power of two.
        atomic: Whether lanes that meet at one place take turns.
    """
    return f"tally_{space}_{size}{'_atomic' if atomic and space != 'local' else ''}"


def tally_text(space: str, size: int, *, atomic: bool) -> str:
    """The module of that function."""
    name = tally_name(space, size, atomic=atomic)
    unit = max(size, 4)
    banks = _banks(WARP if unit == 4 else LINE_BYTES // unit, atomic=atomic)
    if space == "generic":
        return _DECLARED + _ADD + _DISTINCT + _TURNS + banks + _generic(name, size, atomic=atomic)
    if space == "shared":
        return _DECLARED + _ADD + banks + _shared(name, size, atomic=atomic)
    if space == "local":
        return _DECLARED + _ADD + _DISTINCT + _local(name, size)
    return _DECLARED + _ADD + _DISTINCT + _TURNS + _global(name, size, atomic=atomic)
