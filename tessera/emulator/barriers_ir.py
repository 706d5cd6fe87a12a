"""Barriers of a block in LLVM IR (see `ir_forms`)."""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

BARRIERS = """
; Lanes come to barrier %id with their votes; they go on at basic block %next.
define internal void @arrive(ptr %blk, ptr %warp, i32 %id, i32 %needed, i32 %mask, i32 %votes, i32 %next, i1 %wait) {
  %base = at blk.BARRIERS
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
  %lanes_base = at warp.BAR_LANES
  %lanes_at = getelementptr i32, ptr %lanes_base, i32 %id
  %lanes = load i32, ptr %lanes_at
  %lanes1 = or i32 %lanes, %mask
  store i32 %lanes1, ptr %lanes_at
  %block_base = at warp.BAR_BLOCK
  %block_at = getelementptr i32, ptr %block_base, i32 %id
  %block = load i32, ptr %block_at
  %first = icmp eq i32 %lanes, 0
  %same = icmp eq i32 %block, %next
  %plain = or i1 %first, %same
  %block1 = select i1 %plain, i32 %next, i32 -1
  store i32 %block1, ptr %block_at
  %resume = at warp.RESUME
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
  %lanes_base = at warp.BAR_LANES
  %lanes_at = getelementptr i32, ptr %lanes_base, i32 %id
  %lanes = load i32, ptr %lanes_at
  store i32 0, ptr %lanes_at
  %block_base = at warp.BAR_BLOCK
  %block_at = getelementptr i32, ptr %block_base, i32 %id
  %block = load i32, ptr %block_at
  %mixed = icmp slt i32 %block, 0
  br i1 %mixed, label %each, label %alike
alike:
  call void @park(ptr %warp, i32 %block, i32 %lanes)
  ret void
each:
  %resume = at warp.RESUME
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
  %warps = get ctx.warps
  %alive64 = get blk.alive
  %alive = trunc i64 %alive64 to i32
  br label %loop
loop:
  %id = phi i32 [ 0, %0 ], [ %id1, %next ]
  %any = phi i1 [ false, %0 ], [ %any1, %next ]
  %base = at blk.BARRIERS
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
  ;OPENED
  %yes_at = getelementptr i32, ptr %bar, i32 2
  %yes = load i32, ptr %yes_at
  %total_at = getelementptr i32, ptr %bar, i32 3
  %total = load i32, ptr %total_at
  %res_base = at blk.RESULTS
  %res = getelementptr [2 x i32], ptr %res_base, i32 %id
  store i32 %yes, ptr %res
  %res1 = getelementptr i32, ptr %res, i32 1
  store i32 %total, ptr %res1
  call void @llvm.memset.p0.i64(ptr align 4 %bar, i8 0, i64 16, i1 false)
  br label %warp_loop
warp_loop:
  %w = phi i64 [ 0, %wake ], [ %w1, %warp_loop ]
  %warp = warp %w
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

; A warp is where its warpgroup of four meets; whether all of them that have not ended have come.
define internal i1 @meet(ptr %ctx, ptr %blk, ptr %warp) {
  %waits = get warp.waits
  %again = icmp ne i32 %waits, 0
  %before = get warp.turn
  %one = select i1 %again, i32 0, i32 1
  %turn = add i32 %before, %one
  set warp.turn, %turn
  set warp.waits, 1
  %id = get warp.id
  %low = and i32 %id, -4
  %first = zext i32 %low to i64
  %count = get ctx.warps
  %four = add i64 %first, 4
  %few = icmp ult i64 %count, %four
  %end = select i1 %few, i64 %count, i64 %four
  br label %loop
loop:
  %w = phi i64 [ %first, %0 ], [ %w1, %next ]
  %other = warp %w
  %alive = load i32, ptr %other
  %turn_at = getelementptr i8, ptr %other, i64 @TURN@
  %their = load i32, ptr %turn_at
  %behind = icmp ult i32 %their, %turn
  %living = icmp ne i32 %alive, 0
  %late = and i1 %behind, %living
  br i1 %late, label %absent, label %next
next:
  %w1 = add i64 %w, 1
  %last = icmp eq i64 %w1, %end
  br i1 %last, label %here, label %loop
here:
  set warp.waits, 0
  set blk.met, 1
  ret i1 true
absent:
  ret i1 false
}
"""
"""`arrive`, `wake`, `release`, `meet`."""
