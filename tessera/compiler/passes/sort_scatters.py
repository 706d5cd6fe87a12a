"""Sort the updates of a scatter on a GPU, so that each element finds its own without asking all.

    scatter(x, index, updates)   →   order = argsort(index); fold_segments(x, index[order], order, updates)

Equal positions stay in order when they are sorted: the result is that of applying the updates one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from tessera.compiler.operators import SCATTERS
from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.dim import Dim
from tessera.program.dtype import DType, bool_, i64
from tessera.program.graph import Attr, Graph, Node

ASKED = 64
"""Up to this many updates for a line every element asks each of them, which needs no sorting."""


def sort_scatters(graph: Graph, kind: Literal["cuda", "cpu"]) -> Graph:
    """`graph` with scatters of many updates taken apart; a CPU applies updates in place, one by one."""
    if kind == "cpu" or all(node.op not in SCATTERS for node in graph.nodes):
        return graph

    def visit(rewriter: Rewriter, node: Node) -> int:
        if node.op not in SCATTERS:
            return rewriter.add(node)
        axis = int(str(node.attrs["axis"]))
        count = rewriter.operand(node, 1).shape[axis]
        if isinstance(count, int) and count <= ASKED:
            return rewriter.add(node)
        return _Sorted(rewriter, node, axis).write()

    return rewrite(graph, visit)


class _Sorted:
    def __init__(self, rewriter: Rewriter, node: Node, axis: int) -> None:
        self.rewriter, self.node, self.axis = rewriter, node, axis
        self.places = rewriter.operand(node, 1).shape

    def add(
        self, op: str, inputs: Sequence[int], shape: tuple[Dim, ...], dtype: DType = i64, **attrs: Attr
    ) -> int:
        """A node on the line of the scatter."""
        made = msgspec.structs.replace(
            self.node, op=op, inputs=tuple(inputs), shape=shape, dtype=dtype, attrs=attrs
        )
        return self.rewriter.add(made)

    def write(self) -> int:
        """The nodes; the last of them."""
        source, index, updates = self.node.inputs
        held = self._inside(index)
        order = self.add("argsort", (held,), self.places, axis=self.axis, descending=False)
        sorted_ = self.add("take_along", (held, order), self.places, axis=self.axis)
        return self.add(
            "fold_segments", (source, sorted_, order, updates), self.node.shape, self.node.dtype,
            axis=self.axis, add=self.node.op == "scatter_add",
        )  # fmt: skip

    def _inside(self, index: int) -> int:
        """Positions counted from the start, and brought back inside the axis."""
        size = self._size(self.node.shape[self.axis])
        negative = self.add("lt", (index, self._number(0)), self.places, bool_)
        moved = self.add("add", (index, size), self.places)
        held = self.add("where", (negative, moved, index), self.places)
        held = self.add("maximum", (held, self._number(0)), self.places)
        last = self.add("sub", (size, self._number(1)), ())
        return self.add("minimum", (held, last), self.places)

    def _number(self, value: int) -> int:
        return self.add("scalar", (), (), value=value)

    def _size(self, size: Dim) -> int:
        if isinstance(size, int):
            return self._number(size)
        return self.add("extent", (self.node.inputs[0],), (), axis=self.axis)
