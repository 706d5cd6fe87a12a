"""The fixed part of a kernel's LLVM IR: running the blocks of a grid, barriers, waiting lanes, faults."""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import memory_ir
from tessera.emulator.emit_ir import WARP
from tessera.emulator.layout import (
    ALIVE,
    BAR_BLOCK,
    BAR_LANES,
    BARRIERS,
    BLOCK,
    CONTEXT,
    DEADLOCK,
    DONE,
    FAULT,
    FIRST_MASK,
    LISTS,
    LOCAL_BASE,
    RESULTS,
    RESUME,
    SITES,
    YIELD,
)

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

TICKS = 4096
"""Jumps backwards after which a warp lets the others of its block run."""


def module_text(t: Translator, zeroed: list[str]) -> str:
    """The whole module: the kernel's function and everything it calls.

    Args:
        t: The translator that has written the kernel's function.
        zeroed: Registers that may be read before they are written: they begin as zero.
    """
    layout = t.layout
    kernel = "\n".join(t.lines)
    values = {
        **{f"C_{k}": v for k, v in CONTEXT.items()},
        **{f"B_{k}": v for k, v in BLOCK.items()},
        "ALIVE": ALIVE, "FIRST": FIRST_MASK, "BITS": layout.wait_bits, "STALL_BITS": layout.stall_bits,
        "WAIT": layout.wait_masks, "STALL": layout.stall_masks, "COUNT": layout.blocks, "WORDS": layout.words,
        "WARPS_AT": layout.warps_at, "WARP_BYTES": layout.warp_bytes, "BARRIERS": BARRIERS,
        "RESULTS": RESULTS, "BAR_LANES": BAR_LANES, "BAR_BLOCK": BAR_BLOCK, "RESUME": RESUME, "FAULT": FAULT,
        "YIELD": YIELD, "DONE": DONE, "DEADLOCK": DEADLOCK, "TICK_MASK": TICKS - 1, "LISTS": LISTS,
        "LISTS_BYTES": 16 * layout.words + 8 * layout.blocks, "LOCAL_BASE": LOCAL_BASE, "SITES": SITES,
        "LOCAL_BYTES": t.local_bytes, "BARRIERS_BYTES": SITES - BARRIERS,
    }  # fmt: skip
    fixed = SCHEDULE.replace("@ZERO@", _zero_slots(t, zeroed))
    for name in sorted(values, key=len, reverse=True):
        fixed = fixed.replace(f"@{name}@", str(values[name]))
    helpers = memory_ir.helpers_text(t.helpers)
    declared = "\n".join(sorted(t.declared | memory_ir.declarations(helpers + fixed + kernel)))
    return "\n".join((fixed, helpers, *t.functions.values(), kernel, declared))


def _zero_slots(t: Translator, names: list[str]) -> str:
    lines = []
    for i, name in enumerate(sorted(names)):
        size = 4 if t.width(name) == 1 else WARP * t.width(name) // 8
        lines.append(f"  %zero{i} = getelementptr i8, ptr %warp, i64 {t.layout.slots[name]}")
        lines.append(f"  call void @llvm.memset.p0.i64(ptr align 64 %zero{i}, i8 0, i64 {size}, i1 false)")
    return "\n".join(lines)


