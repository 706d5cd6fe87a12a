"""Shadow memory in LLVM IR: what kernels compiled with checks know about memory, and how they keep it.

The checks are a sieve: they let pass what is certainly right, in a few vector instructions, and note every
access that may be wrong. What was noted is then looked at closely, by the interpreter (see `replay`). So a
check may be too careful, but must not let a bug through.

Shared memory: a word of 32 bits per piece and table, one table each for the last write, the last reads and
the last atomics. A word holds a time (20 bits), a crowd (2 bits: one thread, several of a warp, several
warps) and a thread (10 bits). Time passes at barriers; what lies before the block's floor is in order with
everything, what lies before a warp's floor with that warp. Time goes on from block to block: a write from
before the block began is none. `GAP` marks what belongs to no variable.

Device memory: one word of 64 bits per piece (see `shadow_global_ir`).
"""

from __future__ import annotations

from tessera.emulator.bounds_ir import V64
from tessera.emulator.emit_ir import IOTA, WARP, Value, Writer, constant
from tessera.emulator.ir_forms import expand

MEMORY, UNWRITTEN, RACE, GRID_RACE, SYNC, COPY = range(6)
"""What a note is about: outside of arrays; never written; a race in a block; one between blocks; barriers
and masks; an asynchronous copy that nobody waited for."""
KINDS = 8
"""Room for kinds of notes in tables."""
OFTEN = 8
"""Notes of one kind that one worker keeps for one place in the code."""
GAP = 0xFFFF_FFFF
"""In the table of writes: memory that belongs to no variable."""
TICK = 1 << 12
"""One step of time in words of shared memory."""
LATEST = (1 << 20) - 4
"""Steps of time after which the tables are begun anew."""
STAMP_TICK = 1 << 18
"""One step of time in words of device memory."""
SERIAL_AT = 38
"""Place of the block's serial number in words of device memory."""
V32 = f"<{WARP} x i32>"
THREAD = 1023
CROWD, WARPS = 1 << 10, 2 << 10
CONFLICTS = {
    "read": ("write", "atomic"),
    "write": ("read", "write", "atomic"),
    "atomic": ("read", "write"),
}
"""Earlier accesses that may race with an access."""


class Helper(Writer):
    """The body of one function."""

    def get(self, field: str, bits: int = 64) -> Value:
        """A field of the launch, the block or the warp, cut to so many bits."""
        own = 32 if field.startswith("warp.") and field != "warp.local" else 64
        return self.resize(Value(self.let(f"get {field}"), own, vector=False), bits)

    def part(self, name: str) -> None:
        """Begin an LLVM basic block."""
        self.label(name)
        self.splats = {}

    def branch(self, condition: str, yes: str, no: str) -> None:
        """Go one way or the other."""
        self.raw(f"  br i1 {condition}, label %{yes}, label %{no}")

    def among(self, predicate: Value, mask: str) -> str:
        """Lanes of a mask for which a predicate holds (i32)."""
        return self.let(f"and i32 {self.lane_bits(predicate)}, {mask}", "m")

    def without(self, mask: str, lanes: str) -> str:
        """Lanes of a mask that are not in another."""
        return self.let(f"and i32 {mask}, {self.let(f'xor i32 {lanes}, -1')}", "m")

    def threads(self, bits: int = 32) -> Value:
        """Numbers of the lanes' threads in the block."""
        first = self.binary("shl", self.get("warp.id", 32), constant(5, 32))
        return self.resize(self.binary("add", first, Value(IOTA, 32, vector=True)), bits)

    def load(self, bits: int, places: Value, mask: str) -> Value:
        """One element per lane."""
        kind = f"<{WARP} x i{bits}>"
        return Value(
            self.let(f"call {kind} @read_{bits}({V64} {places.text}, i32 {mask})"), bits, vector=True
        )

    def store(self, places: Value, mask: str, value: Value) -> None:
        """One element per lane."""
        value = self.spread(value)
        self.raw(
            f"  call void @write_{value.bits}({V64} {places.text}, i32 {mask}, {value.type} {value.text})"
        )

    def offset(self, places: Value, distance: int) -> Value:
        """The places, further on."""
        return self.binary("add", places, constant(distance, 64)) if distance else places

    def note(self, kind: int, mask: str, other: str = "0") -> None:
        """Write lanes down."""
        self.raw(f"  call void @note(ptr %blk, ptr %warp, i32 {kind}, i32 %site, i32 {mask}, i64 {other})")

    def note_if(self, kind: int, mask: str) -> None:
        """Write lanes down, if there are any."""
        self.raw(f"  call void @note_some(ptr %blk, ptr %warp, i32 {kind}, i32 %site, i32 {mask})")

    def define(self, head: str) -> str:
        """The function's definition."""
        return expand("\n".join((f"define internal {head} {{", *self.lines, "}")), {})


