"""What operators that move elements do, in NumPy: they take and give elements as they are stored.

A function takes the node, with the shape of this execution, and its operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tessera.program.graph import Node, attr_ints

Array = np.ndarray[Any, np.dtype[Any]]
Move = Callable[..., Array]


def sizes(node: Node) -> tuple[int, ...]:
    """The shape of a node whose sizes are numbers."""
    return tuple(int(str(size)) for size in node.shape)


def axis_of(node: Node) -> int:
    """The axis that a node works along."""
    return int(str(node.attrs["axis"]))


def _slice(node: Node, x: Array) -> Array:
    starts, steps = attr_ints(node, "starts"), attr_ints(node, "steps")
    for axis, (start, step, count) in enumerate(zip(starts, steps, sizes(node), strict=True)):
        size = x.shape[axis]
        if step > 0:
            first = start if start >= 0 else max(size + start, 0)
        else:
            first = min(start, size - 1) if start >= 0 else size + start
        x = np.take(x, first + step * np.arange(count), axis=axis)
    return x


def _roll(node: Node, x: Array) -> Array:
    shifts = attr_ints(node, "shifts")
    return np.roll(x, shifts, axis=tuple(range(len(shifts))))


def _pad(node: Node, x: Array, fill: Array) -> Array:
    before = attr_ints(node, "before")
    pairs = [(b, n - size - b) for b, n, size in zip(before, sizes(node), x.shape, strict=True)]
    mode = str(node.attrs["mode"])
    if mode != "constant" and x.size == 0:
        return np.zeros(sizes(node), x.dtype)
    if mode == "constant":
        result = np.full(sizes(node), fill, x.dtype)
        result[tuple(slice(b, b + size) for (b, _), size in zip(pairs, x.shape, strict=True))] = x
        return result
    return np.pad(x, pairs, mode="edge" if mode == "edge" else "reflect")


def inside(index: Array, size: int) -> Array:
    """Positions counted from the end where they are negative, and brought back inside."""
    return np.clip(np.where(index < 0, index + size, index), 0, max(size - 1, 0))


def _take(node: Node, x: Array, index: Array) -> Array:
    axis = axis_of(node)
    if x.shape[axis] == 0:
        return np.zeros(sizes(node), x.dtype)
    return np.take(x, inside(index, x.shape[axis]), axis=axis)


def _take_along(node: Node, x: Array, index: Array) -> Array:
    axis = axis_of(node)
    if x.shape[axis] == 0:
        return np.zeros(sizes(node), x.dtype)
    return np.take_along_axis(x, inside(index, x.shape[axis]), axis)


def _scatter(node: Node, x: Array, index: Array, updates: Array) -> Array:
    axis, result = axis_of(node), x.copy()
    for r in range(index.shape[axis] if x.size else 0):
        at = np.take(index, [r], axis)
        np.put_along_axis(result, inside(at, x.shape[axis]), np.take(updates, [r], axis), axis)
    return result


def _windows(node: Node, x: Array, fill: Array) -> Array:
    settings = (attr_ints(node, name) for name in ("strides", "dilations", "before", "spread"))
    strides, dilations, befores, spreads = settings
    rank, shape = len(strides), sizes(node)
    lead = x.ndim - rank
    inside, places = np.ones(shape[lead:], bool), []
    for axis, (stride, dilation, before, spread) in enumerate(
        zip(strides, dilations, befores, spreads, strict=True)
    ):
        k, o = np.arange(shape[lead + axis]), np.arange(shape[lead + rank + axis])
        at = k[:, None] * dilation + o * stride - before
        ones = [1] * (2 * rank)
        ones[axis], ones[rank + axis] = at.shape
        at = at.reshape(ones)
        size = x.shape[lead + axis]
        inside &= (at >= 0) & (at < size * spread) & (at % spread == 0)
        places.append(np.clip(at // spread, 0, max(size - 1, 0)))
    if x.size == 0:
        return np.full(shape, fill, x.dtype)
    result: Array = np.where(inside, x[(..., *places)], fill)
    return result


MOVE: dict[str, Move] = {
    "reshape": lambda node, x: x.reshape(sizes(node)),
    "expand": lambda node, x: np.broadcast_to(x, sizes(node)),
    "transpose": lambda node, x: np.transpose(x, attr_ints(node, "perm")),
    "slice": _slice,
    "roll": _roll,
    "concat": lambda node, *xs: np.concatenate(xs, axis=axis_of(node)),
    "pad": _pad,
    "take": _take,
    "take_along": _take_along,
    "scatter": _scatter,
    "windows": _windows,
}
"""By operator."""
