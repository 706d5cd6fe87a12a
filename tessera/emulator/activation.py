"""A function call under way in the lockstep interpreter, as data: nothing of it lives on Python's stack.

So a block can be left between any two instructions, looked at, copied, and gone on with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator.cfg import Block
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Instruction, Operand, Variable

if TYPE_CHECKING:
    from tessera.emulator.frame import Frame


class Call:
    """A call instruction that has begun: who takes part, and which functions are still to be called.

    Args:
        instruction: The call.
        taken: Threads that call.
        targets: Function name and threads, one for each function that the threads' pointers name.
        arguments: What is passed.
        results: Where the results go.
    """

    def __init__(
        self,
        instruction: Instruction,
        taken: Array,
        targets: list[tuple[str, Array]],
        arguments: tuple[Operand, ...],
        results: tuple[Operand, ...],
    ) -> None:
        self.instruction = instruction
        self.taken = taken
        self.targets = targets
        self.arguments = arguments
        self.results = results
        self.top = 0
        """Where the threads' local memory ended before."""
        self.returns: tuple[Variable, ...] = ()
        """What the function now running returns."""
        self.callers: Array = taken
        """Threads that called it."""


class Activation:
    """Where the threads of one function call stand.

    Args:
        frame: Its registers and variables.
        mask: Threads that take part.
    """

    def __init__(self, frame: Frame, mask: Array) -> None:
        self.frame = frame
        self.mask = mask
        count = len(mask)
        self.pc: Array = np.where(mask, 0, len(frame.flow.blocks))
        """Basic block of each thread; past the last one for those that have returned."""
        self.waiting: Array = np.full(count, -1)
        """Number of the barrier that each thread waits at."""
        self.stuck: Array = np.zeros(count, np.bool_)
        """Threads at a warp-wide instruction that others have yet to come to."""
        self.resting: Array = np.zeros(count, np.bool_)
        """Threads that wait for something, looked in vain, and let all others go before they look again."""
        self.last_run: Array = np.zeros(count, np.int64)
        """Basic blocks that the thread block had executed when each thread last ran."""
        self.block: Block | None = None
        """The basic block being executed; None: one is to be chosen."""
        self.at = 0
        """Which of its instructions is next."""
        self.going: Array = mask
        """Threads that execute it."""
        self.call: Call | None = None
        """The call that this activation waits for."""

    @property
    def instruction(self) -> Instruction | None:
        """What is executed next, once a basic block is chosen."""
        return None if self.block is None else self.block.instructions[self.at]

    @property
    def alive(self) -> Array:
        """Threads that have not returned."""
        found: Array = self.pc < len(self.frame.flow.blocks)
        return found

    def begin(self, block: Block, threads: Array) -> None:
        """Execute a basic block from its first instruction."""
        self.block, self.at, self.going = block, 0, threads

    def advance(self) -> None:
        """Go on to the next instruction of the block, or leave the block."""
        assert self.block is not None  # noqa: S101 - called while one runs
        self.at += 1
        if self.at >= len(self.block.instructions):
            self.pc[self.going] = self.block.index + 1
            self.block = None
            self.stuck[:] = False
