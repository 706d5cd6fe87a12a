"""The CPU as a device: native kernels out of a package, matrix products by NumPy's BLAS."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tessera.program.arch import host_cpu_targets
from tessera.program.bytesize import format_bytes
from tessera.program.errors import DeviceError, OutOfMemoryError
from tessera.program.program import Plan, Program
from tessera.runtime.cells import ArgumentCells
from tessera.runtime.executable import Array, Executable, Frame, kernels_of, load_constant, pointer_of
from tessera.runtime.library import CpuKernel, Library
from tessera.runtime.memory import ALIGNMENT, Block, MemoryPool
from tessera.runtime.profile import Recorder
from tessera.runtime.schedule import (
    Address,
    GemmCall,
    LaunchCall,
    Matrices,
    Output,
    Schedule,
    make_setup,
)
from tessera.runtime.source import ProgramSource
from tessera.runtime.workers import Workers, shared_workers
from tessera.runtime.workspace import Lender, Workspace

Call = Callable[[], object]
View = Callable[[], Array]

SPLIT_NS = 100_000
"""A launch is shared among threads if it would take longer; handing parts over costs about 20 µs."""

PROBES = 3
"""Launches of one shape that are timed to learn what a work item costs."""


def open_device(index: int, memory_limit_bytes: int | None) -> CpuDevice:
    """This machine's CPU."""
    del index
    return CpuDevice(memory_limit_bytes)


class CpuDevice:
    """This machine's CPU and main memory."""

    name = "cpu"

    def __init__(self, memory_limit_bytes: int | None = None) -> None:
        self.targets = host_cpu_targets()
        self._pool = MemoryPool("cpu", allocate, memory_limit_bytes)
        self._workers = shared_workers()
        self._libraries: dict[bytes, Library] = {}
        self._weights: dict[str, int] = {}
        self._own_bytes = 0

    @property
    def description(self) -> str:
        """`x86_64 CPU (cpu-x86_64-v3), 16 threads`."""
        level = self.targets[0] if self.targets else "no known level"
        return f"{platform.machine()} CPU ({level}), {self._workers.threads} threads"

    def load(self, program: Program, source: ProgramSource) -> CpuExecutable:
        """The program with its native code loaded and its setup done.

        Raises:
            DeviceError: It has no code for this CPU.
        """
        for target in self.targets:
            plan = program.plan_for(target)
            if plan is not None:
                kernels = self._kernels(program, plan, target, source)
                constants = {c.name: load_constant(c, source) for c in program.constants}
                self._weights |= {name: value.nbytes for name, value in constants.items()}
                self._own_bytes += plan.persistent_bytes
                return CpuExecutable(program, plan, target, kernels, constants, self._pool, self._workers)
        machine = self.targets[0] if self.targets else platform.machine()
        raise DeviceError(
            f"program {program.name!r} has no code for this CPU ({machine}); "
            f"it has code for: {', '.join(program.targets) or 'no target'}",
            hint="run it on the device emulator, or compile it with the target cpu too: "
            "tessera compile FILE --arch cpu"
            if any(target.startswith("sm_") for target in program.targets)
            else "compile it with the target cpu too: tessera compile FILE --arch cpu",
        )

    def _kernels(
        self, program: Program, plan: Plan, target: str, source: ProgramSource
    ) -> dict[str, CpuKernel]:
        kernels = {}
        for name in kernels_of(plan):
            binary = source.binary(program.name, name, target, "so")
            if binary is None:
                raise DeviceError(
                    f"program {program.name!r}: its plan for {target} launches {name!r}, "
                    "but there is no native code of that name",
                    hint="compile the program again",
                )
            digest = hashlib.sha256(binary.data).digest()
            if digest not in self._libraries:
                self._libraries[digest] = Library(binary.data, f"{target} code of {program.name!r}")
            kernels[name] = self._libraries[digest].kernel(name)
        return kernels

    def memory_usage(self) -> dict[str, int]:
        """Bytes of working memory; most of `weights_bytes` are mapped from the package's file."""
        weights = self._own_bytes + sum(self._weights.values())
        return {**self._pool.usage(), "weights_bytes": weights}

    def close(self) -> None:
        """Unload the libraries and drop the working memory."""
        self._libraries.clear()
        self._pool.trim()


class CpuFrame(Frame):
    """Prepared calls into native code."""

    def __init__(self, schedule: Schedule, cells: ArgumentCells, arrays: int) -> None:
        super().__init__(schedule, cells)
        self.calls: list[tuple[str, Call]] = []
        """Name and body of each call, in order."""
        self.arrays: list[Array | None] = [None] * arrays
        """What this call reads and writes: tensor inputs, outputs, arena."""


