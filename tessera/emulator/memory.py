"""Device memory: one reserved range of addresses, allocations with gaps between them, and their table.

Device addresses are host addresses, so compiled code uses them as they are. It checks each against the
table first: an access is good only inside one allocation.
"""

from __future__ import annotations

import bisect
import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.errors import DeviceError, KernelError, OutOfMemoryError

ALIGNMENT = 256
RED_ZONE = 256
"""Bytes at least between two allocations, so that running over the end of one does not hit the next."""
DEFAULT_BYTES = 4 << 30
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


@dataclass(slots=True)
class Allocation:
    """A range of device memory that kernels may access."""

    address: int
    size: int
    name: str = ""
    """What it holds, for messages."""


class Memory:
    """Allocates, frees, reads and writes device memory.

    Args:
        size: Bytes of address space to reserve. Pages take real memory when they are first written.
    """

    red_zone = RED_ZONE
    """Bytes at least between two allocations."""

    def __init__(self, size: int = DEFAULT_BYTES) -> None:
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._base, self._end = start, start + size
        self._free: list[tuple[int, int]] = [(start + RED_ZONE, size - RED_ZONE)]
        """Address and size of each gap, by address."""
        self._addresses: list[int] = []
        self._allocations: dict[int, Allocation] = {}
        self._reserved: dict[int, int] = {}
        self.used = 0
        """Bytes allocated."""

    def alloc(self, size: int, name: str = "") -> int:
        """Address of `size` bytes of zeros, 256-byte aligned.

        Raises:
            OutOfMemoryError: No gap is that large.
        """
        if size < 0:
            raise DeviceError(f"cannot allocate {size} bytes")
        needed = -(-(max(size, 1) + self.red_zone) // ALIGNMENT) * ALIGNMENT
        for i, (start, length) in enumerate(self._free):
            address = -(-start // ALIGNMENT) * ALIGNMENT
            if address + needed <= start + length:
                rest = start + length - address - needed
                self._free[i : i + 1] = [(address + needed, rest)] if rest else []
                self._reserved[address] = needed
                self._add(Allocation(address, size, name))
                self.used += size
                return address
        raise OutOfMemoryError(
            f"{size} bytes of device memory asked for; {self.used} of {self._end - self._base} are in use",
            hint="free memory first, or make the Emulator with a larger memory_bytes",
        )

    def free(self, address: int) -> None:
        """Give an allocation back.

        Raises:
            DeviceError: No allocation begins there.
        """
        allocation = self._allocations.get(address)
        if allocation is None or address not in self._reserved:
            raise DeviceError(f"{address:#x} is not the start of an allocation")
        self._remove(address)
        self.used -= allocation.size
        size = self._reserved.pop(address)
        ctypes.memset(address, 0, allocation.size)
        bisect.insort(self._free, (address, size))
        merged: list[tuple[int, int]] = []
        for start, length in self._free:
            if merged and merged[-1][0] + merged[-1][1] == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self._free = merged

    def write(self, address: int, values: bytes | np.ndarray[Any, Any]) -> None:
        """Copy bytes or an array to device memory.

        Raises:
            DeviceError: The range does not lie inside one allocation.
        """
        if isinstance(values, bytes):
            self._must_hold(address, len(values))
            ctypes.memmove(address, values, len(values))
            return
        source = np.ascontiguousarray(values)
        self._must_hold(address, source.nbytes)
        ctypes.memmove(address, source.ctypes.data, source.nbytes)

    def read(self, address: int, size: int) -> bytes:
        """Copy of device memory.

        Raises:
            DeviceError: The range does not lie inside one allocation.
        """
        self._must_hold(address, size)
        return ctypes.string_at(address, size)

    def _must_hold(self, address: int, size: int) -> None:
        found = self.at(address)
        if found is None or address + size > found.address + found.size:
            raise DeviceError(
                f"{size} bytes at {address:#x} do not lie inside one allocation: {self.describe(address)}"
            )

    # -- the table ------------------------------------------------------------------------------

    @contextmanager
    def borrowed(
        self, arrays: list[tuple[np.ndarray[Any, Any], str]], alignment: int = 16
    ) -> Iterator[list[int]]:
        """Let kernels access arrays of the host, where they lie if they can; gives their addresses.

        Arrays that are not contiguous, not writable, not aligned to `alignment` bytes, or that overlap
        others, are copied in, and back out at the end.

        Raises:
            KernelError: A kernel wrote an array that is not writable.
        """
        addresses: list[int] = []
        added: list[int] = []
        copies: list[tuple[int, np.ndarray[Any, Any]]] = []
        known: dict[tuple[int, Any, Any, Any], int] = {}
        try:
            for array, name in arrays:
                key = (array.ctypes.data, array.shape, array.strides, array.dtype)
                if key not in known:
                    known[key] = self._borrow(array, name, alignment, added, copies)
                addresses.append(known[key])
            yield addresses
            for address, array in copies:
                if array.nbytes:
                    held = (ctypes.c_char * array.nbytes).from_address(address)
                    after = np.frombuffer(memoryview(held), array.dtype).reshape(array.shape)
                    if array.flags.writeable:
                        array[...] = after
                    elif after.tobytes() != array.tobytes():
                        name = next(n for a, n in arrays if a is array)
                        raise KernelError(
                            f"the kernel wrote {name}, an array that is read-only",
                            hint="pass a copy: numpy.array(x)",
                        )
        finally:
            for address in added:
                self._remove(address)
            for address, _ in copies:
                self.free(address)

    def _borrow(
        self,
        array: np.ndarray[Any, Any],
        name: str,
        alignment: int,
        added: list[int],
        copies: list[tuple[int, np.ndarray[Any, Any]]],
    ) -> int:
        address, size = int(array.ctypes.data), array.nbytes
        aligned = address % alignment == 0
        direct = array.flags.c_contiguous and array.flags.writeable and aligned and size > 0
        if direct and not self._overlaps(address - 16, size + 32):
            self._add(Allocation(address, size, name))
            added.append(address)
            return address
        copied = self.alloc(size, name)
        self.write(copied, array)
        copies.append((copied, array))
        return copied

    def _overlaps(self, address: int, size: int) -> bool:
        i = bisect.bisect_right(self._addresses, address + size - 1) - 1
        if i < 0:
            return False
        below = self._allocations[self._addresses[i]]
        return below.address + below.size > address

    def _add(self, allocation: Allocation) -> None:
        bisect.insort(self._addresses, allocation.address)
        self._allocations[allocation.address] = allocation

    def _remove(self, address: int) -> None:
        self._addresses.remove(address)
        del self._allocations[address]

    def table(self) -> np.ndarray[Any, Any]:
        """(allocations, 2) uint64: address and size, by address; what compiled code searches."""
        rows = [(a, self._allocations[a].size) for a in self._addresses]
        return np.array(rows, np.uint64).reshape(len(rows), 2)

    def at(self, address: int) -> Allocation | None:
        """The allocation that begins at or below `address` and ends above it."""
        i = bisect.bisect_right(self._addresses, address) - 1
        if i < 0:
            return None
        below = self._allocations[self._addresses[i]]
        return below if address < below.address + max(below.size, 1) else None

    def describe(self, address: int) -> str:
        """Where an address lies, in words: inside, past or before the nearest allocation."""
        i = bisect.bisect_right(self._addresses, address) - 1
        nearby = [self._allocations[a] for a in self._addresses[max(i, 0) : i + 2]]
        if not nearby:
            return "nothing is allocated"
        nearest = min(nearby, key=lambda a: min(abs(address - a.address), abs(address - a.address - a.size)))
        name = f"{nearest.name} " if nearest.name else "an allocation "
        what = f"{name}of {nearest.size} bytes at {nearest.address:#x}"
        if address >= nearest.address + nearest.size:
            return f"{address - nearest.address - nearest.size} bytes past the end of {what}"
        if address < nearest.address:
            return f"{nearest.address - address} bytes before {what}"
        return f"{address - nearest.address} bytes into {what}"
