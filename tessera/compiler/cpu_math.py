"""Mathematical functions of float32 for CPUs, without a branch or a call: loops around them are vectorized.

A call of libm keeps LLVM from running a loop in vectors. Each of these computes all its cases and selects;
comparisons are such that NaN comes out of NaN. Each is within 4 units in the last place of the true value,
tested against float64 (`tanh` within 8). A GPU has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from tessera.compiler.device import exp_of_f32, make_intrinsic

_F32, _I32 = ir.FloatType(), ir.IntType(32)
_MAGNITUDE, _SIGN = 0x7FFFFFFF, 0x80000000


def _f(value: float) -> Any:
    return ir.Constant(_F32, value)


def _bits(builder: Any, x: Any) -> Any:
    return builder.bitcast(x, _I32)


def _float(builder: Any, bits: Any) -> Any:
    return builder.bitcast(bits, _F32)


def _magnitude(builder: Any, x: Any) -> Any:
    return _float(builder, builder.and_(_bits(builder, x), _I32(_MAGNITUDE)))


def _with_sign_of(builder: Any, magnitude: Any, x: Any) -> Any:
    sign = builder.and_(_bits(builder, x), _I32(_SIGN))
    return _float(builder, builder.or_(_bits(builder, magnitude), sign))


def _polynomial(builder: Any, x: Any, terms: Sequence[float]) -> Any:
    """By Horner's rule, the highest power first."""
    total = _f(terms[0])
    for term in terms[1:]:
        total = builder.fadd(builder.fmul(total, x), _f(term))
    return total


_TANH_OVER = (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
              1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03)  # fmt: skip
_TANH_UNDER = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def tanh_of_f32(builder: Any, x: Any) -> Any:
    """A quotient of polynomials; beyond 7.9 the result is 1.

    Source: `ptanh_float` of the Eigen library, `MathFunctionsImpl.h`.
    """
    limit = 7.90531110763549805
    inside = builder.select(builder.fcmp_ordered(">", x, _f(limit)), _f(limit), x)
    inside = builder.select(builder.fcmp_ordered("<", inside, _f(-limit)), _f(-limit), inside)
    square = builder.fmul(inside, inside)
    over = builder.fmul(inside, _polynomial(builder, square, _TANH_OVER))
    found = builder.fdiv(over, _polynomial(builder, square, _TANH_UNDER))
    tiny = builder.fcmp_ordered("<", _magnitude(builder, x), _f(4e-4))
    return builder.select(tiny, x, found)


_LOG_TERMS = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
              -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip


def _mantissa_and_exponent(builder: Any, x: Any) -> tuple[Any, Any]:
    """`x = (1 + m) * 2**e` with 1 + m between the roots of 1/2 and of 2; both floats."""
    least_normal = _f(2.0**-126)
    small = builder.fcmp_ordered("<", x, least_normal)
    lifted = builder.select(small, builder.fmul(x, _f(2.0**23)), x)
    # Source: N. Juffa: taking the bits of sqrt(1/2) away leaves the exponent above the mantissa's middle.
    moved = builder.sub(_bits(builder, lifted), _I32(0x3F3504F3))
    exponent = builder.sitofp(builder.ashr(moved, _I32(23)), _F32)
    exponent = builder.fadd(exponent, builder.select(small, _f(-23.0), _f(0.0)))
    mantissa = builder.add(builder.and_(moved, _I32(0x007FFFFF)), _I32(0x3F3504F3))
    return builder.fsub(_float(builder, mantissa), _f(1.0)), exponent


def log_of_f32(builder: Any, x: Any) -> Any:
    """A polynomial for the mantissa, and the exponent times the logarithm of 2 in two parts.

    Source: S. L. Moshier, Cephes Mathematical Library, `logf.c`.
    """
    m, exponent = _mantissa_and_exponent(builder, x)
    square = builder.fmul(m, m)
    total = builder.fmul(builder.fmul(_polynomial(builder, m, _LOG_TERMS), m), square)
    total = builder.fadd(total, builder.fmul(exponent, _f(-2.12194440e-4)))
    total = builder.fsub(total, builder.fmul(square, _f(0.5)))
    total = builder.fadd(builder.fadd(m, total), builder.fmul(exponent, _f(0.693359375)))
    return _at_the_ends_of_log(builder, x, total)


