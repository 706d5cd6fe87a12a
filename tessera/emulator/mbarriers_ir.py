"""Barriers in shared memory in LLVM IR: 64 bits of pending and expected arrivals, pending bytes, and the phase.

From the lowest bit: 20 of pending arrivals, 20 of those of the next phase, 21 of bytes still to come (signed),
and in the highest bit the parity of the phase under way.
"""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

from tessera.emulator.emit_ir import WARP
from tessera.emulator.layout import BLOCK, FAULTS

V32, V64 = f"<{WARP} x i32>", f"<{WARP} x i64>"
COUNT = (1 << 20) - 1
_BYTES_AT, _BYTES = 40, (1 << 21) - 1
ARRIVALS = next(code for code, name in FAULTS.items() if name == "arrivals")

UPDATE_ONE = f"""
; One barrier: %count threads arrive, %drop of them for the last time; %bytes more are to come. Its value before;
; whether that were more threads than it expects.
define internal {{ i64, i1 }} @mbarrier_one(ptr %blk, ptr %p, i32 %count32, i32 %drop32, i32 %bytes32) {{
  %old = load i64, ptr %p
  %count = zext i32 %count32 to i64
  %drop = zext i32 %drop32 to i64
  %more = sext i32 %bytes32 to i64
  %pending = and i64 %old, {COUNT}
  %many = icmp ugt i64 %count, %pending
  %r0 = insertvalue {{ i64, i1 }} poison, i64 %old, 0
  br i1 %many, label %bad, label %fine
bad:
  %over = sub i64 %count, %pending
  %b0 = insertvalue {{ i64, i1 }} poison, i64 %over, 0
  %b1 = insertvalue {{ i64, i1 }} %b0, i1 true, 1
  ret {{ i64, i1 }} %b1
fine:
  %pending1 = sub i64 %pending, %count
  %next_bits = lshr i64 %old, 20
  %next = and i64 %next_bits, {COUNT}
  %next1 = sub i64 %next, %drop
  %next2 = and i64 %next1, {COUNT}
  %bytes_bits = lshr i64 %old, {_BYTES_AT}
  %sum = add i64 %bytes_bits, %more
  %bytes = and i64 %sum, {_BYTES}
  %phase = lshr i64 %old, 63
  %left = or i64 %pending1, %bytes
  %over_now = icmp eq i64 %left, 0
  %over_bit = zext i1 %over_now to i64
  %phase1 = xor i64 %phase, %over_bit
  %pending2 = select i1 %over_now, i64 %next2, i64 %pending1
  %n1 = shl i64 %next2, 20
  %b2 = shl i64 %bytes, {_BYTES_AT}
  %p1 = shl i64 %phase1, 63
  %w0 = or i64 %pending2, %n1
  %w1 = or i64 %w0, %b2
  %w2 = or i64 %w1, %p1
  store i64 %w2, ptr %p
  %events_at = getelementptr i8, ptr %blk, i64 {BLOCK["events"]}
  %events = load i64, ptr %events_at
  %events1 = add i64 %events, 1
  store i64 %events1, ptr %events_at
  %r1 = insertvalue {{ i64, i1 }} %r0, i1 false, 1
  ret {{ i64, i1 }} %r1
}}
"""


def update(name: str) -> str:
    """`mbarrier`: arrivals and bytes, one lane after the other; the values before, and whether there is a fault."""
    return f"""{UPDATE_ONE}
define internal {{ {V64}, i1 }} @{name}(ptr %blk, ptr %warp, i32 %site, i32 %mask, {V64} %h, {V32} %count, {V32} %drop, {V32} %bytes) noinline {{
  %out = alloca {V64}, align 64
  store {V64} zeroinitializer, ptr %out, align 64
  br label %loop
loop:
  %m = phi i32 [ %mask, %0 ], [ %m1, %put ]
  %done = icmp eq i32 %m, 0
  br i1 %done, label %end, label %body
body:
  %lane = call i32 @llvm.cttz.i32(i32 %m, i1 true)
  %less = sub i32 %m, 1
  %m1 = and i32 %m, %less
  %hi = extractelement {V64} %h, i32 %lane
  %p = inttoptr i64 %hi to ptr
  %c = extractelement {V32} %count, i32 %lane
  %d = extractelement {V32} %drop, i32 %lane
  %b = extractelement {V32} %bytes, i32 %lane
  %one = call {{ i64, i1 }} @mbarrier_one(ptr %blk, ptr %p, i32 %c, i32 %d, i32 %b)
  %old = extractvalue {{ i64, i1 }} %one, 0
  %bad = extractvalue {{ i64, i1 }} %one, 1
  br i1 %bad, label %fault, label %put
put:
  %op = getelementptr i64, ptr %out, i32 %lane
  store i64 %old, ptr %op
  br label %loop
fault:
  %bit = shl i32 1, %lane
  call void @fault(ptr %blk, ptr %warp, i32 {ARRIVALS}, i32 %site, i32 %bit, i64 %old)
  %f = insertvalue {{ {V64}, i1 }} zeroinitializer, i1 true, 1
  ret {{ {V64}, i1 }} %f
end:
  %all = load {V64}, ptr %out, align 64
  %r = insertvalue {{ {V64}, i1 }} zeroinitializer, {V64} %all, 0
  ret {{ {V64}, i1 }} %r
}}"""
