"""What a graph's program takes and gives."""

from __future__ import annotations

from tessera.program.graph import Graph
from tessera.program.program import Constant, Plan, Port, Program


def program_of(graph: Graph, plans: tuple[Plan, ...] = ()) -> Program:
    """The program of a graph: its inputs, outputs and constants by the names of the leaves.

    Args:
        graph: The function; the program has its name.
        plans: How it is launched.
    """
    outputs = zip(graph.output_names, graph.outputs, strict=True)
    return Program(
        name=graph.name,
        inputs=tuple(_port(graph, label, index) for label, index in graph.leaves("input").items()),
        outputs=tuple(_port(graph, label, index) for label, index in outputs),
        constants=tuple(_constant(graph, label, index) for label, index in graph.leaves("constant").items()),
        plans=plans,
        graph=graph,
    )


def _port(graph: Graph, name: str, index: int) -> Port:
    node = graph.nodes[index]
    return Port(name=name, dtype=node.dtype, shape=node.shape)


def _constant(graph: Graph, name: str, index: int) -> Constant:
    node = graph.nodes[index]
    shape = tuple(size for size in node.shape if isinstance(size, int))
    return Constant(name=name, dtype=node.dtype, shape=shape)