def argument(name: str, bits: int) -> Value:
    """A vector that a function is given."""
    return Value(f"%{name}", bits, vector=True)


NOTES = expand(
    f"""
; Notes lanes whose access may be wrong: block, kind and place in the code, warp and lanes, the other side.
define internal void @note(ptr %blk, ptr %warp, i32 %kind, i32 %site, i32 %mask, i64 %other) noinline cold {{
  %notes_int = get blk.notes
  %notes = inttoptr i64 %notes_int to ptr
  %told_at = getelementptr i64, ptr %notes, i32 1
  %told_int = load i64, ptr %told_at
  %table = inttoptr i64 %told_int to ptr
  %row = mul i32 %site, {KINDS}
  %cell = add i32 %row, %kind
  %slot = getelementptr i32, ptr %table, i32 %cell
  %told = load i32, ptr %slot
  %enough = icmp uge i32 %told, {OFTEN}
  br i1 %enough, label %end, label %write
write:
  %more = add i32 %told, 1
  store i32 %more, ptr %slot
  %count = load i64, ptr %notes
  %next = add i64 %count, 1
  store i64 %next, ptr %notes
  %here = getelementptr [4 x i64], ptr %notes, i64 %next
  %number = get blk.number
  store i64 %number, ptr %here
  %site64 = zext i32 %site to i64
  %kind64 = zext i32 %kind to i64
  %high = shl i64 %site64, 8
  %what = or i64 %high, %kind64
  %p1 = getelementptr i64, ptr %here, i32 1
  store i64 %what, ptr %p1
  %id = get warp.id
  %id64 = zext i32 %id to i64
  %mask64 = zext i32 %mask to i64
  %up = shl i64 %id64, 32
  %who = or i64 %up, %mask64
  %p2 = getelementptr i64, ptr %here, i32 2
  store i64 %who, ptr %p2
  %p3 = getelementptr i64, ptr %here, i32 3
  store i64 %other, ptr %p3
  br label %end
end:
  ret void
}}

define internal void @note_some(ptr %blk, ptr %warp, i32 %kind, i32 %site, i32 %mask) {{
  %none = icmp eq i32 %mask, 0
  br i1 %none, label %end, label %some
some:
  call void @note(ptr %blk, ptr %warp, i32 %kind, i32 %site, i32 %mask, i64 0)
  br label %end
end:
  ret void
}}

; All lanes of a warp met: what they did so far is in order among them.
define internal void @warp_met(ptr %blk, ptr %warp, i32 %mask) {{
  %first = get warp.first
  %whole = icmp eq i32 %first, %mask
  br i1 %whole, label %step, label %end
step:
  %now = call i32 @pass_time(ptr %blk)
  set warp.floor, %now
  br label %end
end:
  ret void
}}

; One step of time.
define internal i32 @pass_time(ptr %blk) {{
  %old = get blk.now
  %now = add i64 %old, {TICK}
  set blk.now, %now
  %before = get blk.stamp
  %stamp = add i64 %before, {STAMP_TICK}
  set blk.stamp, %stamp
  %now32 = trunc i64 %now to i32
  %late = icmp uge i64 %now, {LATEST * TICK}
  br i1 %late, label %full, label %end
full:
  ; Nothing is certain any more: the block is looked at closely, and time stands still.
  set blk.now, %old
  set blk.stamp, %before
  %same = trunc i64 %old to i32
  call void @note(ptr %blk, ptr %blk, i32 {SYNC}, i32 0, i32 0, i64 0)
  ret i32 %same
end:
  ret i32 %now32
}}
""",
    {},
)
"""Notes and time."""


def thread_of(h: Helper, word: Value) -> Value:
    """Whose word it is."""
    return h.binary("and", word, constant(THREAD, 32))


def in_warp(h: Helper, word: Value) -> Value:
    """Whether it is of a thread of this warp, and from before the warp's floor or after."""
    owner = h.binary("lshr", thread_of(h, word), constant(5, 32))
    return h.compare("eq", owner, h.get("warp.id", 32))
