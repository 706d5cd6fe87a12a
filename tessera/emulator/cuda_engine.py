"""What runs kernels for the emulated device: modules in one memory, launched with raw parameter bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, Protocol

from tessera.emulator.arena import Arena
from tessera.emulator.counted_module import CountedModule
from tessera.emulator.counters import Counters
from tessera.emulator.engine import Emulator
from tessera.emulator.fast_module import ArenaTable, FastModule
from tessera.emulator.link import link_ptx
from tessera.emulator.lockstep_module import LockstepModule
from tessera.emulator.ptx import Module

EngineName = Literal["llvm", "lockstep", "counting"]


class Loaded(Protocol):
    """A module in device memory."""

    module: Module
    symbols: dict[str, int]
    """Address of each variable and function."""
    printed: list[str]
    """What `printf` wrote and nobody has taken yet."""

    def run_kernel(
        self,
        entry: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: Sequence[bytes],
        shared_bytes: int,
        *,
        cluster: tuple[int, int, int] | None = None,
        resident: int = 1 << 30,
    ) -> None:
        """Run a kernel to its end."""


class Engine(Protocol):
    """Executes PTX."""

    memory: Arena

    def load(self, texts: Sequence[str]) -> Loaded:
        """Put a module into memory."""


@cache
def device_memory() -> Arena:
    """The memory of the emulated device; the process has one."""
    return Arena()


class LockstepEngine:
    """The NumPy interpreter."""

    def __init__(self) -> None:
        self.memory = device_memory()

    def load(self, texts: Sequence[str]) -> LockstepModule:
        """Put a module into memory.

        Raises:
            CompileError: The PTX does not parse or does not link.
        """
        return LockstepModule(link_ptx(texts), self.memory)


class LlvmEngine:
    """The LLVM engine, with the interpreter for what is small or unknown to it."""

    def __init__(self) -> None:
        self.memory = device_memory()
        # Its own memory stays unused: kernels of this device live in the arena.
        self._emulator = Emulator(memory_bytes=1 << 16)
        self._emulator.memory = ArenaTable(self.memory)

    def load(self, texts: Sequence[str]) -> LockstepModule:
        """Put a module into memory.

        Raises:
            CompileError: The PTX does not parse or does not link.
        """
        return FastModule(link_ptx(texts), self.memory, self._emulator)


class CountingEngine:
    """The LLVM engine, or the interpreter for what is unknown to it; either counts what launches do."""

    def __init__(self, counted: list[Counters]) -> None:
        self.memory = device_memory()
        self._counted = counted
        self._emulator = Emulator(memory_bytes=1 << 16, count=True)
        self._emulator.memory = ArenaTable(self.memory)

    def load(self, texts: Sequence[str]) -> LockstepModule:
        """Put a module into memory.

        Raises:
            CompileError: The PTX does not parse or does not link.
        """
        return CountedModule(link_ptx(texts), self.memory, self._emulator, self._counted)


def open_engine(name: EngineName, counted: list[Counters]) -> Engine:
    """The engine of that name.

    Args:
        name: Which.
        counted: Gets the counters of every launch, if it counts.
    """
    if name == "counting":
        return CountingEngine(counted)
    return LlvmEngine() if name == "llvm" else LockstepEngine()
