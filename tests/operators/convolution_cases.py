"""Convolutions, pools and resizing against plain sums over windows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

import tessera as ts
from tests.operators.cases import Array, Case

NARROW = ("f32", "bf16", "f64")


def fold_windows(
    x: Array,
    kernel: Sequence[int],
    stride: int,
    pads: Sequence[tuple[int, int]],
    dilation: int,
    fill: float,
    fold: Callable[[Array], Array],
) -> Array:
    """`fold` of (…, kernel) at every place of a window on the last axes."""
    lead = x.ndim - len(kernel)
    x = np.pad(x, [(0, 0)] * lead + list(pads), constant_values=fill)
    counts = [(n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[lead:], kernel, strict=True)]
    found = None
    for place in itertools.product(*map(range, counts)):
        part = x[
            (
                ...,
                *(
                    slice(p * stride, p * stride + dilation * (k - 1) + 1, dilation)
                    for p, k in zip(place, kernel, strict=True)
                ),
            )
        ]
        value = fold(part)
        found = np.zeros((*value.shape, *counts), value.dtype) if found is None else found
        found[(..., *place)] = value
    assert found is not None
    return found


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: int = 1,
    pads: Sequence[tuple[int, int]] | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """A convolution, one window after the other."""
    kernel = w.shape[2:]
    pads = pads or [(0, 0)] * len(kernel)
    parts = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    axes = range(1, w.ndim)
    sums = [
        fold_windows(
            p, kernel, stride, pads, dilation, 0, lambda part, q=q: np.tensordot(part, q, (axes, axes))
        )
        for p, q in parts
    ]
    total = np.concatenate(sums, 1)
    return total if b is None else total + b.reshape(-1, *[1] * len(kernel))


def conv_transpose(
    x: Array,
    w: Array,
    *,
    stride: int = 1,
    padding: int = 0,
    extra: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """Every element adds a scaled kernel to the result."""
    kernel, each = w.shape[2:], w.shape[1]
    sizes = [
        (n - 1) * stride + dilation * (k - 1) + 1 + extra for n, k in zip(x.shape[2:], kernel, strict=True)
    ]
    result = np.zeros((x.shape[0], each * groups, *sizes))
    inputs = x.shape[1] // groups
    for place in itertools.product(*map(range, x.shape[2:])):
        where = tuple(
            slice(p * stride, p * stride + dilation * (k - 1) + 1, dilation)
            for p, k in zip(place, kernel, strict=True)
        )
        for g in range(groups):
            own = slice(g * inputs, (g + 1) * inputs)
            added = np.tensordot(x[(slice(None), own, *place)], w[own], (1, 0))
            result[(slice(None), slice(g * each, (g + 1) * each), *where)] += added
    inner = tuple(slice(padding, n - padding) for n in sizes)
    return result[(..., *inner)]


def _mean(part: Array) -> Array:
    return np.asarray(part.mean((-2, -1)))


def adaptive(x: Array, sizes: Sequence[int]) -> Array:
    lead = x.ndim - len(sizes)
    for axis, count in enumerate(sizes, lead):
        n = x.shape[axis]
        parts = [
            np.take(x, range(i * n // count, -(-(i + 1) * n // count)), axis).mean(axis) for i in range(count)
        ]
        x = np.stack(parts, axis)
    return x


def nearest(x: Array, sizes: Sequence[int]) -> Array:
    for axis, count in enumerate(sizes, 2):
        x = np.take(x, np.arange(count) * x.shape[axis] // count, axis)
    return x


def linear(x: Array, sizes: Sequence[int], corners: bool = False) -> Array:
    for axis, count in enumerate(sizes, 2):
        n = x.shape[axis]
        at = (
            np.arange(count) * ((n - 1) / max(count - 1, 1))
            if corners
            else (np.arange(count) + 0.5) * n / count - 0.5
        )
        points = np.moveaxis(x, axis, -1).reshape(-1, n)
        rows = np.stack([np.interp(at, np.arange(n), row) for row in points]).reshape(
            *np.moveaxis(x, axis, -1).shape[:-1], count
        )
        x = np.moveaxis(rows, -1, axis)
    return x


CASES = [
    Case("conv1d", ts.conv1d, conv, (("n", 3, 9), (4, 3, 3), (4,)), dtypes=NARROW, slack=2),
    Case(
        "conv1d_symbolic",
        lambda x, w: ts.conv1d(x, w, stride=2, padding=[(2, 1)], dilation=2),
        lambda x, w: conv(x, w, stride=2, pads=[(2, 1)], dilation=2),
        ((2, 3, "n"), (4, 3, 3)),
        least=2,
        dtypes=NARROW,
        slack=2,
    ),
    Case(
        "conv2d",
        lambda x, w, b: ts.relu(ts.conv2d(x, w, b, padding=1)),
        lambda x, w, b: np.maximum(conv(x, w, b, pads=[(1, 1)] * 2), 0),
        (("n", 3, 7, 6), (5, 3, 3, 3), (5,)),
        dtypes=("f32", "bf16", "f16"),
        slack=2,
    ),
    Case(
        "conv2d_strided",
        lambda x, w: ts.conv2d(x, w, stride=2, padding=(1, 0)),
        lambda x, w: conv(x, w, stride=2, pads=[(1, 1), (0, 0)]),
        ((2, 2, 7, 8), (3, 2, 3, 2)),
        dtypes=("f32",),
        slack=2,
    ),
    Case(
        "conv2d_same",
        lambda x, w: ts.conv2d(x, w, padding="same", dilation=2),
        lambda x, w: conv(x, w, pads=[(2, 2), (1, 1)], dilation=2),
        ((1, 2, "h", "w"), (3, 2, 3, 2)),
        dtypes=("f32",),
        slack=2,
    ),
    Case(
        "conv2d_1x1", ts.conv2d, conv, (("n", 3, 4, 5), (6, 3, 1, 1), (6,)), dtypes=("f32", "bf16"), slack=2
    ),
    Case(
        "conv2d_groups",
        lambda x, w, b: ts.conv2d(x, w, b, groups=2),
        lambda x, w, b: conv(x, w, b, groups=2),
        (("n", 4, 5, 5), (6, 2, 3, 3), (6,)),
        dtypes=("f32", "bf16"),
        slack=2,
    ),
    Case(
        "conv2d_depthwise",
        lambda x, w, b: ts.conv2d(x, w, b, groups=4, padding=1, stride=2),
        lambda x, w, b: conv(x, w, b, groups=4, pads=[(1, 1)] * 2, stride=2),
        (("n", 4, 6, 5), (4, 1, 3, 3), (4,)),
        dtypes=("f32", "bf16"),
        slack=2,
    ),
    Case(
        "conv2d_integers",
        lambda x, w: ts.conv2d(x, w, padding=1),
        lambda x, w: conv(x, w, pads=[(1, 1)] * 2),
        ((1, 2, 4, 5), (3, 2, 3, 3)),
        dtypes=("i64",),
    ),
    Case(
        "conv_transpose1d",
        lambda x, w, b: ts.conv_transpose1d(x, w, b, stride=2, padding=1),
        lambda x, w, b: conv_transpose(x, w, stride=2, padding=1) + b[:, None],
        ((2, 3, "n"), (3, 4, 3), (4,)),
        dtypes=NARROW,
        slack=2,
    ),
    Case(
        "conv_transpose2d",
        lambda x, w: ts.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1, dilation=2, groups=2),
        lambda x, w: conv_transpose(x, w, stride=2, padding=1, extra=1, dilation=2, groups=2),
        (("n", 4, 3, 4), (4, 3, 3, 3)),
        dtypes=("f32",),
        slack=2,
    ),
    Case(
        "conv_transpose2d_cut",
        lambda x, w: ts.conv_transpose2d(x, w, padding=2),
        lambda x, w: conv_transpose(x, w, padding=2),
        ((1, 2, 6, 7), (2, 3, 2, 2)),
        dtypes=("f32", "bf16"),
        slack=2,
    ),
    Case(
        "max_pool1d",
        lambda x: ts.max_pool1d(x, 3, 2, padding=1),
        lambda x: fold_windows(
            x, (3,), 2, [(1, 1)], 1, -np.inf if x.dtype.kind == "f" else -100, lambda part: part.max(-1)
        ),
        ((2, 3, "n"),),
        dtypes=("f32", "bf16", "i32"),
    ),
    Case(
        "max_pool2d",
        lambda x: ts.max_pool2d(x, (2, 3), 1, dilation=2),
        lambda x: fold_windows(x, (2, 3), 1, [(0, 0)] * 2, 2, 0, lambda part: part.max((-2, -1))),
        (("n", 2, 6, 7),),
        dtypes=("f32", "u8"),
    ),
    Case(
        "avg_pool1d",
        lambda x: ts.avg_pool1d(x, 2),
        lambda x: fold_windows(x, (2,), 2, [(0, 0)], 1, 0, lambda part: part.mean(-1)),
        ((3, "n"),),
        least=2,
        dtypes=("f32", "i32"),
    ),
    Case(
        "avg_pool2d",
        lambda x: ts.avg_pool2d(x, 3, 2, padding=1),
        lambda x: fold_windows(x, (3, 3), 2, [(1, 1)] * 2, 1, 0, _mean),
        (("n", 2, 6, 7),),
        dtypes=NARROW,
        slack=2,
    ),
    Case(
        "avg_pool2d_inside",
        lambda x: ts.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
        lambda x: fold_windows(
            x, (3, 3), 2, [(1, 1)] * 2, 1, np.nan, lambda part: np.asarray(np.nanmean(part, (-2, -1)))
        ),
        (("n", 2, 6, 7),),
        dtypes=("f32",),
        slack=2,
    ),
    Case(
        "adaptive_avg_pool1d",
        lambda x: ts.adaptive_avg_pool1d(x, 3),
        lambda x: adaptive(x, (3,)),
        ((2, 2, "n"),),
        dtypes=NARROW,
        slack=2,
    ),
    Case(
        "adaptive_avg_pool2d",
        lambda x: ts.adaptive_avg_pool2d(x, (3, 2)),
        lambda x: adaptive(x, (3, 2)),
        (("n", 2, 7, 6),),
        dtypes=("f32", "i32"),
        slack=2,
    ),
    Case(
        "adaptive_avg_pool2d_global",
        lambda x: ts.adaptive_avg_pool2d(x, 1),
        lambda x: x.mean((2, 3), keepdims=True),
        (("n", 2, "h", 6),),
        dtypes=("f32", "bf16"),
        slack=2,
    ),
    Case(
        "resize_nearest",
        lambda x: ts.resize(x, (5, 9)),
        lambda x: nearest(x, (5, 9)),
        (("n", 2, 3, 4),),
        dtypes=("f32", "bf16", "u8"),
    ),
    Case(
        "resize_scale",
        lambda x: ts.resize(x, scale=(2, 3)),
        lambda x: nearest(x, (x.shape[2] * 2, x.shape[3] * 3)),
        ((1, 2, "h", "w"),),
        dtypes=("f32",),
    ),
    Case(
        "resize_linear",
        lambda x: ts.resize(x, (5, 3), mode="linear"),
        lambda x: linear(x, (5, 3)),
        (("n", 2, 3, 7),),
        dtypes=NARROW,
        slack=3,
    ),
    Case(
        "resize_corners",
        lambda x: ts.resize(x, (7,), mode="linear", align_corners=True),
        lambda x: linear(x, (7,), corners=True),
        ((2, 2, "n"),),
        dtypes=("f32",),
        slack=3,
    ),
]
