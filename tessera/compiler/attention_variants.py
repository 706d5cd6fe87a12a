"""Which kernels attention gets on tensor cores."""

from __future__ import annotations

from tessera.compiler.attention_operand import find_heads
from tessera.compiler.codegen import lower_with
from tessera.compiler.groups import Group, Grouping
from tessera.compiler.lower_flash import choose_flash_tile, flash_kernel
from tessera.compiler.matmul_variants import Variant
from tessera.compiler.matrix_units import MatrixUnits
from tessera.program.graph import Graph


def attention_variants(
    graph: Graph, group: Group, grouping: Grouping, units: MatrixUnits
) -> tuple[Variant, ...]:
    """The kernel for a group with attention as its core; nothing where tensor cores cannot take it."""
    assert group.core is not None  # noqa: S101 - the caller looked
    heads = find_heads(graph, group.core, frozenset(group.members).__contains__, units)
    masked = len(graph.nodes[group.core].inputs) > 3
    tile = None if heads is None else choose_flash_tile(heads, units.shared_bytes, masked=masked)
    if heads is None or tile is None:
        return ()
    kernel = lower_with(
        graph,
        group,
        grouping,
        lambda body: flash_kernel(body, group.root, heads, tile),
        label=f"flash{tile.rows}x{tile.keys}",
        least_cc=heads.product.needs,
    )
    text = (
        f"tensor cores ({heads.product.mma.replace('_', '.')}), {tile.rows} queries by {tile.keys} keys, "
        f"{tile.slots} tiles ahead, asynchronous copies"
    )
    return (Variant((kernel,), text=text),)
