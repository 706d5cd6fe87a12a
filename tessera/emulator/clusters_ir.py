"""The barrier of a cluster of blocks in LLVM IR (see `ir_forms`)."""

from __future__ import annotations

CLUSTERS = """
; Lanes come to the barrier of the cluster; they do not wait yet.
define internal void @cluster_arrive(ptr %blk, ptr %warp, i32 %mask) {
  %cluster_int = get blk.cluster
  %cluster = inttoptr i64 %cluster_int to ptr
  %phase = get cluster.parity
  %odd = icmp ne i64 %phase, 0
  %here = select i1 %odd, i32 %mask, i32 0
  %old = get warp.parity
  %not = xor i32 %mask, -1
  %kept = and i32 %old, %not
  %new = or i32 %kept, %here
  set warp.parity, %new
  %lanes = call i32 @llvm.ctpop.i32(i32 %mask)
  %lanes64 = zext i32 %lanes to i64
  %were = get cluster.come
  %are = add i64 %were, %lanes64
  set cluster.come, %are
  %events = get blk.events
  %events1 = add i64 %events, 1
  set blk.events, %events1
  ret void
}

; Which of these lanes need not wait any more.
define internal i32 @cluster_passed(ptr %blk, ptr %warp, i32 %mask) {
  %cluster_int = get blk.cluster
  %cluster = inttoptr i64 %cluster_int to ptr
  %come = get cluster.come
  %phase = get cluster.parity
  %none = icmp eq i64 %come, 0
  br i1 %none, label %end, label %sum
sum:
  %count = get cluster.count
  %states = at cluster.STATES
  br label %loop
loop:
  %i = phi i64 [ 0, %sum ], [ %i1, %loop ]
  %living = phi i64 [ 0, %sum ], [ %living1, %loop ]
  %slot = getelementptr i64, ptr %states, i64 %i
  %state_int = load i64, ptr %slot
  %state = inttoptr i64 %state_int to ptr
  %alive = get state.alive
  %living1 = add i64 %living, %alive
  %i1 = add i64 %i, 1
  %last = icmp eq i64 %i1, %count
  br i1 %last, label %compare, label %loop
compare:
  %all = icmp uge i64 %come, %living1
  br i1 %all, label %turn, label %end
turn:
  %other = xor i64 %phase, 1
  set cluster.parity, %other
  set cluster.come, 0
  br label %end
end:
  %now = phi i64 [ %phase, %0 ], [ %phase, %compare ], [ %other, %turn ]
  %odd = icmp ne i64 %now, 0
  %flip = select i1 %odd, i32 -1, i32 0
  %came = get warp.parity
  %differ = xor i32 %came, %flip
  %passed = and i32 %differ, %mask
  %some = icmp ne i32 %passed, 0
  %some64 = zext i1 %some to i64
  %events = get blk.events
  %events1 = add i64 %events, %some64
  set blk.events, %events1
  ret i32 %passed
}
"""
"""`cluster_arrive` and `cluster_passed`."""
