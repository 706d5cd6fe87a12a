"""Kernels whose every element is computed by itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tessera.compiler.body import Body
from tessera.compiler.geometry import CPU_CHUNK, THREADS, Geometry
from tessera.compiler.index import Index
from tessera.compiler.lanes import WIDEST_BYTES, Lanes
from tessera.compiler.operators import GATHERS
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, product
from tessera.program.graph import attr_ints

PER_THREAD = 4
"""Elements of one GPU thread: enough loads in flight to hide their latency."""


def pointwise_cuda(
    body: Body, root: int, *, threads: int = THREADS, per_thread: int = PER_THREAD
) -> Geometry:
    """One thread for every `per_thread` elements, a block's width apart.

    Args:
        body: Takes the text.
        root: The node that is written.
        threads: Of a block.
        per_thread: Elements of a thread.
    """
    writer, shape = body.writer, body.graph.nodes[root].shape
    total = product(shape)
    block = threads * per_thread
    writer.line(f"base = int64(cuda.blockIdx.x) * {block} + cuda.threadIdx.x")
    with writer.block(f"for step in range({per_thread})"):
        writer.line(f"i = base + step * {threads}")
        with writer.block(f"if i < {writer.size(total)}"):
            body.store(root, Index.flat(writer, shape, Name("i", writer.depth)))
    return Geometry((ceildiv(total, block), 1, 1), threads)


_MOST_LANES = 8
"""Neighbours of one thread: 16 bytes of 16-bit elements."""
_MOST_TEXT = 24
"""Operators of a kernel that is written out for each of them."""


def lanes_of(body: Body, root: int, members: Iterable[int]) -> int | None:
    """How many neighbours a thread takes at once; None where elements are taken one by one.

    Elements of 32 bits and more are fast enough so: a warp's loads fill whole lines, enough of them.
    """
    graph = body.graph
    chosen = set(members)
    nodes = [graph.nodes[i] for i in chosen]
    read = [graph.nodes[i] for node in nodes for i in node.inputs if i not in chosen]
    widest = max(n.dtype.itemsize for n in (*read, graph.nodes[root]) if n.op != "scalar")
    if widest > 2 or len(nodes) > _MOST_TEXT or any(node.op in GATHERS for node in nodes):
        return None
    return min(_MOST_LANES, WIDEST_BYTES // widest)


def pointwise_lanes(body: Body, root: int, lanes: int) -> Geometry:
    """One thread for `lanes` neighbours, which are read and written at once.

    Args:
        body: Takes the text.
        root: The node that is written.
        lanes: A power of two.
    """
    writer, shape = body.writer, body.graph.nodes[root].shape
    total, columns = product(shape), shape[-1] if shape else 1
    writer.line(f"thread = int64(cuda.blockIdx.x) * {THREADS} + cuda.threadIdx.x")
    first = writer.let("i", f"thread * {lanes}")
    names = (first, *(writer.let("i", f"{first} + {lane}") for lane in range(1, lanes)))
    rows = isinstance(columns, int) and columns % lanes == 0
    whole = rows or (isinstance(total, int) and total % lanes == 0)
    size = writer.size(total)
    with writer.block(f"if {first} < {size}" if whole else f"if {names[-1]} < {size}"):
        if rows and len(shape) > 1:
            row = writer.div(first, writer.size(columns))
            column = writer.let("c", f"{first} - {row} * {columns}")
            # Neighbours are columns of one row: one division for all.
            names = (column, *(writer.let("c", f"{column} + {lane}") for lane in range(1, lanes)))
            places = [Index(writer, shape, ((len(shape) - 1, row), (1, name))) for name in names]
        else:
            places = [Index.flat(writer, shape, name) for name in names]
        body.lanes = Lanes(names)
        for place in places:
            body.store(root, place)
        body.lanes = None
    if not whole:
        with (
            writer.block(f"if {first} < {size} and {names[-1]} >= {size}"),
            writer.block(f"for i in range({first}, {size})"),
        ):
            body.store(root, Index.flat(writer, shape, Name("i", writer.depth)))
    return Geometry((ceildiv(total, THREADS * lanes), 1, 1), THREADS)


def pointwise_cpu(body: Body, root: int) -> Geometry:
    """Chunks of elements in order, for groups that need no coordinates."""
    writer, shape = body.writer, body.graph.nodes[root].shape
    total = product(shape)
    with writer.block(f"for i in range(begin * {CPU_CHUNK}, min(end * {CPU_CHUNK}, {writer.size(total)}))"):
        body.store(root, Index.flat(writer, shape, Name("i", writer.depth)))
    return Geometry((ceildiv(total, CPU_CHUNK), 1, 1))


_MOST_EDGES = 4
"""Loops that one row may be cut into: each holds the kernel's text again."""


def _edges(body: Body, root: int, axis: int) -> list[int]:
    """Columns at which a row's elements come from elsewhere: loops between them need no conditions."""
    graph = body.graph
    found: list[Dim] = []
    for index, node in enumerate(graph.nodes):
        if not body.computes(index) or node.shape != graph.nodes[root].shape:
            continue
        sizes = [graph.nodes[operand].shape for operand in node.inputs]
        if node.op == "concat" and node.attrs["axis"] == axis:
            found += itertools.accumulate(shape[axis] for shape in sizes[:-1])
        elif node.op == "pad" and node.attrs["mode"] == "constant":
            before = attr_ints(node, "before")[axis]
            found += [before, before + sizes[0][axis]] if node.shape[axis] != sizes[0][axis] else []
    fixed = sorted(edge for edge in set(found) if isinstance(edge, int) and edge > 0)
    return fixed if all(isinstance(edge, int) for edge in found) and len(fixed) <= _MOST_EDGES else []


def pointwise_cpu_rows(body: Body, root: int) -> Geometry:
    """Chunks of elements, row by row: coordinates change in step with the loop, without divisions."""
    writer, shape = body.writer, body.graph.nodes[root].shape
    total = product(shape)
    split = max((axis for axis, size in enumerate(shape) if size != 1), default=0)
    columns = writer.size(product(shape[split:]))
    writer.line(f"i = begin * {CPU_CHUNK}")
    writer.line(f"stop = min(end * {CPU_CHUNK}, {writer.size(total)})")
    with writer.block("while i < stop"):
        writer.line(f"row = udiv(i, {columns})")
        writer.line(f"first = i - row * {columns}")
        writer.line(f"last = min({columns}, first + stop - i)")
        row = Name("row", writer.depth)
        edges = [0, *_edges(body, root, split)]
        whole = product(shape[split:])
        size = whole if isinstance(whole, int) else None
        for low, high in zip(edges, [*edges[1:], None], strict=True):
            start = f"max(first, {low})" if low else "first"
            end = "last" if high is None else f"min(last, {high})"
            with writer.block(f"for column in range({start}, {end})"):
                column = Name("column", writer.depth)
                until = size if high is None else high
                body.bounds = {} if until is None else {column: (low, until)}
                parts = ((split, row), (len(shape) - split, column))
                body.store(root, Index(writer, shape, parts))
        body.bounds = {}
        writer.line("i += last - first")
    return Geometry((ceildiv(total, CPU_CHUNK), 1, 1))
