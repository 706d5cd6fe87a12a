"""The least memory traffic and the arithmetic of a Program, from its ports and its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tessera.program.dim import Dim, evaluate
from tessera.program.graph import Graph, Node
from tessera.program.program import Program


@dataclass(frozen=True, slots=True)
class Cost:
    """What one execution must do at the least."""

    input_bytes: int
    output_bytes: int
    constant_bytes: int
    flops: int | None
    """Floating-point operations; None for raw kernels, whose arithmetic is not known."""

    @property
    def bytes(self) -> int:
        """Every input, output and weight moved once: what a perfect cache would leave."""
        return self.input_bytes + self.output_bytes + self.constant_bytes

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte moved; None where the FLOPs are not known."""
        return None if self.flops is None or not self.bytes else self.flops / self.bytes


def program_cost(program: Program, symbols: Mapping[str, int]) -> Cost:
    """Cost of one execution with these sizes.

    Raises:
        InputError: A size has no value in `symbols`.
    """
    used = (
        {str(n.attrs["name"]) for n in program.graph.nodes if n.op == "constant"} if program.graph else None
    )
    return Cost(
        input_bytes=sum(_elements(p.shape, symbols) * p.dtype.itemsize for p in program.inputs),
        output_bytes=sum(_elements(p.shape, symbols) * p.dtype.itemsize for p in program.outputs),
        constant_bytes=sum(
            math.prod(c.shape) * c.dtype.itemsize for c in program.constants if used is None or c.name in used
        ),
        flops=None if program.graph is None else graph_flops(program.graph, symbols),
    )


def graph_flops(graph: Graph, symbols: Mapping[str, int]) -> int:
    """Floating-point operations of a graph: a multiply-add counts 2, any other function 1 an element."""
    return sum(_node_flops(graph, node, symbols) for node in graph.nodes)


def graph_operations(graph: Graph, symbols: Mapping[str, int], capability: tuple[int, int]) -> dict[str, int]:
    """Operations of a graph by the kind of units that does them: `f32`, `bf16 tensor`.

    Products of matrices count for tensor cores where the compiler uses them for their operands' type on a GPU
    of that compute capability.
    """
    found: dict[str, int] = {}
    for node in graph.nodes:
        count, pipe = _node_flops(graph, node, symbols), "f64" if node.dtype.name == "f64" else "f32"
        if node.op in ("matmul", "attention"):
            operand = _uncast(graph, node.inputs[0])
            pipe = _TENSOR.get(operand, pipe) if capability >= _TENSOR_SINCE.get(operand, (99, 0)) else pipe
            if pipe == "i8 tensor":
                count = _matmul(_elements(node.shape, symbols), graph.nodes[node.inputs[0]], 2, symbols)
        if count:
            found[pipe] = found.get(pipe, 0) + count
    return found


def _uncast(graph: Graph, index: int) -> str:
    """The type that an operand is stored in: casts to wider types on the way in cost nothing."""
    node = graph.nodes[index]
    while node.op == "cast" and graph.nodes[node.inputs[0]].dtype.bits < node.dtype.bits:
        node = graph.nodes[node.inputs[0]]
    return node.dtype.name


_TENSOR = {
    "f16": "f16 tensor", "bf16": "bf16 tensor", "tf32": "tf32 tensor", "i8": "i8 tensor", "u8": "i8 tensor",
    "f8e4m3": "f8 tensor", "f8e5m2": "f8 tensor",
}  # fmt: skip
_TENSOR_SINCE = {name: (8, 9) if name.startswith("f8") else (8, 0) for name in _TENSOR}
"""What the compiler gives to tensor cores, and from which compute capability on."""


def _node_flops(graph: Graph, node: Node, symbols: Mapping[str, int]) -> int:
    if node.op in _MOVES or not node.dtype.is_float:
        return 0
    result = _elements(node.shape, symbols)
    if node.op == "attention":
        return _attention(graph, node, symbols)
    count = _COUNTS.get(node.op)
    if count is None:
        return result
    operand = graph.nodes[node.inputs[0]]
    return count(result, operand, len(node.inputs), symbols)


def _attention(graph: Graph, node: Node, symbols: Mapping[str, int]) -> int:
    """Two products, and what a softmax does; with a causal mask the same, as if every key were seen."""
    q, k, v = (graph.nodes[i].shape for i in node.inputs[:3])
    scores = _elements((*q[:-1], k[-2]), symbols)
    return scores * (2 * evaluate(q[-1], symbols) + 2 * evaluate(v[-1], symbols) + 5)


def _elements(shape: tuple[Dim, ...], symbols: Mapping[str, int]) -> int:
    return math.prod(evaluate(dim, symbols) for dim in shape)


_MOVES = frozenset(
    {"input", "constant", "scalar", "reshape", "transpose", "cast", "expand", "iota", "extent", "where"}
    | {"slice", "roll", "concat", "pad", "take", "take_along", "scatter", "windows"}
)
"""Operators that move or convert and compute nothing."""

_Count = Callable[[int, Node, int, Mapping[str, int]], int]
"""(elements of the result, first operand, number of operands, symbols) → operations."""


def _matmul(result: int, operand: Node, _: int, symbols: Mapping[str, int]) -> int:
    return 2 * result * evaluate(operand.shape[-1], symbols)


def _reduction(_: int, operand: Node, __: int, symbols: Mapping[str, int]) -> int:
    return _elements(operand.shape, symbols)


_COUNTS: dict[str, _Count] = {
    "matmul": _matmul,
    "cumsum": _reduction,
    "sum": _reduction,
    "prod": _reduction,
    "max": _reduction,
    "min": _reduction,
    "mean": lambda result, operand, n, s: _reduction(result, operand, n, s) + result,
    # max, subtract, exp, sum, divide
    "softmax": lambda result, *_: 5 * result,
    "log_softmax": lambda result, *_: 5 * result,
    # square, mean, scale; then weight where given
    "rmsnorm": lambda result, _, operands, __: (3 + operands - 1) * result,
    # mean, subtract, square, mean, scale; then weight and bias where given
    "layernorm": lambda result, _, operands, __: (5 + operands - 1) * result,
}
"""Operators that do not do one operation for each element of their result."""