def _at_the_ends_of_log(builder: Any, x: Any, found: Any) -> Any:
    infinity = _f(float("inf"))
    found = builder.select(builder.fcmp_ordered("==", x, infinity), infinity, found)
    found = builder.select(builder.fcmp_ordered("==", x, _f(0.0)), _f(float("-inf")), found)
    # Below 0, and for NaN itself.
    return builder.select(builder.fcmp_ordered(">=", x, _f(0.0)), found, _f(float("nan")))


def log2_of_f32(builder: Any, x: Any) -> Any:
    """As `log`, the mantissa's part times `1 / ln 2` in two parts, so that powers of 2 come out exactly.

    Source: S. L. Moshier, Cephes Mathematical Library, `log2f.c`.
    """
    more = _f(0.44269504088896340735992)
    m, exponent = _mantissa_and_exponent(builder, x)
    square = builder.fmul(m, m)
    rest = builder.fmul(builder.fmul(_polynomial(builder, m, _LOG_TERMS), m), square)
    rest = builder.fsub(rest, builder.fmul(square, _f(0.5)))
    total = builder.fadd(builder.fmul(rest, more), builder.fmul(m, more))
    total = builder.fadd(builder.fadd(total, rest), m)
    return _at_the_ends_of_log(builder, x, builder.fadd(total, exponent))


def log1p_of_f32(builder: Any, x: Any) -> Any:
    """`log(1 + x)`, and what the sum rounded away over `1 + x`.

    Source: W. Kahan's correction, as in N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 1.14.
    """
    whole = builder.fadd(x, _f(1.0))
    lost = builder.fsub(x, builder.fsub(whole, _f(1.0)))
    found = builder.fadd(log_of_f32(builder, whole), builder.fdiv(lost, whole))
    usual = builder.and_(
        builder.fcmp_ordered(">", whole, _f(0.0)), builder.fcmp_ordered("<", whole, _f(1e30))
    )
    found = builder.select(usual, found, log_of_f32(builder, whole))
    return builder.select(builder.fcmp_ordered("==", whole, _f(1.0)), x, found)


_ERF_NEAR = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)
_ERF_FAR = (-1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1,
            -1.28717512e-1)  # fmt: skip


def erf_of_f32(builder: Any, x: Any) -> Any:
    """An odd polynomial near 0, and `1 - e**p` of another one beyond.

    Source: N. Juffa, minimax approximations of `erff`, NVIDIA developer forums, 2017.
    """
    size = _magnitude(builder, x)
    near = builder.fmul(_polynomial(builder, builder.fmul(x, x), _ERF_NEAR), x)
    near = builder.fadd(near, x)
    # From 4 on the result is 1; far beyond, the polynomial would turn.
    inside = builder.select(builder.fcmp_ordered(">", size, _f(4.0)), _f(4.0), size)
    power = builder.fmul(_polynomial(builder, inside, _ERF_FAR), inside)
    power = builder.fsub(power, inside)
    far = builder.fsub(_f(1.0), exp_of_f32(builder, power))
    return builder.select(builder.fcmp_ordered(">", size, _f(0.921875)), _with_sign_of(builder, far, x), near)


_EXPM1_TERMS = (1.98412698e-4, 1.38888889e-3, 8.33333333e-3, 4.16666667e-2, 1.66666667e-1, 0.5)


def expm1_of_f32(builder: Any, x: Any) -> Any:
    """The series near 0, and `e**x - 1` beyond, where nothing cancels."""
    series = builder.fmul(builder.fmul(_polynomial(builder, x, _EXPM1_TERMS), x), x)
    series = builder.fadd(series, x)
    near = builder.fcmp_ordered("<", _magnitude(builder, x), _f(0.35))
    return builder.select(near, series, builder.fsub(exp_of_f32(builder, x), _f(1.0)))


