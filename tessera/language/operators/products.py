"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.language.emit import emit

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """The matrix product.

    Args:
        a: (…, m, k), or (k,).
        b: (…, k, n), or (k,).

    Returns:
        (…, m, n), batch axes broadcast; without the axis that a vector has not.
    """
    return emit("matmul", a, b)


def linear(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """`x @ weight.T + bias`.

    Args:
        x: (…, in).
        weight: (out, in).
        bias: (out,), 0 by default.

    Returns:
        (…, out).
    """
    return emit("linear", x, weight, *(v for v in (bias,) if v is not None))
