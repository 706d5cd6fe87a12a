"""Tensor maps as the emulator's kernels are given them: 128 bytes.

What `cuTensorMapEncodeTiled` writes is known to GPUs only. This encoding is the emulator's own: the
address, a mark, what is chosen from tables, sizes, box, strides, steps, and the corners of an im2col box.
"""

from __future__ import annotations

import struct

from tessera.program.errors import KernelError
from tessera.program.tensor_map import ELEMENTS, FILL, INTERLEAVE, MAP_BYTES, SWIZZLE, Im2col, TensorMap

MARK = 0x7E5A
_FORM = struct.Struct("<QHBBBBBB5I5I4Q5B3x3h3h")


def encode_tensor_map(m: TensorMap) -> bytes:
    """The bytes that a kernel of the emulator takes for a tensor map; a size of 2**32 is kept as 0."""
    pixels = m.im2col
    box = (pixels.channels, pixels.pixels) if pixels else m.box
    low, high = (pixels.lower_corner, pixels.upper_corner) if pixels else ((), ())
    raw = _FORM.pack(
        m.address, MARK, m.rank, ELEMENTS[m.element][0], INTERLEAVE[m.interleave], SWIZZLE[m.swizzle],
        FILL[m.fill], int(pixels is not None), *(n & 0xFFFF_FFFF for n in _to(m.sizes, 5)), *_to(box, 5),
        *_to(m.strides, 4), *_to(m.steps or (1,) * m.rank, 5), *_to(low, 3), *_to(high, 3),
    )  # fmt: skip
    return raw.ljust(MAP_BYTES, b"\0")


def decode(raw: bytes) -> TensorMap:
    """The tensor map in these bytes.

    Raises:
        KernelError: They are none, or what a kernel changed in it makes it one that no GPU takes.
    """
    address, mark, rank, element, interleave, swizzle, fill, pixels, *rest = _FORM.unpack_from(raw)
    if mark != MARK or not 1 <= rank <= 5:
        raise KernelError(
            "this is no tensor map", hint="pass a tessera.emulator.TensorMap for a 128-byte parameter"
        )
    sizes, box, strides = rest[:5], rest[5:10], rest[10:14]
    steps, low, high = rest[14:19], rest[19:22], rest[22:25]
    spatial = rank - 2
    names = {number: name for name, (number, _) in ELEMENTS.items()}
    return TensorMap(
        names[element],  # type: ignore[arg-type]
        address,
        tuple(n or 1 << 32 for n in sizes[:rank]),
        tuple(strides[: rank - 1]),
        () if pixels else tuple(box[:rank]),
        tuple(steps[:rank]),
        _key(INTERLEAVE, interleave),  # type: ignore[arg-type]
        _key(SWIZZLE, swizzle),  # type: ignore[arg-type]
        fill="nan" if fill else "zero",
        im2col=Im2col(tuple(low[:spatial]), tuple(high[:spatial]), box[0], box[1]) if pixels else None,
    )


def _to(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    return (*numbers, *(0,) * (count - len(numbers)))


def _key(table: dict[int, int], number: int) -> int:
    return next((key for key, value in table.items() if value == number), 0)
