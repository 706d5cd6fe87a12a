"""Compute what numbers alone make: at compile time, with the reference."""

from __future__ import annotations

import math

import msgspec

from tessera.compiler.operators import POINTWISE
from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.graph import Graph, Node


def fold_numbers(graph: Graph) -> Graph:
    """`graph` with elementwise operators of numbers made numbers, where these are finite."""

    def visit(rewriter: Rewriter, node: Node) -> int:
        value = _value(rewriter, node)
        if value is None:
            return rewriter.add(node)
        number = msgspec.structs.replace(node, op="scalar", inputs=(), attrs={"value": value})
        return rewriter.add(number)

    return rewrite(graph, visit)


def _value(rewriter: Rewriter, node: Node) -> float | int | bool | None:
    """What a node is, if its operands are numbers and a literal can hold it."""
    operands = [rewriter.nodes[i] for i in node.inputs]
    if node.op not in POINTWISE - {"copy"} or node.shape or any(n.op != "scalar" for n in operands):
        return None
    from tessera.reference import run_graph

    moved = msgspec.structs.replace(node, inputs=tuple(range(len(operands))))
    alone = Graph(name="number", nodes=(*operands, moved), outputs=(len(operands),))
    found = run_graph(alone, {}, {})["output"]
    number = float(found) if node.dtype.is_float else int(found)
    # A literal of a program must be one that JSON holds.
    if not math.isfinite(number):
        return None
    return bool(number) if node.dtype.kind == "bool" else number
