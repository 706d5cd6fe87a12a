"""Modules of the emulated device run by the LLVM engine where that pays, by the interpreter elsewhere.

Compiling a kernel takes longer than interpreting it once for a few threads; and what the engine does not
know, such as `printf`, the interpreter does. Both work on the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tessera.emulator.arena import Arena
from tessera.emulator.call_graph import SERVICES
from tessera.emulator.engine import Emulator, LoadedModule
from tessera.emulator.geometry import Point
from tessera.emulator.lanes import Array
from tessera.emulator.loaded import LaunchResult
from tessera.emulator.lockstep_module import LockstepModule, bound_params
from tessera.emulator.memory import Allocation, Memory
from tessera.emulator.ptx import Function, Instruction, Label, Module, Symbol
from tessera.program.errors import CompileError

FEW_BLOCKS = 16
"""Blocks of a kernel without loops up to which interpreting it is quicker than compiling it."""


class ArenaTable(Memory):
    """The device's memory, which others allocate, as the engine looks things up in it."""

    def __init__(self, arena: Arena) -> None:
        super().__init__(1 << 16)
        self._arena = arena

    def table(self) -> Array:
        """(allocations, 2) uint64: address and size, by address."""
        base = self._arena.base
        self._addresses = [base + start for start, _ in self._arena.ranges]
        self._allocations = {
            base + start: Allocation(base + start, end - start) for start, end in self._arena.ranges
        }
        return super().table()


class FastModule(LockstepModule):
    """A loaded module that the engine runs if there is much to do."""

    def __init__(self, module: Module, memory: Arena, emulator: Emulator) -> None:
        super().__init__(module, memory)
        self._emulator = emulator
        places = {v.name: self.symbols[v.name] for v in module.variables.values() if v.name in self.symbols}
        self._compiled = LoadedModule(module, places, np.array([*places.values(), 0], np.uint64))
        self._loops = any(map(_has_loop, module.functions.values()))
        # A function without a body is the driver's, which the interpreter has. Memory that kernels take must
        # be the same for both, so that they may give back what they took from the other.
        external = {f.name for f in module.functions.values() if not f.body and not f.is_entry}
        self._refused: bool = bool(external - SERVICES | external & {"malloc", "free"})

    def run_kernel(
        self,
        entry: str,
        grid: Point,
        block: Point,
        params: Sequence[bytes],
        shared_bytes: int,
        *,
        cluster: Point | None = None,
        resident: int = 1 << 30,
    ) -> None:
        """Run a kernel to its end.

        Raises:
            CompileError: PTX that the emulator does not know.
            DeviceError: An access outside memory, a deadlock, or a kernel that does not end.
            KernelError: A cluster that the kernel or the grid does not allow.
        """
        blocks = grid[0] * grid[1] * grid[2]
        if self._refused or (blocks <= FEW_BLOCKS and not self._loops):
            super().run_kernel(entry, grid, block, params, shared_bytes, cluster=cluster, resident=resident)
            return
        try:
            self._emulator.kernel(self._compiled, entry)
        except CompileError:
            # The interpreter may know it; if not, it says so with the line.
            self._refused = True
            super().run_kernel(entry, grid, block, params, shared_bytes, cluster=cluster, resident=resident)
            return
        self.compiled(entry, grid, block, params, shared_bytes, cluster=cluster, resident=resident)

    def compiled(
        self,
        entry: str,
        grid: Point,
        block: Point,
        params: Sequence[bytes],
        shared_bytes: int,
        *,
        cluster: Point | None,
        resident: int,
    ) -> LaunchResult:
        """Run a kernel in the engine, which knows it.

        Raises:
            DeviceError: An access outside memory, a deadlock, or a kernel that does not end.
            KernelError: A cluster that the kernel or the grid does not allow.
        """
        given = list(bound_params(self.entry(entry), params).values())
        try:
            return self._emulator.launch_params(
                self._compiled, entry, grid, block, given, shared_bytes, cluster=cluster, resident=resident
            )
        finally:
            self.printed += self._emulator.printed
            self._emulator.printed.clear()


def _has_loop(function: Function) -> bool:
    seen: set[str] = set()
    for item in function.body:
        if isinstance(item, Label):
            seen.add(item.name)
        elif _jumps_to(item) & seen:
            return True
    return False


def _jumps_to(instruction: Instruction) -> set[str]:
    if instruction.opcode != "bra":
        return set()
    return {operand.name for operand in instruction.operands if isinstance(operand, Symbol)}
