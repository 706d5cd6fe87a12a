"""The second half of a product whose depth was cut: parts of sums become the result, always in one order."""

from __future__ import annotations

from tessera.compiler.body import WORKSPACE, Body
from tessera.compiler.geometry import THREADS, Geometry
from tessera.compiler.index import Index
from tessera.compiler.writer import Name
from tessera.program.dim import ceildiv, product


def sum_parts(body: Body, root: int, core: int, splits: int) -> Geometry:
    """A thread for each element: its parts from the workspace, summed up, then what is fused."""
    from tessera.compiler.lower_matmul import store_total

    writer, shape = body.writer, body.graph.nodes[core].shape
    elements = product(shape)
    parts = body.pointer(WORKSPACE)
    whole = not body.graph.nodes[core].dtype.is_float
    writer.line(f"i = int64(cuda.blockIdx.x) * {THREADS} + cuda.threadIdx.x")
    with writer.block(f"if i < {writer.size(elements)}"):
        position = Name("i", writer.depth)
        for part in range(splits):
            writer.line(f"p{part} = {parts}[i + {part} * {writer.size(elements)}]")
        terms = " + ".join(f"int64(p{part})" if whole else f"p{part}" for part in range(splits))
        total = writer.let("total", terms)
        store_total(body, root, core, total, Index.flat(writer, shape, position))
    return Geometry((ceildiv(elements, THREADS), 1, 1), THREADS)
