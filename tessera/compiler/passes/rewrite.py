"""Making a new graph out of an old one, node by node."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tessera.program.graph import Graph, Node


class Rewriter:
    """The graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, node: Node) -> int:
        """Append `node`; its index."""
        self.nodes.append(node)
        return len(self.nodes) - 1

    def operand(self, node: Node, position: int = 0) -> Node:
        """The node behind an operand of `node`."""
        return self.nodes[node.inputs[position]]


Visit = Callable[[Rewriter, Node], int]
"""Called for each node in order, its inputs already those of the new graph; gives what stands for it."""


def rewrite(graph: Graph, visit: Visit) -> Graph:
    """`graph` with every node replaced by what `visit` makes of it."""
    rewriter = Rewriter()
    new: list[int] = []
    for node in graph.nodes:
        moved = msgspec.structs.replace(node, inputs=tuple(new[i] for i in node.inputs))
        new.append(visit(rewriter, moved))
    outputs = tuple(new[i] for i in graph.outputs)
    return msgspec.structs.replace(graph, nodes=tuple(rewriter.nodes), outputs=outputs)
