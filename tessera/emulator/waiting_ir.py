"""Which lanes of a warp wait at which basic block, in LLVM IR (see `ir_forms`).

Lanes that may run are in the lists of waiting lanes; lanes at a warp-wide instruction whose partners are
not there yet are in those of stalled lanes.
"""

from __future__ import annotations

WAITING = """
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
  %bits = at warp.BITS
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
  %masks = at warp.STALL
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
  %bits = at warp.STALL_BITS
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
"""
"""Functions on a warp's lists of lanes."""
