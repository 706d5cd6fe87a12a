"""A program's graph computed by PyTorch, operator by operator: a baseline that is known well."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tessera.program.dim import evaluate
from tessera.program.dtype import DType
from tessera.program.graph import Graph, Node, attr_ints
from tessera.reference.movement import axis_of, sizes

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Tensor = Any
"""A `torch.Tensor`: torch is no dependency, and loads in 2 s."""
Operation = Callable[..., Tensor]
"""(torch, node with sizes as numbers, operands) → result."""

DTYPES = {
    "f64": "float64", "f32": "float32", "tf32": "float32", "f16": "float16", "bf16": "bfloat16",
    "i64": "int64", "i32": "int32", "i16": "int16", "i8": "int8", "u8": "uint8", "bool": "bool",
}  # fmt: skip
"""By dtype, torch's own name; operators on other types are not torch's."""


def torch_call(
    graph: Graph,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    symbols: Mapping[str, int],
    device: str,
) -> Callable[[], list[Array]]:
    """What computes the graph's outputs, from NumPy and to NumPy; weights are on the device before.

    Args:
        graph: One whose operators and types are all known here.
        inputs: Arrays by name, copied to the device in each call, as the target's are.
        constants: Weights by name.
        symbols: Value of every symbolic size.
        device: `cpu` or `cuda:0`.
    """
    torch = importlib.import_module("torch")
    sized = [_sized(node, symbols) for node in graph.nodes]
    weights = {name: _to_torch(torch, constants[name], device) for name in graph.leaves("constant")}
    last_use = {i: user for user, node in enumerate(graph.nodes) for i in node.inputs}

    def call() -> list[Array]:
        values: list[Tensor] = []
        with torch.inference_mode():
            for position, node in enumerate(sized):
                values.append(_value(torch, node, values, inputs, weights, device))
                for operand in set(node.inputs):
                    if last_use[operand] == position and operand not in graph.outputs:
                        values[operand] = None
            return [_to_numpy(torch, values[index]) for index in graph.outputs]

    return call


def _sized(node: Node, symbols: Mapping[str, int]) -> Node:
    import msgspec

    return msgspec.structs.replace(node, shape=tuple(evaluate(dim, symbols) for dim in node.shape))


def _value(
    torch: Any,
    node: Node,
    values: list[Tensor],
    inputs: Mapping[str, Array],
    weights: Mapping[str, Tensor],
    device: str,
) -> Tensor:
    if node.op == "input":
        return _to_torch(torch, inputs[str(node.attrs["name"])], device)
    if node.op == "constant":
        return weights[str(node.attrs["name"])]
    dtype = _dtype(torch, node.dtype)
    if node.op == "scalar":
        return torch.tensor(node.attrs["value"], dtype=dtype, device=device)
    operands = [values[i] for i in node.inputs]
    if node.op == "cast":
        return operands[0].to(dtype)
    result = OPERATIONS[node.op](torch, node, *operands) if operands else _iota(torch, node, device)
    return result if result.dtype == dtype else result.to(dtype)


def _dtype(torch: Any, dtype: DType) -> Any:
    return getattr(torch, DTYPES[dtype.name])


def _to_torch(torch: Any, value: Array, device: str) -> Tensor:
    import numpy as np

    value = np.ascontiguousarray(value) if value.ndim else value
    if value.dtype.name == "bfloat16":
        made = torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    else:
        # A mapped weight cannot be written; torch would warn, and nobody writes.
        made = torch.from_numpy(value if value.flags.writeable else value.copy())
    return made if device == "cpu" else made.to(device)


def _to_numpy(torch: Any, value: Tensor) -> Array:
    value = value.detach().cpu().contiguous()
    if value.dtype == torch.bfloat16:
        import ml_dtypes

        found: Array = value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return found
    array: Array = value.numpy()
    return array


def _iota(torch: Any, node: Node, device: str) -> Tensor:
    shape, axis = sizes(node), axis_of(node)
    row = torch.arange(shape[axis], device=device, dtype=_dtype(torch, node.dtype))
    return row.reshape([-1 if a == axis else 1 for a in range(len(shape))]).expand(shape)


def _slice(torch: Any, node: Node, x: Tensor) -> Tensor:
    shape = sizes(node)
    starts, steps = attr_ints(node, "starts"), attr_ints(node, "steps")
    for axis, (start, step, count) in enumerate(zip(starts, steps, shape, strict=True)):
        size = x.shape[axis]
        if step > 0:
            first = start if start >= 0 else max(size + start, 0)
        else:
            first = min(start, size - 1) if start >= 0 else size + start
        if step == 1:
            x = x.narrow(axis, first, count)
        else:
            x = x.index_select(axis, first + step * torch.arange(count, device=x.device))
    return x


def _pad(torch: Any, node: Node, x: Tensor, fill: Tensor) -> Tensor:
    extents = zip(attr_ints(node, "before"), sizes(node), x.shape, strict=True)
    pairs = [(before, wanted - have - before) for before, wanted, have in extents]
    flat = [count for pair in reversed(pairs) for count in pair]
    if node.attrs["mode"] == "constant":
        return torch.nn.functional.pad(x, flat, value=fill.item())
    mode = {"edge": "replicate"}.get(str(node.attrs["mode"]), "reflect")
    return torch.nn.functional.pad(x, flat, mode=mode)


def _inside(torch: Any, index: Tensor, size: int) -> Tensor:
    index = index.to(torch.int64)
    return torch.where(index < 0, index + size, index).clamp(0, max(size - 1, 0))


def _take(torch: Any, node: Node, x: Tensor, index: Tensor) -> Tensor:
    at = _inside(torch, index, x.shape[axis_of(node)])
    return x.index_select(axis_of(node), at.reshape(-1)).reshape(sizes(node))


def _take_along(torch: Any, node: Node, x: Tensor, index: Tensor) -> Tensor:
    return torch.take_along_dim(x, _inside(torch, index, x.shape[axis_of(node)]), axis_of(node))


def _scatter_add(torch: Any, node: Node, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    at = _inside(torch, index, x.shape[axis_of(node)]).expand(updates.shape)
    return x.scatter_add(axis_of(node), at, updates)


def _attention(torch: Any, node: Node, q: Tensor, k: Tensor, v: Tensor, *mask: Tensor) -> Tensor:
    seen = mask[0] if mask else None
    if node.attrs["causal"]:
        rows, columns = q.shape[-2], k.shape[-2]
        below = torch.ones(rows, columns, dtype=torch.bool, device=q.device).tril(columns - rows)
        if seen is None:
            seen = below
        else:
            hidden = torch.zeros(rows, columns, dtype=q.dtype, device=q.device)
            seen = seen & below if seen.dtype == torch.bool else seen + hidden.masked_fill(~below, -torch.inf)
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=seen, scale=node.attrs["scale"], enable_gqa=q.shape[-3] != k.shape[-3]
    )


def _named(name: str) -> Operation:
    return lambda torch, _node, *operands: getattr(torch, name)(*operands)


def _reduction(name: str) -> Operation:
    def compute(torch: Any, node: Node, x: Tensor) -> Tensor:
        return getattr(torch, name)(x, dim=attr_ints(node, "axes"), keepdim=bool(node.attrs["keepdims"]))

    return compute


def _prod(torch: Any, node: Node, x: Tensor) -> Tensor:
    for axis in sorted(attr_ints(node, "axes"), reverse=True):
        x = torch.prod(x, dim=axis, keepdim=bool(node.attrs["keepdims"]))
    return x


def _position(name: str) -> Operation:
    def compute(torch: Any, node: Node, x: Tensor) -> Tensor:
        (axis,) = attr_ints(node, "axes")
        return getattr(torch, name)(x, dim=axis, keepdim=bool(node.attrs["keepdims"]))

    return compute


def _argsort(torch: Any, node: Node, x: Tensor) -> Tensor:
    order = torch.argsort(x, dim=axis_of(node), descending=bool(node.attrs["descending"]), stable=True)
    return order.narrow(axis_of(node), 0, sizes(node)[axis_of(node)])


def _normalized(torch: Any, _node: Node, x: Tensor, *affine: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], *affine, eps=float(str(_node.attrs["eps"])))


OPERATIONS: dict[str, Operation] = {
    **{
        name: _named(name)
        for name in (
            "neg",
            "abs",
            "exp",
            "log",
            "sqrt",
            "rsqrt",
            "tanh",
            "sigmoid",
            "erf",
            "relu",
            "exp2",
            "expm1",
            "log2",
            "log1p",
            "sin",
            "cos",
            "sign",
            "floor",
            "ceil",
            "round",
            "trunc",
            "isnan",
            "isinf",
            "add",
            "sub",
            "mul",
            "div",
            "maximum",
            "minimum",
            "pow",
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
            "where",
            "matmul",
        )
    },
    "floordiv": _named("floor_divide"),
    "mod": _named("remainder"),
    "silu": lambda torch, _, x: torch.nn.functional.silu(x),
    "gelu": lambda torch, node, x: torch.nn.functional.gelu(x, approximate=str(node.attrs["approximate"])),
    "sum": _reduction("sum"),
    "mean": _reduction("mean"),
    "max": _reduction("amax"),
    "min": _reduction("amin"),
    "prod": _prod,
    "argmax": _position("argmax"),
    "argmin": _position("argmin"),
    "softmax": lambda torch, node, x: torch.softmax(x, axis_of(node)),
    "log_softmax": lambda torch, node, x: torch.log_softmax(x, axis_of(node)),
    "rmsnorm": lambda torch, node, x, *weight: torch.nn.functional.rms_norm(
        x, x.shape[-1:], *weight, eps=float(str(node.attrs["eps"]))
    ),
    "layernorm": _normalized,
    "attention": _attention,
    "cumsum": lambda torch, node, x: torch.cumsum(x, axis_of(node)),
    "argsort": _argsort,
    "iota": lambda torch, node: _iota(torch, node, "cpu"),
    "extent": lambda torch, node, x: torch.tensor(x.shape[axis_of(node)], device=x.device),
    "reshape": lambda _, node, x: x.reshape(sizes(node)),
    "expand": lambda _, node, x: x.expand(sizes(node)),
    "transpose": lambda _, node, x: x.permute(attr_ints(node, "perm")),
    "concat": lambda torch, node, *xs: torch.cat(xs, axis_of(node)),
    "roll": lambda torch, node, x: torch.roll(
        x, attr_ints(node, "shifts"), tuple(range(len(attr_ints(node, "shifts"))))
    ),
    "slice": _slice,
    "pad": _pad,
    "take": _take,
    "take_along": _take_along,
    "scatter_add": _scatter_add,
}
"""By operator. `windows` and `scatter` are missing: torch has no one operator that does either."""
