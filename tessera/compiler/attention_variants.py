"""Which kernels attention gets on tensor cores."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tessera.compiler.attention_operand import Heads, find_heads
from tessera.compiler.body import Body
from tessera.compiler.codegen import lower_with
from tessera.compiler.groups import Group, Grouping
from tessera.compiler.lower_flash import FlashTile, choose_flash_tile, flash_kernel, tile_of
from tessera.compiler.lower_flash_tma import (
    MOST_COLUMNS,
    ROWS,
    FlashRing,
    choose_flash_ring,
    flash_maps,
    flash_tma_kernel,
)
from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.tiling import Values, check_shared_bytes, make_tile_space, whole
from tessera.compiler.variant import Variant
from tessera.language.tuning import Space, Value
from tessera.program.dim import product
from tessera.program.errors import CompileError
from tessera.program.graph import Graph
from tessera.program.program import Compare

PARAMETERS: dict[str, tuple[Value, ...]] = {
    "UNIT": ("mma", "wgmma"),
    "ROWS": (64, 128),
    "KEYS": (16, 32, 64, 128),
    "STAGES": (2, 3, 4, 5, 6),
}
"""Instruction; queries of a block; keys of a tile; tiles in shared memory, of `mma` keys and values in turns,
of `wgmma` so many of each."""
ROWS_OF_FRAGMENTS = 64
"""Queries of a block whose four warps have 16 each."""
_MOST_REGISTERS = 176
"""Of a thread, for queries, scores and sums: with more they spill."""


def attention_variants(
    graph: Graph,
    group: Group,
    grouping: Grouping,
    units: MatrixUnits,
    tiling: Values | None = None,
    shared_bytes: int = 0,
) -> tuple[Variant, ...]:
    """The kernels for a group with attention as its core; nothing where tensor cores cannot take it.

    Args:
        graph: The graph.
        group: What the kernels compute.
        grouping: All groups.
        units: What the targets have.
        tiling: What was tuned; None for the compiler's own choice.
        shared_bytes: Most shared memory of a block that was tuned.

    Raises:
        CompileError: The tiling does not fit.
    """
    assert group.core is not None  # noqa: S101 - the caller looked
    heads = find_heads(graph, group.core, frozenset(group.members).__contains__, units)
    masked = len(graph.nodes[group.core].inputs) > 3
    tile = None if heads is None else choose_flash_tile(heads, units.shared_bytes, masked=masked)
    if heads is None or tile is None:
        return ()
    ring = choose_flash_ring(heads, units.shared_bytes) if units.warpgroups else None
    ahead, suffix = "", ""
    if tiling is not None and tiling["UNIT"] == "wgmma":
        ring = FlashRing(heads.depth, heads.width, whole(tiling, "STAGES"), whole(tiling, "KEYS"))
        check_shared_bytes(f"{ring.keys} keys in {ring.stages} stages", ring.shared_bytes, shared_bytes)
        ahead = f"_s{ring.stages}"
    elif tiling is not None:
        ring, fragments = None, whole(tiling, "ROWS") // ROWS_OF_FRAGMENTS
        tile = tile_of(heads, fragments, whole(tiling, "KEYS"), whole(tiling, "STAGES"))
        check_shared_bytes(f"{tile.keys} keys in {tile.slots} stages", tile.shared_bytes, shared_bytes)
        suffix = f"_s{tile.slots}"
    kernel = lower_with(
        graph,
        group,
        grouping,
        lambda body: flash_kernel(body, group.root, heads, tile),
        label=f"flash{tile.rows}x{tile.keys}{suffix}",
        least_cc=heads.product.needs,
    )
    text = (
        f"tensor cores ({heads.product.mma.replace('_', '.')}), {tile.rows} queries by {tile.keys} keys, "
        f"ring of {tile.slots} tiles, asynchronous copies"
    )
    found = Variant((kernel,), text=text)
    if ring is None:
        return (found,)
    warpgroups = _by_warpgroups(graph, group, grouping, heads, ring, ahead)
    if ahead and not warpgroups:
        raise CompileError("wgmma cannot take this attention", hint="UNIT=mma takes it")
    return (*warpgroups, found)


def attention_space(graph: Graph, group: Group, units: MatrixUnits) -> Space | None:
    """What attention may be tuned over; None where tensor cores do not compute it."""
    assert group.core is not None  # noqa: S101 - the caller looked
    heads = find_heads(graph, group.core, frozenset(group.members).__contains__, units)
    masked = len(graph.nodes[group.core].inputs) > 3
    if heads is None or choose_flash_tile(heads, units.shared_bytes, masked=masked) is None:
        return None
    return make_tile_space(PARAMETERS, _fitting(heads, units, masked=masked))


def _fitting(heads: Heads, units: MatrixUnits, *, masked: bool) -> Iterator[Values]:
    _, rows, keys, stages = PARAMETERS.values()
    for row, key, stage in itertools.product(map(int, rows), map(int, keys), map(int, stages)):
        tile = tile_of(heads, row // ROWS_OF_FRAGMENTS, key, stage)
        if _registers(tile) <= _MOST_REGISTERS and not (masked and tile.fragments > 1):
            yield {"UNIT": "mma", "ROWS": row, "KEYS": key, "STAGES": stage}
    if units.warpgroups and not masked and max(heads.depth, heads.width) <= MOST_COLUMNS:
        for key, stage in itertools.product((64, 128), map(int, stages)):
            yield {"UNIT": "wgmma", "ROWS": ROWS, "KEYS": key, "STAGES": stage}


def _registers(tile: FlashTile) -> int:
    return tile.fragments * ((tile.keys + tile.width) // 2 + tile.depth // 4)


def _by_warpgroups(
    graph: Graph, group: Group, grouping: Grouping, heads: Heads, ring: FlashRing, suffix: str
) -> tuple[Variant, ...]:
    """The kernel of `wgmma` and bulk tensor copies, where it fits the operands."""
    node = graph.nodes[heads.core]
    if len(node.inputs) > 3:
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
        label=f"flash_tma{ROWS}x{ring.keys}{suffix}",
        least_cc=(9, 0, "a"),
    )
    text = (
        f"tensor cores (wgmma.m64n{ring.keys}k16.{heads.product.name}), {ROWS} queries by {ring.keys} keys, "
        f"{ring.stages} tiles of keys and of values, bulk tensor copies by a warpgroup of their own"
    )
    return (Variant((kernel,), () if isinstance(sizes, int) else (some,), text=text),)
