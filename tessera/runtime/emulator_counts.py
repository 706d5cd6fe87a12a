"""What runs PTX for the emulator device and counts what each launch does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.program.errors import CompileError
from tessera.runtime.emulator_engine import CompiledEngine, has_llvm
from tessera.runtime.executable import Array

if TYPE_CHECKING:
    from tessera.emulator.block_trace import BlockTrace
    from tessera.emulator.counters import Counters
    from tessera.emulator.interpreter import Interpreter
    from tessera.emulator.ptx import Module


@dataclass(frozen=True, slots=True)
class CountedLaunch:
    """One launch of a kernel, counted."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    """Dynamic shared memory per block."""
    counters: Counters
    module: Module
    """Its code, parsed."""
    trace: BlockTrace | None = None
    """One of its blocks, access by access, if that was asked for: of the first launch of a kernel."""


class CountingEngine:
    """LLVM where it knows all of the code, else the interpreter; either counts.

    Args:
        texts: PTX of everything that will be loaded.
        step_budget: What a block may do before a kernel counts as endless; None: the engine's own limit.
        trace: Also trace one block of the first launch of each kernel.
    """

    def __init__(self, texts: Iterable[str], step_budget: int | None = None, *, trace: bool = False) -> None:
        self._engine = _engine_for(texts, step_budget)
        self._trace = trace
        self.launches: list[CountedLaunch] = []
        """In the order in which they were made."""

    def alloc(self, size: int) -> int:
        """Address of `size` fresh bytes."""
        return self._engine.alloc(size)

    def write(self, address: int, values: Array) -> None:
        """Copy an array to the device."""
        self._engine.write(address, values)

    def read(self, address: int, size: int) -> Array:
        """(size,) uint8: a copy of device memory."""
        return self._engine.read(address, size)

    def describe(self, address: int, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Say what lies at an address, for messages."""
        self._engine.describe(address, name, dtype, shape)

    def release(self, addresses: Sequence[int]) -> None:
        """Give allocations back."""
        self._engine.release(addresses)

    def load(self, ptx: str) -> Any:
        """A module; `.module` is its parsed PTX.

        Raises:
            CompileError: PTX that the engine does not know; names the line.
        """
        return self._engine.load(ptx)

    def launch_params(
        self,
        loaded: Any,
        entry: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: Sequence[bytes],
        shared_bytes: int = 0,
    ) -> None:
        """Run a kernel to its end, and keep its counters.

        Raises:
            DeviceError: A bad access, a deadlock, or a kernel that does not end.
        """
        trace = None
        if self._trace and all(each.kernel != entry for each in self.launches):
            from tessera.emulator.block_trace import trace_block

            trace = trace_block(loaded, self._engine.memory, entry, grid, block, params, shared_bytes)
        counters = self._engine.launch_params(loaded, entry, grid, block, params, shared_bytes)
        assert counters is not None  # noqa: S101 - both engines were made to count
        self.launches.append(CountedLaunch(entry, grid, block, shared_bytes, counters, loaded.module, trace))

    def take_printed(self, loaded: Any) -> str:
        """What kernels have printed since the last call."""
        return self._engine.take_printed(loaded)


def _engine_for(texts: Iterable[str], step_budget: int | None) -> CompiledEngine | Interpreter:
    if has_llvm():
        compiled = CompiledEngine(count=True, step_budget=step_budget)
        try:
            for text in dict.fromkeys(texts):
                compiled.load(text)
        except CompileError:
            pass
        else:
            return compiled
    from tessera.emulator import interpreter

    return interpreter.Interpreter(count=True, step_budget=step_budget)
