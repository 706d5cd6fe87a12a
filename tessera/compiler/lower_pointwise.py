"""Kernels whose every element is computed by itself."""

from __future__ import annotations

from tessera.compiler.body import Body
from tessera.compiler.geometry import CPU_CHUNK, THREADS, Geometry
from tessera.compiler.index import Index
from tessera.compiler.writer import Name
from tessera.program.dim import ceildiv, product

_PER_THREAD = 4
"""Elements of one GPU thread: enough loads in flight to hide their latency."""


def pointwise_cuda(body: Body, root: int) -> Geometry:
    """One thread for every `_PER_THREAD` elements, a block's width apart."""
    writer, shape = body.writer, body.graph.nodes[root].shape
    total = product(shape)
    block = THREADS * _PER_THREAD
    writer.line(f"base = int64(cuda.blockIdx.x) * {block} + cuda.threadIdx.x")
    with writer.block(f"for step in range({_PER_THREAD})"):
        writer.line(f"i = base + step * {THREADS}")
        with writer.block(f"if i < {writer.size(total)}"):
            body.store(root, Index.flat(writer, shape, Name("i", writer.depth)))
    return Geometry((ceildiv(total, block), 1, 1), THREADS)


def pointwise_cpu(body: Body, root: int) -> Geometry:
    """Chunks of elements in order, for groups that need no coordinates."""
    writer, shape = body.writer, body.graph.nodes[root].shape
    total = product(shape)
    with writer.block(f"for i in range(begin * {CPU_CHUNK}, min(end * {CPU_CHUNK}, {writer.size(total)}))"):
        body.store(root, Index.flat(writer, shape, Name("i", writer.depth)))
    return Geometry((ceildiv(total, CPU_CHUNK), 1, 1))


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
        with writer.block("for column in range(first, last)"):
            column = Name("column", writer.depth)
            parts = ((split, row), (len(shape) - split, column))
            body.store(root, Index(writer, shape, parts))
        writer.line("i += last - first")
    return Geometry((ceildiv(total, CPU_CHUNK), 1, 1))
