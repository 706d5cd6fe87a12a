"""Shadow of device memory in LLVM IR: who touched each piece in this launch.

A word of 64 bits per piece: thread (10 bits), several threads (1), several blocks (1), accesses since the
block's last barrier (3: read, write, atomic), accesses in this launch (3), time (20), serial number of the
block (26). Once several blocks were there, a second serial number has the room of time and thread. Serial
numbers go on from launch to launch: a word from before the launch says nothing.

`mark_global_<access>` checks and records one piece per lane. Blocks run at the same time, and what two of
them write into a word at once may lose one of the accesses: then a race is missed, but none is made up.
"""

from __future__ import annotations

from tessera.emulator.bounds_ir import V64
from tessera.emulator.emit_ir import Value, constant
from tessera.emulator.shadow_ir import (
    CONFLICTS,
    GRID_RACE,
    RACE,
    SERIAL_AT,
    STAMP_TICK,
    THREAD,
    Helper,
    argument,
)
from tessera.emulator.transfers_ir import side_by_side

SEVERAL, BLOCKS = 1 << 10, 1 << 11
SINCE = {"read": 1 << 12, "write": 1 << 13, "atomic": 1 << 14}
"""Accesses since the last barrier of the block."""
EVER = {access: bit << 3 for access, bit in SINCE.items()}
"""Accesses in this launch."""
ALL_SINCE, ALL_EVER = sum(SINCE.values()), sum(EVER.values())
TIMES = (1 << SERIAL_AT) - STAMP_TICK
_TIME_AT = STAMP_TICK.bit_length() - 1
ARGUMENTS = f"ptr %blk, ptr %warp, i32 %site, {V64} %h, i32 %mask"


def _tag(h: Helper) -> Value:
    return h.binary("or", h.threads(64), h.get("blk.stamp"))


def mark(name: str, access: str) -> str:
    """`mark_global_<read, write, atomic>`: a warp's row that nobody else has touched is done at once."""
    h = Helper()
    flags = constant(SINCE[access] | EVER[access], 64)
    h.raw(side_by_side(8).strip("\n"))
    h.branch(h.let("and i1 %near, %full"), "row", "general")
    h.part("row")
    words = Value(h.let("load <32 x i64>, ptr %p, align 8"), 64, vector=True)
    tag = _tag(h)
    fresh = h.lane_bits(h.compare("ult", words, h.get("blk.oldest")))
    h.branch(h.let(f"icmp eq i32 {fresh}, -1"), "first", "later")
    h.part("first")
    new = h.binary("or", tag, flags)
    h.raw(f"  store {new.type} {new.text}, ptr %p, align 8")
    h.raw("  ret void")
    h.part("later")
    owner = h.binary("and", words, constant(~(ALL_SINCE | ALL_EVER), 64))
    own = h.lane_bits(h.compare("eq", owner, tag))
    h.branch(h.let(f"icmp eq i32 {own}, -1"), "mine", "general")
    h.part("mine")
    new = h.binary("or", words, flags)
    h.raw(f"  store {new.type} {new.text}, ptr %p, align 8")
    h.raw("  ret void")
    h.part("general")
    h.raw(f"  call void @merge_{access}(ptr %blk, ptr %warp, i32 %site, {V64} %h, i32 %mask)")
    h.raw("  ret void")
    return h.define(f"void @{name}({ARGUMENTS})")


def _serial(h: Helper) -> Value:
    return h.binary("lshr", h.get("blk.stamp"), constant(SERIAL_AT, 64))


def _two_blocks(h: Helper, words: Value) -> Value:
    """A second block comes: its serial number takes the room of time and thread."""
    kept = h.binary("and", words, constant(~(TIMES | THREAD), 64))
    own = _serial(h)
    low = h.binary("shl", h.binary("and", own, constant((1 << 20) - 1, 64)), constant(_TIME_AT, 64))
    high = h.binary("lshr", own, constant(20, 64))
    return h.binary("or", h.binary("or", kept, constant(BLOCKS, 64)), h.binary("or", low, high))


