"""Views: where in its operand an operator that only rearranges finds an element."""

from __future__ import annotations

from collections.abc import Callable

from tessera.compiler.index import Index
from tessera.compiler.writer import Name, Writer
from tessera.program import dim as dims
from tessera.program.dim import Dim
from tessera.program.graph import Graph, Node, attr_ints

Through = Callable[[Index, Node, Graph], Index]
"""The position in the operand, from that in the view."""


def _reshape(index: Index, node: Node, graph: Graph) -> Index:
    return index.reshaped(graph.nodes[node.inputs[0]].shape)


def _transpose(index: Index, node: Node, graph: Graph) -> Index:  # noqa: ARG001
    return index.transposed(attr_ints(node, "perm"))


def _expand(index: Index, node: Node, graph: Graph) -> Index:
    return index.broadcast(graph.nodes[node.inputs[0]].shape)


def _slice(index: Index, node: Node, graph: Graph) -> Index:
    starts, steps = attr_ints(node, "starts"), attr_ints(node, "steps")

    def place(writer: Writer, axis: int, i: Name, size: Dim) -> Name:
        start, step = starts[axis], steps[axis]
        if (start, step) == (0, 1):
            return i
        first = writer.size(slice_start(start, step, size))
        moved = writer.mul(i, Name(str(abs(step))))
        text = f"{first} + {moved}" if step > 0 else f"{first} - ({moved})"
        return writer.integer("s", text, first, moved)

    return index.mapped(("slice", starts, steps), graph.nodes[node.inputs[0]].shape, place)


def slice_start(start: int, step: int, size: Dim) -> Dim:
    """Where a slice begins: counted from the end if negative, and kept inside."""
    if step > 0:
        return start if start >= 0 else dims.maximum(size + start, 0)
    return dims.minimum(start, size - 1) if start >= 0 else size + start


def _roll(index: Index, node: Node, graph: Graph) -> Index:
    shifts = attr_ints(node, "shifts")

    def place(writer: Writer, axis: int, i: Name, size: Dim) -> Name:
        # An axis without elements is never read, but its size is still divided by.
        offset = (0 - shifts[axis]) % dims.maximum(size, 1) if shifts[axis] else 0
        if offset == 0:
            return i
        moved = writer.add(i, writer.size(offset))
        whole = writer.size(size)
        text = f"({moved}) - {whole} if {moved} >= {whole} else {moved}"
        return writer.integer("s", text, moved, whole)

    return index.mapped(("roll", shifts), graph.nodes[node.inputs[0]].shape, place)


VIEWS: dict[str, Through] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "slice": _slice,
    "roll": _roll,
}
"""By operator."""
