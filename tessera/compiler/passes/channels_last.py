"""Convolutions for tensor cores: a copy of the operand with its channels last, and weights packed to match.

A convolution is a product of weights and windows. Along the depth of that product, neighbours are then
neighbours in memory, 16 bytes of which are one copy: a tile of windows is gathered where the product reads
it, and never written out. Weights are packed when the program is loaded, where they are constants.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import msgspec

from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.passes.channels_flow import Flow
from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.dim import Dim, product
from tessera.program.dtype import DType
from tessera.program.graph import Attr, Graph, Node

CHUNK_BYTES = 16
"""Bytes of one copy: channels are filled up to a multiple with zeros."""

_ROWS = 128
"""Rows of a tile of warpgroups."""
_LEAST_FILL = 0.75
"""Share of them that places must fill: 14 × 14 do, as they fill 256 columns; 7 × 7 fill 64 columns better."""

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
    if not units.copies:
        # What comes element by element may lie in any order.
        return graph
    flow, numbers = _flow(graph, units), itertools.count()
    lasts: dict[int, int] = {}
    copies: dict[object, int] = {}
    memory: set[int] = set()

    def visit(rewriter: Rewriter, node: Node) -> int:
        index = next(numbers)
        known = _Values(rewriter, lasts, copies, memory)
        last = None
        if node.op == "matmul":
            flows = index in flow.wanted or node.inputs[1] in lasts or _behind(rewriter, node) in lasts
            found = _convolution(rewriter, node, units, plain=flows)
            if found is None:
                return rewriter.add(node)
            layout = _Layout(rewriter, node, found, known)
            if index not in flow.wanted:
                return layout.product()
            last = layout.product_last()
        elif index in flow.wanted:
            last = known.pointwise(node) if node.op != "reshape" else known.reshaped(node)
        if last is None:
            return rewriter.add(node)
        first = known.first(last, node)
        lasts[first] = last
        if flow.in_memory(index):
            memory.add(first)
        return first

    return rewrite(graph, visit)


def _behind(rewriter: Rewriter, product: Node) -> int:
    """What a product's right operand is a reshape of."""
    columns = rewriter.operand(product, 1)
    return columns.inputs[0] if columns.op == "reshape" else product.inputs[1]


def _flow(graph: Graph, units: MatrixUnits) -> Flow:
    rewriter = Rewriter()
    rewriter.nodes.extend(graph.nodes)
    found = {
        index: _convolution(rewriter, node, units, plain=True)
        for index, node in enumerate(graph.nodes)
        if node.op == "matmul"
    }

    slides = any(it is not None and it.windows is not None for it in found.values())

    def multiplies(index: int) -> bool:
        it = found.get(index)
        if it is None or not slides or not _fills_rows(graph.nodes[index].shape[-1], units):
            return False
        # Rows of 16-bit places alone can be read across the depth.
        return it.windows is not None or it.dtype.itemsize == 2

    return Flow(
        graph,
        multiplies=multiplies,
        reads=lambda index: found.get(index) is not None,
        chunk=lambda node: CHUNK_BYTES // node.dtype.itemsize,
    )


