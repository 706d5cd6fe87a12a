"""The emulated device: what it says of itself, and the modules and kernels loaded into it."""

from __future__ import annotations

import ctypes
import itertools
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from tessera.emulator.counters import Counters
from tessera.emulator.cuda_engine import Engine
from tessera.emulator.machine import size_of
from tessera.program.arch import (
    FEWEST_MULTIPROCESSORS,
    MAX_BLOCK,
    MAX_BLOCK_THREADS,
    MAX_GRID,
    MULTIPROCESSORS,
    SM_LIMITS,
    Architecture,
)
from tessera.program.errors import ArchitectureError, DeviceError, ResourceError
from tessera.program.occupancy import occupancy, resident_blocks

_CONSTANT_BYTES = 65536
STATIC_SHARED_BYTES = 48 << 10
"""Shared memory that a kernel may declare. Source: CUDA C++ Programming Guide, "Shared Memory"."""
_USED = re.compile(r"Used (\d+) registers")
_STACK = re.compile(r"(\d+) bytes stack frame")


class Device:
    """One emulated GPU.

    Args:
        cc: Compute capability.

    Raises:
        ArchitectureError: There is no GPU of that compute capability.
    """

    def __init__(self, cc: tuple[int, int]) -> None:
        if cc not in SM_LIMITS:
            known = ", ".join(f"({a}, {b})" for a, b in sorted(SM_LIMITS))
            raise ArchitectureError(f"no GPU has compute capability {cc}", hint=f"one of {known}")
        self.id = 0
        self.cc = cc
        self.arch = Architecture(*cc)
        self.name = f"Tessera emulated {self.arch.name}"
        self.uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, self.name))
        self.launches: list[Counters] = []
        """Counters of every launch since the device was put in place, if it counts."""

    @property
    def counters(self) -> Counters:
        """Of all launches together."""
        return Counters.sum(self.launches)

    def attribute(self, name: str) -> int:
        """A device attribute by its name in the driver API without the prefix; 0 if it has no meaning."""
        return self._attributes().get(name, 0)

    def _attributes(self) -> dict[str, int]:
        sm = SM_LIMITS[self.cc]
        major, minor = self.cc
        flags = (
            "CAN_MAP_HOST_MEMORY UNIFIED_ADDRESSING MANAGED_MEMORY CONCURRENT_KERNELS COOPERATIVE_LAUNCH "
            "CONCURRENT_MANAGED_ACCESS COMPUTE_PREEMPTION_SUPPORTED STREAM_PRIORITIES_SUPPORTED "
            "GLOBAL_L1_CACHE_SUPPORTED LOCAL_L1_CACHE_SUPPORTED"
        )
        return {
            **dict.fromkeys(flags.split(), 1),
            "COMPUTE_CAPABILITY_MAJOR": major,
            "COMPUTE_CAPABILITY_MINOR": minor,
            "MAX_THREADS_PER_BLOCK": MAX_BLOCK_THREADS,
            **{f"MAX_BLOCK_DIM_{axis}": n for axis, n in zip("XYZ", MAX_BLOCK, strict=True)},
            **{f"MAX_GRID_DIM_{axis}": n for axis, n in zip("XYZ", MAX_GRID, strict=True)},
            "MAX_SHARED_MEMORY_PER_BLOCK": STATIC_SHARED_BYTES,
            "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": sm.shared_optin_bytes,
            "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR": sm.shared_bytes,
            "RESERVED_SHARED_MEMORY_PER_BLOCK": sm.shared_reserved_bytes,
            "TOTAL_CONSTANT_MEMORY": _CONSTANT_BYTES,
            "WARP_SIZE": 32,
            "MAX_PITCH": 2**31 - 1,
            "MAX_REGISTERS_PER_BLOCK": sm.registers,
            "MAX_REGISTERS_PER_MULTIPROCESSOR": sm.registers,
            "MAX_THREADS_PER_MULTIPROCESSOR": sm.threads,
            "MAX_BLOCKS_PER_MULTIPROCESSOR": sm.blocks,
            "MULTIPROCESSOR_COUNT": MULTIPROCESSORS.get(self.cc, FEWEST_MULTIPROCESSORS),
            "CLOCK_RATE": 1_410_000,
            "MEMORY_CLOCK_RATE": 1_215_000,
            "GLOBAL_MEMORY_BUS_WIDTH": 5120,
            "L2_CACHE_SIZE": 40 << 20,
            "TEXTURE_ALIGNMENT": 512,
            "ASYNC_ENGINE_COUNT": 3,
            "SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO": 2
            if self.cc in ((7, 0), (8, 0), (9, 0), (10, 0))
            else 64,
        }

    def resident_at_once(self, kernel: DeviceKernel, threads: int, shared_bytes: int) -> int:
        """Blocks of a kernel that the device holds at once, whatever registers it takes."""
        static = kernel.shared_bytes
        return resident_blocks(self.arch, threads=threads, shared_bytes=static + shared_bytes)

    def resident_blocks(self, kernel: DeviceKernel, threads: int, shared_bytes: int) -> int:
        """Blocks of a kernel that one multiprocessor holds at once."""
        found = occupancy(
            self.arch,
            threads=threads,
            registers=kernel.attributes.num_regs,
            shared_bytes=kernel.attributes.shared_size_bytes + shared_bytes,
        )
        return found.blocks


@dataclass(frozen=True, slots=True)
class KernelAttributes:
    """What the driver says of a loaded kernel; bytes, and registers per thread."""

    num_regs: int
    const_size_bytes: int
    local_size_bytes: int
    shared_size_bytes: int
    max_threads_per_block: int


