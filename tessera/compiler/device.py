"""Intrinsics that generated kernels call, on both Numba targets: integer division and small floats.

Each is LLVM built by hand, so that a kernel means the same on a GPU and on a
CPU, needs no library, and is not at the mercy of Numba's error model. Floats of
16 and 8 bits are integers to Numba; they are widened to float32 to compute and
rounded back to nearest, ties to even, with NaN kept. Beyond the range of 8 bits lies the largest finite
number, as PTX's `cvt.rn.satfinite` has it; beyond that of 16 bits lies infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.extending import intrinsic

_I32 = ir.IntType(32)
_F32 = ir.FloatType()
_F64 = ir.DoubleType()
_F32_EXPONENT_BITS, _F32_MANTISSA_BITS, _F32_BIAS = 8, 23, 127
_F32_INFINITY = 0x7F800000
_F32_QUIET = 0x00400000


@dataclass(frozen=True, slots=True)
class SmallFloat:
    """Layout of a float of fewer bits than float32: sign, exponent, mantissa."""

    exponent_bits: int
    mantissa_bits: int
    finite: bool = False
    """No infinities: the highest exponent counts, and NaN is all ones."""

    @property
    def bits(self) -> int:
        """Bits of the whole."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def bias(self) -> int:
        """What is added to the exponent."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def infinity(self) -> int:
        """Bits of infinity, or the bits after the largest number where there is none."""
        if self.finite:
            return int((1 << (self.bits - 1)) - 1)
        return int(((1 << self.exponent_bits) - 1) << self.mantissa_bits)

    @property
    def overflow(self) -> int:
        """Bits of what numbers beyond the range become."""
        return self.infinity - 1 if self.bits == 8 else self.infinity

    @property
    def nan(self) -> int:
        """Bits of the quiet NaN."""
        return self.infinity if self.finite else self.infinity | (1 << (self.mantissa_bits - 1))


BF16 = SmallFloat(8, 7)
F16 = SmallFloat(5, 10)
F8E4M3 = SmallFloat(4, 3, finite=True)
F8E5M2 = SmallFloat(5, 2)

Build = Callable[[Any, Any, Any], Any]
"""(typing or target context, LLVM builder, argument values) → LLVM value."""


def make_intrinsic(name: str, result: Any, arguments: tuple[Any, ...], build: Build) -> Any:
    """A function for Numba, of one to three arguments, that `build` writes in LLVM."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return build(context, builder, values)

    if len(arguments) == 1:

        def typer(typingctx: Any, x: Any) -> Any:  # noqa: ARG001
            return result(*arguments), codegen
    elif len(arguments) == 2:

        def typer(typingctx: Any, a: Any, b: Any) -> Any:  # type: ignore[misc]  # noqa: ARG001
            return result(*arguments), codegen
    else:

        def typer(typingctx: Any, a: Any, b: Any, c: Any) -> Any:  # type: ignore[misc]  # noqa: ARG001
            return result(*arguments), codegen

    typer.__name__ = typer.__qualname__ = name
    return intrinsic(typer)


