"""Memory of the emulated device, at addresses that the host can use too.

The arena is mapped where the interpreter's device addresses begin, so that a device address is a host
address: managed and pinned memory need no copies.
"""

from __future__ import annotations

import bisect
import ctypes
import mmap
from collections import defaultdict

import numpy as np

from tessera.emulator.instructions import GLOBAL_BASE
from tessera.emulator.lanes import Array
from tessera.emulator.machine import RED_ZONE, Memory
from tessera.program.errors import DeviceError

CAPACITY = 16 << 30
"""Bytes of address space; a page takes real memory once it is written."""
GRANULE = 256
_MAP_NORESERVE, _MAP_FIXED_NOREPLACE = 0x4000, 0x100000
_MADV_DONTNEED = 4


def _map(address: int, size: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED_NOREPLACE
    found: int = libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    return found == address


class Arena(Memory):
    """Device memory that stays where it is; one per process.

    Raises:
        DeviceError: The operating system does not give the addresses.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if not _map(GLOBAL_BASE, capacity):
            raise DeviceError(
                f"{capacity} bytes of address space at {GLOBAL_BASE:#x} cannot be had: "
                f"{ctypes.get_errno() or 'in use'}",
                hint="the emulated device needs 64-bit Linux, and overcommitted memory allowed",
            )
        self.data = np.ctypeslib.as_array((ctypes.c_uint8 * capacity).from_address(GLOBAL_BASE))
        self.top = RED_ZONE
        self.ranges: list[tuple[int, int]] = []
        self.capacity = capacity
        self.base = GLOBAL_BASE
        self.used = 0
        self._spare: dict[int, list[int]] = defaultdict(list)
        self._bounds: tuple[Array, Array] | None = None

    def allocate(self, size: int) -> int:
        """Device address of `size` bytes, 256-byte aligned.

        Raises:
            MemoryError: The device has not so many left.
        """
        room = -(-(max(size, 1) + RED_ZONE) // GRANULE) * GRANULE
        if self.top + room <= self.capacity:
            start = self.top
            self.top += room
        elif self._spare[room]:
            # Freed addresses come back only when there are no others: use after free is seen for long.
            start = self._spare[room].pop(0)
        else:
            raise MemoryError(f"{size} bytes of device memory, {self.capacity - self.top} are left")
        bisect.insort(self.ranges, (start, start + size))
        self.used += size
        self._bounds = None
        return GLOBAL_BASE + start

    def free(self, address: int) -> None:
        """Give an allocation back.

        Raises:
            DeviceError: No allocation begins there.
        """
        if address == 0:
            return
        start = address - GLOBAL_BASE
        index = bisect.bisect_left(self.ranges, (start, 0))
        if index == len(self.ranges) or self.ranges[index][0] != start:
            raise DeviceError(f"free of {address:#x}, where no allocation begins")
        size = self.ranges.pop(index)[1] - start
        self.used -= size
        self._bounds = None
        room = -(-(max(size, 1) + RED_ZONE) // GRANULE) * GRANULE
        self._spare[room].append(start)
        first = -(-(start) // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = (start + size) // mmap.PAGESIZE * mmap.PAGESIZE - first
        if whole > 0:
            # Real memory goes back to the system at once.
            libc = ctypes.CDLL(None)
            libc.madvise(ctypes.c_void_p(GLOBAL_BASE + first), ctypes.c_size_t(whole), _MADV_DONTNEED)

    def range_of(self, address: int) -> tuple[int, int]:
        """First address and size of the allocation that holds an address.

        Raises:
            DeviceError: None does.
        """
        offset = address - GLOBAL_BASE
        index = bisect.bisect_right(self.ranges, (offset, self.capacity)) - 1
        if index < 0 or not self.ranges[index][0] <= offset < max(*self.ranges[index], 1):
            raise DeviceError(f"{address:#x} is in no allocation")
        start, end = self.ranges[index]
        return GLOBAL_BASE + start, end - start

    def holds(self, address: int) -> bool:
        """Whether an address is one of the device's."""
        return GLOBAL_BASE <= address < GLOBAL_BASE + self.capacity

    def allocated(self, offsets: Array, size: int) -> Array:
        """Whether each range of `size` bytes lies inside one allocation."""
        if not self.ranges:
            return np.zeros(offsets.shape, np.bool_)
        if self._bounds is None:
            both = np.array(self.ranges, np.int64)
            self._bounds = both[:, 0].copy(), both[:, 1].copy()
        starts, ends = self._bounds
        index = np.searchsorted(starts, offsets, side="right") - 1
        return (index >= 0) & (offsets + size <= ends[np.maximum(index, 0)])
