"""Which kernels a matrix product gets on tensor cores, and which of them runs for which sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessera.compiler.body import Body
from tessera.compiler.codegen import LoweredGroup, lower_with
from tessera.compiler.geometry import Geometry
from tessera.compiler.groups import Group, Grouping
from tessera.compiler.lower_mma import LARGE, SMALL, Tile, mma_kernel
from tessera.compiler.lower_tma import Ring, choose_ring, find_maps, multiplies_boxes
from tessera.compiler.lower_wgmma import ROWS, WarpgroupTile, choose_tile, multiplies
from tessera.compiler.matmul_makers import SPLIT_TILES, Maker, TmaMaker, WarpgroupMaker
from tessera.compiler.matmul_operand import CHUNK_BYTES, WORD_BYTES, Matrices, find_matrices
from tessera.compiler.matmul_tilings import WARPGROUPS, matmul_space, mma_tile
from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.packed_operands import LEAST_DEPTH, LEAST_LINES, Packed, pack_kernel, packings
from tessera.compiler.tiling import Values, check_shared_bytes, pair, whole
from tessera.compiler.variant import Variant
from tessera.language.tuning import Space
from tessera.program.dim import Dim, Expr, ceildiv, product
from tessera.program.dtype import DType, f8e4m3, f8e5m2, f32, i32
from tessera.program.errors import CompileError
from tessera.program.graph import Graph
from tessera.program.program import Compare

FULL_TILES = 96
"""From this many large tiles on, blocks fill a GPU: most of an A100's 108 multiprocessors have one."""
BOX_TILES = {256: 96, 128: 80, 64: 32}
"""The same for tiles that bulk tensor copies bring, by their columns (measured on an H200): narrow ones beat
small tiles of `mma.sync` long before they fill the GPU."""
SPLIT_DEPTH = 1024
"""From this depth on, cutting it is worth a second kernel."""
WIDTHS = (256, 128, 64)
"""Columns of warpgroup products, if `wgmma_config` does not say: the widest that fills the GPU is the fastest
(measured on an H200, `benchmarks/gpu_matmul.py`)."""
SPLITS = 8
"""Parts of a depth that is cut."""