def _widen(layout: SmallFloat) -> Build:
    shift = _F32_MANTISSA_BITS - layout.mantissa_bits
    rebias = (_F32_BIAS - layout.bias) << _F32_MANTISSA_BITS

    def build(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
        bits = builder.zext(values[0], _I32)
        if layout == BF16:
            return builder.bitcast(builder.shl(bits, _I32(16)), _F32)
        magnitude = builder.and_(bits, _I32((1 << (layout.bits - 1)) - 1))
        aligned = builder.shl(magnitude, _I32(shift))
        normal = builder.add(aligned, _I32(rebias))
        # A subnormal is a multiple of the smallest normal's last place: put the bits under that
        # exponent and take the implicit one away again. The subtraction is exact.
        one = _I32(rebias + (1 << _F32_MANTISSA_BITS))
        lifted = builder.bitcast(builder.add(aligned, one), _F32)
        small = builder.bitcast(builder.fsub(lifted, builder.bitcast(one, _F32)), _I32)
        is_small = builder.icmp_unsigned("<", magnitude, _I32(1 << layout.mantissa_bits))
        value = builder.select(is_small, small, normal)
        if layout.finite:
            special = _I32(_F32_INFINITY | _F32_QUIET)
        else:
            special = builder.or_(aligned, _I32(_F32_INFINITY))
        is_special = builder.icmp_unsigned(">=", magnitude, _I32(layout.infinity))
        value = builder.select(is_special, special, value)
        sign = builder.shl(builder.lshr(bits, _I32(layout.bits - 1)), _I32(31))
        return builder.bitcast(builder.or_(value, sign), _F32)

    return build


def _narrow(layout: SmallFloat) -> Build:
    shift = _F32_MANTISSA_BITS - layout.mantissa_bits
    rebias = (_F32_BIAS - layout.bias) << _F32_MANTISSA_BITS
    # The float whose last place is the smallest subnormal of the layout: adding it rounds there.
    magic = (_F32_BIAS - layout.bias + shift + 1) << _F32_MANTISSA_BITS

    def build(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
        bits = builder.bitcast(values[0], _I32)
        if layout == BF16:
            odd = builder.and_(builder.lshr(bits, _I32(shift)), _I32(1))
            half = builder.add(bits, _I32((1 << (shift - 1)) - 1))
            rounded = builder.lshr(builder.add(half, odd), _I32(shift))
            is_nan = builder.fcmp_unordered("uno", values[0], values[0])
            return builder.trunc(builder.select(is_nan, _I32(layout.nan), rounded), ir.IntType(16))
        magnitude = builder.and_(bits, _I32(0x7FFFFFFF))
        rebiased = builder.sub(magnitude, _I32(rebias))
        odd = builder.and_(builder.lshr(rebiased, _I32(shift)), _I32(1))
        half = builder.add(rebiased, _I32((1 << (shift - 1)) - 1))
        value = builder.lshr(builder.add(half, odd), _I32(shift))
        total = builder.fadd(builder.bitcast(magnitude, _F32), builder.bitcast(_I32(magic), _F32))
        small = builder.sub(builder.bitcast(total, _I32), _I32(magic))
        is_small = builder.icmp_unsigned("<", magnitude, _I32(rebias + (1 << _F32_MANTISSA_BITS)))
        value = builder.select(is_small, small, value)
        # Far above the largest number the rebiased exponent still compares right.
        is_over = builder.icmp_unsigned(">", value, _I32(layout.overflow))
        is_over = builder.and_(is_over, builder.not_(is_small))
        value = builder.select(is_over, _I32(layout.overflow), value)
        is_nan = builder.icmp_unsigned(">", magnitude, _I32(_F32_INFINITY))
        value = builder.select(is_nan, _I32(layout.nan), value)
        sign = builder.shl(builder.lshr(bits, _I32(31)), _I32(layout.bits - 1))
        return builder.trunc(builder.or_(value, sign), ir.IntType(16 if layout.bits == 16 else 8))

    return build


def _native_on_gpu(convert: Callable[[Any, Any], Any], otherwise: Build) -> Build:
    """Every GPU converts float16 in one instruction; a CPU only with F16C, and else calls a library."""

    def build(context: Any, builder: Any, values: Any) -> Any:
        if "cuda" in type(context).__name__.lower():
            return convert(builder, values[0])
        return otherwise(context, builder, values)

    return build


def _half_to_f32(builder: Any, bits: Any) -> Any:
    return builder.fpext(builder.bitcast(bits, ir.HalfType()), _F32)


def _f32_to_half(builder: Any, value: Any) -> Any:
    return builder.bitcast(builder.fptrunc(value, ir.HalfType()), ir.IntType(16))


bf16_to_f32 = make_intrinsic("bf16_to_f32", types.float32, (types.uint16,), _widen(BF16))
f32_to_bf16 = make_intrinsic("f32_to_bf16", types.uint16, (types.float32,), _narrow(BF16))
f16_to_f32 = make_intrinsic(
    "f16_to_f32", types.float32, (types.uint16,), _native_on_gpu(_half_to_f32, _widen(F16))
)
f32_to_f16 = make_intrinsic(
    "f32_to_f16", types.uint16, (types.float32,), _native_on_gpu(_f32_to_half, _narrow(F16))
)
f8e4m3_to_f32 = make_intrinsic("f8e4m3_to_f32", types.float32, (types.uint8,), _widen(F8E4M3))
f32_to_f8e4m3 = make_intrinsic("f32_to_f8e4m3", types.uint8, (types.float32,), _narrow(F8E4M3))
f8e5m2_to_f32 = make_intrinsic("f8e5m2_to_f32", types.float32, (types.uint8,), _widen(F8E5M2))
f32_to_f8e5m2 = make_intrinsic("f32_to_f8e5m2", types.uint8, (types.float32,), _narrow(F8E5M2))


def exp_of_f32(builder: Any, x: Any) -> Any:
    """`e**x` without a branch or a call, so that LLVM vectorizes the loop around it; within 2 ulp.

    `x = n*ln 2 + r`, a polynomial for `e**r`, and `2**n` put together in two factors, so that results
    below the smallest normal number come out, and those beyond the largest are infinite.
    Source: S. L. Moshier, Cephes Mathematical Library, `expf.c`.
    """

    def number(value: float) -> Any:
        return ir.Constant(_F32, value)

    # Comparisons with NaN are false: it passes, and comes out of the polynomial.
    x = builder.select(builder.fcmp_ordered(">", x, number(89.0)), number(89.0), x)
    x = builder.select(builder.fcmp_ordered("<", x, number(-104.0)), number(-104.0), x)
    rint = builder.module.declare_intrinsic("llvm.rint", [_F32])
    whole = builder.call(rint, [builder.fmul(x, number(1.44269504088896341))])
    rest = builder.fsub(x, builder.fmul(whole, number(0.693359375)))
    rest = builder.fsub(rest, builder.fmul(whole, number(-2.12194440e-4)))
    total = number(_EXP_TERMS[0])
    for term in _EXP_TERMS[1:]:
        total = builder.fadd(builder.fmul(total, rest), number(term))
    total = builder.fmul(builder.fmul(total, rest), rest)
    total = builder.fadd(builder.fadd(total, rest), number(1.0))
    is_number = builder.fcmp_ordered("ord", whole, whole)
    power = builder.fptosi(builder.select(is_number, whole, number(0.0)), _I32)
    half = builder.ashr(power, _I32(1))
    for part in (half, builder.sub(power, half)):
        bits = builder.shl(builder.add(part, _I32(_F32_BIAS)), _I32(_F32_MANTISSA_BITS))
        total = builder.fmul(total, builder.bitcast(bits, _F32))
    return total


_EXP_TERMS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
              5.0000001201e-1)  # fmt: skip

exp_f32 = make_intrinsic(
    "exp_f32", types.float32, (types.float32,), lambda _c, builder, v: exp_of_f32(builder, v[0])
)
"""`e**x` for CPUs; a GPU has its own."""

udiv = make_intrinsic(
    "udiv", types.int64, (types.int64, types.int64), lambda _c, builder, v: builder.udiv(v[0], v[1])
)
"""`a // b` of two sizes, neither negative; no check for zero."""
urem = make_intrinsic(
    "urem", types.int64, (types.int64, types.int64), lambda _c, builder, v: builder.urem(v[0], v[1])
)
"""`a % b` of two sizes, neither negative; no check for zero."""
div_f32 = make_intrinsic(
    "div_f32", types.float32, (types.float32, types.float32), lambda _c, b, v: b.fdiv(v[0], v[1])
)
"""`a / b` as IEEE 754 has it: no exception for zero."""
div_f64 = make_intrinsic(
    "div_f64", types.float64, (types.float64, types.float64), lambda _c, b, v: b.fdiv(v[0], v[1])
)
"""`a / b` as IEEE 754 has it: no exception for zero."""


def _peak(kind: ir.Type, suffix: str) -> Build:
    # NVVM's own function: libdevice's would have to be linked and inlined at every call.
    function = ir.FunctionType(kind, (kind, kind))
    return lambda _c, builder, v: builder.call(
        cgutils.get_or_insert_function(builder.module, function, f"llvm.nvvm.fmax.{suffix}"), v
    )


peak_f32 = make_intrinsic("peak_f32", types.float32, (types.float32, types.float32), _peak(_F32, "f"))
"""The larger of two floats on a GPU, in one instruction; of NaN and a number the number."""
peak_f64 = make_intrinsic("peak_f64", types.float64, (types.float64, types.float64), _peak(_F64, "d"))
"""The larger of two floats on a GPU; of NaN and a number the number."""

rolled = make_intrinsic("rolled", types.boolean, (types.boolean,), lambda _c, _b, v: v[0])
"""A loop's condition, and that NVVM is to leave it to ptxas, which unrolls in a tenth of the time."""


def _seen(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
    """A score where `position < limit`, else minus infinity: a selection, where Python has only a branch.

    Branches by the hundred would take Numba minutes.
    """
    score, position, limit = values
    return builder.select(builder.icmp_signed("<", position, limit), score, ir.Constant(_F32, float("-inf")))


seen_f32 = make_intrinsic("seen_f32", types.float32, (types.float32, types.int32, types.int32), _seen)
