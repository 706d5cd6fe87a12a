"""The lockstep interpreter as a device: memory, modules, launches; with the sanitizer, if there is one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tessera.emulator.counters import Counters
from tessera.emulator.findings import BlockStoppedError, TooManyFindingsError
from tessera.emulator.geometry import Geometry, cluster_size
from tessera.emulator.grid_run import GridRun
from tessera.emulator.instructions import GLOBAL_BASE
from tessera.emulator.lanes import Array
from tessera.emulator.link import read_ptx
from tessera.emulator.lockstep import BlockRun
from tessera.emulator.machine import Machine, Memory, size_of
from tessera.emulator.ptx import Function
from tessera.emulator.recorder import Recorder
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.errors import CompileError, DeviceError, TesseraError

Sizes = tuple[int, int, int]
RESERVED = 1 << 30
"""Bytes of address space that watched memory begins with."""
WIDE_GAP = 1 << 24
"""Bytes between allocations while there is room: an index far off still tells which array was meant."""


class WatchedMemory(Memory):
    """Device memory that tells a sanitizer what is allocated and written, with wide gaps in between."""

    def __init__(self, sanitizer: Sanitizer) -> None:
        super().__init__()
        self.sanitizer = sanitizer
        # Pages that nobody touches cost nothing, but copying them when the array grows does.
        with contextlib.suppress(MemoryError):
            self.data = np.zeros(RESERVED, np.uint8)

    def allocate(self, size: int) -> int:
        """Device address of `size` bytes whose contents are arbitrary."""
        address = super().allocate(size)
        self.top += WIDE_GAP if self.top < RESERVED // 2 else self.sanitizer.gap
        self.sanitizer.allocated(address, size)
        return address

    def free(self, address: int) -> None:
        """Make an allocation unusable."""
        super().free(address)
        if address:
            self.sanitizer.freed(address)

    def store(self, address: int, values: Array) -> None:
        """Copy an array to device memory."""
        super().store(address, values)
        self.sanitizer.host_wrote(address, values.nbytes)


class Interpreter:
    """Runs kernels in NumPy, block after block.

    Args:
        sanitizer: Watches every access. A block in which something goes wrong is then left, and the
            others run.
        count: Whether launches give counters.
        step_budget: Basic blocks that a block of threads may execute before the launch ends as endless;
            None: any number.
    """

    name = "lockstep"

    def __init__(
        self, sanitizer: Sanitizer | None = None, *, count: bool = False, step_budget: int | None = None
    ) -> None:
        self.sanitizer = sanitizer
        self.count = count
        self.step_budget = step_budget
        self.memory = WatchedMemory(sanitizer) if sanitizer else Memory()

    def alloc(self, size: int) -> int:
        """Address of `size` fresh bytes."""
        return self.memory.allocate(size)

    def free(self, address: int) -> None:
        """Give an allocation back.

        Raises:
            DeviceError: No allocation begins there.
        """
        self.memory.free(address)

    def write(self, address: int, values: Array) -> None:
        """Copy an array to the device."""
        self.memory.store(address, values)

    def read(self, address: int, size: int) -> Array:
        """(size,) uint8: a copy of device memory."""
        return self.memory.load(address, np.empty(size, np.uint8))

    def describe(self, address: int, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Say what lies at an address, for messages."""
        if self.sanitizer:
            self.sanitizer.describe(address, name, itemsize=dtype.itemsize, shape=shape)

    def release(self, addresses: Sequence[int]) -> None:
        """Give allocations back, and all that came after the first of them: their addresses may be reused."""
        if not addresses:
            return
        memory, mark = self.memory, min(addresses) - GLOBAL_BASE
        for start, end in memory.ranges:
            if start >= mark:
                memory.data[start:end] = 0
        memory.ranges = [r for r in memory.ranges if r[0] < mark]
        memory.top = mark
        if self.sanitizer:
            self.sanitizer.reclaimed(GLOBAL_BASE + mark)

    def take_printed(self, loaded: Machine) -> str:
        """What the module's kernels have printed since the last call."""
        text = "".join(loaded.printed)
        loaded.printed.clear()
        return text

    def load(self, ptx: str | bytes) -> Machine:
        """A module with its variables in memory.

        Raises:
            CompileError: The PTX does not parse; names the line.
        """
        machine = Machine(read_ptx(ptx), self.memory, self.sanitizer)
        machine.step_budget = self.step_budget
        self.describe_variables(machine)
        return machine

    def describe_variables(self, machine: Machine) -> None:
        """Tell the sanitizer of a module's variables."""
        if self.sanitizer is None:
            return
        for variable in machine.module.variables.values():
            if variable.space in ("global", "const") and variable.name in machine.symbols:
                address = machine.symbols[variable.name]
                self.sanitizer.describe(address, variable.name)
                # The driver fills a module's variables with zeros.
                self.sanitizer.host_wrote(address, size_of(variable))

    def launch_params(
        self,
        loaded: Machine,
        entry: str,
        grid: Sizes,
        block: Sizes,
        params: Sequence[bytes],
        shared_bytes: int = 0,
        *,
        cluster: Sizes | None = None,
        resident: int = 1 << 30,
    ) -> Counters | None:
        """Run a kernel to its end; what it did in numbers, if that is counted.

        Args:
            loaded: Its module.
            entry: Its name.
            grid: Blocks by axis.
            block: Threads by axis.
            params: The bytes of each parameter.
            shared_bytes: Dynamic shared memory per block.
            cluster: Blocks of a cluster by axis; None: as the kernel says, or none.
            resident: Blocks that the GPU holds at once.

        Raises:
            CompileError: PTX that the interpreter does not know; names the line.
            KernelError: A cluster that the kernel or the grid does not allow.
            DeviceError: Without a sanitizer: an access outside memory, a deadlock, or a kernel
                that does not end.
            TooManyFindingsError: With one: its limit is reached.
        """
        function = entry_of(loaded, entry)
        bound: dict[str, bytes] = {v.name: bytes(raw) for v, raw in zip(function.params, params, strict=True)}
        if self.sanitizer:
            self.sanitizer.begin_launch(loaded.module)

        def begin(where: Geometry) -> BlockRun:
            return BlockRun(loaded, function, bound, where, shared_bytes)

        loaded.recorder = Recorder() if self.count else None
        geometry = Geometry(grid, block, (0, 0, 0), *cluster_size(function, grid, cluster))
        GridRun(begin, geometry, resident=resident, failed=leave_block if self.sanitizer else None).run()
        if loaded.recorder is None:
            return None
        return loaded.recorder.counters(loaded.module, entry, math.prod(grid), geometry.threads)


def leave_block(run: BlockRun, error: TesseraError) -> None:
    """A watched block ended in an error: the others go on, unless there is no more to be said."""
    if isinstance(error, BlockStoppedError):
        return
    if run.watch is None or isinstance(error, TooManyFindingsError) or not isinstance(error, DeviceError):
        raise error
    run.watch.failed("failed", error.message)


def entry_of(loaded: Any, entry: str) -> Function:
    """The kernel of that name in a loaded module.

    Raises:
        CompileError: There is none.
    """
    function: Function | None = loaded.module.functions.get(entry)
    if function is None or not function.is_entry:
        raise CompileError(
            f"no kernel is called {entry!r}", hint="kernels: " + ", ".join(loaded.module.functions)
        )
    return function
