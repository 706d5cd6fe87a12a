"""What PTX instructions compute, lane by lane, in NumPy: the tables of the lockstep interpreter.

Registers hold bits; an instruction's type says how to read them. Every function here takes and returns
arrays with one element per thread.

Source: PTX ISA 8.8, chapter 9.7.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BITS: dict[str, Any] = {
    "pred": np.bool_, "b1": np.bool_,
    "b8": np.uint8, "u8": np.uint8, "s8": np.int8,
    "b16": np.uint16, "u16": np.uint16, "s16": np.int16, "f16": np.float16, "bf16": np.uint16,
    "b32": np.uint32, "u32": np.uint32, "s32": np.int32, "f32": np.float32, "tf32": np.float32,
    "f16x2": np.uint32, "bf16x2": np.uint32, "u16x2": np.uint32, "s16x2": np.uint32,
    "b64": np.uint64, "u64": np.uint64, "s64": np.int64, "f64": np.float64, "b128": "V16",
}  # fmt: skip
"""How NumPy reads the bits of a register under a PTX type."""


def unsigned(size: int) -> np.dtype[Any]:
    """The type of the bits of a value of `size` bytes; NumPy has no 16-byte integer, only raw bytes."""
    return np.dtype("V16" if size == 16 else f"u{size}")


WIDER: dict[str, Any] = {
    "u16": np.uint32, "s16": np.int32, "u32": np.uint64, "s32": np.int64,
}  # fmt: skip
"""Result type of `mul.wide`."""


def flush(values: Array, *, ftz: bool) -> Array:
    """Subnormal float32 values made zeros of the same sign, where `.ftz` asks for it."""
    if not ftz or values.dtype != np.float32:
        return values
    tiny = np.abs(values) < np.float32(2.0**-126)
    return np.where(tiny, np.copysign(np.float32(0), values), values)


def saturate(values: Array) -> Array:
    """`.sat`: clipped to 0 … 1; NaN and -0 become +0."""
    return np.where(values > 0, np.minimum(values, 1), 0).astype(values.dtype)


def fma(a: Array, b: Array, c: Array) -> Array:
    """`a*b + c` rounded once, to nearest even. Exact for float32 and float64.

    Source: S. Boldo, G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using
    rounding to odd", IEEE Transactions on Computers 57(4), 2008.
    """
    if a.dtype == np.float64:
        return np.array(
            [_libm_fma(float(x), float(y), float(z)) for x, y, z in zip(a, b, c, strict=True)], np.float64
        )
    product = a.astype(np.float64) * b.astype(np.float64)
    return odd_sum(product, c.astype(np.float64)).astype(a.dtype)


def odd_sum(first: Array, second: Array) -> Array:
    """The float64 sum rounded to odd: inexact results have their last bit set, so that rounding them
    once more to a shorter type gives what rounding the exact sum would have given.
    """
    total = first + second
    back = total - first
    error = (first - (total - back)) + (second - back)
    bits = total.view(np.int64)
    inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    away = (error > 0) == (total > 0)
    return np.where(inexact, np.where(away, bits + 1, bits - 1), bits).view(np.float64)


_LIBM = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
_LIBM.fma.restype = ctypes.c_double
_LIBM.fma.argtypes = [ctypes.c_double] * 3


def _libm_fma(x: float, y: float, z: float) -> float:
    return float(_LIBM.fma(x, y, z))


def high_product(a: Array, b: Array) -> Array:
    """The upper half of the double-width product."""
    bits = a.dtype.itemsize * 8
    if bits < 64:
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        product = a.astype(wide) * b.astype(wide)
        upper: Array = (product >> wide(bits)).astype(a.dtype)
        return upper
    low, half = np.uint64(0xFFFF_FFFF), np.uint64(32)
    x, y = a.view(np.uint64), b.view(np.uint64)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    high = x1 * y1 + (middle >> half) + ((x0 * y1 + (middle & low)) >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, 0).astype(np.uint64) - np.where(b < 0, x, 0).astype(np.uint64)
    signed_high: Array = high.view(a.dtype)
    return signed_high


def saturating(operation: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    """A sum or difference of integers of at most 32 bits, clipped to their range."""
    limits = np.iinfo(a.dtype)
    exact = operation(a.astype(np.int64), b.astype(np.int64))
    return np.clip(exact, limits.min, limits.max).astype(a.dtype)


def wide_product(a: Array, b: Array, kind: str) -> Array:
    """The double-width product."""
    wide = WIDER[kind]
    product: Array = a.astype(wide) * b.astype(wide)
    return product


def truncated_division(a: Array, b: Array) -> Array:
    """Integer division as the hardware does: towards zero; all ones for a zero divisor."""
    safe = np.where(b == 0, 1, b).astype(a.dtype)
    floor = a // safe
    if a.dtype.kind == "i":
        floor += ((a != floor * safe) & ((a < 0) != (safe < 0))).astype(a.dtype)
    ones = -1 if a.dtype.kind == "i" else np.iinfo(a.dtype).max
    return np.where(b == 0, ones, floor).astype(a.dtype)


def shift_left(a: Array, amount: Array) -> Array:
    """`shl`: amounts beyond the width give 0."""
    width = a.dtype.itemsize * 8
    by = amount.astype(np.uint64)
    shifted = a << np.minimum(by, width - 1).astype(a.dtype)
    return np.where(by >= width, 0, shifted).astype(a.dtype)


def shift_right(a: Array, amount: Array) -> Array:
    """`shr`: amounts beyond the width give 0, or copies of the sign for signed types."""
    width = a.dtype.itemsize * 8
    by = amount.astype(np.uint64)
    shifted = a >> np.minimum(by, width - 1).astype(a.dtype)
    if a.dtype.kind == "i":
        signed: Array = shifted
        return signed
    return np.where(by >= width, 0, shifted).astype(a.dtype)


def _number(a: Array, b: Array, picked: Array) -> Array:
    """`picked`, but the other operand where one is NaN. NumPy's `fmin` does not say so of signalling NaN."""
    return np.where(np.isnan(b), a, np.where(np.isnan(a), b, picked))