_F64 = ir.DoubleType()
_TURNS = ((0x517CC1B, 29), (0xE4E4415, 58), (0x53F84EA, 87), (0x1F47D4D3, 116), (0xEE06DB1, 145),
          (0x95993C4, 174), (0x72083FCA2C75, 223))  # fmt: skip
"""`1 / (2 * pi)` as a sum of `number / 2**power`: times a float32 all but the last are exact in float64."""
_WHOLE_TURNS = 5
"""So many of these can give more than a turn: the others are less than 2**-17 of one for any float32."""
_SIN_TERMS = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS_TERMS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


def _sine(builder: Any, x: Any, quarter: int) -> Any:
    """The sine of x and so many quarter turns.

    What is left of x after whole turns is summed from exact parts, for any x.
    Source: M. H. Payne and R. N. Hanek, "Radian Reduction for Trigonometric Functions", 1983; S. L. Moshier,
    Cephes Mathematical Library, `sinf.c`.
    """
    rint = builder.module.declare_intrinsic("llvm.rint", [_F64])
    wide, total = builder.fpext(x, _F64), None
    for position, (number, power) in enumerate(_TURNS):
        part = builder.fmul(wide, ir.Constant(_F64, number * 2.0**-power))
        if position < _WHOLE_TURNS:
            part = builder.fsub(part, builder.call(rint, [part]))
        total = part if total is None else builder.fadd(total, part)
    quarters = builder.fmul(total, ir.Constant(_F64, 4.0))
    whole = builder.call(rint, [quarters])
    rest = builder.fmul(builder.fsub(quarters, whole), ir.Constant(_F64, 1.5707963267948966))
    z = builder.fptrunc(rest, _F32)
    is_number = builder.fcmp_ordered("ord", whole, whole)
    count = builder.fptosi(builder.select(is_number, whole, ir.Constant(_F64, 0.0)), _I32)
    count = builder.add(count, _I32(quarter))
    square = builder.fmul(z, z)
    sine = builder.fmul(builder.fmul(_polynomial(builder, square, _SIN_TERMS), square), z)
    sine = builder.fadd(sine, z)
    cosine = builder.fmul(builder.fmul(_polynomial(builder, square, _COS_TERMS), square), square)
    cosine = builder.fadd(builder.fsub(cosine, builder.fmul(square, _f(0.5))), _f(1.0))
    odd = builder.icmp_signed("!=", builder.and_(count, _I32(1)), _I32(0))
    found = builder.select(odd, cosine, sine)
    sign = builder.shl(builder.and_(count, _I32(2)), _I32(30))
    return _float(builder, builder.xor(_bits(builder, found), sign))


def sin_of_f32(builder: Any, x: Any) -> Any:
    """The sine, of any x; of tiny ones x itself, with its sign."""
    tiny = builder.fcmp_ordered("<", _magnitude(builder, x), _f(2.0**-12))
    return builder.select(tiny, x, _sine(builder, x, 0))


def cos_of_f32(builder: Any, x: Any) -> Any:
    """The cosine, of any x."""
    return _sine(builder, x, 1)


def _function(name: str, write: Any) -> Any:
    def build(context: Any, builder: Any, values: Any) -> Any:  # noqa: ARG001
        return write(builder, values[0])

    return make_intrinsic(name, types.float32, (types.float32,), build)


tanh_f32 = _function("tanh_f32", tanh_of_f32)
log_f32 = _function("log_f32", log_of_f32)
log2_f32 = _function("log2_f32", log2_of_f32)
log1p_f32 = _function("log1p_f32", log1p_of_f32)
erf_f32 = _function("erf_f32", erf_of_f32)
sin_f32 = _function("sin_f32", sin_of_f32)
cos_f32 = _function("cos_f32", cos_of_f32)
expm1_f32 = _function("expm1_f32", expm1_of_f32)
