"""Which kernels attention gets on tensor cores."""

from __future__ import annotations

from tessera.compiler.attention_operand import Heads, find_heads
from tessera.compiler.body import Body
from tessera.compiler.codegen import lower_with
from tessera.compiler.groups import Group, Grouping
from tessera.compiler.lower_flash import choose_flash_tile, flash_kernel
from tessera.compiler.lower_flash_tma import ROWS, choose_flash_ring, flash_maps, flash_tma_kernel
from tessera.compiler.matmul_variants import Variant
from tessera.compiler.matrix_units import MatrixUnits
from tessera.program.dim import product
from tessera.program.graph import Graph
from tessera.program.program import Compare


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
        f"ring of {tile.slots} tiles, asynchronous copies"
    )
    found = Variant((kernel,), text=text)
    return (*_by_warpgroups(graph, group, grouping, units, heads), found)


def _by_warpgroups(
    graph: Graph, group: Group, grouping: Grouping, units: MatrixUnits, heads: Heads
) -> tuple[Variant, ...]:
    """The kernel of `wgmma` and bulk tensor copies, where the target has them and they fit the operands."""
    node = graph.nodes[heads.core]
    ring = choose_flash_ring(heads, units.shared_bytes) if units.warpgroups else None
    if ring is None or len(node.inputs) > 3:
        return ()
    if not flash_maps(Body(graph, frozenset(group.members), grouping.owner), heads, ring):
        return ()
    # A tensor map has no size of 0.
    sizes = product((*node.shape[:-1], graph.nodes[node.inputs[1]].shape[-2]))
    some = Compare(lhs=1, op="<=", rhs=sizes)
    if isinstance(sizes, int) and sizes < 1:
        return ()
    kernel = lower_with(
        graph,
        group,
        grouping,
        lambda body: flash_tma_kernel(body, group.root, heads, ring),
        label=f"flash_tma{ROWS}x{ring.keys}",
        least_cc=(9, 0, "a"),
    )
    text = (
        f"tensor cores (wgmma.m64n{ring.keys}k16.{heads.product.name}), {ROWS} queries by {ring.keys} keys, "
        f"{ring.stages} tiles of keys and of values, bulk tensor copies by a warpgroup of their own"
    )
    return (Variant((kernel,), () if isinstance(sizes, int) else (some,), text=text),)
