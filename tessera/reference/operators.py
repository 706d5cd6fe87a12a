"""What every operator computes, in NumPy.

A function takes the node and its operands, all in the type that is computed in
(float32 or float64 for floats), and gives the result, not yet rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tessera.program.graph import Node, attr_ints
from tessera.reference.movement import axis_of, inside, sizes

Array = np.ndarray[Any, np.dtype[Any]]
Compute = Callable[..., Array]


def erf(x: Array) -> Array:
    """The error function, of each element in double precision by the C library."""
    flat = np.fromiter(map(math.erf, x.ravel().tolist()), dtype=np.float64, count=x.size)
    result: Array = flat.reshape(x.shape).astype(x.dtype)
    return result


def sigmoid(x: Array) -> Array:
    """`1 / (1 + exp(-x))`; exp never overflows."""
    small = np.exp(-np.abs(x))
    result: Array = np.where(x >= 0, np.ones((), x.dtype), small) / (1 + small)
    return result


def gelu(x: Array, approximate: str) -> Array:
    """`x/2 * (1 + erf(x/√2))`, or `x/2 * (1 + tanh(√(2/π) * (x + 0.044715 x³)))`."""
    if approximate == "tanh":
        bend = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    else:
        bend = erf(x * math.sqrt(0.5))
    result: Array = x * 0.5 * (1 + bend)
    return result


def softmax(x: Array, axis: int) -> Array:
    """`exp(x - max) / sum(exp(x - max))` along `axis`."""
    if x.size == 0:
        return x
    power = np.exp(x - np.max(x, axis=axis, keepdims=True))
    result: Array = power / np.sum(power, axis=axis, keepdims=True)
    return result


def log_softmax(x: Array, axis: int) -> Array:
    """`x - max - log(sum(exp(x - max)))` along `axis`."""
    if x.size == 0:
        return x
    lowered = x - np.max(x, axis=axis, keepdims=True)
    result: Array = lowered - np.log(np.sum(np.exp(lowered), axis=axis, keepdims=True))
    return result


def layernorm(x: Array, *affine: Array, eps: float) -> Array:
    """`(x - mean) / sqrt(variance + eps)` over the last axis, times weight, plus bias."""
    if x.size == 0:
        return x
    centered = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centered * centered, axis=-1, keepdims=True)
    result: Array = centered / np.sqrt(variance + np.asarray(eps, x.dtype))
    if affine:
        result = result * affine[0]
    return result + affine[1] if len(affine) > 1 else result


def rmsnorm(x: Array, *weight: Array, eps: float) -> Array:
    """`x / sqrt(mean(x²) + eps)` over the last axis, times weight."""
    if x.size == 0:
        return x
    power = np.mean(x * x, axis=-1, keepdims=True)
    result: Array = x / np.sqrt(power + np.asarray(eps, x.dtype))
    return result * weight[0] if weight else result


def power(x: Array, exponent: Array) -> Array:
    """`x ** exponent`; of integers cut off toward zero where the exponent is negative."""
    if x.dtype.kind == "f":
        return np.asarray(np.power(x, exponent))
    # What 1 / x leaves after cutting off: only of 1 and -1 anything.
    odd = np.where(exponent % 2 == 0, 1, x)
    below = np.where(np.abs(x.astype(np.int64)) == 1, odd, 0)
    return np.where(exponent < 0, below, np.power(x, np.maximum(exponent, 0))).astype(x.dtype)


def attention(node: Node, q: Array, k: Array, v: Array, *mask: Array) -> Array:
    """Softmax of the scaled products of queries and keys, times values; 0 where a row sees no key."""
    each = q.shape[-3] // k.shape[-3] if k.shape[-3] else 1
    k, v = (np.repeat(x, each, axis=-3) for x in (k, v))
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * np.asarray(node.attrs["scale"], q.dtype)
    hidden = np.asarray(-np.inf, q.dtype)
    for seen in mask:
        scores = np.where(seen, scores, hidden) if seen.dtype == bool else scores + seen
    if node.attrs["causal"]:
        queries, keys = scores.shape[-2:]
        scores = np.where(np.tril(np.ones((queries, keys), bool), keys - queries), scores, hidden)
    top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    power = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = np.sum(power, axis=-1, keepdims=True)
    return np.asarray(np.matmul(power, v) / np.where(total == 0, 1, total), q.dtype)


def _lowest(dtype: np.dtype[Any]) -> Any:
    if dtype == np.bool_:
        return False
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: np.dtype[Any]) -> Any:
    if dtype == np.bool_:
        return True
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def _reduce(function: Callable[..., Any]) -> Compute:
    def compute(node: Node, x: Array) -> Array:
        return np.asarray(function(x, axis=attr_ints(node, "axes"), keepdims=bool(node.attrs["keepdims"])))

    return compute


def _mean(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    count = math.prod(x.shape[a] for a in axis)
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims) / np.asarray(count, x.dtype))


def _each(function: Callable[..., Any]) -> Compute:
    return lambda _node, *operands: np.asarray(function(*operands))


def _position(function: Callable[..., Any]) -> Compute:
    def compute(node: Node, x: Array) -> Array:
        (axis,) = attr_ints(node, "axes")
        keepdims = bool(node.attrs["keepdims"])
        if x.shape[axis] == 0:
            return np.zeros(
                [1 if a == axis else n for a, n in enumerate(x.shape) if keepdims or a != axis], int
            )
        return np.asarray(function(x, axis=axis, keepdims=keepdims), np.int64)

    return compute


def _scatter_add(node: Node, x: Array, index: Array, updates: Array) -> Array:
    axis, result = axis_of(node), x.copy()
    for r in range(index.shape[axis] if x.size else 0):
        at = inside(np.take(index, [r], axis), x.shape[axis])
        total = np.take_along_axis(result, at, axis) + np.take(updates, [r], axis)
        np.put_along_axis(result, at, total, axis)
    return result


def _argsort(node: Node, x: Array) -> Array:
    axis, kept = axis_of(node), sizes(node)[axis_of(node)]
    if node.attrs["descending"]:
        # Sorted from the back, equal ones come in reverse order: so they are counted from the back too.
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    return np.take(order, np.arange(kept), axis=axis)


def _iota(node: Node) -> Array:
    shape, axis = sizes(node), axis_of(node)
    column = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.broadcast_to(column, shape)


COMPUTE: dict[str, Compute] = {
    "neg": _each(np.negative),
    "abs": _each(np.abs),
    "exp": _each(np.exp),
    "log": _each(np.log),
    "sqrt": _each(np.sqrt),
    "rsqrt": _each(lambda x: 1 / np.sqrt(x)),
    "tanh": _each(np.tanh),
    "sigmoid": _each(sigmoid),
    "erf": _each(erf),
    "relu": _each(lambda x: np.maximum(x, np.zeros((), x.dtype))),
    "silu": _each(lambda x: x * sigmoid(x)),
    "gelu": lambda node, x: gelu(x, str(node.attrs["approximate"])),
    "exp2": _each(np.exp2),
    "expm1": _each(np.expm1),
    "log2": _each(np.log2),
    "log1p": _each(np.log1p),
    "sin": _each(np.sin),
    "cos": _each(np.cos),
    "sign": _each(np.sign),
    "floor": _each(np.floor),
    "ceil": _each(np.ceil),
    "round": _each(np.rint),
    "trunc": _each(np.trunc),
    "isnan": _each(np.isnan),
    "isinf": _each(np.isinf),
    "add": _each(np.add),
    "sub": _each(np.subtract),
    "mul": _each(np.multiply),
    "div": _each(np.divide),
    "maximum": _each(np.maximum),
    "minimum": _each(np.minimum),
    "floordiv": _each(np.floor_divide),
    "mod": _each(np.mod),
    "pow": _each(power),
    "eq": _each(np.equal),
    "ne": _each(np.not_equal),
    "lt": _each(np.less),
    "le": _each(np.less_equal),
    "gt": _each(np.greater),
    "ge": _each(np.greater_equal),
    "where": _each(np.where),
    "matmul": _each(np.matmul),
    "sum": _reduce(lambda x, **kw: np.sum(x, dtype=x.dtype, **kw)),
    "prod": _reduce(lambda x, **kw: np.prod(x, dtype=x.dtype, **kw)),
    "mean": _reduce(_mean),
    "max": _reduce(lambda x, **kw: np.max(x, initial=_lowest(x.dtype), **kw)),
    "min": _reduce(lambda x, **kw: np.min(x, initial=_highest(x.dtype), **kw)),
    "softmax": lambda node, x: softmax(x, axis_of(node)),
    "argmax": _position(np.argmax),
    "argmin": _position(np.argmin),
    "log_softmax": lambda node, x: log_softmax(x, axis_of(node)),
    "rmsnorm": lambda node, *xs: rmsnorm(*xs, eps=float(node.attrs["eps"])),
    "layernorm": lambda node, *xs: layernorm(*xs, eps=float(node.attrs["eps"])),
    "attention": attention,
    "cumsum": lambda node, x: np.cumsum(x, axis=axis_of(node), dtype=x.dtype),
    "scatter_add": _scatter_add,
    "argsort": _argsort,
    "iota": _iota,
    "extent": lambda node, x: np.asarray(x.shape[axis_of(node)], np.int64),
}
"""Operators that compute numbers; `node` has the shape of this execution."""
