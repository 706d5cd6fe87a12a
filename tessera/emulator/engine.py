"""Runs PTX kernels on the CPU through LLVM: load, launch, device memory.

A grid's blocks run in parallel on a few threads of the host. A kernel is compiled fast first; code that
runs long is compiled again with optimization while it runs, and swapped in between blocks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.emulator.arguments import (
    aligned_copy,
    check_params,
    check_sizes,
    initial_bytes,
    parameter_buffer,
    raw_argument,
    size_of,
)
from tessera.emulator.count_plan import assemble, numbers_of
from tessera.emulator.counters import Counters
from tessera.emulator.device_runtime import ARRIVED, ARRIVED_BYTES, add_device_runtime
from tessera.emulator.geometry import cluster_size, three
from tessera.emulator.layout import CONTEXT, CONTEXT_BYTES
from tessera.emulator.link import read_ptx
from tessera.emulator.loaded import Kernel, LaunchResult, LoadedModule, Shape
from tessera.emulator.memory import ALIGNMENT, Memory
from tessera.emulator.native import compile_ir
from tessera.emulator.ptx import Function, Module
from tessera.emulator.report import fault_error
from tessera.emulator.services import Heap, Services
from tessera.emulator.translate import Translation, translate
from tessera.emulator.workers import Grid
from tessera.program.arch import parse_arch
from tessera.program.errors import KernelError
from tessera.program.occupancy import resident_blocks

__all__ = ["Emulator", "Kernel", "LaunchResult", "LoadedModule"]

DEFAULT_STEPS = 1 << 30
"""Jumps backwards that the warps of one block may make together before the launch counts as endless."""
SHARED_LIMIT = 227 << 10
SLICE = 256
"""Rounds of 4096 jumps per warp after which a block lets others run (it may wait for them)."""
LONG_SECONDS = 0.15
"""A launch that runs longer than this gets optimized code."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What compiled code is given for a launch."""

    context: np.ndarray[Any, Any]
    buffer: Any
    """Holds the parameters."""
    params: tuple[int, int]
    """Address and bytes of the parameters."""

    def set(self, **values: int) -> None:
        """Put numbers into the context, by their names."""
        for name, value in values.items():
            self.context[CONTEXT[name] // 8] = value


class Emulator:
    """A GPU in software.

    Args:
        arch: Architecture that kernels are run as.
        workers: Threads of the host; None: as many as it has cores.
        step_budget: Jumps backwards that a block may make before the launch ends as endless.
        memory_bytes: Device memory.
        level: 0 or 2: compile at that level only; None: fast first, then as launches turn out.
        count: Whether launches count what they do: `LaunchResult.counters`. Code that counts is another
            code, two to three times slower.
    """

    def __init__(
        self,
        arch: str = "sm_80",
        *,
        workers: int | None = None,
        step_budget: int | None = None,
        memory_bytes: int = 4 << 30,
        level: int | None = None,
        count: bool = False,
        memory: Memory | None = None,
    ) -> None:
        self.arch = arch
        self.count = count
        self.workers = workers or len(os.sched_getaffinity(0))
        self.step_budget = step_budget or DEFAULT_STEPS
        self.level = level
        self.memory = memory or Memory(memory_bytes)
        self._texts: dict[str | bytes, LoadedModule] = {}
        self.heap = Heap(self.memory)
        self.printed: list[str] = []
        """What `printf` of kernels wrote and nobody has taken yet, call by call."""
        self._pool: ThreadPoolExecutor | None = None
        self._compiler: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    # -- memory ---------------------------------------------------------------------------------

    def alloc(self, nbytes: int) -> int:
        """Device address of `nbytes` bytes of zeros, 256-byte aligned."""
        return self.memory.alloc(nbytes)

    def free(self, address: int) -> None:
        """Give an allocation back."""
        self.memory.free(address)

    def write(self, address: int, values: bytes | np.ndarray[Any, Any]) -> None:
        """Copy bytes or an array to device memory."""
        self.memory.write(address, values)

    def read(self, address: int, nbytes: int) -> bytes:
        """Copy of device memory."""
        return self.memory.read(address, nbytes)

    # -- modules --------------------------------------------------------------------------------

    def load(self, ptx: str | bytes) -> LoadedModule:
        """Parse a module and put its variables into device memory.

        Raises:
            CompileError: Text that is not PTX; names the line.
        """
        with self._lock:
            if ptx not in self._texts:
                self._texts[ptx] = self._place(read_ptx(ptx))
            return self._texts[ptx]

    def _place(self, module: Module) -> LoadedModule:
        add_device_runtime(module)
        variables = [v for v in module.variables.values() if v.space in ("global", "const")]
        symbols = {v.name: self.memory.alloc(size_of(v), f"variable {v.name}") for v in variables}
        for variable in variables:
            if variable.initial:
                self.memory.write(
                    symbols[variable.name], initial_bytes(variable, symbols | module.function_addresses())
                )
        return LoadedModule(module, symbols, np.array([*symbols.values(), 0], np.uint64))

    def kernel(self, module: LoadedModule, entry: str) -> tuple[Kernel, float]:
        """A kernel, compiled now if it was not before, and the seconds that took.

        Raises:
            CompileError: No such kernel, or an instruction that is not known; names the line.
        """
        with self._lock:
            if entry in module.kernels:
                return module.kernels[entry], 0.0
            start = time.perf_counter()
            function = module.entry(entry)
            places = {name: i for i, name in enumerate(module.symbols)}
            translation = self._translate(module.module, function, places)
            level = self.level if self.level is not None else 0
            code = compile_ir(translation.ir, level, libraries=translation.libraries)
            kernel = Kernel(function, translation, code)
            module.kernels[entry] = kernel
            return kernel, time.perf_counter() - start

    def _translate(self, module: Module, function: Function, places: dict[str, int]) -> Translation:
        return translate(module, function, places, count=self.count)

    def improve(self, kernel: Kernel) -> None:
        """Begin to compile a kernel with optimization, in the background."""
        if self.level is not None or kernel.better is not None or kernel.code.level > 0:
            return
        if self._compiler is None:
            self._compiler = ThreadPoolExecutor(1, "tessera-emulator-compile")
        kernel.better = self._compiler.submit(
            compile_ir, kernel.translation.ir, 2, libraries=kernel.translation.libraries
        )

    # -- launches -------------------------------------------------------------------------------

    def launch(
        self,
        ptx: str | bytes | LoadedModule,
        entry: str,
        grid: Sequence[int] | int,
        block: Sequence[int] | int,
        args: Sequence[Any],
        shared_bytes: int = 0,
        *,
        cluster: Sequence[int] | int | None = None,
        resident: int | None = None,
    ) -> LaunchResult:
        """Run a kernel to its end.

        Args:
            ptx: PTX or a module from `load`.
            entry: Name of the kernel.
            grid: Blocks by axis, one to three.
            block: Threads by axis, one to three.
            args: One per parameter: arrays, written in place; NumPy or Python scalars; int addresses from
                `alloc` for pointers; a `TensorMap` for a parameter of 128 bytes.
            shared_bytes: Dynamic shared memory per block.
            cluster: Blocks of a cluster by axis; None: as the kernel says, or none.
            resident: Blocks that the GPU holds at once; None: as many as one of that architecture does.

        Raises:
            CompileError: PTX that the emulator does not know; names the line.
            DeviceError: A bad access, a deadlock, a trap, or a kernel that does not end.
            KernelError: Arguments or sizes that the kernel cannot be launched with, or an array that it
                wrote although it is read-only.
        """
        module = ptx if isinstance(ptx, LoadedModule) else self.load(ptx)
        kernel, spent = self.kernel(module, entry)
        # Sectors are counted from addresses: arrays must begin where they would on a GPU.
        alignment = ALIGNMENT if self.count else kernel.translation.alignment
        with self._bound(kernel.function, args, alignment) as params:
            shape = self._shape(kernel, grid, block, shared_bytes, cluster, resident)
            return self._run(module, kernel, shape, params, spent)

    @contextmanager
    def _bound(self, function: Function, args: Sequence[Any], alignment: int) -> Iterator[list[bytes]]:
        """The bytes of each parameter, with the arrays among the arguments in device memory."""
        variables = function.params
        if len(args) != len(variables):
            raise KernelError(f"{function.name} takes {len(variables)} arguments, {len(args)} given")
        arrays = [(a, f"argument {i}") for i, a in enumerate(args) if isinstance(a, np.ndarray)]
        with self.memory.borrowed(arrays, alignment) as addresses:
            places = iter(addresses)
            values = [next(places) if isinstance(a, np.ndarray) else a for a in args]
            yield [raw_argument(value, variable) for value, variable in zip(values, variables, strict=True)]

    def launch_params(
        self,
        module: LoadedModule,
        entry: str,
        grid: Sequence[int] | int,
        block: Sequence[int] | int,
        params: Sequence[bytes],
        shared_bytes: int = 0,
        *,
        cluster: Sequence[int] | int | None = None,
        resident: int | None = None,
    ) -> LaunchResult:
        """Run a kernel whose parameters are given as raw bytes, one object each; pointers as addresses.

        Args:
            module: The kernel's module.
            entry: Name of the kernel.
            grid: Blocks by axis, one to three.
            block: Threads by axis, one to three.
            params: The bytes of each parameter.
            shared_bytes: Dynamic shared memory per block.
            cluster: Blocks of a cluster by axis; None: as the kernel says, or none.
            resident: Blocks that the GPU holds at once; None: as many as one of that architecture does.

        Raises:
            CompileError: PTX that the emulator does not know; names the line.
            DeviceError: A bad access, a deadlock, a trap, or a kernel that does not end.
            KernelError: Parameters or sizes that the kernel cannot be launched with.
        """
        kernel, spent = self.kernel(module, entry)
        check_params(kernel.function, params)
        shape = self._shape(kernel, grid, block, shared_bytes, cluster, resident)
        return self._run(module, kernel, shape, params, spent)

    def _shape(
        self, kernel: Kernel, grid: Sequence[int] | int, block: Sequence[int] | int, shared_bytes: int,
        cluster: Sequence[int] | int | None, resident: int | None,
    ) -> Shape:  # fmt: skip
        sizes, threads = three(grid), three(block)
        per_block = threads[0] * threads[1] * threads[2]
        check_sizes(sizes, threads)
        shared = kernel.translation.shared_bytes + shared_bytes
        asked = shared - kernel.translation.shared_spacing
        if asked > SHARED_LIMIT:
            raise KernelError(
                f"{asked} bytes of shared memory per block asked for, {SHARED_LIMIT} is the limit"
            )
        wanted, explicit = cluster_size(kernel.function, sizes, cluster)
        if resident is None:
            resident = resident_blocks(parse_arch(self.arch), threads=per_block, shared_bytes=asked)
        return Shape(sizes, threads, wanted, explicit, shared_bytes, shared, resident)

    def _run(
        self, module: LoadedModule, kernel: Kernel, shape: Shape, params: Sequence[bytes], spent: float
    ) -> LaunchResult:
        translation = kernel.translation
        called = translation.services
        if called & {"malloc", "free"}:
            self.heap.prepare()
        services = Services(
            translation, self.memory, self.heap, shape.block, shape.shared_bytes, self.printed
        )
        prepared = self._prepare(module, kernel, shape, params)
        services.params = prepared.params
        table = self.memory.table()
        if translation.param_pointers:
            # Parameters whose address is taken are device memory for the time of the launch.
            table = np.concatenate([table, np.array([prepared.params], np.uint64)])
            table = np.ascontiguousarray(table[table[:, 0].argsort()])
        prepared.set(table=table.ctypes.data, table_count=len(table), service=services.address)
        if ARRIVED in module.symbols:
            self.memory.write(module.symbols[ARRIVED], bytes(ARRIVED_BYTES))
        run = Grid(
            kernel.best, translation, prepared.context, shape.grid, shape.block, shape.cluster, shape.resident
        )
        # What is printed comes block by block, so blocks that print run in their order.
        seconds = self._timed(run, kernel, 1 if "vprintf" in called else self.workers)
        if services.error is not None:
            raise services.error
        if run.fault is not None:
            raise fault_error(
                run.fault, module.module, kernel.function, translation, shape.block, self.memory,
                self.step_budget,
            )  # fmt: skip
        return LaunchResult(seconds, spent, (), _counters(run, module.module, kernel, shape.threads))

    def _prepare(
        self, module: LoadedModule, kernel: Kernel, shape: Shape, params: Sequence[bytes]
    ) -> Prepared:
        """What compiled code is given for a launch, without the table of arrays."""
        translation = kernel.translation
        buffer = aligned_copy(parameter_buffer(translation, kernel.function, params), 256)
        address = int(buffer.ctypes.data)
        prepared = Prepared(
            np.zeros(CONTEXT_BYTES // 8, np.uint64), buffer, (address, translation.param_bytes)
        )
        prepared.set(
            **{f"grid_{axis}": n for axis, n in zip("xyz", shape.grid, strict=True)},
            **{f"block_{axis}": n for axis, n in zip("xyz", shape.block, strict=True)},
            **{f"cluster_{axis}": n for axis, n in zip("xyz", shape.cluster, strict=True)},
            explicit=int(shape.explicit), params=address, budget=self.step_budget,
            dynamic_bytes=shape.dynamic_bytes, symbols=module.table.ctypes.data,
            shared_bytes=shape.shared_bytes, threads=shape.threads, warps=-(-shape.threads // 32),
            local_bytes=translation.local_bytes, slice=SLICE,
        )  # fmt: skip
        return prepared

    def _timed(self, run: Grid, kernel: Kernel, workers: int) -> float:
        """Run all blocks; the seconds that took."""
        if kernel.seconds > LONG_SECONDS:
            self.improve(kernel)
        start = time.perf_counter()
        run.execute(self._threads(), workers, lambda: self.improve(kernel), LONG_SECONDS)
        seconds = time.perf_counter() - start
        kernel.seconds += seconds
        return seconds

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, "tessera-emulator")
        return self._pool


def _counters(run: Grid, module: Module, kernel: Kernel, threads: int) -> Counters | None:
    """What the workers counted together; None if they did not."""
    plan = kernel.translation.plan
    if plan is None:
        return None
    total = np.zeros(max(plan.size, 1), np.uint64)
    for worker in run.workers:
        if worker.counts is not None:
            total += worker.counts
    return assemble(module, kernel.function.name, numbers_of(plan, total), run.blocks, threads)
