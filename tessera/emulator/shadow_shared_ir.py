"""Shadow of shared memory in LLVM IR: was it written, is each access in order with the others (see `shadow_ir`).

`mark_shared_<access>_<besides>` checks and records one piece per lane; it gives back the lanes whose piece
belongs to no variable. Only kernels with atomics on shared memory have the table of atomics.
"""

# ruff: noqa: E501 - a call in LLVM IR is one line

from __future__ import annotations

from tessera.emulator.bounds_ir import V64
from tessera.emulator.emit_ir import Value, constant
from tessera.emulator.shadow_ir import (
    COPY,
    CROWD,
    GAP,
    MEMORY,
    RACE,
    UNWRITTEN,
    V32,
    WARPS,
    Helper,
    argument,
    in_warp,
    thread_of,
)

ARGUMENTS = "ptr %blk, ptr %warp, i32 %site"


ATOMICS, COPIES = 1, 2
"""What else a kernel does with shared memory: bits of the last part of names."""


def mark(name: str, access: str, besides: str) -> str:
    """One piece per lane: `access` is `read`, `write`, `atomic`, `copy`, or `look` and `set`, which never race."""
    h = Helper()
    places = argument("o", 64)
    writes = h.binary("add", places, h.get("blk.written"))
    word = h.load(32, writes, "%mask")
    begun, floor = h.get("blk.begun", 32), h.get("blk.floor", 32)
    if access in ("write", "set", "copy"):
        calm = h.among(h.compare("ult", word, floor), "%mask")
    else:
        # Written in this block, and before its last barrier: in order with everybody.
        age = h.binary("sub", word, begun)
        calm = h.among(h.compare("ult", age, h.binary("sub", floor, begun)), "%mask")
    rest = h.without("%mask", calm)
    h.branch(h.let(f"icmp eq i32 {rest}, 0"), "known", "doubt")
    h.part("doubt")
    gaps = h.let(f"call i32 @doubt_{access}(ptr %blk, ptr %warp, i32 %site, {V32} {word.text}, i32 {rest})")
    h.raw("  br label %known")
    h.part("known")
    outside = h.let(f"phi i32 [ 0, %0 ], [ {gaps}, %doubt ]")
    mask = h.without("%mask", outside)
    if int(besides) & COPIES:
        _copies(h, access, places, mask)
    record = _RECORD["write" if access == "copy" else access]
    record(h, places, writes, word, mask, bool(int(besides) & ATOMICS))
    h.raw(f"  ret i32 {outside}")
    return h.define(f"i32 @{name}({ARGUMENTS}, {V64} %o, i32 %mask)")


def _copies(h: Helper, access: str, places: Value, mask: str) -> None:
    """What copies write is not there before it was waited for; what is written otherwise is."""
    at = h.binary("add", places, h.get("blk.pending"))
    if access == "copy":
        h.store(at, mask, h.binary("or", h.threads(), h.get("blk.now", 32)))
    elif access in ("write", "set"):
        h.store(at, mask, constant(0, 32))
    else:
        early = h.compare("uge", h.load(32, at, mask), h.get("blk.settled", 32))
        h.note_if(COPY, h.among(early, mask))


def _read(h: Helper, places: Value, _writes: Value, _word: Value, mask: str, atomics: bool) -> None:
    if atomics:
        _check_crowd(h, places, "updated", mask)
    _join(h, places, "read", mask)


def _write(h: Helper, places: Value, writes: Value, _word: Value, mask: str, atomics: bool) -> None:
    for table in ("read", "updated") if atomics else ("read",):
        _check_crowd(h, places, table, mask)
    tag = h.binary("or", h.threads(), h.get("blk.now", 32))
    h.store(writes, mask, tag)
    # Of lanes that write one place the last one stays.
    kept = h.load(32, writes, mask)
    h.note_if(RACE, h.among(h.compare("ne", kept, tag), mask))


def _atomic(h: Helper, places: Value, _writes: Value, _word: Value, mask: str, atomics: bool) -> None:
    del atomics
    _check_crowd(h, places, "read", mask)
    _join(h, places, "updated", mask)


def _look(_h: Helper, _places: Value, _writes: Value, _word: Value, _mask: str, _atomics: bool) -> None:
    """Reads that never race leave nothing."""


def _set(h: Helper, _places: Value, writes: Value, word: Value, mask: str, _atomics: bool) -> None:
    """Writes that never race: the place counts as written, as of the block's begin."""
    begun = h.get("blk.begun", 32)
    fresh = h.compare("ult", word, begun)
    h.store(writes, mask, h.select(fresh, h.spread(begun), word))


_RECORD = {"read": _read, "write": _write, "atomic": _atomic, "look": _look, "set": _set}


