"""Registers and variables of one function call in the lockstep interpreter, and its way through the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.emulator.instructions import Executor
from tessera.emulator.lanes import BITS, Array
from tessera.emulator.machine import size_of
from tessera.emulator.ptx import Function, Instruction, Register, Variable

if TYPE_CHECKING:
    from tessera.emulator.lockstep import BlockRun


class Frame(Executor):
    """Registers and variables of one function call, for every thread of a block."""

    def __init__(self, run: BlockRun, function: Function, params: dict[str, Any]) -> None:
        super().__init__(run, function, params)
        self.arrivals: dict[int, int] = {}
        """Threads that did `bar.arrive`, by barrier."""
        self.barriers: dict[int, Instruction] = {}
        """The barrier instruction of each block where threads wait."""
        self.flow = run.machine.flow(function)

    def take_argument(self, raw: Array, variable: Variable) -> None:
        """Take a parameter's (threads, bytes) from the caller."""
        if variable.space == "reg":
            values = np.ascontiguousarray(raw).view(np.dtype(BITS[variable.type])).reshape(-1)
            self.write(Register(variable.name), values, np.ones(self.count, np.bool_))
        else:
            self.param(variable.name, size_of(variable))[:] = raw

    def result(self, variable: Variable) -> Array:
        """(threads, bytes): what the function returned."""
        if variable.space == "reg":
            values = np.ascontiguousarray(self.read(Register(variable.name), variable.type))
            return values.view(np.uint8).reshape(self.count, -1)
        return self.param(variable.name, size_of(variable)).copy()

    def deadlock(self, pc: Array, alive: Array) -> str:
        """Who waits where, in words."""
        places = []
        for index in np.unique(pc[alive]):
            instruction = self.flow.blocks[int(index)].instructions[0]
            threads = np.flatnonzero(alive & (pc == index))
            places.append(f"{len(threads)} threads (first: {threads[0]}) at PTX line {instruction.line}")
        return f"{self.function.name} is deadlocked: " + "; ".join(places)
