"""Blocks of kernels with checks, in LLVM IR (see `ir_forms`): what they do at their begin and at barriers."""

from __future__ import annotations

from tessera.emulator.checks_ir import SEARCH
from tessera.emulator.shadow_copies_ir import COPIES
from tessera.emulator.shadow_ir import NOTES, SERIAL_AT, STAMP_TICK, SYNC, TICK

BEGIN = "  call void @begin_checks(ptr %ctx, ptr %blk)"
"""In `begin_block`: once the block knows its number."""
OPENED = "  call void @barrier_opened(ptr %ctx, ptr %blk, i32 %id, i32 %needed)"
"""In `release`: before the lanes that wait at a barrier go on."""
_HALF = 1 << 19

CHECKED_BLOCKS = f"""
define internal void @begin_checks(ptr %ctx, ptr %blk) {{
  %number = get blk.number
  %serials = get ctx.serials
  %serial = add i64 %number, %serials
  %top = shl i64 %serial, {SERIAL_AT}
  %stamp = or i64 %top, {STAMP_TICK}
  set blk.stamp, %stamp
  set blk.stamp_floor, {STAMP_TICK}
  %oldest = shl i64 %serials, {SERIAL_AT}
  set blk.oldest, %oldest
  %old = get blk.now
  %late = icmp uge i64 %old, {_HALF * TICK}
  br i1 %late, label %forget, label %go
forget:
  call void @forget_all(ptr %ctx, ptr %blk)
  br label %go
go:
  %last = phi i64 [ %old, %0 ], [ 0, %forget ]
  %begun = add i64 %last, {TICK}
  %floor = add i64 %begun, {TICK}
  set blk.begun, %begun
  set blk.floor, %floor
  set blk.now, %floor
  call void @forget_locals(ptr %ctx, ptr %blk)
  call void @copies_forget(ptr %ctx, ptr %blk)
  ret void
}}

; Times begin at 0 again. Memory that belongs to no variable stays what it is.
define internal void @forget_all(ptr %ctx, ptr %blk) noinline cold {{
  %words = get blk.words
  %written_int = get blk.written
  %written = inttoptr i64 %written_int to ptr
  %read_int = get blk.read
  %read = inttoptr i64 %read_int to ptr
  %pending_int = get blk.pending
  %pending = inttoptr i64 %pending_int to ptr
  %updated_int = get blk.updated
  %updated = inttoptr i64 %updated_int to ptr
  %warps = get ctx.warps
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %i1, %body ]
  %end = icmp uge i64 %i, %words
  br i1 %end, label %floors, label %body
body:
  %at = getelementptr i32, ptr %written, i64 %i
  %old = load i32, ptr %at
  %gap = icmp eq i32 %old, -1
  %new = select i1 %gap, i32 -1, i32 0
  store i32 %new, ptr %at
  %at1 = getelementptr i32, ptr %read, i64 %i
  store i32 0, ptr %at1
  %at2 = getelementptr i32, ptr %updated, i64 %i
  store i32 0, ptr %at2
  %at3 = getelementptr i32, ptr %pending, i64 %i
  store i32 0, ptr %at3
  %i1 = add i64 %i, 1
  br label %loop
floors:
  %w = phi i64 [ 0, %loop ], [ %w1, %each ]
  %last = icmp uge i64 %w, %warps
  br i1 %last, label %done, label %each
each:
  %warp = warp %w
  set warp.floor, 0
  %w1 = add i64 %w, 1
  br label %floors
done:
  ret void
}}

; Local memory is as at the begin of a thread: nothing is written.
define internal void @forget_locals(ptr %ctx, ptr %blk) {{
  %bytes = get ctx.local_bytes
  %none = icmp eq i64 %bytes, 0
  br i1 %none, label %done, label %some
some:
  %fresh_int = get blk.local_fresh
  %fresh = inttoptr i64 %fresh_int to ptr
  %marks = get blk.local_marks
  %warps = get ctx.warps
  %threads = shl i64 %warps, 5
  %warp = warp 0
  %local = get warp.local
  %start = add i64 %local, %marks
  br label %loop
loop:
  %i = phi i64 [ 0, %some ], [ %i1, %body ]
  %end = icmp uge i64 %i, %threads
  br i1 %end, label %done, label %body
body:
  %skip = mul i64 %i, %bytes
  %here = add i64 %start, %skip
  %at = inttoptr i64 %here to ptr
  call void @llvm.memcpy.p0.p0.i64(ptr %at, ptr %fresh, i64 %bytes, i1 false)
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret void
}}

; A barrier opens: if the whole block is there, all that was done is in order with all that comes.
define internal void @barrier_opened(ptr %ctx, ptr %blk, i32 %id, i32 %needed) {{
  %threads64 = get ctx.threads
  %threads = trunc i64 %threads64 to i32
  %alive64 = get blk.alive
  %alive = trunc i64 %alive64 to i32
  %complete = icmp eq i32 %alive, %threads
  %plain = icmp eq i32 %needed, 0
  %enough = icmp uge i32 %needed, %threads
  %all = or i1 %plain, %enough
  %whole = and i1 %all, %complete
  %now = call i32 @pass_time(ptr %blk)
  %now64 = zext i32 %now to i64
  br i1 %whole, label %floor, label %begin
floor:
  set blk.floor, %now64
  %stamp = get blk.stamp
  %time = and i64 %stamp, {(1 << SERIAL_AT) - STAMP_TICK}
  set blk.stamp_floor, %time
  br label %begin
begin:
  %warps = get ctx.warps
  br label %loop
loop:
  %w = phi i64 [ 0, %begin ], [ %w1, %next ]
  %place = phi i32 [ -1, %begin ], [ %place1, %next ]
  %mixed = phi i1 [ false, %begin ], [ %mixed1, %next ]
  %warp = warp %w
  %lanes_base = at warp.BAR_LANES
  %lanes_at = getelementptr i32, ptr %lanes_base, i32 %id
  %lanes = load i32, ptr %lanes_at
  %block_base = at warp.BAR_BLOCK
  %block_at = getelementptr i32, ptr %block_base, i32 %id
  %block = load i32, ptr %block_at
  %first = get warp.first
  %same = icmp eq i32 %lanes, %first
  br i1 %same, label %met, label %look
met:
  set warp.floor, %now
  br label %look
look:
  %nobody = icmp eq i32 %lanes, 0
  br i1 %nobody, label %next, label %compare
compare:
  %unset = icmp eq i32 %place, -1
  %known = select i1 %unset, i32 %block, i32 %place
  %differs = icmp ne i32 %known, %block
  %several = icmp slt i32 %block, 0
  %odd = or i1 %differs, %several
  br label %next
next:
  %place1 = phi i32 [ %place, %look ], [ %known, %compare ]
  %found = phi i1 [ false, %look ], [ %odd, %compare ]
  %mixed1 = or i1 %mixed, %found
  %w1 = add i64 %w, 1
  %last = icmp eq i64 %w1, %warps
  br i1 %last, label %judge, label %loop
judge:
  %short = xor i1 %complete, true
  %wrong = or i1 %short, %mixed1
  %divergent = and i1 %wrong, %plain
  br i1 %divergent, label %tell, label %done
tell:
  %negative = icmp slt i32 %place1, 0
  %safe = select i1 %negative, i32 0, i32 %place1
  %site = add i32 %safe, @SITE_COUNT@
  call void @note(ptr %blk, ptr %warp, i32 {SYNC}, i32 %site, i32 -1, i64 0)
  br label %done
done:
  ret void
}}
"""
"""`begin_checks`, `barrier_opened`. Notes of barriers come after those of `sites`, by basic block."""


def checked(template: str) -> str:
    """The fixed part of a module, with checks."""
    template = template.replace("  ;BEGIN", BEGIN).replace("  ;OPENED", OPENED)
    return "\n".join((template, NOTES, SEARCH, COPIES, CHECKED_BLOCKS))
