"""Leave out what no output needs."""

from __future__ import annotations

import msgspec

from tessera.program.graph import Graph, Node


def remove_dead_code(graph: Graph) -> Graph:
    """`graph` without nodes that no output depends on; inputs stay, for the caller passes them."""
    needed = set(graph.outputs)
    for index in range(len(graph.nodes) - 1, -1, -1):
        if index in needed:
            needed.update(graph.nodes[index].inputs)
    new: dict[int, int] = {}
    nodes: list[Node] = []
    for index, node in enumerate(graph.nodes):
        if index in needed or node.op == "input":
            new[index] = len(nodes)
            nodes.append(msgspec.structs.replace(node, inputs=tuple(new[i] for i in node.inputs)))
    outputs = tuple(new[i] for i in graph.outputs)
    return msgspec.structs.replace(graph, nodes=tuple(nodes), outputs=outputs)
