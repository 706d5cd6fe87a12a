"""Counting in a kernel's LLVM IR: a basic block counts its executions, an access to memory what it costs.

How often an instruction ran follows from its basic block; only guards, branches and memory take work of
their own. Code without counting is not touched: each function here does nothing for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.cfg import Block
from tessera.emulator.count_plan import SPACES, PlannedAccess, counts_memory, operation_of
from tessera.emulator.emit_ir import WARP, Value
from tessera.emulator.layout import BLOCK, POLL
from tessera.emulator.ptx import Instruction
from tessera.emulator.tally_ir import COUNTERS, tally_name, tally_text

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

PATIENT_TICKS = 64
"""Pauses of a block's loops after which a pausing warp lets its other lanes go first. In between it keeps
to the order that lets lanes meet again: a pause that did not would count more instructions than there are."""


def begin_function(t: Translator) -> None:
    """Find the counters of this worker."""
    if t.plan is None:
        return
    place = t.let(f"getelementptr i8, ptr %blk, i64 {BLOCK['counters']}")
    t.raw(f"  %counters = inttoptr i64 {t.let(f'load i64, ptr {place}')} to ptr")


def count_block(t: Translator, block: Block) -> None:
    """A basic block runs for the lanes in the translator's mask."""
    if t.plan is None:
        return
    slot = t.plan.reserve(2)
    for instruction in block.instructions:
        t.plan.add(instruction, slot)
    _add(t, slot, "1")
    add_lanes(t, slot + 1, t.mask)


def count_skipped(t: Translator, block: Block, here: str, past: str) -> None:
    """Lanes come to a warp-wide instruction; those in `past` have it predicated off.

    With nobody left to execute it, they are an execution of their own.
    """
    if t.plan is None:
        return
    slot = t.plan.reserve(2)
    nobody = t.let(f"icmp eq i32 {here}, 0")
    _add(t, slot, t.let(f"zext i1 {nobody} to i64"))
    add_lanes(t, slot + 1, past)
    t.skipped[block.index] = slot


def count_collective(t: Translator, block: Block) -> None:
    """A warp-wide instruction runs for the lanes in the translator's mask."""
    if t.plan is None:
        return
    (instruction,) = block.instructions
    slot = t.skipped.pop(block.index, None)
    guarded = slot is not None
    if slot is None:
        slot = t.plan.reserve(2)
    t.plan.add(instruction, slot)
    _add(t, slot, "1")
    add_lanes(t, slot + 1, t.mask)
    planned = t.plan.of(instruction)
    if guarded and planned is not None:
        planned.on = t.plan.reserve(1)
        add_lanes(t, planned.on, t.mask)


def count_guard(t: Translator, instruction: Instruction) -> None:
    """An instruction runs under the translator's guard."""
    planned = t.plan.of(instruction) if t.plan is not None else None
    if planned is None or t.plan is None or t.guard is None:
        return
    planned.on = t.plan.reserve(1)
    add_lanes(t, planned.on, t.active())


def count_taken(t: Translator, instruction: Instruction, taken: str, left: str) -> None:
    """A guarded jump or return is taken by some lanes (i32) and not by others."""
    planned = t.plan.of(instruction) if t.plan is not None else None
    if planned is None or t.plan is None:
        return
    planned.on = t.plan.reserve(1)
    # The jump past a call that stands for the call is taken by those who do not call.
    add_lanes(t, planned.on, taken if planned.origin.guard_negated == instruction.guard_negated else left)


def count_uniform(t: Translator, instruction: Instruction, guard: str) -> None:
    """The same under a guard (i1) that all lanes have in common."""
    if t.plan is None:
        return
    taken = t.let(f"select i1 {guard}, i32 {t.mask}, i32 0", "m")
    count_taken(t, instruction, taken, t.let(f"xor i32 {t.mask}, {taken}", "m"))


def count_divergent(t: Translator, instruction: Instruction, count: str = "1") -> None:
    """The lanes of a branch went apart (`count`: 0 or 1, i64)."""
    planned = t.plan.of(instruction) if t.plan is not None else None
    if planned is None or t.plan is None or planned.origin.opcode not in ("bra", "brx"):
        return
    planned.divergent = t.plan.reserve(1)
    _add(t, planned.divergent, count)


