"""Tensor maps: how the bulk tensor copies of Hopper GPUs find a box of a tensor in device memory.

A `TensorMap` holds the arguments of `cuTensorMapEncodeTiled`, or of `cuTensorMapEncodeIm2col`, and checks
them as the driver does. What a kernel is given, 128 bytes, each device makes from it in its own way.

Source: CUDA Driver API 13.0, "Tensor Map Object Management".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tessera.program.errors import KernelError

ElementName = Literal["u8", "u16", "u32", "i32", "u64", "i64", "f16", "f32", "f64", "bf16", "f32_ftz", "tf32",
                      "tf32_ftz"]  # fmt: skip
ELEMENTS: dict[str, tuple[int, int]] = {
    "u8": (0, 1), "u16": (1, 2), "u32": (2, 4), "i32": (3, 4), "u64": (4, 8), "i64": (5, 8), "f16": (6, 2),
    "f32": (7, 4), "f64": (8, 8), "bf16": (9, 2), "f32_ftz": (10, 4), "tf32": (11, 4), "tf32_ftz": (12, 4),
}  # fmt: skip
"""The driver's number of each element type, and its bytes."""
INTERLEAVE = {0: 0, 16: 1, 32: 2}
SWIZZLE = {0: 0, 32: 1, 64: 2, 128: 3}
L2_PROMOTION = {0: 0, 64: 1, 128: 2, 256: 3}
FILL = {"zero": 0, "nan": 1}
MAP_BYTES = 128
_CORNERS = {3: 1 << 15, 4: 1 << 7, 5: 1 << 4}
"""By rank: corners of an im2col box lie from minus this to one less than this."""


@dataclass(frozen=True, slots=True)
class Im2col:
    """A box that runs over pixels, as convolutions read them."""

    lower_corner: tuple[int, ...]
    """Where the box of pixels begins along W, H, D, from the tensor's corner; rank - 2 numbers."""
    upper_corner: tuple[int, ...]
    """Where it ends, from the opposite corner."""
    channels: int
    """Elements of each pixel that are copied."""
    pixels: int
    """Pixels that are copied."""