SCHEDULE = """
define internal i32 @lowest(ptr %warp, i64 %offset) {
  %bits = getelementptr i8, ptr %warp, i64 %offset
  br label %loop
loop:
  %i = phi i32 [ 0, %0 ], [ %i1, %next ]
  %at = getelementptr i64, ptr %bits, i32 %i
  %word = load i64, ptr %at
  %none = icmp eq i64 %word, 0
  br i1 %none, label %next, label %found
next:
  %i1 = add i32 %i, 1
  %end = icmp eq i32 %i1, @WORDS@
  br i1 %end, label %missing, label %loop
missing:
  ret i32 @COUNT@
found:
  %bit = call i64 @llvm.cttz.i64(i64 %word, i1 true)
  %bit32 = trunc i64 %bit to i32
  %high = shl i32 %i, 6
  %index = or i32 %high, %bit32
  ret i32 %index
}

define internal i32 @take_lowest(ptr %warp) {
  %b = call i32 @lowest(ptr %warp, i64 @BITS@)
  %none = icmp eq i32 %b, @COUNT@
  br i1 %none, label %end, label %take
take:
  %word = lshr i32 %b, 6
  %bits = getelementptr i8, ptr %warp, i64 @BITS@
  %at = getelementptr i64, ptr %bits, i32 %word
  %old = load i64, ptr %at
  %less = sub i64 %old, 1
  %new = and i64 %old, %less
  store i64 %new, ptr %at
  br label %end
end:
  ret i32 %b
}

define internal void @put(ptr %warp, i64 %bits_at, i64 %masks_at, i32 %b, i32 %mask) {
  %none = icmp eq i32 %mask, 0
  br i1 %none, label %end, label %some
some:
  %masks = getelementptr i8, ptr %warp, i64 %masks_at
  %slot = getelementptr i32, ptr %masks, i32 %b
  %old = load i32, ptr %slot
  %new = or i32 %old, %mask
  store i32 %new, ptr %slot
  %word = lshr i32 %b, 6
  %low = and i32 %b, 63
  %low64 = zext i32 %low to i64
  %bit = shl i64 1, %low64
  %bits = getelementptr i8, ptr %warp, i64 %bits_at
  %at = getelementptr i64, ptr %bits, i32 %word
  %were = load i64, ptr %at
  %are = or i64 %were, %bit
  store i64 %are, ptr %at
  br label %end
end:
  ret void
}

define internal void @park(ptr %warp, i32 %b, i32 %mask) {
  call void @put(ptr %warp, i64 @BITS@, i64 @WAIT@, i32 %b, i32 %mask)
  ret void
}

define internal void @stall(ptr %warp, i32 %b, i32 %mask) {
  call void @put(ptr %warp, i64 @STALL_BITS@, i64 @STALL@, i32 %b, i32 %mask)
  ret void
}

define internal i32 @take_stalled(ptr %warp, i32 %b) {
  %masks = getelementptr i8, ptr %warp, i64 @STALL@
  %slot = getelementptr i32, ptr %masks, i32 %b
  %mask = load i32, ptr %slot
  %none = icmp eq i32 %mask, 0
  br i1 %none, label %end, label %some
some:
  store i32 0, ptr %slot
  %word = lshr i32 %b, 6
  %low = and i32 %b, 63
  %low64 = zext i32 %low to i64
  %bit = shl i64 1, %low64
  %not = xor i64 %bit, -1
  %bits = getelementptr i8, ptr %warp, i64 @STALL_BITS@
  %at = getelementptr i64, ptr %bits, i32 %word
  %were = load i64, ptr %at
  %are = and i64 %were, %not
  store i64 %are, ptr %at
  br label %end
end:
  ret i32 %mask
}

define internal i1 @retry(ptr %warp) {
  br label %loop
loop:
  %any = phi i1 [ false, %0 ], [ true, %some ]
  %b = call i32 @lowest(ptr %warp, i64 @STALL_BITS@)
  %none = icmp eq i32 %b, @COUNT@
  br i1 %none, label %end, label %some
some:
  %mask = call i32 @take_stalled(ptr %warp, i32 %b)
  call void @park(ptr %warp, i32 %b, i32 %mask)
  br label %loop
end:
  ret i1 %any
}

define internal void @fault(ptr %blk, ptr %warp, i32 %kind, i32 %site, i32 %mask, i64 %address) {
  %kind64 = zext i32 %kind to i64
  %site64 = zext i32 %site to i64
  %mask64 = zext i32 %mask to i64
  %lane = call i32 @llvm.cttz.i32(i32 %mask, i1 false)
  %lane64 = zext i32 %lane to i64
  %p0 = getelementptr i8, ptr %blk, i64 @B_fault_kind@
  store i64 %kind64, ptr %p0
  %p1 = getelementptr i8, ptr %blk, i64 @B_fault_site@
  store i64 %site64, ptr %p1
  %p2 = getelementptr i8, ptr %blk, i64 @B_fault_lane@
  store i64 %lane64, ptr %p2
  %p3 = getelementptr i8, ptr %blk, i64 @B_fault_address@
  store i64 %address, ptr %p3
  %p4 = getelementptr i8, ptr %blk, i64 @B_fault_mask@
  store i64 %mask64, ptr %p4
  ret void
}

define internal i32 @tick(ptr %ctx, ptr %blk, ptr %warp, i32 %b, i32 %mask) {
  %at = getelementptr i8, ptr %blk, i64 @B_steps@
  %old = load i64, ptr %at
  %steps = add i64 %old, 1
  store i64 %steps, ptr %at
  %low = and i64 %steps, @TICK_MASK@
  %rare = icmp eq i64 %low, 0
  br i1 %rare, label %check, label %calm
calm:
  ret i32 0
check:
  %stop_at = getelementptr i8, ptr %ctx, i64 @C_stop@
  %stop = load volatile i64, ptr %stop_at
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %halt, label %spend
halt:
  call void @fault(ptr %blk, ptr %warp, i32 5, i32 %b, i32 %mask, i64 0)
  ret i32 @FAULT@
spend:
  %budget_at = getelementptr i8, ptr %ctx, i64 @C_budget@
  %budget = load i64, ptr %budget_at
  %over = icmp uge i64 %steps, %budget
  br i1 %over, label %broke, label %yield
broke:
  call void @fault(ptr %blk, ptr %warp, i32 4, i32 %b, i32 %mask, i64 0)
  ret i32 @FAULT@
yield:
  ret i32 @YIELD@
}

define internal void @retire(ptr %blk, ptr %warp, i32 %mask) {
  %at = getelementptr i8, ptr %warp, i64 @ALIVE@
  %old = load i32, ptr %at
  %not = xor i32 %mask, -1
  %new = and i32 %old, %not
  store i32 %new, ptr %at
  %gone = call i32 @llvm.ctpop.i32(i32 %mask)
  %gone64 = zext i32 %gone to i64
  %all_at = getelementptr i8, ptr %blk, i64 @B_alive@
  %all = load i64, ptr %all_at
  %left = sub i64 %all, %gone64
  store i64 %left, ptr %all_at
  ret void
}

; Lanes come to barrier %id with their votes; they go on at basic block %next.
define internal void @arrive(ptr %blk, ptr %warp, i32 %id, i32 %needed, i32 %mask, i32 %votes, i32 %next, i1 %wait) {
  %base = getelementptr i8, ptr %blk, i64 @BARRIERS@
  %bar = getelementptr [4 x i32], ptr %base, i32 %id
  %old = load i32, ptr %bar
  %come = call i32 @llvm.ctpop.i32(i32 %mask)
  %new = add i32 %old, %come
  store i32 %new, ptr %bar
  %needed_at = getelementptr i32, ptr %bar, i32 1
  store i32 %needed, ptr %needed_at
  %yes_at = getelementptr i32, ptr %bar, i32 2
  %yes = load i32, ptr %yes_at
  %said = and i32 %votes, %mask
  %more = call i32 @llvm.ctpop.i32(i32 %said)
  %yes1 = add i32 %yes, %more
  store i32 %yes1, ptr %yes_at
  br i1 %wait, label %stay, label %end
stay:
  %total_at = getelementptr i32, ptr %bar, i32 3
  %total = load i32, ptr %total_at
  %total1 = add i32 %total, %come
  store i32 %total1, ptr %total_at
  %lanes_base = getelementptr i8, ptr %warp, i64 @BAR_LANES@
  %lanes_at = getelementptr i32, ptr %lanes_base, i32 %id
  %lanes = load i32, ptr %lanes_at
  %lanes1 = or i32 %lanes, %mask
  store i32 %lanes1, ptr %lanes_at
  %block_base = getelementptr i8, ptr %warp, i64 @BAR_BLOCK@
  %block_at = getelementptr i32, ptr %block_base, i32 %id
  %block = load i32, ptr %block_at
  %first = icmp eq i32 %lanes, 0
  %same = icmp eq i32 %block, %next
  %plain = or i1 %first, %same
  %block1 = select i1 %plain, i32 %next, i32 -1
  store i32 %block1, ptr %block_at
  %resume = getelementptr i8, ptr %warp, i64 @RESUME@
  br label %loop
loop:
  %m = phi i32 [ %mask, %stay ], [ %m1, %body ]
  %done = icmp eq i32 %m, 0
  br i1 %done, label %end, label %body
body:
  %lane = call i32 @llvm.cttz.i32(i32 %m, i1 true)
  %less = sub i32 %m, 1
  %m1 = and i32 %m, %less
  %slot = getelementptr i32, ptr %resume, i32 %lane
  store i32 %next, ptr %slot
  br label %loop
end:
  ret void
}

; Lanes of a warp that wait at barrier %id may run again.
define internal void @wake(ptr %warp, i32 %id) {
  %lanes_base = getelementptr i8, ptr %warp, i64 @BAR_LANES@
  %lanes_at = getelementptr i32, ptr %lanes_base, i32 %id
  %lanes = load i32, ptr %lanes_at
  store i32 0, ptr %lanes_at
  %block_base = getelementptr i8, ptr %warp, i64 @BAR_BLOCK@
  %block_at = getelementptr i32, ptr %block_base, i32 %id
  %block = load i32, ptr %block_at
  %mixed = icmp slt i32 %block, 0
  br i1 %mixed, label %each, label %alike
alike:
  call void @park(ptr %warp, i32 %block, i32 %lanes)
  ret void
each:
  %resume = getelementptr i8, ptr %warp, i64 @RESUME@
  br label %loop
loop:
  %m = phi i32 [ %lanes, %each ], [ %m1, %body ]
  %done = icmp eq i32 %m, 0
  br i1 %done, label %end, label %body
body:
  %lane = call i32 @llvm.cttz.i32(i32 %m, i1 true)
  %less = sub i32 %m, 1
  %m1 = and i32 %m, %less
  %bit = shl i32 1, %lane
  %slot = getelementptr i32, ptr %resume, i32 %lane
  %b = load i32, ptr %slot
  call void @park(ptr %warp, i32 %b, i32 %bit)
  br label %loop
end:
  ret void
}

; Opens every barrier where all have come; whether there was any.
define internal i1 @release(ptr %ctx, ptr %blk) {
  %warps_at = getelementptr i8, ptr %ctx, i64 @C_warps@
  %warps = load i64, ptr %warps_at
  %alive_at = getelementptr i8, ptr %blk, i64 @B_alive@
  %alive64 = load i64, ptr %alive_at
  %alive = trunc i64 %alive64 to i32
  br label %loop
loop:
  %id = phi i32 [ 0, %0 ], [ %id1, %next ]
  %any = phi i1 [ false, %0 ], [ %any1, %next ]
  %base = getelementptr i8, ptr %blk, i64 @BARRIERS@
  %bar = getelementptr [4 x i32], ptr %base, i32 %id
  %come = load i32, ptr %bar
  %needed_at = getelementptr i32, ptr %bar, i32 1
  %needed = load i32, ptr %needed_at
  %all = icmp eq i32 %needed, 0
  %goal = select i1 %all, i32 %alive, i32 %needed
  %some = icmp ne i32 %come, 0
  %enough = icmp uge i32 %come, %goal
  %open = and i1 %some, %enough
  br i1 %open, label %wake, label %next
wake:
  %yes_at = getelementptr i32, ptr %bar, i32 2
  %yes = load i32, ptr %yes_at
  %total_at = getelementptr i32, ptr %bar, i32 3
  %total = load i32, ptr %total_at
  %res_base = getelementptr i8, ptr %blk, i64 @RESULTS@
  %res = getelementptr [2 x i32], ptr %res_base, i32 %id
  store i32 %yes, ptr %res
  %res1 = getelementptr i32, ptr %res, i32 1
  store i32 %total, ptr %res1
  call void @llvm.memset.p0.i64(ptr align 4 %bar, i8 0, i64 16, i1 false)
  br label %warp_loop
warp_loop:
  %w = phi i64 [ 0, %wake ], [ %w1, %warp_loop ]
  %skip = mul i64 %w, @WARP_BYTES@
  %to = add i64 %skip, @WARPS_AT@
  %warp = getelementptr i8, ptr %blk, i64 %to
  call void @wake(ptr %warp, i32 %id)
  %w1 = add i64 %w, 1
  %last = icmp eq i64 %w1, %warps
  br i1 %last, label %next, label %warp_loop
next:
  %any1 = phi i1 [ %any, %loop ], [ true, %warp_loop ]
  %id1 = add i32 %id, 1
  %end = icmp eq i32 %id1, 16
  br i1 %end, label %done, label %loop
done:
  ret i1 %any1
}

define i32 @run_block(ptr noalias %ctx, ptr noalias %blk) {
  %warps_at = getelementptr i8, ptr %ctx, i64 @C_warps@
  %warps = load i64, ptr %warps_at
  %slice_at = getelementptr i8, ptr %ctx, i64 @C_slice@
  %slice = load i64, ptr %slice_at
  br label %round
round:
  %n = phi i64 [ 0, %0 ], [ %n, %opened ], [ %n1, %again ]
  br label %loop
loop:
  %w = phi i64 [ 0, %round ], [ %w1, %next ]
  %late = phi i1 [ false, %round ], [ %late1, %next ]
  %skip = mul i64 %w, @WARP_BYTES@
  %to = add i64 %skip, @WARPS_AT@
  %warp = getelementptr i8, ptr %blk, i64 %to
  %alive_at = getelementptr i8, ptr %warp, i64 @ALIVE@
  %alive = load i32, ptr %alive_at
  %gone = icmp eq i32 %alive, 0
  br i1 %gone, label %next, label %run
run:
  %code = call i32 @run_warp(ptr %ctx, ptr %blk, ptr %warp)
  %bad = icmp eq i32 %code, @FAULT@
  br i1 %bad, label %fault, label %fine
fault:
  %fault_at = getelementptr i8, ptr %blk, i64 @B_fault_warp@
  store i64 %w, ptr %fault_at
  ret i32 @FAULT@
fine:
  %yields = icmp eq i32 %code, @YIELD@
  br label %next
next:
  %more = phi i1 [ false, %loop ], [ %yields, %fine ]
  %late1 = or i1 %late, %more
  %w1 = add i64 %w, 1
  %last = icmp eq i64 %w1, %warps
  br i1 %last, label %after, label %loop
after:
  %left_at = getelementptr i8, ptr %blk, i64 @B_alive@
  %left = load i64, ptr %left_at
  %all_done = icmp eq i64 %left, 0
  br i1 %all_done, label %done, label %wait
done:
  ret i32 @DONE@
wait:
  %released = call i1 @release(ptr %ctx, ptr %blk)
  br i1 %released, label %opened, label %closed
opened:
  br label %round
closed:
  br i1 %late1, label %again, label %stuck
again:
  %n1 = add i64 %n, 1
  %long = icmp uge i64 %n1, %slice
  br i1 %long, label %rotate, label %round
rotate:
  ret i32 @YIELD@
stuck:
  ret i32 @DEADLOCK@
}

define internal void @begin_block(ptr %ctx, ptr %blk, i64 %number) {
  %gx_at = getelementptr i8, ptr %ctx, i64 @C_grid_x@
  %gx = load i64, ptr %gx_at
  %gy_at = getelementptr i8, ptr %ctx, i64 @C_grid_y@
  %gy = load i64, ptr %gy_at
  %x = urem i64 %number, %gx
  %rest = udiv i64 %number, %gx
  %y = urem i64 %rest, %gy
  %z = udiv i64 %rest, %gy
  %x_at = getelementptr i8, ptr %blk, i64 @B_ctaid_x@
  store i64 %x, ptr %x_at
  %y_at = getelementptr i8, ptr %blk, i64 @B_ctaid_y@
  store i64 %y, ptr %y_at
  %z_at = getelementptr i8, ptr %blk, i64 @B_ctaid_z@
  store i64 %z, ptr %z_at
  %number_at = getelementptr i8, ptr %blk, i64 @B_number@
  store i64 %number, ptr %number_at
  %steps_at = getelementptr i8, ptr %blk, i64 @B_steps@
  store i64 0, ptr %steps_at
  %threads_at = getelementptr i8, ptr %ctx, i64 @C_threads@
  %threads = load i64, ptr %threads_at
  %alive_at = getelementptr i8, ptr %blk, i64 @B_alive@
  store i64 %threads, ptr %alive_at
  %bar = getelementptr i8, ptr %blk, i64 @BARRIERS@
  call void @llvm.memset.p0.i64(ptr align 8 %bar, i8 0, i64 @BARRIERS_BYTES@, i1 false)
  %bytes_at = getelementptr i8, ptr %ctx, i64 @C_shared_bytes@
  %bytes = load i64, ptr %bytes_at
  %shared_at = getelementptr i8, ptr %blk, i64 @B_shared@
  %shared_int = load i64, ptr %shared_at
  %shared = inttoptr i64 %shared_int to ptr
  call void @llvm.memset.p0.i64(ptr align 16 %shared, i8 0, i64 %bytes, i1 false)
  %warps_at = getelementptr i8, ptr %ctx, i64 @C_warps@
  %warps = load i64, ptr %warps_at
  br label %loop
loop:
  %w = phi i64 [ 0, %0 ], [ %w1, %loop ]
  %skip = mul i64 %w, @WARP_BYTES@
  %to = add i64 %skip, @WARPS_AT@
  %warp = getelementptr i8, ptr %blk, i64 %to
  %first_at = getelementptr i8, ptr %warp, i64 @FIRST@
  %first = load i32, ptr %first_at
  %live_at = getelementptr i8, ptr %warp, i64 @ALIVE@
  store i32 %first, ptr %live_at
  %lists = getelementptr i8, ptr %warp, i64 @LISTS@
  call void @llvm.memset.p0.i64(ptr align 64 %lists, i8 0, i64 @LISTS_BYTES@, i1 false)
  %lanes = getelementptr i8, ptr %warp, i64 @BAR_LANES@
  call void @llvm.memset.p0.i64(ptr align 64 %lanes, i8 0, i64 64, i1 false)
  %local_at = getelementptr i8, ptr %warp, i64 @LOCAL_BASE@
  %local_int = load i64, ptr %local_at
  %local = inttoptr i64 %local_int to ptr
  %local_size = mul i64 32, @LOCAL_BYTES@
  call void @llvm.memset.p0.i64(ptr align 16 %local, i8 0, i64 %local_size, i1 false)
@ZERO@
  call void @park(ptr %warp, i32 0, i32 %first)
  %w1 = add i64 %w, 1
  %last = icmp eq i64 %w1, %warps
  br i1 %last, label %end, label %loop
end:
  ret void
}

; Runs blocks [%first, %last); the one that did not end is named in the block's state.
define i32 @run_blocks(ptr noalias %ctx, ptr noalias %blk, i64 %first, i64 %last) {
  br label %loop
loop:
  %i = phi i64 [ %first, %0 ], [ %i1, %next ]
  %end = icmp uge i64 %i, %last
  br i1 %end, label %done, label %body
body:
  call void @begin_block(ptr %ctx, ptr %blk, i64 %i)
  %code = call i32 @run_block(ptr %ctx, ptr %blk)
  %fine = icmp eq i32 %code, @DONE@
  br i1 %fine, label %poll, label %back
poll:
  %stop_at = getelementptr i8, ptr %ctx, i64 @C_stop@
  %stop = load volatile i64, ptr %stop_at
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %done, label %next
next:
  %i1 = add i64 %i, 1
  br label %loop
back:
  ret i32 %code
done:
  ret i32 @DONE@
}
"""
