"""LLVM IR that finds the allocation an address lies in.

The host's table of allocations is sorted by address; an entry is a few words, of which the first is the
allocation's address and the second its length in bytes.
"""

from __future__ import annotations


def search_table(*, after: str, words: int, found: str) -> str:
    """Blocks `search` to `inside`: they go to `found`, or to `outside` if no allocation holds all of it.

    They take `%table`, `%count` (entries), `%a` (the access's address) and `%most` (its bytes - 1), and leave
    `%own` (the entry), `%start` (its address) and `%end` (how many addresses from there on are good).

    Args:
        after: Label of the block that jumps to `search`.
        words: Words of an entry.
        found: Label of the block for an access that lies in an allocation.
    """
    return f"""search:
  %low = phi i64 [ 0, %{after} ], [ %low1, %halve ]
  %high = phi i64 [ %count, %{after} ], [ %high1, %halve ]
  %empty = icmp uge i64 %low, %high
  br i1 %empty, label %found, label %halve
halve:
  %sum = add i64 %low, %high
  %mid = lshr i64 %sum, 1
  %entry = getelementptr [{words} x i64], ptr %table, i64 %mid
  %base = load i64, ptr %entry
  %right = icmp ule i64 %base, %a
  %mid1 = add i64 %mid, 1
  %low1 = select i1 %right, i64 %mid1, i64 %low
  %high1 = select i1 %right, i64 %high, i64 %mid
  br label %search
found:
  %before = icmp eq i64 %low, 0
  br i1 %before, label %outside, label %inside
inside:
  %index = sub i64 %low, 1
  %own = getelementptr [{words} x i64], ptr %table, i64 %index
  %start = load i64, ptr %own
  %length_at = getelementptr i64, ptr %own, i32 1
  %length = load i64, ptr %length_at
  %end = call i64 @llvm.usub.sat.i64(i64 %length, i64 %most)
  %into = sub i64 %a, %start
  %fits = icmp ult i64 %into, %end
  br i1 %fits, label %{found}, label %outside"""