def minimum(a: Array, b: Array, *, nan: bool) -> Array:
    """`min`: a NaN gives way to the other operand unless `.nan`; -0 is less than +0."""
    if a.dtype.kind != "f":
        return np.minimum(a, b)
    picked = np.minimum(a, b) if nan else _number(a, b, np.where(a < b, a, b))
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a), a, b), picked).astype(a.dtype)


def maximum(a: Array, b: Array, *, nan: bool) -> Array:
    """`max`: a NaN gives way to the other operand unless `.nan`; +0 is greater than -0."""
    if a.dtype.kind != "f":
        return np.maximum(a, b)
    picked = np.maximum(a, b) if nan else _number(a, b, np.where(a > b, a, b))
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a), b, a), picked).astype(a.dtype)


def count_bits(a: Array) -> Array:
    """`popc`."""
    return np.bitwise_count(a).astype(np.uint32)


def bit_length(a: Array) -> Array:
    """Bits up to the highest that is set, of unsigned integers."""
    smeared = a.copy()
    shift = 1
    while shift < a.dtype.itemsize * 8:
        smeared |= smeared >> a.dtype.type(shift)
        shift *= 2
    return np.bitwise_count(smeared).astype(np.uint32)


def leading_zeros(a: Array) -> Array:
    """`clz`."""
    return np.uint32(a.dtype.itemsize * 8) - bit_length(a)


def reverse_bits(a: Array) -> Array:
    """`brev`."""
    raw = np.ascontiguousarray(a).view(np.uint8).reshape(a.size, -1)
    mirrored = np.packbits(np.unpackbits(raw, axis=1, bitorder="little"), axis=1, bitorder="big")
    return np.ascontiguousarray(mirrored[:, ::-1]).view(a.dtype)[:, 0]


PERMUTE_MODES: dict[str, Array] = {
    "f4e": np.array([0x3210, 0x4321, 0x5432, 0x6543], np.uint32),
    "b4e": np.array([0x5670, 0x6701, 0x7012, 0x0123], np.uint32),
    "rc8": np.array([0x0000, 0x1111, 0x2222, 0x3333], np.uint32),
    "ecl": np.array([0x3210, 0x3211, 0x3222, 0x3333], np.uint32),
    "ecr": np.array([0x0000, 0x1110, 0x2210, 0x3210], np.uint32),
    "rc16": np.array([0x1010, 0x3232, 0x1010, 0x3232], np.uint32),
}
"""The default-mode selector that each `prmt` mode stands for, by the low two bits of its own."""


