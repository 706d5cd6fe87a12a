"""Makes the kernels of a matrix product on tensor cores, once one is known to be needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.compiler.codegen import lower_with
from tessera.compiler.lower_mma import Tile
from tessera.compiler.lower_tma import Ring, tma_kernel
from tessera.compiler.lower_wgmma import WarpgroupTile, wgmma_kernel
from tessera.compiler.matmul_operand import CHUNK_BYTES, WORD_BYTES
from tessera.compiler.packed_operands import Packed
from tessera.compiler.split_depth import sum_parts
from tessera.compiler.variant import Variant
from tessera.program.dim import minimum
from tessera.program.program import Compare

if TYPE_CHECKING:
    from tessera.compiler.matmul_variants import Family

SPLIT_TILES = 64
"""Up to this many small tiles, most multiprocessors would be idle: the depth is cut."""


@dataclass(frozen=True, slots=True)
class WarpgroupMaker:
    """Makes the variant of `wgmma` once it is known to be needed."""

    family: Family
    tile: WarpgroupTile
    suffix: str = ""
    """Tells a tuned kernel from the compiler's own."""

    def variant(self, guard: tuple[Compare, ...]) -> Variant:
        """The kernel."""
        family, tile = self.family, self.tile
        kernel = lower_with(
            family.graph,
            family.group,
            family.grouping,
            lambda body: wgmma_kernel(body, family.group.root, family.matrices, tile),
            label=f"wgmma{tile.rows}x{tile.columns}{self.suffix}",
            least_cc=(9, 0, "a"),
        )
        kind = family.matrices.product
        depth = 32 // kind.dtype.itemsize
        text = (
            f"tensor cores (wgmma.m64n{tile.columns}k{depth}.{kind.name}), tiles of {tile.rows} × "
            f"{tile.columns}, {tile.stages} stages, asynchronous copies"
        )
        return Variant((kernel,), guard, text=text)


@dataclass(frozen=True, slots=True)
class TmaMaker:
    """The same with bulk tensor copies."""

    family: Family
    ring: Ring
    packed: Packed | None = None
    suffix: str = ""
    """Tells a tuned kernel from the compiler's own."""

    def variant(self, guard: tuple[Compare, ...]) -> Variant:
        """The kernel, after those that pack operands."""
        family, ring, packed = self.family, self.ring, self.packed
        matrices = family.matrices if packed is None else packed.matrices
        # Where B had to be packed across the depth, the result's rows are no multiples of 16 bytes either.
        across = packed is not None and 1 in packed.positions and not matrices.along_depth[1]
        any_columns = "_any" if across else ""
        kernel = lower_with(
            family.graph,
            family.group,
            family.grouping,
            lambda body: tma_kernel(body, family.group.root, matrices, ring),
            label=f"tma{ring.rows}x{ring.columns}{any_columns}{self.suffix}",
            least_cc=(9, 0, "a"),
        )
        kind = family.matrices.product
        depth = 32 // kind.dtype.itemsize
        text = (
            f"tensor cores (wgmma.m64n{ring.columns}k{depth}.{kind.name}), tiles of {ring.rows} × "
            f"{ring.columns}, {ring.stages} stages, bulk tensor copies by a warpgroup of their own"
        )
        if packed is None:
            return Variant((kernel,), guard, text=text)
        kernels = tuple(family.pack(packed, position) for position in packed.positions)
        return Variant((*kernels, kernel), guard, packed.bytes[0], text, packed.bytes[1])


_COPIES = {
    CHUNK_BYTES: ("asynchronous copies", ""),
    WORD_BYTES: ("asynchronous copies of 4 bytes", "_words"),
    0: ("loads by element", "_any"),
}
"""How operands come, in words and in the kernel's name, by the bytes that are copied at a time."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes a variant once it is known to be needed."""

    family: Family
    tile: Tile
    copied: int = CHUNK_BYTES
    """Bytes that are copied at a time; 0 for loads by element."""
    splits: int = 1
    suffix: str = ""
    """Tells a tuned kernel from the compiler's own."""

    def variant(self, guard: tuple[Compare, ...]) -> Variant:
        """The kernels."""
        family, tile = self.family, self.tile
        matrices = family.matrices
        stages = tile.stages if self.copied else 2
        text = (
            f"tensor cores ({matrices.product.mma.replace('_', '.')}), tiles of {tile.rows} × "
            f"{tile.columns}, {stages} stages, " + _COPIES[self.copied][0]
        )
        label = f"mma{tile.rows}x{tile.columns}{self.suffix}{_COPIES[self.copied][1]}"
        if self.splits == 1:
            return Variant((family.lower(self, label),), guard, text=text)
        last = lower_with(
            family.graph,
            family.group,
            family.grouping,
            lambda body: sum_parts(body, family.group.root, matrices.core, self.splits),
            label=f"sum{self.splits}" if self.suffix else "sum",
            workspace=family.sums,
        )
        size = minimum(family.elements, SPLIT_TILES * tile.rows * tile.columns)
        if self.suffix:
            size = family.elements
        return Variant(
            (family.lower(self, f"{label}_split{self.splits}"), last),
            guard,
            size * self.splits * 4,
            f"{text}, depth in {self.splits} parts",
        )
