"""Which elements a bulk tensor copy moves, and where they lie in shared memory.

Compared with what a GPU copies (an H200). Source: PTX ISA 8.8, section 5.5 (tensors).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tessera.emulator.lanes import Array
from tessera.program.errors import KernelError
from tessera.program.tensor_map import TensorMap

CHUNK = 16
"""Bytes that change places together."""


def elements(m: TensorMap, at: tuple[int, ...], offsets: tuple[int, ...] = ()) -> tuple[Array, Array]:
    """Where the elements of a copy lie in the tensor, in the order in which they lie in shared memory.

    Args:
        m: The tensor map.
        at: Coordinates of the box; with im2col, of the channel and the first pixel.
        offsets: With im2col: what is added to each pixel's coordinates along W, H, D.

    Returns:
        (n,) int64: bytes from the beginning of the tensor; (n,) bool: whether the element lies inside of it.
    """
    coordinates = _pixels(m, at, offsets) if m.im2col is not None else _box(m, at)
    steps = (m.cell, *m.strides)
    place = sum((c * s for c, s in zip(coordinates, steps, strict=True)), np.zeros(1, np.int64))
    inside = np.ones(place.shape, np.bool_)
    for coordinate, size in zip(coordinates, m.sizes, strict=True):
        inside &= (coordinate >= 0) & (coordinate < size)
    return place.reshape(-1), np.broadcast_to(inside, place.shape).reshape(-1)


def _box(m: TensorMap, at: tuple[int, ...]) -> list[Array]:
    """Coordinates by dimension; each array varies along one axis, the first dimension along the last."""
    found = []
    for i, (start, count, step) in enumerate(zip(at, m.copied, m.every, strict=True)):
        shape = [1] * m.rank
        shape[m.rank - 1 - i] = count
        found.append((start + step * np.arange(count)).reshape(shape))
    return found


def _pixels(m: TensorMap, at: tuple[int, ...], offsets: tuple[int, ...]) -> list[Array]:
    """(pixels, channels) coordinates by dimension: pixels run through their box, line after line."""
    im2col = m.im2col
    assert im2col is not None  # noqa: S101 - only called for such maps
    lows = im2col.lower_corner
    ends = [size + high for size, high in zip(m.sizes[1:], im2col.upper_corner, strict=False)]
    now = list(at[1:])
    rows = []
    for _ in range(im2col.pixels):
        rows.append([n + o for n, o in zip(now, (*offsets, 0), strict=True)])
        for axis, (low, end) in enumerate(zip(lows, ends, strict=True)):
            now[axis] += m.every[axis + 1]
            if now[axis] < end:
                break
            now[axis] = low
        else:
            now[-1] += m.every[-1]
    table = np.array(rows, np.int64)
    channels = at[0] + m.every[0] * np.arange(im2col.channels)
    return [channels[None, :], *(table[:, k : k + 1] for k in range(m.rank - 1))]


@lru_cache(256)
def places(swizzle: int, base: int, size: int) -> Array:
    """(size,) int64: where each byte of a box lies in shared memory, for a box that begins at `base`."""
    address = base + np.arange(size, dtype=np.int64)
    if not swizzle:
        return address
    mixed: Array = address ^ (address >> 7 & swizzle // CHUNK - 1) << 4
    return mixed


def filling(m: TensorMap) -> Array:
    """The bytes of an element outside of the tensor; a GPU's NaN is this one, whatever the type's width."""
    return np.tile(np.array([0x7FF7 if m.fill == "nan" else 0], np.uint16).view(np.uint8), m.cell)[: m.cell]


def converted(m: TensorMap, raw: Array) -> Array:
    """Elements as a load leaves them: those of `tf32` are rounded to its precision, ties to even."""
    if m.element not in ("tf32", "tf32_ftz"):
        return raw
    bits = np.ascontiguousarray(raw).view(np.uint32)
    rounded = bits + np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1)) & ~np.uint32(0x1FFF)
    return np.where(bits & 0x7F80_0000 == 0x7F80_0000, bits, rounded).astype(np.uint32).view(np.uint8)


PTX_TYPES = {"u8": "u8", "u16": "u16", "i32": "s32", "i64": "s64", "f32_ftz": "f32", "tf32": "f32",
             "tf32_ftz": "f32"}  # fmt: skip
"""PTX's names of element types, where they are others."""


def check_place(m: TensorMap, at: tuple[int, ...], place: int, *, writes: bool) -> None:
    """Whether a GPU makes a copy there.

    Raises:
        KernelError: It would stop with an illegal instruction, or with a misaligned address.
    """
    if len(at) != m.rank:
        raise KernelError(f"{len(at)} coordinates for a tensor of {m.rank} dimensions")
    if at[0] * m.cell % CHUNK:
        raise KernelError(
            f"coordinate {at[0]} along the first dimension is {at[0] * m.cell} bytes, no multiple of 16",
            hint="begin boxes at multiples of 16 bytes; a GPU stops with an illegal instruction",
        )
    if writes and min(at) < 0:
        raise KernelError(
            f"coordinates {at}: a box that is written does not begin before the tensor",
            hint="negative coordinates are for loads; a GPU stops with an illegal instruction",
        )
    if place % 128:
        raise KernelError(f"the box begins at {place:#x} of shared memory, no multiple of 128")