@dataclass(frozen=True, slots=True)
class TensorMap:
    """A box of a tensor in device memory. Dimensions begin with the innermost one.

    Args:
        element: Type of the elements.
        address: Where the tensor begins: a device address.
        sizes: Elements along each of one to five dimensions.
        strides: Bytes from one element to the next along each dimension but the first.
        box: Elements along each dimension that a copy walks over; empty with `im2col`.
        steps: Along each dimension, one of so many elements is copied; empty: all are.
        interleave: 16 or 32: what lies side by side along the first dimension are cells of so many bytes of
            channels, and the last dimension but one counts slices of channels, of which a copy takes one
            (NC/8HWC8, NC/16HWC16); 0: elements lie side by side.
        swizzle: 32, 64 or 128: pieces of 16 bytes change places within rows of so many bytes; 0: none do.
        l2_promotion: 64, 128 or 256: bytes that are fetched at least; 0: no more than needed.
        fill: What elements outside of the tensor are: `zero`, or `nan` for floats.
        im2col: The box, if the copy runs over pixels.

    Raises:
        KernelError: Arguments that the driver would not take.
    """

    element: ElementName
    address: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    interleave: Literal[0, 16, 32] = 0
    swizzle: Literal[0, 32, 64, 128] = 0
    l2_promotion: Literal[0, 64, 128, 256] = 0
    fill: Literal["zero", "nan"] = "zero"
    im2col: Im2col | None = None

    def __post_init__(self) -> None:
        _check_names(self)
        _check_tensor(self)
        if self.im2col is None:
            _check_box(self)
        else:
            _check_pixels(self, self.im2col)

    @property
    def rank(self) -> int:
        """Dimensions."""
        return len(self.sizes)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return ELEMENTS[self.element][1]

    @property
    def cell(self) -> int:
        """Bytes of what lies side by side along the first dimension: an element, or a cell of channels."""
        return self.interleave or self.itemsize

    @property
    def every(self) -> tuple[int, ...]:
        """Along each dimension, one of so many elements is copied. The first always is without interleave."""
        steps = self.steps or (1,) * self.rank
        return steps if self.interleave else (1, *steps[1:])

    @property
    def copied(self) -> tuple[int, ...]:
        """Elements that a copy moves along each dimension; channels and pixels with `im2col`."""
        if self.im2col is not None:
            return self.im2col.channels, self.im2col.pixels
        counts = [-(-b // s) for b, s in zip(self.box, self.every, strict=True)]
        if self.interleave:
            counts[-2] = 1
        return tuple(counts)

    @property
    def bytes(self) -> int:
        """Bytes that a copy moves, those outside of the tensor included: what a barrier has to expect."""
        return math.prod(self.copied) * self.cell


def _refuse(what: str, hint: str = "") -> KernelError:
    return KernelError(f"tensor map: {what}", hint=hint or None)


def _check_names(m: TensorMap) -> None:
    for name, value, known in (
        ("element", m.element, ELEMENTS), ("interleave", m.interleave, INTERLEAVE),
        ("swizzle", m.swizzle, SWIZZLE), ("l2_promotion", m.l2_promotion, L2_PROMOTION),
        ("fill", m.fill, FILL),
    ):  # fmt: skip
        if value not in known:
            raise _refuse(f"{name} {value!r} is not known", f"one of {', '.join(map(str, known))}")
    if m.fill == "nan" and m.element[0] not in "fbt":
        raise _refuse(f"elements outside cannot be NaN in a tensor of {m.element}", "fill='zero'")
    if m.interleave == 32 and m.swizzle != 32:
        raise _refuse(f"interleave 32 goes with swizzle 32 only, not {m.swizzle}")


def _check_tensor(m: TensorMap) -> None:
    rank, unit = m.rank, 32 if m.interleave == 32 else 16
    if not 1 <= rank <= 5 or (rank < 3 and (m.interleave or m.im2col)):
        least = 3 if m.interleave or m.im2col else 1
        raise _refuse(f"a tensor of {rank} dimensions; these have {least} to 5")
    if m.address % unit:
        raise _refuse(f"the tensor begins at {m.address:#x}, which is not a multiple of {unit} bytes")
    if any(not 1 <= n <= 1 << 32 for n in m.sizes):
        raise _refuse(f"sizes {m.sizes}: each is from 1 to 2**32")
    if len(m.strides) != rank - 1:
        raise _refuse(f"{len(m.strides)} strides for {rank} dimensions: all but the first have one")
    if any(s % unit or not 0 <= s < 1 << 40 for s in m.strides):
        raise _refuse(f"strides {m.strides}: each is a multiple of {unit} bytes, below 2**40")
    if m.steps and (len(m.steps) != rank or any(not 1 <= s <= 8 for s in m.steps)):
        raise _refuse(f"steps {m.steps}: there are {rank}, each from 1 to 8")


def _check_box(m: TensorMap) -> None:
    if len(m.box) != m.rank or any(not 1 <= n <= 256 for n in m.box):
        raise _refuse(f"a box of {m.box} elements: {m.rank} numbers, each from 1 to 256")
    inner = m.box[0] * m.itemsize
    if not m.interleave and inner % 16:
        raise _refuse(f"a box {inner} bytes wide: the first dimension's bytes are a multiple of 16")
    _check_width(m, inner)


def _check_width(m: TensorMap, inner: int) -> None:
    if m.swizzle and not m.interleave and inner > m.swizzle:
        raise _refuse(
            f"a box {inner} bytes wide does not fit swizzle {m.swizzle}",
            f"a box of at most {m.swizzle // m.itemsize} elements in the first dimension",
        )


def _check_pixels(m: TensorMap, im2col: Im2col) -> None:
    bound = _CORNERS[m.rank]
    for name, corner in (("lower", im2col.lower_corner), ("upper", im2col.upper_corner)):
        if len(corner) != m.rank - 2 or any(not -bound <= c < bound for c in corner):
            raise _refuse(f"{name} corner {corner}: {m.rank - 2} numbers from {-bound} to {bound - 1}")
    if not 1 <= im2col.channels <= 256 or not 1 <= im2col.pixels <= 1024:
        raise _refuse(f"{im2col.channels} channels of {im2col.pixels} pixels: at most 256 of 1024")
    edges = zip(m.sizes[1:], im2col.lower_corner, im2col.upper_corner, strict=False)
    if any(size + high <= low for size, low, high in edges):
        raise _refuse(f"the box from {im2col.lower_corner} to {im2col.upper_corner} holds no pixel")
    if m.interleave:
        raise _refuse("im2col with interleaved channels is not known here", "interleave=0")
    if m.box:
        raise _refuse("im2col has channels and pixels in place of a box")
    if im2col.channels * m.itemsize % 16:
        raise _refuse(f"{im2col.channels * m.itemsize} bytes of a pixel: a multiple of 16")
    _check_width(m, im2col.channels * m.itemsize)
