"""A program's graph computed by CuPy, operator by operator, on a GPU.

CuPy has NumPy's names: the same table computes with either, and is tested with NumPy.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tessera.program.dim import evaluate
from tessera.program.graph import Graph, Node, attr_ints
from tessera.reference.movement import axis_of, sizes

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Operation = Callable[..., Any]
"""(cupy or numpy, node with sizes as numbers, operands) → result."""

TYPES = frozenset({"f64", "f32", "tf32", "f16", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "bool"})
"""CuPy has no arithmetic on 8-bit floats and bfloat16."""


def cupy_call(
    cupy: Any,
    graph: Graph,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    symbols: Mapping[str, int],
) -> Callable[[], list[Array]]:
    """What computes the graph's outputs, from NumPy and to NumPy; weights are on the GPU before.

    Args:
        cupy: The module, or numpy.
        graph: One whose operators and types are all known here.
        inputs: Arrays by name, copied to the GPU in each call, as the target's are.
        constants: Weights by name.
        symbols: Value of every symbolic size.
    """
    import msgspec
    import numpy as np

    to_host = getattr(cupy, "asnumpy", np.asarray)
    weights = {name: cupy.asarray(constants[name]) for name in graph.leaves("constant")}
    sized = [
        msgspec.structs.replace(node, shape=tuple(evaluate(dim, symbols) for dim in node.shape))
        for node in graph.nodes
    ]

    def call() -> list[Array]:
        values: list[Any] = []
        with np.errstate(all="ignore"):
            for node in sized:
                values.append(_value(cupy, node, values, inputs, weights))
        return [to_host(values[index]) for index in graph.outputs]

    return call


def _value(
    cupy: Any, node: Node, values: list[Any], inputs: Mapping[str, Array], weights: Mapping[str, Any]
) -> Any:
    if node.op == "input":
        return cupy.asarray(inputs[str(node.attrs["name"])])
    if node.op == "constant":
        return weights[str(node.attrs["name"])]
    if node.op == "scalar":
        return cupy.asarray(node.attrs["value"], dtype=node.dtype.numpy)
    operands = [values[i] for i in node.inputs]
    if node.op == "cast":
        return operands[0].astype(node.dtype.numpy)
    return OPERATIONS[node.op](cupy, node, *operands).astype(node.dtype.numpy, copy=False)


def _named(name: str) -> Operation:
    return lambda xp, _node, *operands: getattr(xp, name)(*operands)


def _reduction(name: str) -> Operation:
    def compute(xp: Any, node: Node, x: Any) -> Any:
        return getattr(xp, name)(x, axis=attr_ints(node, "axes"), keepdims=bool(node.attrs["keepdims"]))

    return compute


def _position(name: str) -> Operation:
    def compute(xp: Any, node: Node, x: Any) -> Any:
        (axis,) = attr_ints(node, "axes")
        found = getattr(xp, name)(x, axis=axis)
        return xp.expand_dims(found, axis) if node.attrs["keepdims"] else found

    return compute


def _sigmoid(xp: Any, x: Any) -> Any:
    # By way of tanh: never overflows.
    return xp.tanh(x * 0.5) * 0.5 + 0.5


def _erf(xp: Any, x: Any) -> Any:
    if xp.__name__ == "cupy":
        return importlib.import_module("cupyx.scipy.special").erf(x)
    from tessera.reference import operators

    return operators.erf(x)


def _gelu(xp: Any, node: Node, x: Any) -> Any:
    if node.attrs["approximate"] != "tanh":
        return x * 0.5 * (1 + _erf(xp, x * math.sqrt(0.5)))
    bend = xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    return x * 0.5 * (1 + bend)


def _softmax(xp: Any, node: Node, x: Any) -> Any:
    power = xp.exp(x - xp.max(x, axis=axis_of(node), keepdims=True))
    return power / xp.sum(power, axis=axis_of(node), keepdims=True)


def _log_softmax(xp: Any, node: Node, x: Any) -> Any:
    lowered = x - xp.max(x, axis=axis_of(node), keepdims=True)
    return lowered - xp.log(xp.sum(xp.exp(lowered), axis=axis_of(node), keepdims=True))


def _layernorm(xp: Any, node: Node, x: Any, *affine: Any) -> Any:
    centered = x - xp.mean(x, axis=-1, keepdims=True)
    variance = xp.mean(centered * centered, axis=-1, keepdims=True)
    result = centered / xp.sqrt(variance + float(str(node.attrs["eps"])))
    if affine:
        result = result * affine[0]
    return result + affine[1] if len(affine) > 1 else result


def _rmsnorm(xp: Any, node: Node, x: Any, *weight: Any) -> Any:
    result = x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + float(str(node.attrs["eps"])))
    return result * weight[0] if weight else result


def _attention(xp: Any, node: Node, q: Any, k: Any, v: Any, *mask: Any) -> Any:
    each = q.shape[-3] // k.shape[-3]
    if each > 1:
        k, v = xp.repeat(k, each, axis=-3), xp.repeat(v, each, axis=-3)
    scores = xp.matmul(q, xp.swapaxes(k, -1, -2)) * float(str(node.attrs["scale"]))
    for seen in mask:
        scores = xp.where(seen, scores, -xp.inf) if seen.dtype == bool else scores + seen
    if node.attrs["causal"]:
        rows, columns = scores.shape[-2:]
        scores = xp.where(xp.tril(xp.ones((rows, columns), bool), columns - rows), scores, -xp.inf)
    top = xp.max(scores, axis=-1, keepdims=True)
    power = xp.exp(scores - xp.where(xp.isneginf(top), 0, top))
    total = xp.sum(power, axis=-1, keepdims=True)
    return xp.matmul((power / xp.where(total == 0, 1, total)).astype(v.dtype), v)


OPERATIONS: dict[str, Operation] = {
    **{
        name: _named(name)
        for name in (
            "abs",
            "exp",
            "log",
            "sqrt",
            "tanh",
            "exp2",
            "expm1",
            "log2",
            "log1p",
            "sin",
            "cos",
            "sign",
            "floor",
            "ceil",
            "trunc",
            "isnan",
            "isinf",
            "add",
            "maximum",
            "minimum",
            "mod",
            "where",
            "matmul",
        )
    },
    "neg": _named("negative"),
    "round": _named("rint"),
    "sub": _named("subtract"),
    "mul": _named("multiply"),
    "div": _named("divide"),
    "floordiv": _named("floor_divide"),
    "eq": _named("equal"),
    "ne": _named("not_equal"),
    "lt": _named("less"),
    "le": _named("less_equal"),
    "gt": _named("greater"),
    "ge": _named("greater_equal"),
    "rsqrt": lambda xp, _, x: 1 / xp.sqrt(x),
    "relu": lambda xp, _, x: xp.maximum(x, 0),
    "sigmoid": lambda xp, _, x: _sigmoid(xp, x),
    "erf": lambda xp, _, x: _erf(xp, x),
    "silu": lambda xp, _, x: x * _sigmoid(xp, x),
    "gelu": _gelu,
    "sum": _reduction("sum"),
    "prod": _reduction("prod"),
    "mean": _reduction("mean"),
    "max": _reduction("max"),
    "min": _reduction("min"),
    "argmax": _position("argmax"),
    "argmin": _position("argmin"),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "layernorm": _layernorm,
    "rmsnorm": _rmsnorm,
    "attention": _attention,
    "cumsum": lambda xp, node, x: xp.cumsum(x, axis=axis_of(node)),
    "reshape": lambda _, node, x: x.reshape(sizes(node)),
    "expand": lambda xp, node, x: xp.broadcast_to(x, sizes(node)),
    "transpose": lambda xp, node, x: xp.transpose(x, attr_ints(node, "perm")),
    "concat": lambda xp, node, *xs: xp.concatenate(xs, axis=axis_of(node)),
    "roll": lambda xp, node, x: xp.roll(
        x, attr_ints(node, "shifts"), axis=tuple(range(len(attr_ints(node, "shifts"))))
    ),
}
"""By operator. Those that NumPy's names have no one word for are missing."""