class DeviceModule:
    """PTX loaded into the emulated device.

    Args:
        engine: What runs it.
        texts: The PTX of its parts.
        assemble: Gives what the assembler reports of them, for numbers that only it knows.
    """

    def __init__(self, engine: Engine, texts: Sequence[str], assemble: Callable[[], str]) -> None:
        self.engine = engine
        self.texts = tuple(texts)
        self.loaded = engine.load(texts)
        self.assemble = assemble
        self.handle = 0
        self._log: str | None = None

    @property
    def log(self) -> str:
        """The report of the assembler."""
        if self._log is None:
            self._log = self.assemble()
        return self._log

    def variable(self, name: str) -> tuple[int, int] | None:
        """Address and bytes of a module variable."""
        variable = self.loaded.module.variables.get(name)
        if variable is None or name not in self.loaded.symbols:
            return None
        return self.loaded.symbols[name], size_of(variable)

    def get_kernel(self, name: str) -> DeviceKernel:
        """A kernel by name.

        Raises:
            DeviceError: There is none.
            ResourceError: It declares more shared memory than ptxas takes.
        """
        function = self.loaded.module.functions.get(name)
        if function is None or not function.is_entry:
            raise DeviceError(f"the module has no kernel {name!r}")
        kernel = DeviceKernel(self, name)
        if kernel.shared_bytes > STATIC_SHARED_BYTES:
            raise ResourceError(
                f"{name} declares {kernel.shared_bytes} bytes of shared memory, "
                f"ptxas takes {STATIC_SHARED_BYTES}",
                hint="declare cuda.shared.array(0, dtype) and give the bytes in the launch: "
                "kernel[grid, block, stream, bytes]",
                resource="shared memory",
                required=kernel.shared_bytes,
                limit=STATIC_SHARED_BYTES,
            )
        return kernel


_kernel_handles = itertools.count(0x9000, 16)


class DeviceKernel:
    """A kernel of a loaded module."""

    def __init__(self, module: DeviceModule, name: str) -> None:
        self.module = module
        self.name = name
        self.number = next(_kernel_handles)

    @property
    def handle(self) -> DeviceKernel:
        """What the driver's functions take."""
        return self

    @property
    def shared_bytes(self) -> int:
        """Static shared memory of a block."""
        module = self.module.loaded.module
        shared = [v for v in module.variables.values() if v.space == "shared"]
        shared += [v for f in module.functions.values() for v in f.variables if v.space == "shared"]
        return sum(size_of(v) for v in shared)

    @property
    def attributes(self) -> KernelAttributes:
        """Resources; registers and stack are what the assembler says."""
        module = self.module.loaded.module
        function = module.functions[self.name]
        constant = sum(size_of(v) for v in module.variables.values() if v.space == "const")
        # The report names each kernel, then says what it uses.
        report = self.module.log.partition(f"'{self.name}'")[2] or self.module.log
        registers, stack = _USED.search(report), _STACK.search(report)
        threads = function.directives.get("maxntid") or function.directives.get("reqntid")
        return KernelAttributes(
            int(registers[1]) if registers else 0,
            constant,
            int(stack[1]) if stack else 0,
            self.shared_bytes,
            int(np.prod(threads)) if threads else MAX_BLOCK_THREADS,
        )

    def fits(self, grid: tuple[int, int, int], block: tuple[int, int, int]) -> bool:
        """Whether a launch of that shape is within the limits of the device and of the kernel."""
        function = self.module.loaded.module.functions[self.name]
        bound = function.directives.get("maxntid") or function.directives.get("reqntid")
        most = min(int(np.prod(bound)) if bound else MAX_BLOCK_THREADS, MAX_BLOCK_THREADS)
        sizes = zip((*grid, *block), (*MAX_GRID, *MAX_BLOCK), strict=True)
        return int(np.prod(block)) <= most and all(1 <= size <= limit for size, limit in sizes)

    def launch(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[Any],
        shared_bytes: int,
        output: TextIO,
        *,
        cluster: tuple[int, int, int] | None = None,
        resident: int = 1 << 30,
    ) -> None:
        """Run the kernel.

        Args:
            grid: Blocks by axis.
            block: Threads by axis.
            args: One per parameter.
            shared_bytes: Dynamic shared memory per block.
            output: Gets what the kernel prints.
            cluster: Blocks of a cluster by axis; None: as the kernel says, or none.
            resident: Blocks that the device holds at once.

        Raises:
            CompileError: PTX that the emulator does not know.
            DeviceError: The kernel failed.
        """
        loaded = self.module.loaded
        try:
            raw = [argument_bytes(a) for a in args]
            loaded.run_kernel(self.name, grid, block, raw, shared_bytes, cluster=cluster, resident=resident)
        finally:
            text = "".join(loaded.printed)
            loaded.printed.clear()
            if text:
                output.write(text)
                output.flush()


def argument_bytes(value: Any) -> bytes:
    """The bytes that a launch passes for an argument: 8 for an int or a pointer, else those of its type.

    Raises:
        DeviceError: Nothing that a kernel takes.
    """
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
    if isinstance(value, float):
        return np.float64(value).tobytes()
    if isinstance(value, complex):
        return np.complex128(value).tobytes()
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tobytes()
    if isinstance(value, (ctypes._SimpleCData, ctypes.Structure, ctypes.Array)):  # noqa: SLF001
        return bytes(value)
    if hasattr(value, "__int__"):
        return argument_bytes(int(value))
    raise DeviceError(f"a kernel cannot take {type(value).__name__}")
