"""Convolutions, pools and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.language.emit import emit
from tessera.program.dim import Dim

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike

Sizes = int | Sequence[int]
"""One number for every axis, or one for each."""
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]
"""One number, one for each axis, a pair (before, after) for each, or `same`."""


def conv1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """The correlation of `x` with `weight`, as neural networks call a convolution.

    Args:
        x: (batch, channels, length).
        weight: (out, channels / groups, kernel).
        bias: (out,), 0 by default.
        stride: How far the window moves.
        padding: Zeros around x; `same` keeps the sizes where the stride is 1.
        dilation: How far apart the window's elements are.
        groups: Channels are cut into so many groups, each with its own part of the results.

    Returns:
        (batch, out, length), each size (n + padding - dilation * (kernel - 1) - 1) // stride + 1.
    """
    biases = [] if bias is None else [bias]
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return emit("conv1d", x, weight, *biases, **settings)


def conv_transpose1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    *,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of a convolution by its input: it makes larger what `conv1d` makes smaller.

    Args:
        x: (batch, channels, length).
        weight: (channels, out / groups, kernel).
        bias: (out,), 0 by default.
        stride: How far apart the elements of x are put.
        padding: Taken from both ends of the result.
        output_padding: Added to the end of the result.
        dilation: How far apart the window's elements are.
        groups: Channels are cut into so many groups, each with its own part of the results.

    Returns:
        (batch, out, length), each size
        (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1.

    Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    biases = [] if bias is None else [bias]
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return emit("conv_transpose1d", x, weight, *biases, output_padding=output_padding, **settings)


def max_pool1d(
    x: TensorLike,
    kernel: Sizes,
    stride: Sizes | None = None,
    *,
    padding: Padding = 0,
    dilation: Sizes = 1,
) -> Tensor:
    """The largest element of each window; NaN if there is one.

    Args:
        x: (…, length).
        kernel: Sizes of the window.
        stride: How far it moves; its size by default.
        padding: Elements around x that are never the largest.
        dilation: How far apart the window's elements are.
    """
    return emit("max_pool1d", x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def avg_pool1d(
    x: TensorLike,
    kernel: Sizes,
    stride: Sizes | None = None,
    *,
    padding: Padding = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window; of integers in f64.

    Args:
        x: (…, length).
        kernel: Sizes of the window.
        stride: How far it moves; its size by default.
        padding: Zeros around x.
        count_include_pad: Whether the zeros count.
    """
    settings = {"padding": padding, "count_include_pad": bool(count_include_pad)}
    return emit("avg_pool1d", x, kernel=kernel, stride=stride, **settings)


def adaptive_avg_pool1d(x: TensorLike, size: Sizes) -> Tensor:
    """Means of as many windows as are wanted: window i reaches from `i * n // size` to `(i + 1) * n / size`.

    Args:
        x: (…, length).
        size: How many windows there are along each axis.
    """
    return emit("adaptive_avg_pool1d", x, size=size)


def conv2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """The correlation of `x` with `weight`, as neural networks call a convolution.

    Args:
        x: (batch, channels, height, width).
        weight: (out, channels / groups, kernel height, kernel width).
        bias: (out,), 0 by default.
        stride: How far the window moves.
        padding: Zeros around x; `same` keeps the sizes where the stride is 1.
        dilation: How far apart the window's elements are.
        groups: Channels are cut into so many groups, each with its own part of the results.

    Returns:
        (batch, out, height, width), each size (n + padding - dilation * (kernel - 1) - 1) // stride + 1.
    """
    biases = [] if bias is None else [bias]
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return emit("conv2d", x, weight, *biases, **settings)


def conv_transpose2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    *,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of a convolution by its input: it makes larger what `conv2d` makes smaller.

    Args:
        x: (batch, channels, height, width).
        weight: (channels, out / groups, kernel height, kernel width).
        bias: (out,), 0 by default.
        stride: How far apart the elements of x are put.
        padding: Taken from both ends of the result.
        output_padding: Added to the end of the result.
        dilation: How far apart the window's elements are.
        groups: Channels are cut into so many groups, each with its own part of the results.

    Returns:
        (batch, out, height, width), each size
        (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1.

    Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    biases = [] if bias is None else [bias]
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return emit("conv_transpose2d", x, weight, *biases, output_padding=output_padding, **settings)


def max_pool2d(
    x: TensorLike,
    kernel: Sizes,
    stride: Sizes | None = None,
    *,
    padding: Padding = 0,
    dilation: Sizes = 1,
) -> Tensor:
    """The largest element of each window; NaN if there is one.

    Args:
        x: (…, height, width).
        kernel: Sizes of the window.
        stride: How far it moves; its size by default.
        padding: Elements around x that are never the largest.
        dilation: How far apart the window's elements are.
    """
    return emit("max_pool2d", x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def avg_pool2d(
    x: TensorLike,
    kernel: Sizes,
    stride: Sizes | None = None,
    *,
    padding: Padding = 0,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window; of integers in f64.

    Args:
        x: (…, height, width).
        kernel: Sizes of the window.
        stride: How far it moves; its size by default.
        padding: Zeros around x.
        count_include_pad: Whether the zeros count.
    """
    settings = {"padding": padding, "count_include_pad": bool(count_include_pad)}
    return emit("avg_pool2d", x, kernel=kernel, stride=stride, **settings)


def adaptive_avg_pool2d(x: TensorLike, size: Sizes) -> Tensor:
    """Means of as many windows as are wanted: window i reaches from `i * n // size` to `(i + 1) * n / size`.

    Args:
        x: (…, height, width).
        size: How many windows there are along each axis.
    """
    return emit("adaptive_avg_pool2d", x, size=size)


def resize(
    x: TensorLike,
    size: Sequence[Dim] | None = None,
    *,
    scale: Sizes | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Tensor:
    """`x` with more or fewer elements along its last axes.

    Args:
        x: (batch, channels, …).
        size: The sizes wanted.
        scale: Or how many times as large each becomes.
        mode: `nearest` repeats the element at `i * n // size`; `linear` goes between the two nearest.
        align_corners: For `linear`, whether the outermost elements stay where they are; by default the
            outer edges of them do.
    """
    settings = {"mode": mode, "align_corners": bool(align_corners)}
    return emit("resize", x, size=None if size is None else list(size), scale=scale, **settings)
