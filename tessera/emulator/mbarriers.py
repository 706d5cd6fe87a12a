"""`mbarrier`: barriers that are 64-bit values in shared memory, and count bytes as well as threads.

The value's form is the implementation's own: pending arrivals, expected arrivals, pending bytes, phase.

Source: PTX ISA 8.8, section 9.7.13.15.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tessera.emulator.instructions import Executor, unsupported
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Address, Instruction
from tessera.emulator.transfers import space_of
from tessera.program.errors import DeviceError

_COUNT_BITS = 20
_COUNT = (1 << _COUNT_BITS) - 1
_BYTES_BITS = 21
_BYTES = (1 << _BYTES_BITS) - 1


@dataclass(frozen=True, slots=True)
class State:
    """What a barrier holds."""

    pending: int
    """Arrivals still to come in this phase."""
    expected: int
    """Arrivals of the next phase."""
    bytes: int
    """Bytes still to come, negative if they came before they were expected."""
    phase: int
    """Parity of the phase under way."""

    @staticmethod
    def unpack(value: int) -> State:
        """The state in 64 bits."""
        count = value >> 2 * _COUNT_BITS & _BYTES
        if count >> _BYTES_BITS - 1:
            count -= 1 << _BYTES_BITS
        return State(value & _COUNT, value >> _COUNT_BITS & _COUNT, count, value >> 63)

    def pack(self) -> int:
        """64 bits of the state."""
        count = (self.bytes & _BYTES) << 2 * _COUNT_BITS
        return self.pending | self.expected << _COUNT_BITS | count | self.phase << 63

    def settled(self) -> State:
        """The next phase, if nothing is pending any more."""
        if self.pending or self.bytes:
            return self
        return State(self.expected, self.expected, 0, self.phase ^ 1)


def update(
    executor: Executor,
    place: Address,
    space: str,
    mask: Array,
    line: int,
    change: Callable[[State, int], State],
) -> Array:
    """Change the barriers that threads name, one thread after the other; returns the states before.

    Args:
        executor: The function's registers.
        place: The barrier.
        space: Its state space.
        mask: Threads that take part.
        line: Of the PTX text, for errors.
        change: State and thread number to the new state.
    """
    before = np.zeros(executor.count, np.uint64)
    for kind, threads, offsets in executor.split(space, place, 8, mask, line, barrier=True):
        memory = executor.storage(kind)
        if not kind.startswith("shared"):
            raise DeviceError(f"PTX line {line}: an mbarrier lies in shared memory only", ptx_line=line)
        for thread, offset in zip(threads, offsets, strict=True):
            cell = memory[offset : offset + 8]
            before[thread] = cell.view(np.uint64)[0]
            state = change(State.unpack(int(before[thread])), int(thread)).settled()
            cell[:] = np.array([state.pack()], np.uint64).view(np.uint8)
        executor.run.progress += 1
    return before


def _initialize(executor: Executor, instruction: Instruction, mask: Array, place: Address) -> None:
    count = executor.read(instruction.operands[1], "u32")
    raw = np.array([State(int(c), int(c), 0, 0).pack() for c in count], np.uint64)
    executor.scatter(space_of(instruction), place, raw.view(np.uint8).reshape(-1, 8), mask, instruction.line)


def _arrive(executor: Executor, instruction: Instruction, mask: Array, place: Address) -> None:
    """`arrive`, `arrive_drop`, with `.expect_tx` or a count."""
    position = next(i for i, o in enumerate(instruction.operands) if o is place)
    rest = instruction.operands[position + 1 :]
    given = executor.read(rest[0], "u32") if rest else np.ones(executor.count, np.uint32)
    expects = "expect_tx" in instruction.modifiers
    drops = "arrive_drop" in instruction.modifiers

    def change(state: State, thread: int) -> State:
        count = 1 if expects else int(given[thread])
        if count > state.pending:
            raise DeviceError(
                f"PTX line {instruction.line}: thread {thread} of block {executor.run.geometry.index} "
                f"arrives at an mbarrier {count} times, which expects {state.pending} more",
                ptx_line=instruction.line,
            )
        return replace(
            state,
            pending=state.pending - count,
            expected=state.expected - (count if drops else 0),
            bytes=state.bytes + (int(given[thread]) if expects else 0),
        )

    before = update(executor, place, space_of(instruction), mask, instruction.line, change)
    if position:
        executor.write(instruction.operands[0], before, mask)


def _count_bytes(executor: Executor, instruction: Instruction, mask: Array, place: Address) -> None:
    amount = executor.read(instruction.operands[1], "u32").astype(np.int64)
    sign = 1 if "expect_tx" in instruction.modifiers else -1
    update(
        executor, place, space_of(instruction), mask, instruction.line,
        lambda state, thread: replace(state, bytes=state.bytes + sign * int(amount[thread])),
    )  # fmt: skip


def _wait(executor: Executor, instruction: Instruction, mask: Array, place: Address) -> None:
    """`test_wait`, `try_wait`: whether the phase that a token or a parity names is over."""
    raw = executor.gather(space_of(instruction), place, 8, mask, instruction.line)
    phase = raw.view(np.uint64)[:, 0] >> np.uint64(63)
    if "parity" in instruction.modifiers:
        asked = executor.read(instruction.operands[2], "u32").astype(np.uint64) & np.uint64(1)
    else:
        asked = executor.read(instruction.operands[2], "u64") >> np.uint64(63)
    over = phase != asked
    executor.run.declined |= mask & ~over
    executor.write(instruction.operands[0], over, mask)


def _barrier(executor: Executor, instruction: Instruction, mask: Array) -> None:
    operation = instruction.modifiers[0]
    if operation == "pending_count":
        states = executor.read(instruction.operands[1], "u64")
        executor.write(instruction.operands[0], (states & np.uint64(_COUNT)).astype(np.uint32), mask)
        return
    table = {
        "init": _initialize, "arrive": _arrive, "arrive_drop": _arrive, "expect_tx": _count_bytes,
        "complete_tx": _count_bytes, "test_wait": _wait, "try_wait": _wait,
    }  # fmt: skip
    place = next((o for o in instruction.operands if isinstance(o, Address)), None)
    if operation == "inval":
        return
    if operation not in table or place is None:
        raise unsupported(instruction)
    table[operation](executor, instruction, mask, place)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {"mbarrier": _barrier}
"""What each opcode of this family does."""
