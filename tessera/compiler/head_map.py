"""Operands of attention as tensor maps: how bulk tensor copies bring tiles of one head."""

from __future__ import annotations

from tessera.compiler.attention_operand import Heads
from tessera.compiler.body import Body
from tessera.compiler.index import Index
from tessera.compiler.operand_map import MOST_DIMENSIONS, OperandMap
from tessera.compiler.panel_layout import ITEM_BYTES, WIDE
from tessera.compiler.writer import Name

_ROW = WIDE * ITEM_BYTES
"""Bytes of a swizzled row."""


def head_map(body: Body, heads: Heads, position: int, rows: int) -> OperandMap | None:
    """The map of queries (0), keys (1) or values (2): panels of 64 columns and `rows` rows.

    None where they have too many dimensions.
    """
    view = heads.views[position]
    shape = body.graph.nodes[body.graph.nodes[heads.core].inputs[position]].shape
    rank = len(shape)
    kept = tuple(axis for axis in reversed(range(rank - 2)) if view.strides[axis] != 0 and shape[axis] != 1)
    if len(kept) + 2 > MOST_DIMENSIONS:
        return None
    return OperandMap(
        view.node,
        "f16" if heads.product.name == "f16" else "bf16",
        (shape[-1], shape[-2], *(shape[axis] for axis in kept)),
        tuple(view.strides[axis] * ITEM_BYTES for axis in (rank - 2, *kept)),
        (WIDE, rows, *(1 for _ in kept)),
        _ROW,
        kept,
        view.offset * ITEM_BYTES,
    )


def head_places(body: Body, heads: Heads, position: int, found: OperandMap, batch: Name, head: Name) -> str:
    """Coordinates of one head's matrix along the map's dimensions from the third on, each after a comma."""
    shape = body.graph.nodes[body.graph.nodes[heads.core].inputs[position]].shape[:-2]
    parts = ((len(shape) - 1, batch), (1, head)) if len(shape) > 1 else ((1, head),)
    index = Index(body.writer, shape, parts)
    return "".join(f", {index.axis(axis)}" for axis in found.batch_axes)
