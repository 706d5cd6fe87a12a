"""Whether requests to a program may be stacked, and along which symbol.

A program with a symbolic first axis can still mix rows: a sum over the batch, a
softmax along it. Stacking the requests of strangers would then change their
answers. So the graph is followed from inputs to outputs, and requests are stacked
only if every operator treats each row by itself. A program without a graph (raw
kernels) says nothing about its rows and is run request by request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessera.program.dim import Dim, as_symbol, product, symbols_of
from tessera.program.graph import Graph, Node, attr_ints
from tessera.program.program import Program


@dataclass(frozen=True, slots=True)
class RowRule:
    """How requests to one program may be put together."""

    symbol: str | None
    """The size of axis 0 of every tensor; None: requests run one by one."""
    reason: str | None = None
    """Why they run one by one."""


class _Mixed(Exception):  # noqa: N818
    """Rows meet in this operator, or it cannot be told."""


def row_rule(program: Program) -> RowRule:
    """How requests to `program` may be stacked."""
    tensors = [p for p in program.inputs if p.kind == "tensor"]
    ports = [*tensors, *program.outputs]
    if not tensors or not program.outputs:
        return RowRule(None, "it has no tensor inputs or no outputs")
    symbol = as_symbol(tensors[0].shape[0]) if tensors[0].shape else None
    if symbol is None:
        return RowRule(None, f"axis 0 of input {tensors[0].name!r} has a fixed size")
    for port in ports:
        if not port.shape or as_symbol(port.shape[0]) != symbol or symbol in symbols_of(*port.shape[1:]):
            return RowRule(None, f"{port.name!r} does not have {symbol} rows along axis 0, and only there")
    if any(p.kind == "scalar" and p.name == symbol for p in program.inputs):
        return RowRule(None, f"the scalar input {symbol!r} fixes the number of rows")
    if program.graph is None:
        return RowRule(None, "it is made of raw kernels, which do not say whether rows are independent")
    try:
        _follow(program.graph, symbol)
    except _Mixed as mixed:
        return RowRule(None, f"rows are not independent in {mixed}")
    return RowRule(symbol)


Axis = int | None
"""The axis of a value that runs over the rows; None: the value is the same for all rows."""


def _follow(graph: Graph, symbol: str) -> None:
    axes: list[Axis] = []
    for node in graph.nodes:
        operands = [(graph.nodes[i], axes[i]) for i in node.inputs]
        rule = _RULES.get(node.op)
        if rule is None:
            raise _Mixed(str(node))
        axis = rule(node, operands)
        others = symbols_of(*(d for i, d in enumerate(node.shape) if i != axis))
        if symbol in others or (axis is not None and as_symbol(node.shape[axis]) != symbol):
            raise _Mixed(str(node))
        axes.append(axis)
    for output in graph.outputs:
        if axes[output] != 0:
            raise _Mixed(str(graph.nodes[output]))


Operands = list[tuple[Node, Axis]]


def _input(node: Node, operands: Operands) -> Axis:  # noqa: ARG001
    return 0 if node.shape and as_symbol(node.shape[0]) is not None else None


def _constant(node: Node, operands: Operands) -> Axis:  # noqa: ARG001
    return None


def _elementwise(node: Node, operands: Operands) -> Axis:
    found = {len(node.shape) - len(operand.shape) + axis for operand, axis in operands if axis is not None}
    if len(found) > 1:
        raise _Mixed(str(node))
    return found.pop() if found else None


def _reduction(node: Node, operands: Operands) -> Axis:
    axis = operands[0][1]
    if axis is None:
        return None
    axes = attr_ints(node, "axes")
    if axis in axes:
        raise _Mixed(str(node))
    return axis if node.attrs.get("keepdims") else axis - sum(a < axis for a in axes)


def _softmax(node: Node, operands: Operands) -> Axis:
    return _whole(node, operands, along=int(str(node.attrs["axis"])))


def _layernorm(node: Node, operands: Operands) -> Axis:
    if any(axis is not None for _, axis in operands[1:]):
        raise _Mixed(str(node))
    return _whole(node, operands, along=len(node.shape) - 1)


def _whole(node: Node, operands: Operands, *, along: int) -> Axis:
    axis = operands[0][1]
    if axis is not None and axis == along:
        raise _Mixed(str(node))
    return axis


def _matmul(node: Node, operands: Operands) -> Axis:
    (a, a_axis), (b, b_axis) = operands
    rank = len(node.shape)
    found: set[int] = set()
    if a_axis is not None:
        if a_axis == len(a.shape) - 1:
            raise _Mixed(str(node))
        found.add(rank - len(a.shape) + a_axis)
    if b_axis is not None:
        if b_axis == len(b.shape) - 2:
            raise _Mixed(str(node))
        found.add(rank - len(b.shape) + b_axis)
    # Rows of one operand against columns of the other: every row meets every other.
    if len(found) > 1:
        raise _Mixed(str(node))
    return found.pop() if found else None


def _reshape(node: Node, operands: Operands) -> Axis:
    operand, axis = operands[0]
    if axis is None:
        return None
    before: Dim = product(operand.shape[:axis])
    for target, size in enumerate(node.shape):
        if size == operand.shape[axis] and product(node.shape[:target]) == before:
            return target
    raise _Mixed(str(node))


def _transpose(node: Node, operands: Operands) -> Axis:
    axis = operands[0][1]
    return None if axis is None else attr_ints(node, "perm").index(axis)


def _reading(node: Node, operands: Operands) -> Axis:
    """Operators that leave the axes they do not name as they are."""
    axis = operands[0][1]
    if any(other is not None and other != axis for _, other in operands[1:]):
        raise _Mixed(str(node))
    if axis is None:
        return None
    settings = {"slice": ("starts", "steps"), "roll": ("shifts",), "pad": ("before",)}
    plain = {"starts": 0, "steps": 1, "shifts": 0, "before": 0}
    if any(attr_ints(node, name)[axis] != plain[name] for name in settings.get(node.op, ())):
        raise _Mixed(str(node))
    if node.attrs.get("axis") == axis:
        raise _Mixed(str(node))
    return axis


def _concat(node: Node, operands: Operands) -> Axis:
    axes = {axis for _, axis in operands}
    if len(axes) > 1 or int(str(node.attrs["axis"])) in axes:
        raise _Mixed(str(node))
    return axes.pop()


def _windows(node: Node, operands: Operands) -> Axis:
    axis = operands[0][1]
    if axis is not None and axis >= len(operands[0][0].shape) - len(attr_ints(node, "strides")):
        raise _Mixed(str(node))
    return axis


def _attention(node: Node, operands: Operands) -> Axis:
    rank = len(node.shape)
    axes = {axis for _, axis in operands[:3]}
    axis = axes.pop()
    if axes or (axis is not None and axis > rank - 3):
        raise _Mixed(str(node))
    for mask, along in operands[3:]:
        if along is not None and along + rank - len(mask.shape) != axis:
            raise _Mixed(str(node))
    return axis


def _expand(node: Node, operands: Operands) -> Axis:
    axis = operands[0][1]
    return None if axis is None else axis + len(node.shape) - len(operands[0][0].shape)


def _take(node: Node, operands: Operands) -> Axis:
    (_, axis), (index, index_axis) = operands
    along = int(str(node.attrs["axis"]))
    if axis is not None and (axis == along or index_axis is not None):
        raise _Mixed(str(node))
    if axis is None:
        return None if index_axis is None else along + index_axis
    return axis if axis < along else axis - 1 + len(index.shape)


_ELEMENTWISE = [
    "abs", "add", "cast", "ceil", "cos", "div", "eq", "erf", "exp", "exp2", "expm1", "floor",
    "floordiv", "ge", "gelu", "gt", "isinf", "isnan", "le", "log", "log1p", "log2", "lt", "maximum",
    "minimum", "mod", "mul", "ne", "neg", "pow", "relu", "round", "rsqrt", "sigmoid", "sign", "silu",
    "sin", "sqrt", "sub", "tanh", "trunc", "where",
]  # fmt: skip

_RULES: dict[str, Callable[[Node, Operands], Axis]] = {
    "input": _input,
    "constant": _constant,
    "scalar": _constant,
    "iota": _constant,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(("sum", "prod", "mean", "max", "min", "argmax", "argmin"), _reduction),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("layernorm", "rmsnorm"), _layernorm),
    **dict.fromkeys(("slice", "roll", "pad", "cumsum", "argsort"), _reading),
    "attention": _attention,
    "concat": _concat,
    "windows": _windows,
    "expand": _expand,
    "take": _take,
    "matmul": _matmul,
    "reshape": _reshape,
    "transpose": _transpose,
}
"""The axis of the rows in the result of each operator. An operator that is not here stops stacking."""
