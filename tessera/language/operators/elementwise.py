"""Functions of each element, and activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tessera.language.emit import emit
from tessera.language.location import caller_location
from tessera.program import dim as dims
from tessera.program.dim import Dim, Expr
from tessera.program.dtype import DType, as_dtype
from tessera.program.errors import TraceError

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike


def cdiv(a: Dim, b: Dim) -> Dim:
    """`a / b` rounded up, of ints and symbolic sizes: how many blocks of `b` cover `a`."""
    return dims.ceildiv(a, b)


def neg(x: TensorLike) -> Tensor:
    """`-x`."""
    return emit("neg", x)


def abs(x: TensorLike) -> Tensor:
    """The absolute value of `x`."""
    return emit("abs", x)


def sign(x: TensorLike) -> Tensor:
    """-1, 0 or 1 as `x` is below, at or above 0; NaN of NaN."""
    return emit("sign", x)


def exp(x: TensorLike) -> Tensor:
    """`e ** x`."""
    return emit("exp", x)


def exp2(x: TensorLike) -> Tensor:
    """`2 ** x`."""
    return emit("exp2", x)


def expm1(x: TensorLike) -> Tensor:
    """`e ** x - 1`, exact also near 0."""
    return emit("expm1", x)


def log(x: TensorLike) -> Tensor:
    """The natural logarithm of `x`."""
    return emit("log", x)


def log2(x: TensorLike) -> Tensor:
    """The logarithm of `x` to base 2."""
    return emit("log2", x)


def log1p(x: TensorLike) -> Tensor:
    """The natural logarithm of `1 + x`, exact also near 0."""
    return emit("log1p", x)


def sqrt(x: TensorLike) -> Tensor:
    """The square root of `x`."""
    return emit("sqrt", x)


def rsqrt(x: TensorLike) -> Tensor:
    """`1 / sqrt(x)`."""
    return emit("rsqrt", x)


def square(x: TensorLike) -> Tensor:
    """`x * x`."""
    return emit("square", x)


def reciprocal(x: TensorLike) -> Tensor:
    """`1 / x`; of integers in their float."""
    return emit("reciprocal", x)


def sin(x: TensorLike) -> Tensor:
    """The sine of `x` in radians."""
    return emit("sin", x)


def cos(x: TensorLike) -> Tensor:
    """The cosine of `x` in radians."""
    return emit("cos", x)


def tanh(x: TensorLike) -> Tensor:
    """The hyperbolic tangent of `x`."""
    return emit("tanh", x)


def sigmoid(x: TensorLike) -> Tensor:
    """`1 / (1 + exp(-x))`."""
    return emit("sigmoid", x)


def erf(x: TensorLike) -> Tensor:
    """The error function of `x`."""
    return emit("erf", x)


def floor(x: TensorLike) -> Tensor:
    """The largest whole number not above `x`; integers stay."""
    return emit("floor", x)


def ceil(x: TensorLike) -> Tensor:
    """The smallest whole number not below `x`; integers stay."""
    return emit("ceil", x)


def round(x: TensorLike) -> Tensor:
    """The nearest whole number, ties to even; integers stay."""
    return emit("round", x)


def trunc(x: TensorLike) -> Tensor:
    """`x` without its fraction; integers stay."""
    return emit("trunc", x)


def isnan(x: TensorLike) -> Tensor:
    """Whether `x` is NaN, bool."""
    return emit("isnan", x)


def isinf(x: TensorLike) -> Tensor:
    """Whether `x` is infinite, bool."""
    return emit("isinf", x)


def logical_not(x: TensorLike) -> Tensor:
    """Whether `x` is 0 or False, bool."""
    return emit("logical_not", x)


def add(a: TensorLike, b: TensorLike) -> Tensor:
    """`a + b`, broadcast."""
    return emit("add", a, b)


def sub(a: TensorLike, b: TensorLike) -> Tensor:
    """`a - b`, broadcast."""
    return emit("sub", a, b)


def mul(a: TensorLike, b: TensorLike) -> Tensor:
    """`a * b` by element, broadcast."""
    return emit("mul", a, b)


def div(a: TensorLike, b: TensorLike) -> Tensor:
    """`a / b`, broadcast; of integers too it is the true quotient, in f64."""
    return emit("div", a, b)


def floordiv(a: TensorLike, b: TensorLike) -> Tensor:
    """`a // b`, rounded down, broadcast; of integers by 0 it is 0."""
    return emit("floordiv", a, b)


def mod(a: TensorLike, b: TensorLike) -> Tensor:
    """`a % b` with the sign of `b`, broadcast; of integers by 0 it is 0."""
    return emit("mod", a, b)


def eq(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether `a == b`, broadcast; bool."""
    return emit("eq", a, b)


