"""Modules and kernels as the engine holds them, and what a launch gives back."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tessera.emulator.counters import Counters
from tessera.emulator.geometry import Point
from tessera.emulator.native import NativeKernel
from tessera.emulator.ptx import Function, Module
from tessera.emulator.translate import Translation
from tessera.program.errors import CompileError


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What a launch left besides its arrays."""

    seconds: float
    """From the first block to the last, without compiling."""
    compile_seconds: float
    """Translating and compiling, 0 if that was done before."""
    findings: tuple[Any, ...] = ()
    counters: Counters | None = None
    """What it did, in numbers, if the emulator counts."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a kernel is launched."""

    grid: Point
    block: Point
    """Threads by axis."""
    cluster: Point
    """Blocks of a cluster by axis."""
    explicit: bool
    """Whether anybody asked for clusters."""
    dynamic_bytes: int
    shared_bytes: int
    """Shared memory per block, static and dynamic."""
    resident: int
    """Blocks that the GPU holds at once."""

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.block[0] * self.block[1] * self.block[2]


@dataclass(slots=True)
class LoadedModule:
    """A PTX module with its variables in device memory."""

    module: Module
    symbols: dict[str, int]
    """Device address of each global and constant variable."""
    table: np.ndarray[Any, Any]
    """Addresses in the order that compiled code knows."""
    kernels: dict[str, Kernel] = field(default_factory=dict)

    @property
    def entries(self) -> tuple[str, ...]:
        """Names of its kernels."""
        return tuple(f.name for f in self.module.functions.values() if f.is_entry)

    def entry(self, name: str) -> Function:
        """A kernel by name.

        Raises:
            CompileError: There is none.
        """
        function = self.module.functions.get(name)
        if function is None or not function.is_entry:
            raise CompileError(f"no kernel is called {name!r}", hint="kernels: " + ", ".join(self.entries))
        return function


@dataclass(slots=True)
class Kernel:
    """A kernel, translated and compiled."""

    function: Function
    translation: Translation
    code: NativeKernel
    better: Future[NativeKernel] | None = None
    seconds: float = 0.0
    """Run so far."""

    def best(self) -> NativeKernel:
        """The fastest code there is by now."""
        if self.better is not None and self.better.done():
            self.code, self.better = self.better.result(), None
        return self.code
