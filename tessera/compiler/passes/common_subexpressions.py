"""Compute each value once."""

from __future__ import annotations

from typing import Any

from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.graph import Graph, Node


def merge_common_subexpressions(graph: Graph) -> Graph:
    """`graph` with equal operators on equal operands made one."""
    known: dict[Any, int] = {}

    def visit(rewriter: Rewriter, node: Node) -> int:
        key = _key(node)
        if key not in known:
            known[key] = rewriter.add(node)
        return known[key]

    return rewrite(graph, visit)


def _key(node: Node) -> Any:
    # repr tells 1 from 1.0 and True, and 0.0 from -0.0, which compare equal.
    attrs = tuple(sorted((name, repr(value)) for name, value in node.attrs.items()))
    # a + b is b + a to the last bit.
    inputs = tuple(sorted(node.inputs)) if node.op in _COMMUTATIVE else node.inputs
    return node.op, inputs, attrs, node.shape, node.dtype


_COMMUTATIVE = frozenset({"add", "mul", "eq", "ne"})
