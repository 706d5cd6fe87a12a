"""Give every output memory of its own."""

from __future__ import annotations

import msgspec

from tessera.compiler.operators import LEAVES
from tessera.program.graph import Graph, Node


def separate_outputs(graph: Graph) -> Graph:
    """`graph` with a `copy` behind every output that is an input, a weight, a number, or another output."""
    nodes = list(graph.nodes)
    outputs: list[int] = []
    for index in graph.outputs:
        source = graph.nodes[index]
        if source.op in LEAVES or index in outputs:
            copy = Node(op="copy", inputs=(index,), shape=source.shape, dtype=source.dtype)
            outputs.append(len(nodes))
            nodes.append(msgspec.structs.replace(copy, file=source.file, line=source.line))
        else:
            outputs.append(index)
    return msgspec.structs.replace(graph, nodes=tuple(nodes), outputs=tuple(outputs))