class CpuExecutable(Executable[CpuFrame]):
    """A CPU plan with its kernels."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        target: str,
        kernels: Mapping[str, CpuKernel],
        constants: Mapping[str, Array],
        pool: MemoryPool[Array],
        workers: Workers,
    ) -> None:
        super().__init__(program, plan)
        self.target = target
        self._kernels = kernels
        self._pool = pool
        self._workers = workers
        self._fixed = {("constant", name): value for name, value in constants.items()}
        if plan.persistent_bytes:
            self._fixed["persistent", ""] = allocate(plan.persistent_bytes).memory
        self._no_arrays = [None] * len(self._bases)
        setup = self._frame(make_setup(program, plan))
        setup.cells.bind([0] * len(self._bases), ())
        self._run(setup, None)

    def _execute(
        self, frame: CpuFrame, inputs: Sequence[Array], recorder: Recorder | None, workspace: Workspace | None
    ) -> list[Array]:
        schedule = frame.schedule
        outputs = [new_output(output, inputs) for output in schedule.outputs]
        arrays = [*(inputs[i] for i in self._tensors), *outputs]
        addresses = [pointer_of(array) for array in arrays]
        pool: Lender[Array] = self._pool if workspace is None else workspace.within(self._pool)
        arena = pool.acquire(schedule.arena_bytes)
        try:
            frame.cells.bind([*addresses, arena.pointer], inputs)
            frame.arrays[:] = [*arrays, arena.memory]
            self._run(frame, recorder)
        finally:
            # A kept frame must not keep the caller's arrays.
            frame.arrays[:] = self._no_arrays
            pool.release(arena)
        return outputs

    def _run(self, frame: CpuFrame, recorder: Recorder | None) -> None:
        # Products overflow and meet NaN as the kernels do: without a warning.
        with np.errstate(all="ignore"):
            if recorder is None:
                for _, call in frame.calls:
                    call()
            else:
                self._run_timed(frame, recorder)

    def _run_timed(self, frame: CpuFrame, recorder: Recorder) -> None:
        for index, (name, call) in enumerate(frame.calls):
            start = time.perf_counter_ns()
            call()
            recorder.add_step(self.program.name, index, name, time.perf_counter_ns() - start)

    def _frame(self, schedule: Schedule) -> CpuFrame:
        frame = CpuFrame(schedule, self._cells(schedule), len(self._bases))
        launch = 0
        for call in schedule.calls:
            if isinstance(call, GemmCall):
                frame.calls.append(("gemm", self._gemm(call, frame.arrays)))
            else:
                frame.calls.append((call.kernel, self._launch(call, frame.cells.address(launch))))
                launch += 1
        return frame

    def _launch(self, call: LaunchCall, address: int) -> Call:
        kernel = self._kernels[call.kernel]
        if call.items == 1 or self._workers.threads == 1:
            return partial(kernel, address, 0, call.items)
        return _SplitLaunch(kernel, address, call.items, self._workers)

    def _gemm(self, call: GemmCall, arrays: list[Array | None]) -> Call:
        a, b, c = (self._view(side, call.dtype.numpy, arrays) for side in (call.a, call.b, call.c))

        def multiply() -> None:
            np.matmul(a(), b(), out=c())

        return multiply

    def _view(self, matrices: Matrices, dtype: np.dtype[Any], arrays: list[Array | None]) -> View:
        """The function that finds those matrices inside the arrays of a call, without a copy."""
        address, shape, strides = matrices.address, matrices.shape, matrices.strides_bytes
        key = (address.space, address.name)
        if key in self._fixed:
            fixed: Array = np.ndarray(shape, dtype, self._fixed[key], address.offset_bytes, strides)
            return lambda: fixed
        index = self._bases.index(key)
        return lambda: np.ndarray(shape, dtype, arrays[index], address.offset_bytes, strides)

    def _fixed_address(self, address: Address) -> int:
        if address.space == "null":
            return 0
        return pointer_of(self._fixed[address.space, address.name]) + address.offset_bytes


class _SplitLaunch:
    """A launch of many work items. Its first calls are timed; if it is long, threads share it."""

    __slots__ = ("_address", "_items", "_kernel", "_ns_per_item", "_probes", "_workers")

    def __init__(self, kernel: CpuKernel, address: int, items: int, workers: Workers) -> None:
        self._kernel, self._address, self._items = kernel, address, items
        self._workers = workers
        self._ns_per_item = float("inf")
        self._probes = 0

    def __call__(self) -> None:
        begin = self._probe() if self._probes < PROBES else 0
        if (self._items - begin) * self._ns_per_item < SPLIT_NS:
            self._kernel(self._address, begin, self._items)
        else:
            self._workers.run(partial(self._kernel, self._address), begin, self._items)

    def _probe(self) -> int:
        end = -(-self._items // 16)
        start = time.perf_counter_ns()
        self._kernel(self._address, 0, end)
        cost = (time.perf_counter_ns() - start) / end
        # The least of several: the first call also pays for cold caches and new pages.
        self._ns_per_item = min(self._ns_per_item, cost)
        self._probes += 1
        return end


def allocate(size: int) -> Block[Array]:
    """Aligned main memory.

    Raises:
        OutOfMemoryError: The system has none.
    """
    try:
        memory = np.empty(size + ALIGNMENT, np.uint8)
    except MemoryError:
        raise OutOfMemoryError(
            f"cpu: the system has no {format_bytes(size)} of memory",
            hint="use smaller batches",
            required=size,
            available=None,
        ) from None
    pointer = pointer_of(memory)
    start = -pointer % ALIGNMENT
    return Block(memory[start : start + size], pointer + start, size)


def new_output(output: Output, inputs: Sequence[Array]) -> Array:
    """Memory for a result: fresh, or a copy of the input that it starts with."""
    if output.initial is not None:
        return inputs[output.initial].copy()
    return np.empty(output.shape, output.dtype)
