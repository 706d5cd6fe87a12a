"""Folding axes away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.language.emit import emit

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike

Axis = int | Sequence[int] | None
"""One axis, several, or None for all; negative ones count from the end."""


def sum(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The sum over `axis`; of integers in i64."""
    return emit("sum", x, axis=axis, keepdims=keepdims)


def prod(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The product over `axis`; of integers in i64."""
    return emit("prod", x, axis=axis, keepdims=keepdims)


def mean(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The mean over `axis`; of integers in f64."""
    return emit("mean", x, axis=axis, keepdims=keepdims)


def max(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The largest element along `axis`; NaN if there is one."""
    return emit("max", x, axis=axis, keepdims=keepdims)


def min(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The smallest element along `axis`; NaN if there is one."""
    return emit("min", x, axis=axis, keepdims=keepdims)


def any(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Whether an element along `axis` is not 0 or False; bool."""
    return emit("any", x, axis=axis, keepdims=keepdims)


def all(x: TensorLike, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Whether no element along `axis` is 0 or False; bool."""
    return emit("all", x, axis=axis, keepdims=keepdims)


def argmax(x: TensorLike, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """Where along `axis` the largest element is, i64: the first of equals; the first NaN if there is one.

    With `axis=None` the position among all elements in order.
    """
    return emit("argmax", x, axis=axis, keepdims=keepdims)


def argmin(x: TensorLike, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """Where along `axis` the smallest element is, i64: the first of equals; the first NaN if there is one.

    With `axis=None` the position among all elements in order.
    """
    return emit("argmin", x, axis=axis, keepdims=keepdims)


def var(x: TensorLike, axis: Axis = None, *, keepdims: bool = False, correction: int = 0) -> Tensor:
    """The mean squared distance from the mean over `axis`; of integers in f64.

    Args:
        x: Any shape.
        axis: What to fold.
        keepdims: Whether folded axes stay, with size 1.
        correction: Taken from the count that is divided by; 1 estimates the variance of a population.
    """
    return emit("var", x, axis=axis, keepdims=keepdims, correction=correction)


def std(x: TensorLike, axis: Axis = None, *, keepdims: bool = False, correction: int = 0) -> Tensor:
    """The square root of `var`; of integers in f64.

    Args:
        x: Any shape.
        axis: What to fold.
        keepdims: Whether folded axes stay, with size 1.
        correction: Taken from the count that is divided by; 1 estimates the variance of a population.
    """
    return emit("std", x, axis=axis, keepdims=keepdims, correction=correction)
