"""Convolutions for tensor cores: a copy of the operand with its channels last, and weights packed to match.

A convolution is a product of weights and windows. Along the depth of that product, neighbours are then
neighbours in memory, 16 bytes of which are one copy: a tile of windows is gathered where the product reads
it, and never written out. Weights are packed when the program is loaded, where they are constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tessera.compiler.matrix_units import PRODUCTS, MatrixUnits
from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.dim import Dim, product
from tessera.program.dtype import DType
from tessera.program.graph import Attr, Graph, Node

CHUNK_BYTES = 16
"""Bytes of one copy: channels are filled up to a multiple with zeros."""

Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class _Convolution:
    """The product of one group of channels."""

    rows: int
    """Weights: (out, channels · window)."""
    source: int
    """What windows slide over: (batch, channels, …)."""
    windows: int | None
    """(batch, channels, window, places); None where a window is one element and moves by one."""
    dtype: DType
    """Of weights and source."""


def lay_channels_last(graph: Graph, units: MatrixUnits) -> Graph:
    """`graph` with the operands of convolutions laid out for tensor cores.

    Args:
        graph: As it would be grouped.
        units: What the targets' tensor cores do.
    """
    copies: dict[object, int] = {}

    def visit(rewriter: Rewriter, node: Node) -> int:
        found = _convolution(rewriter, node, units) if node.op == "matmul" else None
        return rewriter.add(node) if found is None else _Layout(rewriter, node, found, copies).product()

    return rewrite(graph, visit)


def _convolution(rewriter: Rewriter, node: Node, units: MatrixUnits) -> _Convolution | None:
    nodes = rewriter.nodes
    rows, columns = (nodes[i] for i in node.inputs)
    if len(rows.shape) != 2 or len(columns.shape) != 3 or columns.op != "reshape":
        return None
    inner = nodes[columns.inputs[0]]
    windows = columns.inputs[0] if inner.op == "windows" else None
    source = inner.inputs[0] if windows is not None else columns.inputs[0]
    shape = nodes[source].shape
    if len(shape) not in (3, 4) or not isinstance(shape[1], int):
        return None
    if windows is not None and not _slides_over_zeros(nodes, inner, len(shape) - 2):
        return None
    left = node.inputs[0]
    narrow = [_uncast(rewriter, i, node.dtype, units) for i in (left, source)]
    if len({nodes[i].dtype for i in narrow}) == 1:
        left, source = narrow
    dtype = nodes[source].dtype
    if not units.multiplies(dtype) or node.dtype not in PRODUCTS[dtype].results:
        return None
    if windows is None and not _misaligned(shape, columns.shape, dtype):
        return None
    return _Convolution(left, source, windows, dtype)


def _slides_over_zeros(nodes: list[Node], windows: Node, rank: int) -> bool:
    fill = nodes[windows.inputs[1]]
    moves = windows.attrs["strides"]
    known = isinstance(moves, list | tuple) and len(moves) == rank
    return known and fill.op == "scalar" and fill.attrs["value"] == 0


def _misaligned(shape: Shape, columns: Shape, dtype: DType) -> bool:
    """Whether places that are rows of the product cannot be copied 16 bytes at a time, as far as is known."""
    area = product(shape[2:])
    plain = columns == (shape[0], shape[1], area)
    return plain and isinstance(area, int) and (area * dtype.itemsize % CHUNK_BYTES != 0)


def _uncast(rewriter: Rewriter, index: int, wanted: DType, units: MatrixUnits) -> int:
    """An operand before a cast that keeps every value, through the reshape that made rows of weights."""
    node = rewriter.nodes[index]
    if node.op == "reshape" and rewriter.nodes[node.inputs[0]].op == "cast":
        inner = rewriter.nodes[node.inputs[0]]
        source = rewriter.nodes[inner.inputs[0]].dtype
        if _keeps(source, wanted, units) and inner.dtype == wanted:
            return rewriter.add(msgspec.structs.replace(node, inputs=inner.inputs, dtype=source))
    if node.op != "cast" or node.dtype != wanted:
        return index
    return node.inputs[0] if _keeps(rewriter.operand(node).dtype, wanted, units) else index


def _keeps(source: DType, wanted: DType, units: MatrixUnits) -> bool:
    return units.multiplies(source) and wanted in PRODUCTS[source].results


@dataclass(frozen=True, slots=True)
class _Layout:
    """Writes one convolution's new nodes."""

    rewriter: Rewriter
    matmul: Node
    found: _Convolution
    copies: dict[object, int]
    """Copies made so far, by what they are of: convolutions of one tensor share its copy."""

    @property
    def channels(self) -> int:
        """Channels of the source."""
        return int(str(self.rewriter.nodes[self.found.source].shape[1]))

    @property
    def padded(self) -> int:
        """The same, filled up."""
        each = CHUNK_BYTES // self.found.dtype.itemsize
        return -(-self.channels // each) * each

    def product(self) -> int:
        """The product of packed weights and windows over the copy."""
        windows = self.found.windows
        node = None if windows is None else self.rewriter.nodes[windows]
        rank = len(self.rewriter.nodes[self.found.source].shape) - 2
        window = (1,) * rank if node is None else node.shape[2 : 2 + rank]
        one = all(isinstance(size, int) and size == 1 for size in window)
        columns = self._places() if one or node is None else self._windows(node, rank)
        rows = self._weights(window)
        rows, columns = (self._widened(i) for i in (rows, columns))
        return self.rewriter.add(msgspec.structs.replace(self.matmul, inputs=(rows, columns)))

    def _places(self) -> int:
        """Windows of one element: places that are multiplied are copied, (batch, places, channels)."""
        node = self._narrow_columns()
        batch, channels, area = self.rewriter.nodes[node].shape
        last = self._transpose(node, (0, 2, 1), (batch, area, channels))
        copy = self._copy(self._fill(last))
        return self._transpose(copy, (0, 2, 1), (batch, self.padded, area))

    def _narrow_columns(self) -> int:
        """The product's own right operand, of the narrow dtype."""
        columns = self.rewriter.operand(self.matmul, 1)
        inner = self.found.source
        if self.found.windows is not None:
            windows = self.rewriter.nodes[self.found.windows]
            inner = self._over(windows, inner, windows.shape)
        return self._reshape(inner, columns.shape)

    def _over(self, windows: Node, source: int, shape: Shape) -> int:
        """The same windows over another tensor."""
        fill = self.rewriter.add(
            msgspec.structs.replace(self.rewriter.operand(windows, 1), dtype=self.found.dtype)
        )
        node = msgspec.structs.replace(windows, inputs=(source, fill), shape=shape, dtype=self.found.dtype)
        return self.rewriter.add(node)

    def _windows(self, windows: Node, rank: int) -> int:
        """Windows over the copy: (batch, window · channels, places)."""
        batch, _, *sizes = self.rewriter.nodes[self.found.source].shape
        spatial = tuple(range(2, rank + 2))
        source = self.found.source
        if source not in self.copies:
            last = self._transpose(source, (0, *spatial, 1), (batch, *sizes, self.channels))
            self.copies[source] = self._copy(self._fill(last))
        copy = self.copies[source]
        back = (0, rank + 1, *range(1, rank + 1))
        first = self._transpose(copy, back, (batch, self.padded, *sizes))
        window, places = windows.shape[2 : 2 + rank], windows.shape[2 + rank :]
        over = self._over(windows, first, (batch, self.padded, *window, *places))
        order = (0, *range(2, rank + 2), 1, *range(rank + 2, 2 * rank + 2))
        turned = self._transpose(over, order, (batch, *window, self.padded, *places))
        return self._reshape(turned, (batch, product(window) * self.padded, product(places)))

    def _weights(self, window: Shape) -> int:
        """(out, window · channels), packed."""
        nodes = self.rewriter.nodes
        out, rank = nodes[self.found.rows].shape[0], len(window)
        if product(window) == 1 and self.padded == self.channels:
            return self.found.rows
        apart = self._reshape(self.found.rows, (out, self.channels, *window))
        turned = self._transpose(apart, (0, *range(2, rank + 2), 1), (out, *window, self.channels))
        filled = self._fill(turned)
        return self._reshape(self._copy(filled), (out, product(window) * self.padded))

    def _fill(self, node: int) -> int:
        """The last axis filled up with zeros."""
        if self.padded == self.channels:
            return node
        it = self.rewriter.nodes[node]
        attrs: dict[str, Attr] = {"value": 0.0 if it.dtype.is_float else 0}
        zero = self._add("scalar", (), (), attrs)
        shape = (*it.shape[:-1], self.padded)
        return self._add("pad", (node, zero), shape, {"before": [0] * len(shape), "mode": "constant"})

    def _copy(self, node: int) -> int:
        return self._add("copy", (node,), self.rewriter.nodes[node].shape, {})

    def _transpose(self, node: int, perm: tuple[int, ...], shape: Shape) -> int:
        return self._add("transpose", (node,), shape, {"perm": list(perm)})

    def _reshape(self, node: int, shape: Shape) -> int:
        return node if self.rewriter.nodes[node].shape == shape else self._add("reshape", (node,), shape, {})

    def _widened(self, node: int) -> int:
        """A cast to the product's own dtype: the product takes it back."""
        if self.found.dtype == self.matmul.dtype:
            return node
        shape = self.rewriter.nodes[node].shape
        cast = Node(op="cast", inputs=(node,), shape=shape, dtype=self.matmul.dtype)
        return self.rewriter.add(self._located(cast))

    def _add(self, op: str, inputs: tuple[int, ...], shape: Shape, attrs: dict[str, Attr]) -> int:
        node = Node(op=op, inputs=inputs, shape=shape, dtype=self.found.dtype, attrs=attrs)
        return self.rewriter.add(self._located(node))

    def _located(self, node: Node) -> Node:
        return msgspec.structs.replace(node, file=self.matmul.file, line=self.matmul.line)