def _check_crowd(h: Helper, places: Value, table: str, mask: str) -> None:
    """Note lanes that come upon earlier reads or atomics of others."""
    words = h.load(32, h.binary("add", places, h.get(f"blk.{table}")), mask)
    late = h.among(h.compare("uge", words, h.get("blk.floor", 32)), mask)
    h.branch(h.let(f"icmp eq i32 {late}, 0"), f"{table}.calm", f"{table}.late")
    h.part(f"{table}.late")
    h.raw(f"  call void @doubt_crowd(ptr %blk, ptr %warp, i32 %site, {V32} {words.text}, i32 {late})")
    h.raw(f"  br label %{table}.calm")
    h.part(f"{table}.calm")


def _join(h: Helper, places: Value, table: str, mask: str) -> None:
    """Add the lanes to those who read, or updated, a place."""
    at = h.binary("add", places, h.get(f"blk.{table}"))
    words = h.load(32, at, mask)
    tag = h.binary("or", h.threads(), h.get("blk.now", 32))
    many = h.compare("ne", h.binary("and", words, constant(WARPS, 32)), constant(0, 32))
    many = h.binary("and", many, h.compare("uge", words, h.get("blk.floor", 32)))
    known = h.among(h.binary("or", many, h.compare("eq", words, tag)), mask)
    h.branch(h.let(f"icmp eq i32 {known}, {mask}"), f"{table}.known", f"{table}.new")
    h.part(f"{table}.new")
    late = h.among(h.compare("uge", words, h.get("blk.floor", 32)), mask)
    h.branch(h.let(f"icmp eq i32 {late}, 0"), f"{table}.first", f"{table}.more")
    h.part(f"{table}.first")
    # Nobody came since the last barrier.
    _stamp(h, at, tag, mask)
    h.raw(f"  br label %{table}.known")
    h.part(f"{table}.more")
    h.raw(f"  call void @join(ptr %blk, ptr %warp, {V64} {at.text}, {V32} {words.text}, i32 {mask})")
    h.raw(f"  br label %{table}.known")
    h.part(f"{table}.known")


def _stamp(h: Helper, places: Value, words: Value, mask: str) -> None:
    # A word that says several warps as well as several lanes of one is one of several warps.
    h.raw(
        f"  call void @stamp_32({V64} {places.text}, i32 {mask}, {V32} {h.spread(words).text}, i32 {CROWD})"
    )


def _in_order(h: Helper, word: Value) -> tuple[Value, Value]:
    """Whether the accesses of a word of reads or atomics come before this one, and whether all are this warp's."""
    crowd = h.binary("and", word, constant(CROWD | WARPS, 32))
    one = h.compare("eq", crowd, constant(0, 32))
    near = h.binary("and", h.compare("ult", crowd, constant(WARPS, 32)), in_warp(h, word))
    own = h.binary("and", one, h.compare("eq", thread_of(h, word), h.threads()))
    met = h.binary("and", near, h.compare("ult", word, h.get("warp.floor", 32)))
    before = h.compare("ult", word, h.get("blk.floor", 32))
    return h.binary("or", before, h.binary("or", own, met)), near


def join(name: str) -> str:
    """`join`: those who come after all earlier ones take their place; else there are several."""
    h = Helper()
    places, words = argument("p", 64), argument("r", 32)
    ordered, near = _in_order(h, words)
    tag = h.binary("or", h.threads(), h.get("blk.now", 32))
    several = h.select(
        near, h.binary("or", tag, constant(CROWD, 32)), h.binary("or", tag, constant(WARPS, 32))
    )
    new = h.select(ordered, tag, several)
    _stamp(h, places, new, "%mask")
    h.raw("  ret void")
    return h.define(f"void @{name}(ptr %blk, ptr %warp, {V64} %p, {V32} %r, i32 %mask) noinline")


def doubt(name: str, access: str = "") -> str:
    """`doubt_<access>`: lanes whose place was not written before the last barrier of this block."""
    if access == "crowd":
        return _doubt_crowd(name)
    h = Helper()
    word = argument("w", 32)
    gap = h.among(h.compare("eq", word, constant(GAP, 32)), "%mask")
    rest = h.without("%mask", gap)
    unwritten = h.among(h.compare("ult", word, h.get("blk.begun", 32)), rest)
    own = h.compare("eq", thread_of(h, word), h.threads())
    met = h.binary("and", in_warp(h, word), h.compare("ult", word, h.get("warp.floor", 32)))
    before = h.compare("ult", word, h.get("blk.floor", 32))
    fine = h.among(h.binary("or", before, h.binary("or", own, met)), rest)
    racing = h.without(rest, fine)
    h.note_if(MEMORY, gap)
    if access in ("read", "atomic", "look"):
        h.note_if(UNWRITTEN, unwritten)
    if access in ("read", "write", "atomic", "copy"):
        h.note_if(RACE, racing)
    h.raw(f"  ret i32 {gap}")
    return h.define(f"i32 @{name}({ARGUMENTS}, {V32} %w, i32 %mask) noinline")


def _doubt_crowd(name: str) -> str:
    h = Helper()
    ordered, _ = _in_order(h, argument("r", 32))
    racing = h.without("%mask", h.lane_bits(ordered))
    h.note_if(RACE, racing)
    h.raw("  ret void")
    return h.define(f"void @{name}({ARGUMENTS}, {V32} %r, i32 %mask) noinline")
