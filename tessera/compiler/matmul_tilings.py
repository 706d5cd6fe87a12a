"""Which tiles a matrix product on tensor cores may be tuned over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tessera.compiler.lower_mma import Tile
from tessera.compiler.lower_tma import multiplies_boxes
from tessera.compiler.matmul_operand import CHUNK_BYTES, Matrices
from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.tiling import Values, make_tile_space, pair, whole
from tessera.language.tuning import Space, Value

MMA, WARPGROUPS = "mma", "wgmma"
"""Instructions."""
NONE = "none"
"""Where a parameter does not apply: warps of `wgmma`, whose two warpgroups have 64 rows each."""
_TILES = ("64x64", "64x128", "128x64", "128x128", "128x256", "256x128")
_WARPS = ("2x2", "2x4", "4x2", "1x4", "4x1")
_STAGES = (2, 3, 4, 5, 6, 7, 8)
_SPLITS = (1, 2, 4, 8, 16)
PARAMETERS: dict[str, tuple[Value, ...]] = {
    "UNIT": (MMA, WARPGROUPS),
    "TILE": _TILES,
    "WARPS": (NONE, *_WARPS),
    "STAGES": _STAGES,
    "SPLITS": _SPLITS,
}
"""Instruction; rows × columns of a block's tile, whose depth is a line of shared memory: 64 bytes of `mma`,
128 of `wgmma`; warps down × across; tiles of operands in shared memory; parts of the depth."""
_MOST_STAGES = {MMA: 6, WARPGROUPS: 8}
_LEAST_STAGES = {MMA: 2, WARPGROUPS: 3}
_MOST_SUMS = 128
"""Sums of one thread: with more, fragments have no registers."""


def matmul_space(matrices: Matrices, units: MatrixUnits, copied: int) -> Space | None:
    """The tilings of a product, or None where there are none.

    Args:
        matrices: The product.
        units: What the targets have.
        copied: Bytes that its operands can be copied by at most; 0 for loads by element.
    """
    return make_tile_space(PARAMETERS, _fitting(matrices, units, copied))


def _fitting(matrices: Matrices, units: MatrixUnits, copied: int) -> Iterator[Values]:
    for tile, warps, stages, splits in itertools.product(_TILES, _WARPS, _STAGES, _SPLITS):
        values: Values = {"UNIT": MMA, "TILE": tile, "WARPS": warps, "STAGES": stages, "SPLITS": splits}
        most = _MOST_STAGES[MMA] if copied else 2
        made = mma_tile(values)
        fits = stages <= most and fits_warps(made, matrices.product.dtype.itemsize)
        # Loads by element are text, and registers, for each element.
        if fits and (copied or made.rows + made.columns <= made.threads):
            yield values
    if units.warpgroups and copied == CHUNK_BYTES and multiplies_boxes(matrices):
        for tile, stages in itertools.product(("128x64", "128x128", "128x256"), _STAGES):
            if _LEAST_STAGES[WARPGROUPS] <= stages:
                yield {"UNIT": WARPGROUPS, "TILE": tile, "WARPS": NONE, "STAGES": stages, "SPLITS": 1}


def mma_tile(values: Values) -> Tile:
    """The tile of `mma.sync` that a tiling names."""
    rows, columns = pair(values, "TILE")
    down, across = pair(values, "WARPS")
    return Tile(rows, columns, whole(values, "STAGES"), down, across)


def fits_warps(tile: Tile, itemsize: int) -> bool:
    """Whether warps can share a tile: fragments, copies and the way out come out even."""
    rows, columns = tile.rows // tile.warps_down, tile.columns // tile.warps_across
    fragments = rows >= 16 and columns >= 16
    # A thread copies at least one 16-byte chunk of each operand, and a column has a thread on the way out.
    copies = min(tile.rows, tile.columns) * 4 >= tile.threads
    out = tile.columns <= tile.threads
    sums = tile.rows * tile.columns // tile.threads <= _MOST_SUMS
    across = min(tile.rows, tile.columns) * itemsize >= 64
    return fragments and copies and out and sums and across
