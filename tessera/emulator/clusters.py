"""Blocks of one cluster in the lockstep interpreter: their common barrier and each other's shared memory.

Source: PTX ISA 8.8, sections 9.7.13.4 (`barrier.cluster`) and 9.7.9.22 (`mapa`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.instructions import SHARED_WINDOW, Executor
from tessera.emulator.lanes import Array
from tessera.emulator.operands import type_of
from tessera.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tessera.emulator.lockstep import BlockRun

_OFFSET = np.uint64((1 << RANK_SHIFT) - 1)


class Cluster:
    """Blocks that run together.

    Args:
        blocks: By rank.
    """

    def __init__(self, blocks: Sequence[BlockRun]) -> None:
        self.blocks = list(blocks)
        self.arrived = 0
        """Threads that came to the barrier in this phase."""
        self.phase = 0
        for block in blocks:
            block.cluster = self
            if block.watch is not None:
                block.watch.cluster = [b.watch for b in blocks if b.watch is not None]

    def arrive(self, run: BlockRun, threads: Array) -> None:
        """Threads of a block come to the cluster's barrier."""
        run.cluster_phase[threads] = self.phase
        self.arrived += int(threads.sum())
        run.progress += 1
        self.settle()

    def settle(self) -> None:
        """Begin the next phase once all threads that have not returned are there."""
        if self.arrived and self.arrived >= sum(block.living for block in self.blocks):
            self.arrived = 0
            self.phase += 1

    def passed(self, run: BlockRun) -> Array:
        """Which threads of a block need not wait: the phase they came in is over."""
        self.settle()
        over: Array = run.cluster_phase != self.phase
        return over


def _map_address(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`mapa`: an address of this block's shared memory as one of another block's."""
    kind = type_of(instruction)
    rank = executor.read(instruction.operands[2], "u32").astype(np.uint64)
    values = executor.read(instruction.operands[1], kind).astype(np.uint64)
    generic = not any(m.startswith("shared") for m in instruction.modifiers)
    there = (values & _OFFSET) | (rank + np.uint64(1)) << np.uint64(RANK_SHIFT)
    if generic:
        there |= np.uint64(SHARED_WINDOW)
    executor.write(instruction.operands[0], there.astype(np.dtype(f"u{int(kind[1:]) // 8}")), mask)


def _rank(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`getctarank`: the rank of the block whose shared memory an address names."""
    generic = not any(m.startswith("shared") for m in instruction.modifiers)
    values = executor.read(instruction.operands[1], "u64" if generic else "u32").astype(np.uint64)
    rank = (values >> np.uint64(RANK_SHIFT) & np.uint64(0xFF)).astype(np.int64) - 1
    own = np.where(rank < 0, executor.run.geometry.rank, rank)
    executor.write(instruction.operands[0], own.astype(np.uint32), mask)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    "mapa": _map_address, "getctarank": _rank,
}  # fmt: skip
"""What each opcode of this family does."""