def ne(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether `a != b`, broadcast; bool."""
    return emit("ne", a, b)


def lt(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether `a < b`, broadcast; bool."""
    return emit("lt", a, b)


def le(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether `a <= b`, broadcast; bool."""
    return emit("le", a, b)


def gt(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether `a > b`, broadcast; bool."""
    return emit("gt", a, b)


def ge(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether `a >= b`, broadcast; bool."""
    return emit("ge", a, b)


def logical_and(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether neither is 0 or False, broadcast; bool."""
    return emit("logical_and", a, b)


def logical_or(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether one is not 0 or False, broadcast; bool."""
    return emit("logical_or", a, b)


def logical_xor(a: TensorLike, b: TensorLike) -> Tensor:
    """Whether exactly one is not 0 or False, broadcast; bool."""
    return emit("logical_xor", a, b)


def pow(x: TensorLike, exponent: TensorLike) -> Tensor:
    """`x ** exponent`, broadcast.

    Raises:
        TraceError: An integer to the power of a negative number.
    """
    return emit("pow", x, exponent)


def maximum(a: TensorLike | Dim, b: TensorLike | Dim) -> Tensor:
    """The larger of `a` and `b` by element, broadcast; NaN if either is. Of two sizes, a size."""
    if isinstance(a, Expr) or isinstance(b, Expr):
        return dims.maximum(a, b)  # type: ignore[arg-type, return-value]  # sizes, in grid rules
    return emit("maximum", a, b)


def minimum(a: TensorLike | Dim, b: TensorLike | Dim) -> Tensor:
    """The smaller of `a` and `b` by element, broadcast; NaN if either is. Of two sizes, a size."""
    if isinstance(a, Expr) or isinstance(b, Expr):
        return dims.minimum(a, b)  # type: ignore[arg-type, return-value]  # sizes, in grid rules
    return emit("minimum", a, b)


def where(condition: TensorLike, a: TensorLike, b: TensorLike) -> Tensor:
    """`a` where `condition` is not 0 or False, elsewhere `b`; all broadcast."""
    return emit("where", condition, a, b)


def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """`x`, but not below `min` nor above `max`; broadcast. NaN stays NaN.

    Raises:
        TraceError: Neither bound is given.
    """
    if min is None and max is None:
        raise TraceError(
            "clip: there is no bound", hint="ts.clip(x, 0, 1), or one of them", location=caller_location()
        )
    bounds = [bound for bound in (min, max) if bound is not None]
    return emit("clip", x, *bounds, has_min=min is not None, has_max=max is not None)


def relu(x: TensorLike) -> Tensor:
    """`max(x, 0)`."""
    return emit("relu", x)


def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """`x` where it is 0 or more, else `negative_slope * x`.

    Source: Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013.
    """
    return emit("leaky_relu", x, negative_slope=negative_slope)


def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """`x` where it is above 0, else `alpha * (exp(x) - 1)`.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential
    Linear Units", 2016.
    """
    return emit("elu", x, alpha=alpha)


def softplus(x: TensorLike, beta: float = 1.0) -> Tensor:
    """`log(1 + exp(beta * x)) / beta`, without overflow.

    Source: Dugas et al., "Incorporating Second-Order Functional Knowledge", 2001.
    """
    return emit("softplus", x, beta=beta)


def hardsigmoid(x: TensorLike) -> Tensor:
    """`clip(x / 6 + 1/2, 0, 1)`.

    Source: Howard et al., "Searching for MobileNetV3", 2019.
    """
    return emit("hardsigmoid", x)


def hardswish(x: TensorLike) -> Tensor:
    """`x * clip(x / 6 + 1/2, 0, 1)`.

    Source: Howard et al., "Searching for MobileNetV3", 2019.
    """
    return emit("hardswish", x)


def silu(x: TensorLike) -> Tensor:
    """`x * sigmoid(x)`."""
    return emit("silu", x)


def gelu(x: TensorLike, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """`x/2 * (1 + erf(x/√2))`, or its tanh approximation.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
    """
    if approximate not in ("none", "tanh"):
        raise TraceError(
            f"gelu: approximate={approximate!r} is unknown",
            hint="approximate='none' or approximate='tanh'",
            location=caller_location(),
        )
    return emit("gelu", x, approximate=approximate)


def cast(x: TensorLike, dtype: DType | str) -> Tensor:
    """`x` in another dtype: rounded to nearest even, or cut off toward zero to an integer."""
    return emit("cast", x, dtype=as_dtype(dtype, what="cast"))
