"""Shadow of asynchronous copies to shared memory (`cp.async`) in LLVM IR: has anybody waited for them.

One table of words like those of writes: when which thread began the copy that wrote a piece. Each warp keeps
the times at which it closed its last groups; when it waits, all that it began before one of these is settled.
What is settled for every warp of the block may be read. Lanes that close groups or wait without the rest of
their warp settle nothing: the interpreter looks at them.

Source: PTX ISA 8.8, section 9.7.9.25.3 (`cp.async`, `commit_group`, `wait_group`).
"""

from __future__ import annotations

from tessera.emulator.layout import COPY_GROUPS

GROUPS = 4
"""Groups of a warp whose times are kept."""
NEVER = 0xFFFF_FFFF

COPIES = f"""
; Lanes of a warp begin copies.
define internal void @copies_begin(ptr %blk, ptr %warp) {{
  %busy = get warp.copies
  %before = icmp ne i32 %busy, 0
  br i1 %before, label %end, label %first
first:
  set warp.copies, 1
  %now64 = get blk.now
  %now = trunc i64 %now64 to i32
  set warp.settled, %now
  %least = get blk.settled
  %less = icmp ult i64 %now64, %least
  %min = select i1 %less, i64 %now64, i64 %least
  set blk.settled, %min
  br label %end
end:
  ret void
}}

; The whole warp closes a group.
define internal void @copies_commit(ptr %blk, ptr %warp, i32 %mask) {{
  %first = get warp.first
  %whole = icmp eq i32 %mask, %first
  br i1 %whole, label %close, label %end
close:
  %now = call i32 @pass_time(ptr %blk)
  %count = get warp.groups
  %more = add i32 %count, 1
  set warp.groups, %more
  %place = and i32 %count, {GROUPS - 1}
  %times = getelementptr i8, ptr %warp, i64 {COPY_GROUPS}
  %slot = getelementptr i32, ptr %times, i32 %place
  store i32 %now, ptr %slot
  br label %end
end:
  ret void
}}

; The whole warp waits until no more than %left groups are under way; -1: for all that was begun.
define internal void @copies_wait(ptr %ctx, ptr %blk, ptr %warp, i32 %mask, i32 %left) {{
  %first = get warp.first
  %whole = icmp eq i32 %mask, %first
  br i1 %whole, label %look, label %end
look:
  %all = icmp slt i32 %left, 0
  br i1 %all, label %everything, label %some
everything:
  set warp.copies, 0
  br label %settle
some:
  %known = icmp ult i32 %left, {GROUPS}
  br i1 %known, label %count, label %end
count:
  %groups = get warp.groups
  %enough = icmp ugt i32 %groups, %left
  br i1 %enough, label %group, label %end
group:
  %past = sub i32 %groups, %left
  %last = sub i32 %past, 1
  %place = and i32 %last, {GROUPS - 1}
  %times = getelementptr i8, ptr %warp, i64 {COPY_GROUPS}
  %slot = getelementptr i32, ptr %times, i32 %place
  %time = load i32, ptr %slot
  set warp.settled, %time
  br label %settle
settle:
  %warps = get ctx.warps
  br label %loop
loop:
  %w = phi i64 [ 0, %settle ], [ %w1, %loop ]
  %least = phi i32 [ -1, %settle ], [ %least1, %loop ]
  %other = warp %w
  %busy_at = getelementptr i8, ptr %other, i64 @COPIES_BUSY@
  %busy = load i32, ptr %busy_at
  %settled_at = getelementptr i8, ptr %other, i64 @COPIES_SETTLED@
  %settled = load i32, ptr %settled_at
  %idle = icmp eq i32 %busy, 0
  %own = select i1 %idle, i32 -1, i32 %settled
  %less = icmp ult i32 %own, %least
  %least1 = select i1 %less, i32 %own, i32 %least
  %w1 = add i64 %w, 1
  %end_of = icmp eq i64 %w1, %warps
  br i1 %end_of, label %keep, label %loop
keep:
  %min = zext i32 %least1 to i64
  set blk.settled, %min
  br label %end
end:
  ret void
}}

; A block begins: nothing is under way.
define internal void @copies_forget(ptr %ctx, ptr %blk) {{
  set blk.settled, {NEVER}
  %warps = get ctx.warps
  br label %loop
loop:
  %w = phi i64 [ 0, %0 ], [ %w1, %loop ]
  %warp = warp %w
  set warp.copies, 0
  set warp.groups, 0
  %w1 = add i64 %w, 1
  %last = icmp eq i64 %w1, %warps
  br i1 %last, label %end, label %loop
end:
  ret void
}}
"""
"""`copies_begin`, `copies_commit`, `copies_wait`, `copies_forget`."""
