"""What runs PTX for the emulator device, and holds its memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tessera.runtime.executable import Array

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters
    from tessera.emulator.memory import Memory
    from tessera.emulator.sanitizer import Sanitizer


class Engine(Protocol):
    """What runs PTX, with its own device memory."""

    def alloc(self, size: int) -> int:
        """Address of `size` fresh bytes."""

    def write(self, address: int, values: Array) -> None:
        """Copy an array to the device."""

    def read(self, address: int, size: int) -> Array:
        """(size,) uint8: a copy of device memory."""

    def describe(self, address: int, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Say what lies at an address, for messages."""

    def release(self, addresses: Sequence[int]) -> None:
        """Give back everything that was allocated since the first of these, which are all of that."""

    def load(self, ptx: str) -> Any:
        """A module; `.module` is its parsed PTX.

        Raises:
            CompileError: PTX that the engine does not know; names the line.
        """

    def launch_params(
        self,
        loaded: Any,
        entry: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: Sequence[bytes],
        shared_bytes: int = 0,
    ) -> Any:
        """Run a kernel to its end."""

    def take_printed(self, loaded: Any) -> str:
        """What the module's kernels have printed since the last call."""


class CompiledEngine:
    """PTX compiled by LLVM: fast, and without checks beyond bounds.

    Args:
        count: Whether launches give counters.
        step_budget: Jumps backwards of a block after which a kernel is endless; None: 2^30.
    """

    def __init__(self, *, count: bool = False, step_budget: int | None = None) -> None:
        # LLVM costs 0.1 s and more.
        from tessera.emulator.engine import Emulator

        self._emulator = Emulator(count=count, step_budget=step_budget)

    @property
    def memory(self) -> Memory:
        """The device's."""
        return self._emulator.memory

    def alloc(self, size: int) -> int:
        """Address of `size` fresh bytes."""
        return self._emulator.alloc(size)

    def write(self, address: int, values: Array) -> None:
        """Copy an array to the device."""
        self._emulator.write(address, values)

    def read(self, address: int, size: int) -> Array:
        """(size,) uint8: a copy of device memory."""
        return np.frombuffer(self._emulator.read(address, size), np.uint8).copy()

    def describe(self, address: int, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Nothing: what is fast has no names."""

    def release(self, addresses: Sequence[int]) -> None:
        """Give allocations back."""
        for address in addresses:
            self._emulator.free(address)

    def load(self, ptx: str) -> Any:
        """A module with its kernels compiled.

        Raises:
            CompileError: PTX that the engine does not know; names the line.
        """
        module = self._emulator.load(ptx)
        for entry in module.entries:
            self._emulator.kernel(module, entry)
        return module

    def launch_params(
        self,
        loaded: Any,
        entry: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: Sequence[bytes],
        shared_bytes: int = 0,
    ) -> Counters | None:
        """Run a kernel to its end; what it did in numbers, if that is counted.

        Raises:
            DeviceError: A bad access, a deadlock, or a kernel that does not end.
        """
        return self._emulator.launch_params(loaded, entry, grid, block, params, shared_bytes).counters

    def take_printed(self, loaded: Any) -> str:
        """What kernels have printed since the last call."""
        del loaded
        text = "".join(self._emulator.printed)
        self._emulator.printed.clear()
        return text


class CheckedEngine:
    """PTX compiled by LLVM with checks, and the interpreter where they find something.

    Args:
        sanitizer: Gets the findings.
        few_blocks: Launches of no more blocks are interpreted at once; None: as compiling takes.
        whole_threads: Larger launches in which something may be wrong are looked at block by block.
    """

    def __init__(
        self, sanitizer: Sanitizer, *, few_blocks: int | None = None, whole_threads: int | None = None
    ) -> None:
        # LLVM costs 0.1 s and more.
        from tessera.emulator import checked_engine

        self._emulator = checked_engine.CheckedEmulator(
            sanitizer,
            few_blocks=checked_engine.FEW_BLOCKS if few_blocks is None else few_blocks,
            whole_threads=checked_engine.WHOLE_THREADS if whole_threads is None else whole_threads,
        )

    def alloc(self, size: int) -> int:
        """Address of `size` fresh bytes."""
        return self._emulator.alloc(size)

    def write(self, address: int, values: Array) -> None:
        """Copy an array to the device."""
        self._emulator.write(address, values)

    def read(self, address: int, size: int) -> Array:
        """(size,) uint8: a copy of device memory."""
        return np.frombuffer(self._emulator.read(address, size), np.uint8).copy()

    def describe(self, address: int, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Say what lies at an address, for messages."""
        self._emulator.sanitizer.describe(address, name, itemsize=dtype.itemsize, shape=shape)

    def release(self, addresses: Sequence[int]) -> None:
        """Give allocations back; their addresses may be reused."""
        for address in addresses:
            self._emulator.discard(address)

    def load(self, ptx: str) -> Any:
        """A module; its kernels are compiled when they are launched."""
        return self._emulator.load(ptx)

    def launch_params(
        self,
        loaded: Any,
        entry: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: Sequence[bytes],
        shared_bytes: int = 0,
    ) -> None:
        """Run a kernel to its end.

        Raises:
            CompileError: PTX that the emulator does not know; names the line.
            TooManyFindingsError: The sanitizer's limit is reached.
        """
        self._emulator.launch_params(loaded, entry, grid, block, params, shared_bytes)

    def take_printed(self, loaded: Any) -> str:
        """What kernels have printed since the last call; blocks looked at again say nothing twice."""
        del loaded
        text = "".join(self._emulator.printed)
        self._emulator.printed.clear()
        return text


def has_llvm() -> bool:
    """Whether LLVM is installed; without it the interpreter runs everything."""
    return importlib.util.find_spec("llvmlite") is not None
