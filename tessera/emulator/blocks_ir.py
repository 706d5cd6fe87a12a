"""Running the blocks of a grid in LLVM IR (see `ir_forms`): turns of warps, faults, budgets."""

from __future__ import annotations

FAULTS = """
define internal void @fault(ptr %blk, ptr %warp, i32 %kind, i32 %site, i32 %mask, i64 %address) {
  %kind64 = zext i32 %kind to i64
  %site64 = zext i32 %site to i64
  %mask64 = zext i32 %mask to i64
  %lane = call i32 @llvm.cttz.i32(i32 %mask, i1 false)
  %lane64 = zext i32 %lane to i64
  set blk.fault_kind, %kind64
  set blk.fault_site, %site64
  set blk.fault_lane, %lane64
  set blk.fault_address, %address
  set blk.fault_mask, %mask64
  ret void
}

; A jump backwards. %polite: 1 if these lanes only look for something and let all others go first; 2 if they
; do more than that, too; 3 if they do so now and then.
define internal i32 @tick(ptr %ctx, ptr %blk, ptr %warp, i32 %b, i32 %mask, i32 %polite) {
  %looks = icmp eq i32 %polite, 1
  br i1 %looks, label %look, label %count
look:
  ret i32 @POLL@
count:
  %old = get blk.steps
  %steps = add i64 %old, 1
  set blk.steps, %steps
  %low = and i64 %steps, @TICK_MASK@
  %rare = icmp eq i64 %low, 0
  br i1 %rare, label %check, label %calm
calm:
  %sleeps = icmp eq i32 %polite, 2
  %searches = icmp eq i32 %polite, 3
  %some = and i64 %steps, 63
  %now = icmp eq i64 %some, 0
  %search = and i1 %searches, %now
  %rest = or i1 %sleeps, %search
  %code = select i1 %rest, i32 @POLL@, i32 0
  ret i32 %code
check:
  %stop = poll ctx.stop
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %halt, label %spend
halt:
  call void @fault(ptr %blk, ptr %warp, i32 5, i32 %b, i32 %mask, i64 0)
  ret i32 @FAULT@
spend:
  %budget = get ctx.budget
  %over = icmp uge i64 %steps, %budget
  br i1 %over, label %broke, label %yield
broke:
  call void @fault(ptr %blk, ptr %warp, i32 4, i32 %b, i32 %mask, i64 0)
  ret i32 @FAULT@
yield:
  ret i32 @YIELD@
}

define internal void @retire(ptr %blk, ptr %warp, i32 %mask) {
  %old = get warp.alive
  %not = xor i32 %mask, -1
  %new = and i32 %old, %not
  set warp.alive, %new
  %gone = call i32 @llvm.ctpop.i32(i32 %mask)
  %gone64 = zext i32 %gone to i64
  %all = get blk.alive
  %left = sub i64 %all, %gone64
  set blk.alive, %left
  ret void
}
"""
"""How a warp's lanes end: by a fault, by their budget, or well."""

