"""Counting in the lockstep interpreter: what a launch executed, by instruction, warp by warp."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import collectives, rendezvous
from tessera.emulator.count_plan import Numbers, assemble, counts_memory, operation_of
from tessera.emulator.counters import Access, Counters, Operation, Space
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Instruction, Module
from tessera.emulator.tally_ir import LINE_BYTES
from tessera.emulator.transfers import space_of

if TYPE_CHECKING:
    from tessera.emulator.activation import Activation
    from tessera.emulator.instructions import Executor
    from tessera.emulator.lockstep import BlockRun

WARP = 32


@dataclass(slots=True)
class _Pending:
    """An access of the instruction that is being executed."""

    addresses: Array
    mask: Array
    size: int


@dataclass(slots=True)
class Recorder:
    """Counts of one launch."""

    numbers: dict[int, tuple[Instruction, Numbers]] = field(default_factory=dict)
    """By the identity of the instruction."""
    _pending: dict[tuple[Space, Operation], _Pending] = field(default_factory=dict)

    def counters(self, module: Module, kernel: str, blocks: int, threads: int) -> Counters:
        """All of it, for a launch of so many blocks of so many threads."""
        return assemble(module, kernel, self.numbers.values(), blocks, threads)

    def _of(self, instruction: Instruction) -> Numbers:
        return self.numbers.setdefault(id(instruction), (instruction, Numbers()))[1]

    # -- instructions ---------------------------------------------------------------------------

    def executed(self, top: Activation, instruction: Instruction, going: Array, taken: Array) -> None:
        """Threads have executed an instruction.

        Args:
            top: The call that it belongs to.
            instruction: What was executed.
            going: Threads that stood there.
            taken: Those whose guard let them.
        """
        numbers = self._of(instruction)
        numbers.executed += int(warps(going).any(axis=1).sum())
        numbers.threads += int(going.sum())
        numbers.threads_on += int(taken.sum())
        if instruction.opcode in ("bra", "brx"):
            following = -1 if top.block is None else top.block.index + 1
            targets = warps(np.where(taken, top.pc, following))
            present = warps(going)
            low = np.where(present, targets, 1 << 30).min(axis=1)
            high = np.where(present, targets, -1).max(axis=1)
            numbers.divergent += int((high > low).sum())
        self._flush(instruction)

    def meet(self, run: BlockRun, top: Activation, instruction: Instruction, active: Array) -> Array:
        """Do what `rendezvous.collective` does, and count it."""
        frame, before = top.frame, top.pc.copy()
        # The instruction may overwrite its own guard and mask.
        on, named = frame.guard(instruction).copy(), _members(frame, instruction)
        frame.instruction = instruction
        done = gone = rendezvous.collective(run, top, instruction, active)
        frame.instruction = None
        if "cluster" in instruction.modifiers and "wait" in instruction.modifiers:
            # Who has to wait comes again: only who goes on has executed it.
            gone = active & (top.pc != before)
        self._met(frame, instruction, on, active, gone, run.tried, named)
        return done

    def _met(
        self, frame: Executor, instruction: Instruction, on: Array, active: Array, done: Array, tried: Array,
        masks: Array,
    ) -> None:  # fmt: skip
        """Threads have come to a warp-wide instruction.

        Args:
            frame: The function's registers.
            instruction: What they came to.
            on: Threads whose guard is on.
            active: Threads that came now, or that have waited there.
            done: Those that go on, having executed it or skipped it.
            tried: Threads that had come before; brought up to date here.
            masks: uint32, which lanes of its warp each thread named.
        """
        numbers = self._of(instruction)
        ready, skipped, fresh = done & on, active & ~on, active & on & ~tried
        barrier = instruction.opcode in ("bar", "barrier") and "warp" not in instruction.modifiers
        if barrier and "wait" not in instruction.modifiers:
            ready = active & on
        numbers.threads += int(ready.sum()) + int(skipped.sum())
        numbers.threads_on += int(ready.sum())
        numbers.executed += int((warps(skipped).any(axis=1) & ~warps(fresh).any(axis=1)).sum())
        named = np.zeros_like(masks) if barrier else masks
        for lanes, theirs in zip(warps(ready), warps(named), strict=True):
            numbers.executed += len(np.unique(theirs[lanes]))
        tried[active & on & ~ready] = True
        tried[ready] = False
        if instruction.opcode == "wmma" and ready.any():
            self._fragment(frame, instruction, ready)
        self._flush(instruction)

    # -- memory ---------------------------------------------------------------------------------

    def access(
        self, instruction: Instruction, place: str, addresses: Array, mask: Array, size: int, *, write: bool
    ) -> None:
        """Threads access memory, as part of an instruction; counted when it has been executed.

        Args:
            instruction: What accesses.
            place: State space, or `generic`.
            addresses: (threads,) uint64.
            mask: Which of the threads.
            size: Bytes of each access.
            write: Whether it writes.
        """
        # Fragments are counted register by register, not as the lines that they are read in.
        if not counts_memory(instruction) or instruction.opcode == "wmma":
            return
        for space, members in _by_space(place, addresses, mask):
            key = (space, operation_of(instruction, write=write))
            before = self._pending.get(key)
            if before is None:
                self._pending[key] = _Pending(addresses.copy(), members.copy(), size)
                continue
            # A copy that reads fewer bytes for some threads reads in several steps.
            new = members & ~before.mask
            before.addresses[new] = addresses[new]
            before.mask |= new
            before.size = max(before.size, size)

    def _flush(self, instruction: Instruction) -> None:
        for (space, operation), pending in self._pending.items():
            self._count(instruction, space, operation, pending)
        self._pending.clear()

    def _count(self, instruction: Instruction, space: Space, operation: Operation, pending: _Pending) -> None:
        requests = threads = passes = ideal = 0
        atomic = operation in ("atom", "red")
        for lanes, addresses in zip(warps(pending.mask), warps(pending.addresses), strict=True):
            if not lanes.any():
                continue
            requests += 1
            threads += int(lanes.sum())
            own, least = _cost(space, addresses, lanes, pending.size, atomic=atomic)
            passes += own
            ideal += least
        if requests:
            asked = threads * pending.size
            found = Access(space, operation, pending.size, requests, threads, asked, passes, ideal)
            self._of(instruction).accesses.append(found)

    def _fragment(self, executor: Executor, instruction: Instruction, ready: Array) -> None:
        """`wmma.load` and `wmma.store`: each lane moves its own elements, register by register."""
        from tessera.emulator.wmma import moves

        if instruction.modifiers[0] not in ("load", "store"):
            return
        write = instruction.modifiers[0] == "store"
        operation = operation_of(instruction, write=write)
        for addresses, size in moves(executor, instruction):
            for space, members in _by_space(space_of(instruction), addresses, ready):
                self._count(instruction, space, operation, _Pending(addresses, members, size))


def warps(values: Array) -> Array:
    """(threads,) values as (warps, 32), with zeros after the last thread."""
    padded = np.zeros(-(-len(values) // WARP) * WARP, values.dtype)
    padded[: len(values)] = values
    return padded.reshape(-1, WARP)


def _members(frame: Executor, instruction: Instruction) -> Array:
    """(threads,) uint32: the lanes that each thread names."""
    if instruction.opcode in ("bar", "barrier") and "warp" not in instruction.modifiers:
        return np.zeros(frame.count, np.uint32)
    return collectives.member_mask(frame, instruction).copy()


def _by_space(place: str, addresses: Array, mask: Array) -> list[tuple[Space, Array]]:
    if place == "generic":
        window = addresses >> np.uint64(56)
        shared, local = window == 0x7E, window == 0x7F
        return [("global", mask & ~shared & ~local), ("shared", mask & shared), ("local", mask & local)]
    table: dict[str, Space] = {"global": "global", "shared": "shared", "local": "local"}
    return [(table[place], mask)] if place in table else []


def _cost(space: Space, addresses: Array, lanes: Array, size: int, *, atomic: bool) -> tuple[int, int]:
    """Passes of one warp's access, and the fewest it could take."""
    at, lane = addresses[lanes].astype(np.int64), np.flatnonzero(lanes)
    if space == "shared":
        return _wavefronts(at, lane, size, atomic=atomic)
    if space == "global":
        sectors = _turns(at) if atomic else len(np.unique(at // 32))
    else:
        # The same word of eight threads side by side is one sector of local memory.
        sectors = len(np.unique(at // 4 * 4 + lane // 8)) * max(size // 4, 1)
    return sectors, min(sectors, -(-len(at) * size // 32))


def _turns(at: Array) -> int:
    """Sectors of atomics: lanes that meet at one place take turns, and each turn touches its sectors anew."""
    places, met = np.unique(at, return_counts=True)
    sectors, first = np.unique(places // 32, return_index=True)
    return int(np.maximum.reduceat(met, first).sum()) if len(sectors) else 0


def _wavefronts(at: Array, lane: Array, size: int, *, atomic: bool) -> tuple[int, int]:
    unit = max(size, 4)
    together = WARP if unit == 4 else LINE_BYTES // unit
    passes = groups = 0
    for group in np.unique(lane // together):
        units = at[lane // together == group] // unit
        units = units if atomic else np.unique(units)
        passes += int(np.bincount(units % (LINE_BYTES // unit)).max())
        groups += 1
    return passes, groups
