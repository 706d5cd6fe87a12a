"""Bringing rows to a common scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.language.emit import emit
from tessera.language.location import caller_location
from tessera.program.errors import TraceError

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """`exp(x) / sum(exp(x))` along `axis`, without overflow."""
    return emit("softmax", x, axis=axis)


def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """`x - log(sum(exp(x)))` along `axis`, without overflow."""
    return emit("log_softmax", x, axis=axis)


def layernorm(
    x: TensorLike, weight: TensorLike | None = None, bias: TensorLike | None = None, *, eps: float = 1e-5
) -> Tensor:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` over the last axis.

    Args:
        x: (…, n).
        weight: (n,), 1 by default.
        bias: (n,), 0 by default.
        eps: Added to the variance.

    Source: Ba, Kiros and Hinton, "Layer Normalization", 2016.
    """
    return emit("layernorm", x, *_affine("layernorm", weight, bias), eps=eps)


def rmsnorm(x: TensorLike, weight: TensorLike | None = None, *, eps: float = 1e-6) -> Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis.

    Args:
        x: (…, n).
        weight: (n,), 1 by default.
        eps: Added to the mean of the squares.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
    """
    return emit("rmsnorm", x, *(v for v in (weight,) if v is not None), eps=eps)


def groupnorm(
    x: TensorLike,
    groups: int,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` over each group of channels.

    Args:
        x: (n, channels, …).
        groups: How many groups of neighbouring channels there are; with as many as channels it is
            instance normalization.
        weight: (channels,), 1 by default.
        bias: (channels,), 0 by default.
        eps: Added to the variance.

    Source: Wu and He, "Group Normalization", 2018.
    """
    return emit("groupnorm", x, *_affine("groupnorm", weight, bias), groups=groups, eps=eps)


def batchnorm(
    x: TensorLike,
    mean: TensorLike,
    var: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """`(x - mean) / sqrt(var + eps) * weight + bias` by channel, with statistics of the training.

    Args:
        x: (n, channels, …).
        mean: (channels,).
        var: (channels,).
        weight: (channels,), 1 by default.
        bias: (channels,), 0 by default.
        eps: Added to the variance.

    Source: Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 2.
    """
    return emit("batchnorm", x, mean, var, *_affine("batchnorm", weight, bias), eps=eps)


def _affine(op: str, weight: TensorLike | None, bias: TensorLike | None) -> list[TensorLike]:
    if weight is None and bias is not None:
        raise TraceError(
            f"{op}: a bias needs a weight", hint="weight=ts.tensor(np.ones(n))", location=caller_location()
        )
    return [value for value in (weight, bias) if value is not None]
