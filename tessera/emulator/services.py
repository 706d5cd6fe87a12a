"""What the driver does for kernels that run in the LLVM engine: `printf`, device memory, failed assertions.

Source: CUDA C++ Programming Guide 13.0, sections "Formatted Output", "Dynamic Global Memory Allocation" and
"Assertion".
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.emulator import layout as at
from tessera.emulator.printf import Read, formatted, text_at
from tessera.emulator.report import thread_index
from tessera.program.errors import DeviceError, TesseraError

if TYPE_CHECKING:
    from tessera.emulator.memory import Memory
    from tessera.emulator.ptx import Instruction
    from tessera.emulator.translate import Translation

HEAP_BYTES = 8 << 20
"""For all `malloc` of kernels together, as on a GPU."""
ENTRY = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_void_p
)
_GRANULE = 16


class Heap:
    """Memory that kernels take and give back; one allocation of the device's memory.

    Args:
        memory: Device memory.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._free: list[tuple[int, int]] | None = None
        """Address and size of each gap, by address; None before the first use."""
        self._sizes: dict[int, int] = {}

    def prepare(self) -> None:
        """Have the memory ready before kernels run."""
        if self._free is None:
            self._free = [(self._memory.alloc(HEAP_BYTES, "the heap of kernels"), HEAP_BYTES)]

    def take(self, size: int) -> int:
        """Address of `size` bytes; 0 if there are not so many."""
        needed = max(-(-size // _GRANULE), 1) * _GRANULE
        for i, (start, length) in enumerate(self._free or []):
            if length >= needed and self._free is not None:
                rest = [(start + needed, length - needed)] if length > needed else []
                self._free[i : i + 1] = rest
                self._sizes[start] = needed
                return start
        return 0

    def give_back(self, address: int) -> None:
        """Take memory back; 0 is none.

        Raises:
            DeviceError: `malloc` did not give that address.
        """
        if address == 0:
            return
        size = self._sizes.pop(address, None)
        if size is None or self._free is None:
            raise DeviceError(
                f"free of {address:#x}, which malloc did not give", kind="free", address=address
            )
        merged: list[tuple[int, int]] = []
        for start, length in sorted([*self._free, (address, size)]):
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self._free = merged


class Services:
    """The driver's side of one launch.

    Args:
        translation: The kernel.
        memory: Device memory.
        heap: Where `malloc` takes from.
        threads: Threads of a block, by axis.
        shared_bytes: Shared memory of a block.
        printed: Gets what `printf` writes, call by call.
    """

    def __init__(
        self,
        translation: Translation,
        memory: Memory,
        heap: Heap,
        threads: tuple[int, int, int],
        shared_bytes: int,
        printed: list[str],
    ) -> None:
        self.translation = translation
        self.memory, self._heap = memory, heap
        self.threads, self.shared_bytes = threads, shared_bytes
        self._printed = printed
        self._lock = threading.Lock()
        self.params = (0, 0)
        """Where the launch's parameters lie, and how many bytes there are."""
        self.error: TesseraError | None = None
        """The first that a call ended in."""
        self._entry = ENTRY(self._call)
        self.address = ctypes.cast(self._entry, ctypes.c_void_p).value or 0
        """What compiled code calls."""

    def _call(self, block: int, warp: int, site: int, mask: int, area: int) -> int:
        called = self.translation.sites[site]
        if called.opcode == "cp":
            return self._copy(block, warp, called, mask, area)
        name = called.modifiers[0]
        raw = (ctypes.c_uint64 * (5 * 32)).from_address(area)
        arguments = np.ctypeslib.as_array(raw).reshape(5, 32)
        with self._lock:
            try:
                for lane in range(32):
                    if mask >> lane & 1:
                        caller = _Lane(self, block, warp, lane)
                        values = [int(x) for x in arguments[:, lane]]
                        arguments[0, lane] = _SERVICES[name](self, caller, values) & (1 << 64) - 1
            except TesseraError as error:
                self.error = self.error or error
                return 1
        return 0

    def _copy(self, block: int, warp: int, copy: Instruction, mask: int, area: int) -> int:
        from tessera.emulator.bulk_copies import ROWS, BulkCopy

        raw = (ctypes.c_uint64 * (len(ROWS) * 32)).from_address(area)
        operands = np.ctypeslib.as_array(raw).reshape(len(ROWS), 32)
        with self._lock:
            try:
                for lane in range(32):
                    if mask >> lane & 1:
                        BulkCopy(self, block, warp, lane, copy, operands[:, lane]).run()
            except TesseraError as error:
                self.error = self.error or error
                return 1
        return 0

    def print(self, caller: _Lane, arguments: list[int]) -> int:
        """`vprintf`."""
        text, taken = formatted(caller.read, arguments[0], arguments[1])
        self._printed.append(text)
        return taken

    def allocate(self, _caller: _Lane, arguments: list[int]) -> int:
        """`malloc`."""
        return self._heap.take(arguments[0])

    def free(self, _caller: _Lane, arguments: list[int]) -> int:
        """`free`."""
        self._heap.give_back(arguments[0])
        return 0

    def fail(self, caller: _Lane, arguments: list[int]) -> int:
        """`__assertfail`: message, file, line, function.

        Raises:
            DeviceError: Always.
        """
        read: Read = caller.read
        message, file, function = (text_at(read, arguments[i]) for i in (0, 1, 3))
        line = arguments[2] & 0xFFFF_FFFF
        raise DeviceError(
            f"{file}:{line}: {function}: block {caller.block_index}, thread {caller.thread}: "
            f"assertion `{message}` failed",
            kind="assert", block=caller.block_index, thread=caller.thread,
        )  # fmt: skip


class _Lane:
    """A thread that calls: where it stands, and what its addresses mean."""

    def __init__(self, services: Services, block: int, warp: int, lane: int) -> None:
        self._services = services
        self._block, self._warp, self._lane = block, warp, lane

    @property
    def block_index(self) -> tuple[int, int, int]:
        """Of the thread's block."""
        x, y, z = (_word(self._block, at.BLOCK[f"ctaid_{axis}"]) for axis in "xyz")
        return x, y, z

    @property
    def thread(self) -> tuple[int, int, int]:
        """Its index in the block."""
        number = ctypes.c_int32.from_address(self._warp + at.WARP_ID).value
        return thread_index(32 * number + self._lane, self._services.threads)

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a generic address.

        Raises:
            DeviceError: Nothing is there.
        """
        services = self._services
        window, offset = address >> 56, address & ((1 << 56) - 1)
        local = services.translation.local_bytes
        if window == 0x7E and offset + size <= services.shared_bytes:
            return ctypes.string_at(_word(self._block, at.BLOCK["shared"]) + offset, size)
        if window == 0x7F and offset + size <= local:
            return ctypes.string_at(_word(self._warp, at.LOCAL_BASE) + self._lane * local + offset, size)
        return services.memory.read(address, size)


def _word(base: int, offset: int) -> int:
    return ctypes.c_int64.from_address(base + offset).value


_SERVICES: dict[str, Callable[[Services, Any, list[int]], int]] = {
    "vprintf": Services.print,
    "malloc": Services.allocate,
    "free": Services.free,
    "__assertfail": Services.fail,
    "__assert_fail": Services.fail,
}
"""The driver's functions by name: the calling thread and its arguments to the result."""