def permute_bytes(a: Array, b: Array, selector: Array) -> Array:
    """`prmt` in its default mode: four bytes picked out of eight, each perhaps as its sign."""
    source = (b.astype(np.uint64) << np.uint64(32)) | a.astype(np.uint64)
    result = np.zeros(a.shape, np.uint64)
    for i in range(4):
        control = (selector.astype(np.uint64) >> np.uint64(4 * i)) & np.uint64(15)
        byte = (source >> ((control & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
        sign = np.where(byte >> np.uint64(7) != 0, np.uint64(255), np.uint64(0))
        result |= np.where(control & np.uint64(8) != 0, sign, byte) << np.uint64(8 * i)
    return result.astype(np.uint32)


def logic3(a: Array, b: Array, c: Array, table: int) -> Array:
    """`lop3`: bit `4a+2b+c` of `table`, for every bit."""
    result = np.zeros_like(a)
    for row in range(8):
        if table >> row & 1:
            term = (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
            result |= term
    return result


def _field(width: int, position: Array, length: Array) -> tuple[Array, Array]:
    """Start and mask (uint64) of bit fields; positions and lengths count modulo 256."""
    start = position.astype(np.uint64) & np.uint64(255)
    count = length.astype(np.uint64) & np.uint64(255)
    full = np.uint64(0xFFFF_FFFF_FFFF_FFFF >> 64 - width)
    ones = np.where(count >= 64, full, (np.uint64(1) << np.minimum(count, np.uint64(63))) - np.uint64(1))
    return start, ones & full


def extract_field(a: Array, position: Array, length: Array) -> Array:
    """`bfe`: `length` bits from `position`, sign-extended for signed types."""
    width = a.dtype.itemsize * 8
    raw = a.view(unsigned(a.dtype.itemsize)).astype(np.uint64)
    start, ones = _field(width, position, length)
    field = np.where(start >= width, 0, raw >> np.minimum(start, np.uint64(63))).astype(np.uint64) & ones
    if a.dtype.kind == "i":
        count = length.astype(np.uint64) & np.uint64(255)
        top = np.minimum(start + count - np.uint64(1), np.uint64(width - 1))
        sign = (count != 0) & (raw >> (top & np.uint64(63)) & np.uint64(1) != 0)
        kept = np.minimum(count, np.where(start >= width, 0, np.uint64(width) - start).astype(np.uint64))
        _, low = _field(width, position, kept)
        field = np.where(sign, field | ~low, field)
    return field.astype(unsigned(a.dtype.itemsize)).view(a.dtype)


def insert_field(a: Array, b: Array, position: Array, length: Array) -> Array:
    """`bfi`: the low `length` bits of `a` put into `b` at `position`."""
    width = a.dtype.itemsize * 8
    start, ones = _field(width, position, length)
    by = np.minimum(start, np.uint64(63))
    inside = np.where(start >= width, 0, ones << by).astype(np.uint64)
    fresh = a.astype(np.uint64) << by
    return ((b.astype(np.uint64) & ~inside) | (fresh & inside)).astype(a.dtype)


def highest_bit(a: Array, *, shift_amount: bool) -> Array:
    """`bfind`: position of the most significant bit that is not the sign; all ones if none."""
    width = a.dtype.itemsize * 8
    magnitude = np.where(a < 0, ~a, a).astype(a.dtype) if a.dtype.kind == "i" else a
    position = bit_length(magnitude.view(unsigned(a.dtype.itemsize))).astype(np.int64) - 1
    return np.where(position < 0, 0xFFFF_FFFF, width - 1 - position if shift_amount else position).astype(
        np.uint32
    )


def approximate(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A float32 function computed in float64 and rounded once: closer than any `.approx` needs to be."""

    def compute(values: Array) -> Array:
        return function(values.astype(np.float64)).astype(values.dtype)

    return compute


UNARY: dict[str, Callable[[Array], Array]] = {
    "neg": np.negative,
    "abs": np.abs,
    "not": lambda a: ~a if a.dtype != np.bool_ else np.logical_not(a),
    "cnot": lambda a: (a == 0).astype(a.dtype),
    "popc": count_bits,
    "clz": leading_zeros,
    "brev": reverse_bits,
    "rcp": lambda a: (1 / a.astype(np.float64)).astype(a.dtype) if a.dtype == np.float32 else 1 / a,
    "sqrt": np.sqrt,
    "rsqrt": approximate(lambda a: 1 / np.sqrt(a)),
    "ex2": approximate(np.exp2),
    "lg2": approximate(np.log2),
    "sin": approximate(np.sin),
    "cos": approximate(np.cos),
    "tanh": approximate(np.tanh),
}
"""One operand, one result of its type (`popc` and `clz`: u32)."""

COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": lambda a, b: (a != b) & ~_unordered(a, b), "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater,
    "hs": np.greater_equal,
    "equ": lambda a, b: (a == b) | _unordered(a, b), "neu": lambda a, b: (a != b) | _unordered(a, b),
    "ltu": lambda a, b: (a < b) | _unordered(a, b), "leu": lambda a, b: (a <= b) | _unordered(a, b),
    "gtu": lambda a, b: (a > b) | _unordered(a, b), "geu": lambda a, b: (a >= b) | _unordered(a, b),
    "num": lambda a, b: ~_unordered(a, b), "nan": lambda a, b: _unordered(a, b),
}  # fmt: skip
"""`setp` comparisons."""


def _unordered(a: Array, b: Array) -> Array:
    if a.dtype.kind != "f":
        return np.zeros(a.shape, np.bool_)
    return np.isnan(a) | np.isnan(b)


LOGIC: dict[str, Callable[[Array, Array], Array]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}

ROUND: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil,
}  # fmt: skip
"""`cvt` roundings to an integer."""


def bf16_to_f32(bits: Array) -> Array:
    """The float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
