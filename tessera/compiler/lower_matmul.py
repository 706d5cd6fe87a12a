"""Matrix products: a tiled kernel for the GPU, a loop for the CPU's integers, a BLAS call for its floats."""

from __future__ import annotations

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.geometry import THREADS, Geometry
from tessera.compiler.index import Index
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, product
from tessera.program.dtype import i64
from tessera.program.graph import Graph, Node, attr_ints

_TILE = 64
"""Rows and columns of a block's part of the result."""
_DEPTH = 16
"""Columns of the left operand, rows of the right, in shared memory at a time."""
_SIDE = 16
"""Threads along each side of a tile; each has `_EACH` × `_EACH` results, `_SIDE` apart."""
_EACH = _TILE // _SIDE


def matmul_cuda(body: Body, root: int, core: int) -> Geometry:
    """A block of 256 threads for each 64 × 64 tile, operands through shared memory, sums in registers.

    Sums are float32 (float64 for float64, int64 for integers).
    """
    return _Tiled(body, root, core).write()


class _Tiled:
    def __init__(self, body: Body, root: int, core: int) -> None:
        self.body, self.writer = body, body.writer
        self.root, self.core = root, core
        self.node = body.graph.nodes[core]
        self.kind = scalar_math.compute_type(self.node.dtype)
        self.rows, self.columns = self.node.shape[-2:]
        self.depth = body.graph.nodes[self.node.inputs[0]].shape[-1]

    def write(self) -> Geometry:
        """The kernel."""
        writer = self.writer
        tiles = [ceildiv(size, _TILE) for size in (self.rows, self.columns)]
        self._place(tiles)
        # One more column keeps the transposing stores to different banks.
        left = self.body.shared((_DEPTH, _TILE + 1), self.kind)
        right = self.body.shared((_DEPTH, _TILE + 1), self.kind)
        for i in range(_EACH * _EACH):
            writer.line(f"c{i} = {self.kind}(0)")
        writer.line("depth = int64(0)")
        with writer.block(f"while depth < {writer.size(self.depth)}"):
            self._fill(left, right)
            writer.line("cuda.syncthreads()")
            with writer.block(f"for k in range({_DEPTH})"):
                self._multiply(left, right)
            writer.line("cuda.syncthreads()")
            writer.line(f"depth += {_DEPTH}")
        self._write_results()
        return Geometry((product(self.node.shape[:-2]) * tiles[0] * tiles[1], 1, 1), THREADS)

    def _place(self, tiles: list[Dim]) -> None:
        writer = self.writer
        writer.line("tile = int64(cuda.blockIdx.x)")
        down, across = (writer.size(count) for count in tiles)
        above = writer.div(Name("tile"), across)
        writer.line(f"first_column = {writer.mod(Name('tile'), across)} * {_TILE}")
        writer.line(f"first_row = {writer.mod(above, down)} * {_TILE}")
        self.batch = writer.div(above, down)
        writer.line("thread = int64(cuda.threadIdx.x & 255)")
        writer.line(f"across = thread & {_SIDE - 1}")
        writer.line(f"down = thread >> {_SIDE.bit_length() - 1}")

    def _fill(self, left: Name, right: Name) -> None:
        """Bring the next part of both operands into shared memory."""
        writer = self.writer
        stores: list[str] = []
        # All loads go out before the first store waits for one.
        for step in range(_TILE * _DEPTH // THREADS):
            element = writer.let("e", f"thread + {step * THREADS}")
            for position, shared in enumerate((left, right)):
                k, other, value = self._loaded(position, element)
                stores.append(f"{shared}[{k}, {other}] = {value}")
        for store in stores:
            writer.line(store)

    def _loaded(self, position: int, element: Name) -> tuple[Name, Name, Name]:
        """Where in an operand's tile a thread's element is, and its value; 0 past the operand's end."""
        writer, source = self.writer, self.node.inputs[position]
        operand = self.body.graph.nodes[source]
        k, other = self._element(element, by_column=_reads_columns(self.body, source) == (position == 0))
        first, size = ("first_row", self.rows) if position == 0 else ("first_column", self.columns)
        outer, deep = writer.let("o", f"{first} + {other}"), writer.let("d", f"depth + {k}")
        value = writer.let("w", f"{self.kind}(0)")
        with writer.block(f"if {outer} < {writer.size(size)} and {deep} < {writer.size(self.depth)}"):
            axes = (outer, deep) if position == 0 else (deep, outer)
            index = _operand_index(self.body, self.node, operand, self.batch, axes)
            loaded = self.body.value(source, index)
            writer.line(
                f"{value} = {scalar_math.cast(loaded, operand.dtype, self.node.dtype, rounded=False)}"
            )
        return k, other, value

    def _element(self, element: Name, *, by_column: bool) -> tuple[Name, Name]:
        """Which element of an operand's tile a thread loads: neighbours in memory by neighbours."""
        narrow, wide = (_TILE, _DEPTH) if by_column else (_DEPTH, _TILE)
        low = self.writer.integer("e", f"{element} & {narrow - 1}", element)
        high = self.writer.integer("e", f"{element} >> {narrow.bit_length() - 1}", element)
        return (high, low) if narrow > wide else (low, high)

    def _multiply(self, left: Name, right: Name) -> None:
        for i in range(_EACH):
            self.writer.line(f"a{i} = {left}[k, down + {i * _SIDE}]")
        for j in range(_EACH):
            self.writer.line(f"b{j} = {right}[k, across + {j * _SIDE}]")
        for i in range(_EACH):
            for j in range(_EACH):
                self.writer.line(f"c{i * _EACH + j} += a{i} * b{j}")

    def _write_results(self) -> None:
        writer = self.writer
        rows = [writer.let("row", f"first_row + down + {i * _SIDE}") for i in range(_EACH)]
        columns = [writer.let("column", f"first_column + across + {j * _SIDE}") for j in range(_EACH)]
        for i, row in enumerate(rows):
            with writer.block(f"if {row} < {writer.size(self.rows)}"):
                for j, column in enumerate(columns):
                    with writer.block(f"if {column} < {writer.size(self.columns)}"):
                        self._write_one(f"c{i * _EACH + j}", row, column)

    def _write_one(self, total: str, row: Name, column: Name) -> None:
        shape = self.node.shape
        parts = ((len(shape) - 2, self.batch), (1, row), (1, column))
        store_total(self.body, self.root, self.core, total, Index(self.writer, shape, parts))


def matmul_cpu(body: Body, root: int, core: int) -> Geometry:
    """A work item a row of the result, element by element: for integers, which no BLAS multiplies."""
    writer, node = body.writer, body.graph.nodes[core]
    shape, kind = node.shape, scalar_math.compute_type(node.dtype)
    depth = body.graph.nodes[node.inputs[0]].shape[-1]
    with writer.block("for item in range(begin, end)"):
        item = Name("item", writer.depth)
        batch, row = writer.div(item, writer.size(shape[-2])), writer.mod(item, writer.size(shape[-2]))
        with writer.block(f"for column in range({writer.size(shape[-1])})"):
            column = Name("column", writer.depth)
            writer.line(f"total = {kind}(0)")
            with writer.block(f"for k in range({writer.size(depth)})"):
                k = Name("k", writer.depth)
                pair = [
                    _operand_value(body, node, source, batch, axes)
                    for source, axes in zip(node.inputs, ((row, k), (k, column)), strict=True)
                ]
                writer.line(f"total += {pair[0]} * {pair[1]}")
            parts = ((len(shape) - 2, batch), (1, row), (1, column))
            store_total(body, root, core, "total", Index(writer, shape, parts))
    return Geometry((product(shape[:-1]), 1, 1))


def _operand_value(body: Body, node: Node, source: int, batch: Name, axes: tuple[Name, Name]) -> str:
    operand = body.graph.nodes[source]
    value = body.value(source, _operand_index(body, node, operand, batch, axes))
    return scalar_math.cast(value, operand.dtype, node.dtype, rounded=False)


def _operand_index(body: Body, node: Node, operand: Node, batch: Name, axes: tuple[Name, Name]) -> Index:
    whole = (*node.shape[:-2], *operand.shape[-2:])
    parts = ((len(whole) - 2, batch), (1, axes[0]), (1, axes[1]))
    return Index(body.writer, whole, parts).broadcast(operand.shape)


def store_total(body: Body, root: int, core: int, total: str, index: Index) -> None:
    """Write the sum at `index` of a product, with what is fused into it."""
    dtype = body.graph.nodes[core].dtype
    # Integer sums wrap around as their dtype does; adding in int64 first changes nothing.
    body.results[core] = Name(total if dtype.is_float else scalar_math.cast(total, i64, dtype))
    body.store(root, index)


def _reads_columns(body: Body, operand: int) -> bool:
    """Whether neighbours in an operand's memory are neighbours along its second-to-last axis."""
    node: Node = body.graph.nodes[operand]
    while body.computes(operand) and node.inputs:
        if node.op == "transpose":
            perm = attr_ints(node, "perm")
            return perm[-1] != len(perm) - 1
        operand = node.inputs[0]
        node = body.graph.nodes[operand]
    return False


def blas_sizes(graph: Graph, core: int, *, transpose_a: bool) -> dict[str, Dim]:
    """Sizes and strides, in elements, of a matmul as the runtime's BLAS takes them.

    Operands' batch axes are the product's own, or hold one matrix for all.
    """
    node = graph.nodes[core]
    a, b = (graph.nodes[i].shape for i in node.inputs)
    (rows, columns), depth, batch = node.shape[-2:], a[-1], product(node.shape[:-2])
    many = [product(shape[:-2]) == batch for shape in (a, b)]
    if product(b[:-2]) == 1 and many[0] and not transpose_a:
        # One right operand for all: the left ones are one tall matrix.
        return {"m": batch * rows, "n": columns, "k": depth}
    return {
        "m": rows,
        "n": columns,
        "k": depth,
        "batch": batch,
        "stride_a": rows * depth if many[0] else 0,
        "stride_b": depth * columns if many[1] else 0,
        "stride_c": rows * columns,
    }