BLOCKS = """
define i32 @run_block(ptr noalias %ctx, ptr noalias %blk) {
  %warps = get ctx.warps
  %slice = get ctx.slice
  br label %round
round:
  %n = phi i64 [ 0, %0 ], [ %n, %opened ], [ %n1, %again ], [ %n2, %patient ]
  %vain = phi i64 [ 0, %0 ], [ 0, %opened ], [ 0, %again ], [ %vain2, %patient ]
  %before = phi i64 [ -1, %0 ], [ -1, %opened ], [ -1, %again ], [ %happened, %patient ]
  br label %loop
loop:
  %w = phi i64 [ 0, %round ], [ %w1, %next ]
  %late = phi i1 [ false, %round ], [ %late1, %next ]
  %vainly = phi i1 [ false, %round ], [ %vainly1, %next ]
  %warp = warp %w
  %alive = get warp.alive
  %gone = icmp eq i32 %alive, 0
  br i1 %gone, label %next, label %run
run:
  %code = call i32 @run_warp(ptr %ctx, ptr %blk, ptr %warp)
  %bad = icmp eq i32 %code, @FAULT@
  br i1 %bad, label %fault, label %fine
fault:
  set blk.fault_warp, %w
  ret i32 @FAULT@
fine:
  %yields = icmp eq i32 %code, @YIELD@
  %polls = icmp eq i32 %code, @POLL@
  br label %next
next:
  %more = phi i1 [ false, %loop ], [ %yields, %fine ]
  %look = phi i1 [ false, %loop ], [ %polls, %fine ]
  %late1 = or i1 %late, %more
  %vainly1 = or i1 %vainly, %look
  %w1 = add i64 %w, 1
  %last = icmp eq i64 %w1, %warps
  br i1 %last, label %after, label %loop
after:
  %left = get blk.alive
  %all_done = icmp eq i64 %left, 0
  br i1 %all_done, label %done, label %wait
done:
  ret i32 @DONE@
wait:
  %opens = call i1 @release(ptr %ctx, ptr %blk)
  %met = get blk.met
  set blk.met, 0
  %meets = icmp ne i64 %met, 0
  %released = or i1 %opens, %meets
  br i1 %released, label %opened, label %closed
opened:
  br label %round
closed:
  br i1 %late1, label %again, label %quiet
quiet:
  br i1 %vainly1, label %patient, label %stuck
patient:
  %events = get blk.events
  %steps = get blk.steps
  %happened = add i64 %events, %steps
  %same = icmp eq i64 %happened, %before
  %vain1 = add i64 %vain, 1
  %vain2 = select i1 %same, i64 %vain1, i64 0
  %n2 = add i64 %n, 1
  %turn = icmp uge i64 %n2, %slice
  %bored = icmp uge i64 %vain2, @PATIENCE@
  %enough = or i1 %turn, %bored
  br i1 %enough, label %away, label %round
away:
  ret i32 @POLL@
again:
  %n1 = add i64 %n, 1
  %long = icmp uge i64 %n1, %slice
  br i1 %long, label %rotate, label %round
rotate:
  ret i32 @YIELD@
stuck:
  ret i32 @DEADLOCK@
}

define void @begin_block(ptr %ctx, ptr %blk, i64 %number) {
  %gx = get ctx.grid_x
  %gy = get ctx.grid_y
  %x = urem i64 %number, %gx
  %rest = udiv i64 %number, %gx
  %y = urem i64 %rest, %gy
  %z = udiv i64 %rest, %gy
  set blk.ctaid_x, %x
  set blk.ctaid_y, %y
  set blk.ctaid_z, %z
  set blk.number, %number
  set blk.steps, 0
  set blk.met, 0
  set blk.events, 0
  %cx = get ctx.cluster_x
  %cy = get ctx.cluster_y
  %cz = get ctx.cluster_z
  %px = urem i64 %x, %cx
  %py = urem i64 %y, %cy
  %pz = urem i64 %z, %cz
  %ix = udiv i64 %x, %cx
  %iy = udiv i64 %y, %cy
  %iz = udiv i64 %z, %cz
  set blk.cluster_ctaid_x, %px
  set blk.cluster_ctaid_y, %py
  set blk.cluster_ctaid_z, %pz
  set blk.clusterid_x, %ix
  set blk.clusterid_y, %iy
  set blk.clusterid_z, %iz
  %layer = mul i64 %pz, %cy
  %line = add i64 %layer, %py
  %lines = mul i64 %line, %cx
  %rank = add i64 %lines, %px
  set blk.rank, %rank
  %cluster_int = get blk.cluster
  %cluster = inttoptr i64 %cluster_int to ptr
  set cluster.come, 0
  set cluster.parity, 0
  ;BEGIN
  %threads = get ctx.threads
  set blk.alive, %threads
  %bar = at blk.BARRIERS
  call void @llvm.memset.p0.i64(ptr align 8 %bar, i8 0, i64 @BARRIERS_BYTES@, i1 false)
  %bytes = get ctx.shared_bytes
  %shared_int = get blk.shared
  %shared = inttoptr i64 %shared_int to ptr
  call void @llvm.memset.p0.i64(ptr align 16 %shared, i8 0, i64 %bytes, i1 false)
  %warps = get ctx.warps
  br label %loop
loop:
  %w = phi i64 [ 0, %0 ], [ %w1, %loop ]
  %warp = warp %w
  %first = get warp.first
  set warp.alive, %first
  set warp.turn, 0
  set warp.parity, -1
  set warp.waits, 0
  %lists = at warp.LISTS
  call void @llvm.memset.p0.i64(ptr align 64 %lists, i8 0, i64 @LISTS_BYTES@, i1 false)
  %lanes = at warp.BAR_LANES
  call void @llvm.memset.p0.i64(ptr align 64 %lanes, i8 0, i64 64, i1 false)
  %local_int = get warp.local
  %local = inttoptr i64 %local_int to ptr
  %local_size = mul i64 32, @LOCAL_BYTES@
  call void @llvm.memset.p0.i64(ptr align 16 %local, i8 0, i64 %local_size, i1 false)
  ;ZERO
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
  %stop = poll ctx.stop
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
"""Blocks from their first warp to their last."""