def _other_block(h: Helper, word: Value) -> Value:
    """The block that a word is of, or the second one if the first is this."""
    first = h.binary("lshr", word, constant(SERIAL_AT, 64))
    low = h.binary("lshr", h.binary("and", word, constant(TIMES, 64)), constant(_TIME_AT, 64))
    high = h.binary("shl", h.binary("and", word, constant(THREAD, 64)), constant(20, 64))
    second = h.binary("or", low, high)
    return h.select(h.compare("eq", first, _serial(h)), second, first)


def merge(name: str, access: str) -> str:
    """`merge_<access>`: the same for any places and whoever was there before."""
    h = Helper()
    places = argument("h", 64)
    words, tag = h.load(64, places, "%mask"), _tag(h)
    zero = constant(0, 64)

    def has(bits: int) -> Value:
        return h.compare("ne", h.binary("and", words, constant(bits, 64)), zero)

    old = h.compare("ult", words, h.get("blk.oldest"))
    distance = h.binary("xor", words, h.get("blk.stamp"))
    home = h.compare("ult", distance, constant(1 << SERIAL_AT, 64))
    foreign = h.binary("or", h.invert(home), has(BLOCKS))
    passed = h.compare("ult", h.binary("and", words, constant(TIMES, 64)), h.get("blk.stamp_floor"))
    thread = h.compare("eq", h.binary("and", words, constant(1023, 64)), h.threads(64))
    alone = h.binary("and", thread, h.invert(has(SEVERAL)))
    calm = h.binary("or", passed, alone)
    against = CONFLICTS[access]
    abroad = h.binary("and", foreign, has(sum(EVER[a] for a in against)))
    within = h.binary(
        "and", h.invert(foreign), h.binary("and", h.invert(calm), has(sum(SINCE[a] for a in against)))
    )
    current = h.invert(old)
    abroad, within = h.binary("and", abroad, current), h.binary("and", within, current)

    flags = h.binary("or", tag, constant(SINCE[access] | EVER[access], 64))
    ever = h.binary("and", words, constant(ALL_EVER, 64))
    both = h.binary("and", words, constant(ALL_EVER | ALL_SINCE, 64))
    together = h.binary("or", h.binary("or", flags, both), constant(SEVERAL, 64))
    in_block = h.select(alone, h.binary("or", flags, both), together)
    in_block = h.select(passed, h.binary("or", flags, ever), in_block)
    apart = h.binary("or", words, constant(EVER[access], 64))
    apart = h.select(has(BLOCKS), apart, _two_blocks(h, apart))
    new = h.select(old, flags, h.select(foreign, apart, in_block))
    h.store(places, "%mask", new)
    kept = h.load(64, places, "%mask")
    lost = h.among(h.compare("ne", kept, new), "%mask")
    h.branch(h.let(f"icmp eq i32 {lost}, 0"), "checks", "crowd")
    h.part("crowd")
    if access == "write":
        h.note(RACE, lost)
    h.store(places, lost, h.binary("or", new, constant(SEVERAL, 64)))
    h.raw("  br label %checks")
    h.part("checks")
    h.note_if(RACE, h.among(within, "%mask"))
    lanes = h.among(abroad, "%mask")
    h.branch(h.let(f"icmp eq i32 {lanes}, 0"), "end", "abroad")
    h.part("abroad")
    first = h.let(f"call i32 @llvm.cttz.i32(i32 {lanes}, i1 true)")
    other = h.let(f"extractelement {words.type} {words.text}, i32 {first}")
    h.note(GRID_RACE, lanes, _other_block(h, Value(other, 64, vector=False)).text)
    h.raw("  br label %end")
    h.part("end")
    h.raw("  ret void")
    return h.define(f"void @{name}({ARGUMENTS}) noinline")
