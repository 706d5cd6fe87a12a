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
    "f16x2": np.uint32, "bf16x2": np.uint32,
    "b64": np.uint64, "u64": np.uint64, "s64": np.int64, "f64": np.float64,
}  # fmt: skip
"""How NumPy reads the bits of a register under a PTX type."""

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
    return np.array([int(x) * int(y) >> bits for x, y in zip(a, b, strict=True)], dtype=object).astype(
        a.dtype
    )


def wide_product(a: Array, b: Array, kind: str) -> Array:
    """The double-width product."""
    wide = WIDER[kind]
    product: Array = a.astype(wide) * b.astype(wide)
    return product


def truncated_division(a: Array, b: Array) -> Array:
    """Integer division as the hardware does: towards zero; all ones for a zero divisor."""
    safe = np.where(b == 0, 1, b)
    if a.dtype.kind == "u":
        return np.where(b == 0, np.iinfo(a.dtype).max, a // safe).astype(a.dtype)
    quotient = np.abs(a) // np.abs(safe)
    return np.where(b == 0, -1, np.where((a < 0) != (safe < 0), -quotient, quotient)).astype(a.dtype)


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


def minimum(a: Array, b: Array, *, nan: bool) -> Array:
    """`min`: a NaN gives way to the other operand unless `.nan`; -0 is less than +0."""
    if a.dtype.kind != "f":
        return np.minimum(a, b)
    picked = np.minimum(a, b) if nan else np.fmin(a, b)
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a), a, b), picked).astype(a.dtype)


def maximum(a: Array, b: Array, *, nan: bool) -> Array:
    """`max`: a NaN gives way to the other operand unless `.nan`; +0 is greater than -0."""
    if a.dtype.kind != "f":
        return np.maximum(a, b)
    picked = np.maximum(a, b) if nan else np.fmax(a, b)
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a), b, a), picked).astype(a.dtype)


def count_bits(a: Array) -> Array:
    """`popc`."""
    return np.bitwise_count(a).astype(np.uint32)


def leading_zeros(a: Array) -> Array:
    """`clz`."""
    width = a.dtype.itemsize * 8
    return np.array([width - int(x).bit_length() for x in a], np.uint32)


def reverse_bits(a: Array) -> Array:
    """`brev`."""
    width = a.dtype.itemsize * 8
    return np.array([int(format(int(x), f"0{width}b")[::-1], 2) for x in a], a.dtype)


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


def extract_field(a: Array, position: Array, length: Array) -> Array:
    """`bfe`: `length` bits from `position`, sign-extended for signed types."""
    width = a.dtype.itemsize * 8
    signed = a.dtype.kind == "i"
    found = []
    for value, pos, size in zip(a, position, length, strict=True):
        start, count = int(pos) & 255, int(size) & 255
        number = int(value) & (1 << width) - 1
        sign = 0
        if signed and count:
            sign = number >> min(start + count - 1, width - 1) & 1
        field = number >> start & (1 << count) - 1
        kept = max(0, min(count, width - start))
        if sign:
            field |= (1 << width) - (1 << kept)
        found.append(field & (1 << width) - 1)
    return np.array(found, np.uint64).astype(np.dtype(f"u{width // 8}")).view(a.dtype)


def insert_field(a: Array, b: Array, position: Array, length: Array) -> Array:
    """`bfi`: the low `length` bits of `a` put into `b` at `position`."""
    width = a.dtype.itemsize * 8
    found = []
    for value, base, pos, size in zip(a, b, position, length, strict=True):
        start, count = int(pos) & 255, int(size) & 255
        field = ((1 << count) - 1) << start & (1 << width) - 1
        found.append((int(base) & ~field) | (int(value) << start & field))
    return np.array(found, np.uint64).astype(a.dtype)


def highest_bit(a: Array, *, shift_amount: bool) -> Array:
    """`bfind`: position of the most significant bit that is not the sign; all ones if none."""
    width = a.dtype.itemsize * 8
    found = []
    for value in a:
        number = int(value)
        number = ~number if number < 0 else number
        position = number.bit_length() - 1
        found.append(0xFFFFFFFF if position < 0 else width - 1 - position if shift_amount else position)
    return np.array(found, np.uint32)


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

ATOMIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda old, new: old + new,
    "and": lambda old, new: old & new,
    "or": lambda old, new: old | new,
    "xor": lambda old, new: old ^ new,
    "min": min,
    "max": max,
    "exch": lambda _, new: new,
    "inc": lambda old, limit: type(old)(0) if old >= limit else old + type(old)(1),
    "dec": lambda old, limit: limit if old == 0 or old > limit else old - type(old)(1),
}
"""`atom` and `red`: old value and operand to new value."""


def bf16_to_f32(bits: Array) -> Array:
    """The float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(values: Array, *, towards_zero: bool = False) -> Array:
    """The bfloat16 bits of float32 values, rounded to nearest even (or towards zero); NaN is 0x7fff."""
    bits = values.astype(np.float32).view(np.uint32)
    if not towards_zero:
        bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.where(np.isnan(values), 0x7FFF, bits >> np.uint32(16)).astype(np.uint16)
