"""Compute element by element before a reshape rather than behind it.

What follows a matrix product then has the product's own shape, and is computed
where the product is written: as behind a convolution, which is a product and a reshape.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from tessera.compiler.index import aligned_axes
from tessera.compiler.operators import CORES, POINTWISE
from tessera.program.dim import Dim
from tessera.program.graph import Graph, Node

Shape = tuple[Dim, ...]


def sink_reshapes(graph: Graph) -> Graph:
    """`graph` with reshapes moved behind the elementwise operators that alone read them."""
    if not any(node.op == "reshape" for node in graph.nodes):
        return graph
    return _Sink(graph, graph.users()).run()


@dataclass(slots=True)
class _Sink:
    graph: Graph
    users: list[list[int]]
    nodes: list[Node] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    """Where each node of the old graph is in the new one."""

    def run(self) -> Graph:
        """The new graph."""
        for index, node in enumerate(self.graph.nodes):
            moved = msgspec.structs.replace(node, inputs=tuple(self.new[i] for i in node.inputs))
            sunk = self._sunk(index, moved) if node.op in POINTWISE else None
            self.new.append(self._add(moved) if sunk is None else sunk)
        outputs = tuple(self.new[i] for i in self.graph.outputs)
        return msgspec.structs.replace(self.graph, nodes=tuple(self.nodes), outputs=outputs)

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _sunk(self, index: int, node: Node) -> int | None:
        """The reshape that now stands behind `node`; None where none can."""
        for old, operand in zip(self.graph.nodes[index].inputs, node.inputs, strict=True):
            reshape = self.nodes[operand]
            alone = self.users[old] == [index] and old not in self.graph.outputs
            if not alone or reshape.op != "reshape" or reshape.shape != node.shape:
                continue
            source = self.nodes[reshape.inputs[0]]
            if source.op not in CORES | POINTWISE or not source.shape or not node.shape:
                continue
            shapes = [self._shape_before(self.nodes[i], node.shape, source.shape) for i in node.inputs]
            if all(shape is not None for shape in shapes):
                inputs = tuple(
                    self._before(i, shape or ()) for i, shape in zip(node.inputs, shapes, strict=True)
                )
                value = self._add(msgspec.structs.replace(node, inputs=inputs, shape=source.shape))
                return self._add(
                    msgspec.structs.replace(
                        node, op="reshape", inputs=(value,), attrs={}, shape=node.shape, dtype=node.dtype
                    )
                )
        return None

    def _shape_before(self, operand: Node, shape: Shape, wanted: Shape) -> Shape | None:
        """What an operand broadcast to `shape` is reshaped to, to be broadcast to `wanted`."""
        if operand.shape in ((), shape):
            return wanted if operand.shape else ()
        padded: Shape = (*(1,) * (len(shape) - len(operand.shape)), *operand.shape)
        found: list[Dim] = []
        for start, stop, begin, end in aligned_axes(shape, wanted):
            part = padded[start:stop]
            if part == shape[start:stop]:
                found += wanted[begin:end]
            elif all(isinstance(size, int) and size == 1 for size in part):
                found += (1,) * (end - begin)
            else:
                return None
        return tuple(found)

    def _before(self, operand: int, shape: Shape) -> int:
        node = self.nodes[operand]
        if node.shape == shape:
            return operand
        if node.op == "reshape" and self.nodes[node.inputs[0]].shape == shape:
            return node.inputs[0]
        return self._add(
            Node(
                op="reshape", inputs=(operand,), shape=shape, dtype=node.dtype, file=node.file, line=node.line
            )
        )
