"""Find what can be computed once, when the program is loaded."""

from __future__ import annotations

from tessera.program.graph import Graph


def load_time_nodes(graph: Graph) -> frozenset[int]:
    """Indices of the nodes that depend on weights alone and have a fixed shape; weights too."""
    found: set[int] = set()
    numbers: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if node.op == "constant":
            found.add(index)
        elif node.op == "scalar":
            numbers.add(index)
        elif node.op == "input":
            continue
        elif all(isinstance(size, int) for size in node.shape):
            if numbers.issuperset(node.inputs):
                numbers.add(index)
            elif (found | numbers).issuperset(node.inputs):
                found.add(index)
    return frozenset(found)