def count_targets(t: Translator, instruction: Instruction, masks: list[tuple[int, str]]) -> None:
    """An indexed branch: lanes (i32) by the basic block they go to; they may name one several times."""
    if t.plan is None:
        return
    by_block: dict[int, str] = {}
    for index, mask in masks:
        by_block[index] = t.let(f"or i32 {by_block[index]}, {mask}") if index in by_block else mask
    total = "0"
    for mask in by_block.values():
        some = t.let(f"zext i1 {t.let(f'icmp ne i32 {mask}, 0')} to i64")
        total = t.let(f"add i64 {total}, {some}")
    count_divergent(t, instruction, t.let(f"zext i1 {t.let(f'icmp ugt i64 {total}, 1')} to i64"))


def count_access(
    t: Translator, instruction: Instruction, address: Value, place: str, size: int, *, write: bool
) -> None:
    """The lanes that are active access `size` bytes each.

    Args:
        t: The translator.
        instruction: What accesses.
        address: Of each lane, or of all.
        place: How the address is checked: `global`, `shared` or `local`.
        size: Bytes.
        write: Whether it only writes.
    """
    planned = t.plan.of(instruction) if t.plan is not None else None
    if planned is None or t.plan is None or not counts_memory(planned.origin):
        return
    from tessera.emulator.translate_memory import space_of

    named = space_of(instruction)
    # What is written as an access to a parameter is none of memory, wherever the engine keeps it.
    if named in ("const", "param") or space_of(planned.origin) == "param":
        return
    space = "generic" if named == "generic" and place == "global" else place
    operation = operation_of(instruction, write=write)
    atomic = operation in ("atom", "red")
    alone = space == "global" or (space == "shared" and size <= 4 and not atomic)
    whole = t.guard is None and not t.narrowed
    if not address.vector and whole and alone:
        planned.accesses.append(PlannedAccess(SPACES[space], operation, size, None))
        return
    slot = t.plan.reserve(COUNTERS * len(SPACES[space]))
    planned.accesses.append(PlannedAccess(SPACES[space], operation, size, slot))
    name = tally_name(space, size, atomic=atomic)
    if name not in t.libraries:
        t.libraries[name] = tally_text(space, size, atomic=atomic)
    t.declared.add(f"declare void @{name}(ptr, <{WARP} x i64>, i32)")
    address = t.spread(address)
    counters = t.let(f"getelementptr i64, ptr %counters, i64 {slot}")
    t.raw(f"  call void @{name}(ptr {counters}, {address.type} {address.text}, i32 {t.active()})")


def let_others_run(t: Translator, index: int, mask: str, code: str) -> None:
    """Leave lanes of a warp that has looped for long, or looks for something (`code`, i32), at a block."""
    if t.plan is None:
        # Lanes that have looped for long let the others of their warp go first: they may wait for them.
        t.raw(f"  call void @stall(ptr %warp, i32 {index}, i32 {mask})")
        return
    from tessera.emulator.schedule_ir import TICKS

    steps = t.header("blk", BLOCK["steps"])
    low = t.let(f"and i64 {steps.text}, {TICKS * PATIENT_TICKS - 1}")
    long, short, done = (t.name(n)[1:] for n in ("long", "short", "paused"))
    rare = t.let(f"icmp eq i64 {low}, 0")
    looks = t.let(f"icmp eq i32 {code}, {POLL}")
    t.raw(f"  br i1 {t.let(f'or i1 {rare}, {looks}')}, label %{long}, label %{short}")
    t.label(long)
    t.raw(f"  call void @stall(ptr %warp, i32 {index}, i32 {mask})")
    t.raw(f"  br label %{done}")
    t.label(short)
    t.raw(f"  call void @park(ptr %warp, i32 {index}, i32 {mask})")
    t.raw(f"  br label %{done}")
    t.label(done)


def add_lanes(t: Translator, slot: int, mask: str) -> None:
    """Add the number of lanes in a mask (i32) to a counter."""
    lanes = t.let(f"call i32 @llvm.ctpop.i32(i32 {mask})")
    _add(t, slot, t.let(f"zext i32 {lanes} to i64"))


def _add(t: Translator, slot: int, number: str) -> None:
    place = t.let(f"getelementptr i64, ptr %counters, i64 {slot}")
    total = t.let(f"add i64 {t.let(f'load i64, ptr {place}')}, {number}")
    t.raw(f"  store i64 {total}, ptr {place}")