def _fills_rows(places: Dim, units: MatrixUnits) -> bool:
    """Whether places fill tiles as rows of a product as well as they do as its columns.

    Warpgroups have tiles of 128 rows, and of 64 columns for small images; other tiles are square.
    """
    if not units.warpgroups or not isinstance(places, int):
        return True
    return places >= _LEAST_FILL * _ROWS * -(-places // _ROWS)


def _convolution(rewriter: Rewriter, node: Node, units: MatrixUnits, *, plain: bool) -> _Convolution | None:
    """The convolution that a product is, or None; with `plain`, one that needs no copy too."""
    nodes = rewriter.nodes
    rows, columns = (nodes[i] for i in node.inputs)
    if len(rows.shape) != 2 or len(columns.shape) != 3 or (columns.op != "reshape" and not plain):
        return None
    inner = nodes[columns.inputs[0]] if columns.op == "reshape" else columns
    windows = columns.inputs[0] if inner.op == "windows" else None
    source = columns.inputs[0] if columns.op == "reshape" else node.inputs[1]
    source = source if windows is None else inner.inputs[0]
    if windows is None and nodes[source].shape[:2] != columns.shape[:2]:
        return None
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
    if not units.gives(dtype, node.dtype):
        return None
    if windows is None and not plain and not _misaligned(shape, columns.shape, dtype):
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
    return units.gives(source, wanted)


@dataclass(frozen=True, slots=True)
class _Values:
    """What is known of values in the new graph."""

    rewriter: Rewriter
    lasts: dict[int, int]
    """Values that are computed with their channels last, by what stands for them in order."""
    copies: dict[object, int]
    """Copies made so far, by what they are of: convolutions of one tensor share its copy."""
    memory: set[int]
    """Those of `lasts` that are read where they were written."""

    def pointwise(self, node: Node) -> int:
        """The same operator, its operands with their channels last."""
        inputs = tuple(self._last(i, len(node.shape)) for i in node.inputs)
        return self.rewriter.add(msgspec.structs.replace(node, inputs=inputs, shape=_moved(node.shape)))

    def reshaped(self, node: Node) -> int:
        """A reshape that leaves the channels alone."""
        inner = self._last(node.inputs[0], len(self.rewriter.operand(node).shape))
        return self.rewriter.add(msgspec.structs.replace(node, inputs=(inner,), shape=_moved(node.shape)))

    def first(self, last: int, node: Node) -> int:
        """What stands for `node`: its value in order, as a view."""
        rank = len(node.shape)
        return self._view("transpose", last, node.shape, {"perm": [0, rank - 1, *range(1, rank - 1)]})

    def _last(self, index: int, rank: int) -> int:
        """An operand of a tensor of so many axes, with its channels last."""
        node = self.rewriter.nodes[index]
        if index in self.lasts:
            return self.lasts[index]
        if node.shape == ():
            return index
        copy = self.copies.get(index)
        if copy is not None and self.rewriter.nodes[copy].shape == _moved(node.shape):
            return copy
        if node.op == "reshape" and node.shape[:2] == self.rewriter.operand(node).shape[:2]:
            inner = self._last(node.inputs[0], len(self.rewriter.operand(node).shape))
            return self._view("reshape", inner, _moved(node.shape), {})
        shape = (*(1,) * (rank - len(node.shape)), *node.shape)
        if shape != node.shape:
            index = self._view("reshape", index, shape, {})
        return self._view("transpose", index, _moved(shape), {"perm": [0, *range(2, rank), 1]})

    def _view(self, op: str, index: int, shape: Shape, attrs: dict[str, Attr]) -> int:
        node = self.rewriter.nodes[index]
        new = Node(op=op, inputs=(index,), shape=shape, dtype=node.dtype, attrs=attrs)
        return self.rewriter.add(msgspec.structs.replace(new, file=node.file, line=node.line))


def _moved(shape: Shape) -> Shape:
    return (shape[0], *shape[2:], shape[1])


@dataclass(frozen=True, slots=True)
class _Layout:
    """Writes one convolution's new nodes."""

    rewriter: Rewriter
    matmul: Node
    found: _Convolution
    known: _Values

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
        flows = self.found.source in self.known.memory
        columns = self._windows(node, rank) if node is not None and (flows or not one) else self._places()
        rows = self._weights(window)
        rows, columns = (self._widened(i) for i in (rows, columns))
        return self.rewriter.add(msgspec.structs.replace(self.matmul, inputs=(rows, columns)))

    def product_last(self) -> int:
        """The same with the results' channels last: windows are the rows of the product."""
        product = self.rewriter.nodes[self.product()]
        rows, columns = (self._turned(i) for i in product.inputs)
        batch, out, area = product.shape
        last = msgspec.structs.replace(product, inputs=(columns, rows), shape=(batch, area, out))
        return self.rewriter.add(last)

    def _turned(self, index: int) -> int:
        """The transpose of a matrix; windows are turned before they are made one."""
        node = self.rewriter.nodes[index]
        if node.op == "cast":
            return self._widened(self._turned(node.inputs[0]))
        inner = self.rewriter.operand(node) if node.op == "reshape" else node
        shape = (*node.shape[:-2], node.shape[-1], node.shape[-2])
        if inner.op != "transpose" or self.rewriter.operand(inner).op != "windows":
            order = tuple(range(len(shape)))
            return self._transpose(index, (*order[:-2], order[-1], order[-2]), shape)
        over = self.rewriter.operand(inner)
        rank = len(over.shape) // 2 - 1
        order = (0, *range(rank + 2, 2 * rank + 2), *range(2, rank + 2), 1)
        turned = self._transpose(inner.inputs[0], order, tuple(over.shape[axis] for axis in order))
        return self._reshape(turned, shape)

    def _places(self) -> int:
        """Windows of one element: places that are multiplied are copied, (batch, places, channels)."""
        source = self.found.source
        if source in self.known.memory:
            last = self.known.lasts[source]
            batch, *sizes, channels = self.rewriter.nodes[last].shape
            whole = self._reshape(last, (batch, product(tuple(sizes)), channels))
            return self._transpose(whole, (0, 2, 1), (batch, channels, product(tuple(sizes))))
        node = self._narrow_columns()
        if not self._copied():
            return node
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
        if source in self.known.memory:
            copy = self.known.lasts[source]
        elif source in self.known.copies:
            copy = self.known.copies[source]
        else:
            last = self._transpose(source, (0, *spatial, 1), (batch, *sizes, self.channels))
            copy = self.known.copies[source] = self._copy(self._fill(last))
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
        one = product(window) == 1
        if one and (self.padded == self.channels or not self._copied()):
            return self.found.rows
        apart = self._reshape(self.found.rows, (out, self.channels, *window))
        turned = self._transpose(apart, (0, *range(2, rank + 2), 1), (out, *window, self.channels))
        filled = self._fill(turned)
        return self._reshape(self._copy(filled), (out, product(window) * self.padded))

    def _copied(self) -> bool:
        """Whether places that do not come with their channels last are copied so."""
        if self.found.windows is not None:
            return True
        nodes = self.rewriter.nodes
        shape = nodes[self.found.source].shape
        return _misaligned(shape, nodes[self.matmul.inputs[1]].shape, self.found.dtype)

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
