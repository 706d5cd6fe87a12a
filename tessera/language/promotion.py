"""Which dtype comes out when operands of several dtypes meet.

NumPy's rules, extended to the dtypes that NumPy lacks; Python numbers are weak
(NEP 50): they take the dtype of the tensor they meet. Written as tables, because
NumPy itself refuses to mix bfloat16 with most of its own types.
"""

from __future__ import annotations

from tessera.program.dtype import DType, bf16, bool_, f8e4m3, f8e5m2, f16, f32, f64, i16, i64, tf32
from tessera.program.errors import SpecError

Number = bool | int | float
"""A Python number."""

_FLOAT_PAIRS: dict[frozenset[DType], DType] = {
    frozenset({f8e4m3, f8e5m2}): f16,
    frozenset({f16, bf16}): f32,
}
"""Pairs of floats where neither holds every value of the other."""

_FLOAT_ORDER: tuple[DType, ...] = (f8e4m3, f8e5m2, f16, bf16, tf32, f32, f64)
"""Every other pair of floats meets in the later one."""

_FLOAT_OF_INT_BITS: dict[int, DType] = {8: f16, 16: f32, 32: f64, 64: f64}
"""The smallest float that NumPy takes to hold an integer of so many bits."""


def promote(a: DType, b: DType) -> DType:
    """The dtype in which an `a` and a `b` are combined.

    Source: `numpy.result_type`. bf16 stands beside f16, tf32 beside f32; f16 with bf16 is f32,
    and f8e4m3 with f8e5m2, or f8 with an integer of 8 bits, is f16.
    """
    if a == b or b == bool_:
        return a
    if a == bool_:
        return b
    if a.is_float and b.is_float:
        return _FLOAT_PAIRS.get(frozenset({a, b})) or max(a, b, key=_FLOAT_ORDER.index)
    if a.is_float or b.is_float:
        number, integer = (a, b) if a.is_float else (b, a)
        needed = _FLOAT_OF_INT_BITS[integer.bits]
        # An 8-bit integer fits the 11 bits of f16; bf16 takes it too, as ml_dtypes does.
        return bf16 if (number, needed) == (bf16, f16) else promote(number, needed)
    if a.kind == b.kind:
        return max(a, b, key=lambda d: d.bits)
    signed = a if a.kind == "int" else b
    return i16 if signed.bits == 8 else signed


def promote_weak(dtype: DType, value: Number) -> DType:
    """The dtype in which a tensor of `dtype` meets the Python number `value`.

    Raises:
        SpecError: An integer that `dtype` cannot hold.
    """
    if isinstance(value, bool):
        return dtype
    if isinstance(value, float):
        return dtype if dtype.is_float else f64
    met = i64 if dtype == bool_ else dtype
    if not met.is_float and not holds(met, value):
        raise SpecError(
            f"the number {value} does not fit {met}", hint="cast the tensor to a wider dtype first"
        )
    return met


def holds(dtype: DType, value: int) -> bool:
    """Whether an integer dtype holds `value`."""
    if dtype.kind == "uint":
        return 0 <= value < 1 << dtype.bits
    limit = 1 << (dtype.bits - 1)
    return -limit <= value < limit


def float_of(dtype: DType) -> DType:
    """The dtype of `exp` and its like of a tensor of `dtype`: floats stay, integers become floats.

    Source: NumPy's ufuncs, which take the smallest float that holds the integer.
    """
    return dtype if dtype.is_float else _FLOAT_OF_INT_BITS[dtype.bits]


def average_of(dtype: DType) -> DType:
    """The dtype of a quotient or mean: floats stay, integers become f64, as in NumPy."""
    return dtype if dtype.is_float else f64


def total_of(dtype: DType) -> DType:
    """The dtype of a sum: floats stay, integers are added up in i64."""
    return dtype if dtype.is_float else i64


def number_dtype(value: Number) -> DType:
    """The dtype of a Python number that meets no tensor: bool, i64 or f32."""
    return bool_ if isinstance(value, bool) else i64 if isinstance(value, int) else f32
