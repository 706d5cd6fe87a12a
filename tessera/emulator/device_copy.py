"""Host arrays handed to a kernel: copied to the device for one launch, and back."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Layout:
    """Strides as numba-cuda asks for them."""

    strides_in_bytes: tuple[int, ...]
    is_contiguous_c: bool = True
    """Asked for only if there are no strides: an array without axes."""
    is_contiguous_f: bool = False


class DeviceCopy:
    """A host array's copy in device memory for one launch, with the host's strides.

    Args:
        value: An array, or a scalar of a structured type.
        allocate: Gives device memory of so many bytes; it is freed when the copy goes.
        host_pointer: Gives the address of a scalar.
        copy: Whether the kernel reads what the host array holds.
    """

    def __init__(
        self, value: Any, allocate: Callable[[int], Any], host_pointer: Callable[[Any], int], *, copy: bool
    ) -> None:
        self._value, self._host_pointer = value, host_pointer
        array = np.asanyarray(value)
        low, high = _bounds(array)
        self.shape, self.dtype, self.size = array.shape, array.dtype, array.size
        self._layout = Layout(array.strides)
        self._memory = allocate(high - low) if high > low else None
        self.ptr = 0
        """Device address of the first element."""
        if self._memory is not None:
            first: int = array.__array_interface__["data"][0]
            self.ptr = int(self._memory.device_ctypes_pointer.value) + first - low
            if copy:
                np.copyto(self._on_device(), array, casting="no")

    def _on_device(self) -> np.ndarray[Any, Any]:
        # Device memory is host memory here: an array over it is the device's array.
        spans = [(n - 1) * s for n, s in zip(self.shape, self._layout.strides_in_bytes, strict=True)]
        offset = -sum(min(s, 0) for s in spans)
        size = sum(abs(s) for s in spans) + self.dtype.itemsize
        raw = (ctypes.c_uint8 * size).from_address(self.ptr - offset)
        return np.ndarray(self.shape, self.dtype, raw, offset, self._layout.strides_in_bytes)

    def copy_back(self) -> None:
        """Write what the kernel left to the host array, element by element: others lie between them."""
        if self._memory is None:
            return
        if isinstance(self._value, np.ndarray):
            if self._value.flags.writeable:
                np.copyto(self._value, self._on_device(), casting="no")
        elif isinstance(self._value, np.void):
            ctypes.memmove(self._host_pointer(self._value), self.ptr, self.dtype.itemsize)


def _bounds(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    if not array.size:
        return 0, 0
    low, high = np.lib.array_utils.byte_bounds(array)
    return int(low), int(high)
