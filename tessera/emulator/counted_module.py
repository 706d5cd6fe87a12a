"""Modules of the emulated device whose launches are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tessera.emulator.arena import Arena
from tessera.emulator.counters import Counters
from tessera.emulator.engine import Emulator
from tessera.emulator.fast_module import FastModule
from tessera.emulator.geometry import Point
from tessera.emulator.lockstep_module import LockstepModule
from tessera.emulator.ptx import Module
from tessera.emulator.recorder import Recorder
from tessera.program.errors import CompileError


class CountedModule(FastModule):
    """A loaded module; the engine runs it if it knows all of it, else the interpreter.

    Args:
        module: Its PTX.
        memory: The device's.
        emulator: The engine; it counts.
        counted: Gets the counters of each launch.
    """

    def __init__(self, module: Module, memory: Arena, emulator: Emulator, counted: list[Counters]) -> None:
        super().__init__(module, memory, emulator)
        self._counted = counted

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
        """Run a kernel to its end, and keep its counters.

        Raises:
            CompileError: PTX that the emulator does not know.
            DeviceError: An access outside memory, a deadlock, or a kernel that does not end.
            KernelError: A cluster that the kernel or the grid does not allow.
        """
        if not self._refused:
            try:
                self._emulator.kernel(self._compiled, entry)
            except CompileError:
                self._refused = True
        if not self._refused:
            found = self.compiled(
                entry, grid, block, params, shared_bytes, cluster=cluster, resident=resident
            )
            if found.counters is not None:
                self._counted.append(found.counters)
            return
        self.recorder = Recorder()
        LockstepModule.run_kernel(
            self, entry, grid, block, params, shared_bytes, cluster=cluster, resident=resident
        )
        self._counted.append(self.recorder.counters(self.module, entry, math.prod(grid), math.prod(block)))