def matmul_variants(
    graph: Graph,
    group: Group,
    grouping: Grouping,
    units: MatrixUnits,
    tiling: Values | None = None,
    shared_bytes: int = 0,
) -> tuple[Variant, ...]:
    """Kernels for a group with a product as its core, the first whose guard holds to be taken.

    Nothing where tensor cores cannot multiply the operands' types.

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
    matrices = find_matrices(graph, group.core, frozenset(group.members).__contains__, units)
    if matrices is None or units.shared_bytes < SMALL.shared_bytes:
        return ()
    family = Family(graph, group, grouping, units, matrices)
    return _applicable(family.candidates() if tiling is None else family.tuned(tiling, shared_bytes))


def product_space(graph: Graph, group: Group, units: MatrixUnits) -> Space | None:
    """What a product may be tuned over; None where tensor cores do not compute it."""
    assert group.core is not None  # noqa: S101 - the caller looked
    matrices = find_matrices(graph, group.core, frozenset(group.members).__contains__, units)
    if matrices is None or units.shared_bytes < SMALL.shared_bytes or not units.copies:
        return None
    return matmul_space(matrices, units, _ways(matrices)[0][0])


def _ways(matrices: Matrices) -> list[tuple[int, tuple[Compare, ...]]]:
    """Bytes that operands may be copied by, 0 for loads by element, and what must hold of open sizes."""
    found: list[tuple[int, tuple[Compare, ...]]] = []
    for copied in (CHUNK_BYTES, WORD_BYTES, 0):
        conditions = matrices.conditions_of(copied) if copied else ()
        # Windows are gathered 16 bytes at a time, or element by element.
        if conditions is None or (copied == WORD_BYTES and matrices.patches is not None):
            continue
        if all(_decided(condition) is not False for condition in conditions):
            found.append((copied, conditions))
    return found


@dataclass(frozen=True, slots=True)
class _Candidate:
    guard: tuple[Compare, ...]
    """What must hold of the sizes."""
    make: Maker | WarpgroupMaker | TmaMaker


@dataclass(frozen=True, slots=True)
class Family:
    """The kernels that one product may have."""

    graph: Graph
    group: Group
    grouping: Grouping
    units: MatrixUnits
    matrices: Matrices

    @property
    def elements(self) -> Dim:
        """Of the product."""
        return product(self.graph.nodes[self.matrices.core].shape)

    @property
    def sums(self) -> DType:
        """Type of sums in memory."""
        return f32 if self.matrices.product.sums == "f32" else i32

    def lower(self, maker: Maker, label: str) -> LoweredGroup:
        """The kernel of `mma.sync`."""

        def write(body: Body) -> Geometry:
            return mma_kernel(
                body, self.group.root, self.matrices, maker.tile, copied=maker.copied, splits=maker.splits
            )

        split = maker.splits > 1
        return lower_with(
            self.graph,
            self.group,
            self.grouping,
            write,
            label=label,
            least_cc=self.matrices.product.needs,
            out=self.sums if split else None,
        )

    def pack(self, packed: Packed, position: int) -> LoweredGroup:
        """The kernel that writes an operand once more."""
        return lower_with(
            self.graph,
            self.group,
            self.grouping,
            lambda body: pack_kernel(body, self.matrices, packed.matrices, position),
            label=f"pack_{'ab'[position]}",
            least_cc=self.matrices.product.needs,
            out=self.matrices.product.dtype,
            to_second=position == 1,
        )

    def candidates(self) -> list[_Candidate]:
        """All that could be taken, best first; the last always can."""
        found: list[_Candidate] = []
        if not self.units.copies:
            return [_Candidate((), Maker(self, SMALL, copied=0))]
        aligned = self.matrices.conditions
        warpgroups = [] if aligned is None else self._warpgroup_tiles()
        if aligned is not None:
            if not self.group.at_load:
                found.append(_Candidate((*aligned, *self._split()), Maker(self, SMALL, splits=SPLITS)))
            found += [self._warpgroups(aligned, tile) for tile in warpgroups]
        found += self._packed()
        if aligned is not None:
            if not warpgroups and self._large_fits:
                full = Compare(lhs=FULL_TILES, op="<=", rhs=self._tiles(LARGE))
                found.append(_Candidate((*aligned, full), Maker(self, LARGE)))
            found.append(_Candidate(aligned, Maker(self, SMALL)))
        words = self.matrices.conditions_of(WORD_BYTES)
        if words is not None and self.matrices.patches is None:
            found.append(_Candidate(words, Maker(self, SMALL, copied=WORD_BYTES)))
        found.append(_Candidate((), Maker(self, SMALL, copied=0)))
        return found

    def tuned(self, tiling: Values, shared_bytes: int) -> list[_Candidate]:
        """The tuned tile, where operands come as fast as they can; behind it what takes every size.

        Raises:
            CompileError: It does not fit.
        """
        ways = _ways(self.matrices)
        if tiling["UNIT"] == WARPGROUPS:
            found, rest = [self._tuned_warpgroups(tiling, shared_bytes)], ways
        else:
            (copied, conditions), *rest = ways
            tile = mma_tile(tiling)
            check_shared_bytes(f"tiles of {tile.rows} × {tile.columns}", tile.shared_bytes, shared_bytes)
            suffix = f"_{tiling['WARPS']}_s{tiling['STAGES']}"
            maker = Maker(self, tile, copied, whole(tiling, "SPLITS"), suffix)
            found = [_Candidate(conditions, maker)]
        return found + [_Candidate(conditions, Maker(self, SMALL, copied)) for copied, conditions in rest]

    def _tuned_warpgroups(self, tiling: Values, shared_bytes: int) -> _Candidate:
        columns, stages = pair(tiling, "TILE")[1], whole(tiling, "STAGES")
        aligned = self.matrices.conditions
        ring = Ring(ROWS, columns, stages)
        left, right = (self.graph.nodes[operand].shape for operand in self.matrices.operands)
        suffix = f"_s{stages}"
        if aligned is None or not multiplies_boxes(self.matrices):
            raise CompileError(
                f"wgmma cannot take {self.matrices.product.name} operands that lie so",
                hint="UNIT=mma takes them",
            )
        what = f"tiles of {ring.rows} × {columns} in {stages} stages"
        if find_maps((left, right), self.matrices, ring):
            check_shared_bytes(what, ring.shared_bytes, shared_bytes)
            some = Compare(lhs=1, op="<=", rhs=self._depth)
            return _Candidate((*aligned, some), TmaMaker(self, ring, suffix=suffix))
        if not multiplies(self.matrices):
            raise CompileError(f"wgmma cannot take {self.matrices.product.name} operands without tensor maps")
        tile = WarpgroupTile(ROWS, columns, stages)
        check_shared_bytes(what, tile.shared_bytes, shared_bytes)
        return _Candidate(aligned, WarpgroupMaker(self, tile, suffix))

    @property
    def _large_fits(self) -> bool:
        """Whether large tiles fit shared memory and registers.

        `mma.sync` of 8-bit floats is one of halves from sm_90 on, and their conversion leaves no registers
        for the places of gathered windows.
        """
        crowded = self.matrices.patches is not None and self.matrices.product.dtype in (f8e4m3, f8e5m2)
        return LARGE.shared_bytes <= self.units.shared_bytes and not crowded

    def _warpgroups(self, aligned: tuple[Compare, ...], tile: WarpgroupTile | Ring) -> _Candidate:
        """Warpgroup products of operands as they lie."""
        if not isinstance(tile, Ring):
            full = Compare(lhs=FULL_TILES, op="<=", rhs=self._tiles(tile))
            return _Candidate((*aligned, full), WarpgroupMaker(self, tile))
        full = Compare(lhs=BOX_TILES[tile.columns], op="<=", rhs=self._tiles(tile))
        # A tensor map has no size of 0.
        some = Compare(lhs=1, op="<=", rhs=self._depth)
        return _Candidate((*aligned, full, some), TmaMaker(self, tile))

    def _packed(self) -> list[_Candidate]:
        """Warpgroup products of operands that are packed first."""
        if not self.units.warpgroups or self.group.at_load:
            return []
        rows, columns = self.graph.nodes[self.matrices.core].shape[-2:]
        large = (
            Compare(lhs=LEAST_LINES, op="<=", rhs=rows),
            Compare(lhs=LEAST_LINES, op="<=", rhs=columns),
            Compare(lhs=LEAST_DEPTH, op="<=", rhs=self._depth),
        )
        found: list[_Candidate] = []
        for packed in packings(self.graph, self.matrices):
            for width in self._widths:
                ring = self._ring(width, packed.matrices)
                if ring is not None:
                    full = Compare(lhs=BOX_TILES[width], op="<=", rhs=self._tiles(ring))
                    found.append(_Candidate((*packed.guard, *large, full), TmaMaker(self, ring, packed)))
        return found

    @property
    def _widths(self) -> tuple[int, ...]:
        widths = WIDTHS if self.units.wgmma is None else (self.units.wgmma[1],)
        columns = self.graph.nodes[self.matrices.core].shape[-1]
        if not isinstance(columns, int) or self.units.wgmma is not None:
            return widths
        # A batch of narrow products, as of small images, would leave half of a wide tile empty.
        least = next((w for w in sorted(widths) if w >= columns), max(widths))
        return tuple(w for w in widths if w <= least)

    @property
    def _depth(self) -> Dim:
        return self.graph.nodes[self.matrices.operands[0]].shape[-1]

    def _warpgroup_tiles(self) -> list[WarpgroupTile | Ring]:
        """Tiles of warpgroup products, widest first, where the target has them and they fit the operands."""
        if not self.units.warpgroups:
            return []
        tiles = (self._ring(columns, self.matrices) or self._tile(columns) for columns in self._widths)
        return [tile for tile in tiles if tile is not None]

    def _tile(self, columns: int) -> WarpgroupTile | None:
        """The tile for copies by threads."""
        return choose_tile(columns, self.units.shared_bytes) if multiplies(self.matrices) else None

    def _ring(self, columns: int, matrices: Matrices) -> Ring | None:
        """The tiles for bulk tensor copies, where both operands can have tensor maps."""
        ring = choose_ring(columns, self.units.shared_bytes) if multiplies_boxes(matrices) else None
        left, right = (self.graph.nodes[operand].shape for operand in matrices.operands)
        return ring if ring is not None and find_maps((left, right), matrices, ring) else None

    def _tiles(self, tile: Tile | WarpgroupTile | Ring) -> Dim:
        shape = self.graph.nodes[self.matrices.core].shape
        down, across = ceildiv(shape[-2], tile.rows), ceildiv(shape[-1], tile.columns)
        return product(shape[:-2]) * down * across

    def _split(self) -> tuple[Compare, ...]:
        return (
            Compare(lhs=SPLIT_DEPTH, op="<=", rhs=self._depth),
            Compare(lhs=self._tiles(SMALL), op="<=", rhs=SPLIT_TILES),
        )


def _applicable(candidates: Sequence[_Candidate]) -> tuple[Variant, ...]:
    """Variants up to the first that always applies, without conditions already decided."""
    found: list[Variant] = []
    for candidate in candidates:
        verdicts = [(compare, _decided(compare)) for compare in candidate.guard]
        if any(verdict is False for _, verdict in verdicts):
            continue
        guard = tuple(compare for compare, verdict in verdicts if verdict is None)
        found.append(candidate.make.variant(guard))
        if not guard:
            break
    return tuple(found)


def _decided(compare: Compare) -> bool | None:
    """Whether a condition on fixed sizes holds; None while a size is open."""
    lhs, rhs = compare.lhs, compare.rhs
    if isinstance(lhs, int) and isinstance(rhs, Expr) and compare.op == "divides":
        return True if all(factor % lhs == 0 for _, factor in rhs.terms) else None
    if not isinstance(lhs, int) or not isinstance(rhs, int):
        return None
    return {"<=": lhs <= rhs, "divides": lhs != 0 and rhs % lhs == 0}[compare.op]
