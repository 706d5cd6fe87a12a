"""The operands of attention as tensor cores take them: 16-bit rows that can be copied as they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler.body import Body
from tessera.compiler.index import Index
from tessera.compiler.matrix_units import PRODUCTS, MatrixUnits, Product
from tessera.compiler.operand_view import Strided, strided_view
from tessera.compiler.panel_layout import CHUNK_BYTES, ITEM_BYTES
from tessera.compiler.writer import Name
from tessera.program.dtype import bf16, f16
from tessera.program.graph import Graph

MAX_WIDTH = 256
"""Most columns of a head: more have no registers for their sums."""
_EACH = CHUNK_BYTES // ITEM_BYTES


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention whose products tensor cores compute."""

    core: int
    """Its node."""
    product: Product
    views: tuple[Strided, Strided, Strided]
    """How queries, keys and values lie in memory."""
    depth: int
    """Columns of queries and keys."""
    width: int
    """Columns of values."""


def find_heads(graph: Graph, core: int, computes: Callable[[int], bool], units: MatrixUnits) -> Heads | None:
    """The attention `core` for tensor cores; None where it can have no kernel of theirs.

    Args:
        graph: The graph.
        core: The node.
        computes: Whether a node is computed in the kernel, rather than in memory.
        units: What products may use.
    """
    node = graph.nodes[core]
    if node.dtype not in (f16, bf16) or not units.copies or not units.multiplies(node.dtype):
        return None
    operands = node.inputs[:3]
    depth, width = (graph.nodes[i].shape[-1] for i in operands[1:])
    if not isinstance(depth, int) or not isinstance(width, int):
        return None
    if any(size % _EACH or not 0 < size <= MAX_WIDTH for size in (depth, width)):
        return None
    if any(graph.nodes[i].dtype != node.dtype for i in operands):
        return None
    views = [strided_view(graph, i, computes, parts=True) for i in operands]
    q, k, v = views
    if q is None or k is None or v is None or any(view.strides[-1] != 1 for view in (q, k, v)):
        return None
    if not all(_aligned(view) for view in (q, k, v)):
        return None
    return Heads(core, PRODUCTS[node.dtype], (q, k, v), depth, width)


def _aligned(view: Strided) -> bool:
    """Whether 16-byte copies of rows are aligned, whatever open sizes are."""
    return all(step % _EACH == 0 for step in (*view.strides[:-1], view.offset))


def head_offset(body: Body, heads: Heads, position: int, batch: Name, head: Name) -> str:
    """Elements in memory before an operand's matrix of one head of one batch."""
    writer, view = body.writer, heads.views[position]
    shape = body.graph.nodes[heads.core].shape[:-3]
    strides = view.strides[:-3]
    total = writer.add(writer.size(view.offset), writer.mul(head, writer.size(view.strides[-3])))
    if shape:
        index = Index(writer, shape, ((len(shape), batch),))
        for axis, stride in enumerate(strides):
            if stride != 0 and shape[axis] != 1:
                total = writer.add(total, writer.mul(index.axis(axis), writer.size(stride)))
    return total
