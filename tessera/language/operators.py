"""The operators, as functions of tensors, NumPy arrays and Python numbers.

What each means to the last bit is in `docs/operators.md`. They raise `ShapeError`
for shapes that do not fit and `TraceError` for operands that cannot be ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tessera.language.emit import emit
from tessera.language.location import caller_location
from tessera.language.rules import RULES
from tessera.program import dim as dims
from tessera.program.dim import Dim, Expr
from tessera.program.dtype import DType, as_dtype
from tessera.program.errors import TraceError

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike

OPERATORS: tuple[str, ...] = tuple(sorted(RULES))
"""The name of every operator."""

Axis = int | Sequence[int] | None
"""One axis, several, or None for all; negative ones count from the end."""


def cdiv(a: Dim, b: Dim) -> Dim:
    """`a / b` rounded up, of ints and symbolic sizes: how many blocks of `b` cover `a`."""
    return dims.ceildiv(a, b)


def neg(x: TensorLike) -> Tensor:
    """`-x`."""
    return emit("neg", x)


def abs(x: TensorLike) -> Tensor:  # noqa: A001 - the names of NumPy
    """The absolute value of `x`."""
    return emit("abs", x)


def exp(x: TensorLike) -> Tensor:
    """`e ** x`."""
    return emit("exp", x)


def log(x: TensorLike) -> Tensor:
    """The natural logarithm of `x`."""
    return emit("log", x)


def sqrt(x: TensorLike) -> Tensor:
    """The square root of `x`."""
    return emit("sqrt", x)


def rsqrt(x: TensorLike) -> Tensor:
    """`1 / sqrt(x)`."""
    return emit("rsqrt", x)


def tanh(x: TensorLike) -> Tensor:
    """The hyperbolic tangent of `x`."""
    return emit("tanh", x)


def sigmoid(x: TensorLike) -> Tensor:
    """`1 / (1 + exp(-x))`."""
    return emit("sigmoid", x)


def erf(x: TensorLike) -> Tensor:
    """The error function of `x`."""
    return emit("erf", x)


def relu(x: TensorLike) -> Tensor:
    """`max(x, 0)`."""
    return emit("relu", x)


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


def silu(x: TensorLike) -> Tensor:
    """`x * sigmoid(x)`."""
    return emit("silu", x)


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


def power(x: TensorLike, exponent: float) -> Tensor:
    """`x ** exponent` for the exponents that other operators make: 2, 3, 4, 0.5, -0.5, -1.

    Raises:
        TraceError: Another exponent.
    """
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        if exponent in (0.5, -0.5):
            return sqrt(x) if exponent > 0 else rsqrt(x)
        if exponent == -1:
            return div(1, x)
        if exponent in (1, 2, 3, 4):
            square = mul(x, x) if exponent > 1 else mul(x, 1)
            return {1: lambda: square, 2: lambda: square, 3: lambda: mul(square, x)}.get(
                int(exponent), lambda: mul(square, square)
            )()
    raise TraceError(
        f"x ** {exponent!r} is not supported",
        hint="exponents: 1, 2, 3, 4, 0.5, -0.5, -1; else ts.exp(exponent * ts.log(x))",
        location=caller_location(),
    )


def cast(x: TensorLike, dtype: DType | str) -> Tensor:
    """`x` in another dtype: rounded to nearest even, or cut off toward zero to an integer."""
    return emit("cast", x, dtype=as_dtype(dtype, what="cast"))


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """The matrix product.

    Args:
        a: (…, m, k), or (k,).
        b: (…, k, n), or (k,).

    Returns:
        (…, m, n), batch axes broadcast; without the axis that a vector has not.
    """
    return emit("matmul", a, b)


def reshape(x: TensorLike, *shape: Dim | Sequence[Dim]) -> Tensor:
    """The same elements in row-major order in another shape; one size may be -1."""
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    return emit("reshape", x, shape=[_as_size(size) for size in sizes])


def _as_size(size: object) -> Dim:
    if isinstance(size, Expr):
        return size
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TraceError(
            f"reshape: a size is an integer, not {size!r}",
            hint="ts.reshape(x, -1, 64)",
            location=caller_location(),
        )
    return int(size.__index__())


def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in the order `axes`; reversed by default."""
    return emit("transpose", x, axes=axes)


def sum(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:  # noqa: A001
    """The sum over `axis`; of integers in i64."""
    return emit("sum", x, axis=axis, keepdims=keepdims)


def mean(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The mean over `axis`; of integers in f64."""
    return emit("mean", x, axis=axis, keepdims=keepdims)


def max(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:  # noqa: A001
    """The largest element along `axis`; NaN if there is one."""
    return emit("max", x, axis=axis, keepdims=keepdims)


def min(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:  # noqa: A001
    """The smallest element along `axis`; NaN if there is one."""
    return emit("min", x, axis=axis, keepdims=keepdims)


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """`exp(x) / sum(exp(x))` along `axis`, without overflow."""
    return emit("softmax", x, axis=axis)


def layernorm(
    x: TensorLike, weight: TensorLike | None = None, bias: TensorLike | None = None, *, eps: float = 1e-5
) -> Tensor:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` over the last axis.

    Args:
        x: (…, n).
        weight: (n,), 1 by default.
        bias: (n,), 0 by default.
        eps: Added to the variance.
    """
    if weight is None and bias is not None:
        raise TraceError(
            "layernorm: a bias needs a weight",
            hint="weight=ts.tensor(np.ones(n))",
            location=caller_location(),
        )
    return emit("layernorm", *(v for v in (x, weight, bias) if v is not None), eps=eps)
