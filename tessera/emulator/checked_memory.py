"""Device memory of the compiled engine while a sanitizer watches: wide gaps, and every array known."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from tessera.emulator import machine
from tessera.emulator.instructions import GLOBAL_BASE
from tessera.emulator.memory import Memory
from tessera.emulator.sanitizer import GAP, Sanitizer

Array = np.ndarray[Any, Any]
RESERVED = 64 << 30
"""Bytes of address space; a page takes real memory once it is written."""
_ADDRESSES = 1 << 47
"""Where the addresses of a process end."""


class CheckedMemory(Memory):
    """Device memory that tells a sanitizer what is allocated and written.

    Arrays of the host are used where they lie only if nothing else is near: an access behind the end of one
    must not hit another.

    Args:
        sanitizer: What is told.
        size: Bytes of address space to reserve.
    """

    red_zone = GAP

    def __init__(self, sanitizer: Sanitizer, size: int = RESERVED) -> None:
        super().__init__(size)
        self._sanitizer = sanitizer

    def alloc(self, size: int, name: str = "") -> int:
        """Address of `size` bytes whose contents are arbitrary, 256-byte aligned.

        Raises:
            OutOfMemoryError: No gap is that large.
        """
        address = super().alloc(size, name)
        self._sanitizer.forget(address, address + size)
        self._sanitizer.allocated(address, size, name or None)
        return address

    def free(self, address: int) -> None:
        """Make an allocation unusable.

        Raises:
            DeviceError: No allocation begins there.
        """
        super().free(address)
        self._sanitizer.freed(address)

    def discard(self, address: int) -> None:
        """Give an allocation back; its addresses mean nothing any more.

        Raises:
            DeviceError: No allocation begins there.
        """
        size = max(self._allocations[address].size, 1) if address in self._allocations else 1
        super().free(address)
        self._sanitizer.forget(address, address + size)

    def write(self, address: int, values: bytes | Array) -> None:
        """Copy bytes or an array to device memory.

        Raises:
            DeviceError: The range does not lie inside one allocation.
        """
        super().write(address, values)
        self._sanitizer.host_wrote(address, len(values) if isinstance(values, bytes) else values.nbytes)

    def _borrow(
        self, array: Array, name: str, alignment: int, added: list[int], copies: list[tuple[int, Array]]
    ) -> int:
        address = super()._borrow(array, name, alignment, added, copies)
        if added and added[-1] == address:
            self._sanitizer.allocated(address, array.nbytes, name)
            self._sanitizer.host_wrote(address, array.nbytes)
        self._sanitizer.describe(address, name, itemsize=array.itemsize, shape=array.shape)
        return address

    def _overlaps(self, address: int, size: int) -> bool:
        return super()._overlaps(address - GAP, size + 2 * GAP)

    def _remove(self, address: int) -> None:
        size = self._allocations[address].size
        super()._remove(address)
        if address not in self._reserved:
            self._sanitizer.forget(address, address + size)


class HostView(machine.Memory):
    """The same memory as the interpreter sees it: device addresses are host addresses.

    Args:
        memory: Where functions of a kernel allocate.
    """

    def __init__(self, memory: CheckedMemory) -> None:
        self._memory = memory
        size = _ADDRESSES - GLOBAL_BASE
        self.data = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(GLOBAL_BASE))
        self.top = 0
        self.ranges = []

    def allocate(self, size: int) -> int:
        """Device address of `size` bytes whose contents are arbitrary."""
        return self._memory.alloc(size)

    def free(self, address: int) -> None:
        """Make an allocation unusable.

        Raises:
            DeviceError: No allocation begins there.
        """
        if address:
            self._memory.free(address)

    def view(self, address: int, size: int) -> Array:
        """(size,) uint8: the bytes themselves."""
        start = address - GLOBAL_BASE
        return self.data[start : start + size]
