"""Matrix products on tensor cores: `mma.sync` on tiles in shared memory, from sm_80 on.

Each block computes a tile of the result, each warp a part of it in registers. Where the operands can be
copied as they lie, tiles come by asynchronous copies, some stages ahead; where they cannot, elements are
loaded while the tile before is multiplied. What is fused into the product is computed where the sums are
written, which go through shared memory once more so that neighbouring threads write neighbouring elements.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from tessera.compiler.body import Body
from tessera.compiler.geometry import Geometry
from tessera.compiler.load_patches import copies_for
from tessera.compiler.matmul_operand import WORD_BYTES, Elements, Loader, Matrices, Side, WordCopies
from tessera.compiler.patches import Patches
from tessera.compiler.staged_tiles import StagedTiles
from tessera.compiler.tile_layout import DEPTH_BYTES, STEPS, Layout, choose_layout
from tessera.compiler.tile_result import Sums, place_tile, write_sums
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, product
from tessera.program.dtype import f16


@dataclass(frozen=True, slots=True)
class Tile(StagedTiles):
    """How a block and its warps share the result."""

    warps_down: int
    warps_across: int
    line_bytes: ClassVar[int] = DEPTH_BYTES

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_down * self.warps_across

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: what operands need, or afterwards sums."""
        return max(self.stages * self.stage_bytes, self.sums.shared_bytes)

    @property
    def sums(self) -> Sums:
        """How the result goes out."""
        return Sums(self.rows, self.columns, self.warps_down, self.warps_across)


LARGE = Tile(128, 128, stages=3, warps_down=2, warps_across=2)
"""64 × 64 of the result a warp: most products for each byte read from shared memory. Two blocks fit."""
SMALL = Tile(64, 64, stages=4, warps_down=2, warps_across=2)
"""For results that have too few large tiles to fill a GPU."""


def mma_kernel(
    body: Body, root: int, matrices: Matrices, tile: Tile, *, copied: int, splits: int = 1
) -> Geometry:
    """A kernel of `mma.sync` on tiles.

    Args:
        body: Takes the text.
        root: The node that is written; with `splits`, sums are written instead.
        matrices: The product.
        tile: How blocks and warps share the result.
        copied: Bytes at a time by which both operands are copied as they lie, 16 or 4; else 0.
        splits: Into how many parts the depth is cut, each summed up by a block of its own.
    """
    return _Mma(body, root, matrices, tile, copied=copied, splits=splits).write()


class _Mma:
    def __init__(
        self, body: Body, root: int, matrices: Matrices, tile: Tile, *, copied: int, splits: int
    ) -> None:
        self.body, self.writer = body, body.writer
        self.root, self.matrices, self.tile, self.splits = root, matrices, tile, splits
        self.node = body.graph.nodes[matrices.core]
        self.depth = body.graph.nodes[matrices.operands[0]].shape[-1]
        self.copied = copied

    def write(self) -> Geometry:
        """The kernel."""
        writer, tile, shape = self.writer, self.tile, self.node.shape
        tiles = [ceildiv(shape[-2], tile.rows), ceildiv(shape[-1], tile.columns)]
        memory = writer.declare("memory", "cuda.shared.array(0, uint8, 1024)")
        batch = place_tile(writer, tiles, tile.rows, tile.columns, product(shape[:-2]), self.splits)
        writer.line("thread = cuda.threadIdx.x")
        writer.line("lane = thread & 31")
        writer.line("warp = thread >> 5")
        writer.line(f"warp_down = warp // {tile.warps_across}")
        writer.line(f"warp_across = warp % {tile.warps_across}")
        writer.line(f"start = int64(gpu.shared_address({memory}, 0))")
        self._prepare(batch)
        for row in range(self._fragments_down):
            for column in range(self._fragments_across):
                writer.line(f"c{row}_{column} = gpu.zeros_{self.matrices.product.sums}(4)")
        if self.copied:
            self._multistage()
        else:
            self._two_stages()
        self._write_results(batch)
        blocks = product(shape[:-2]) * tiles[0] * tiles[1] * self.splits
        return Geometry((blocks, 1, 1), tile.threads, tile.shared_bytes)

    @property
    def _fragments_down(self) -> int:
        return self.tile.rows // self.tile.warps_down // 16

    @property
    def _fragments_across(self) -> int:
        return self.tile.columns // self.tile.warps_across // 8

    def _prepare(self, batch: Name) -> None:
        """Loaders, and where each lane reads."""
        tile, writer = self.tile, self.writer
        sizes = (
            ("a", tile.rows, tile.rows // tile.warps_down, "first_row", -2),
            ("b", tile.columns, tile.columns // tile.warps_across, "first_column", -1),
        )
        self.loaders: list[Loader] = []
        self.layouts: list[Layout] = []
        for position, (prefix, outer, warp_outer, first, axis) in enumerate(sizes):
            layout = choose_layout(
                left=position == 0,
                outer=outer,
                warp_outer=warp_outer,
                itemsize=self.matrices.product.dtype.itemsize,
                along_depth=self.matrices.along_depth[position],
            )
            node = self.matrices.operands[position]
            view = self.matrices.views[position]
            patches = self.matrices.patches_of(position)
            lines = self.node.shape[axis]
            side = Side(prefix, node, position == 0, layout, Name(first), lines, self.depth, view, patches)
            kind = self._loader(patches)
            loader = kind(self.body, self.matrices, side, batch, tile.threads)
            loader.prepare()
            self.loaders.append(loader)
            self.layouts.append(layout)
        a, b = self.layouts
        writer.line(f"a_read = {a.origin('warp_down')}")
        writer.line(f"b_read = {b.origin('warp_across')} + {a.bytes}")
        self._cut_depth()

    def _loader(self, patches: Patches | None) -> type[Loader]:
        if self.copied == WORD_BYTES:
            return WordCopies
        return copies_for(patches) if self.copied else Elements

    def _cut_depth(self) -> None:
        """How many tiles of depth this block has, and where they begin."""
        writer = self.writer
        each = self.layouts[0].depth
        steps: Dim = ceildiv(self.depth, each)
        if self.splits == 1:
            writer.line(f"steps = int64({writer.size(steps)})")
            return
        share = writer.size(ceildiv(steps, self.splits))
        writer.line(f"skipped = part * {share}")
        writer.line(f"steps = max(int64(0), min(int64({share}), {writer.size(steps)} - skipped))")
        for loader in self.loaders:
            loader.skip("skipped")

    def _multistage(self) -> None:
        """Copies run ahead by all stages but one."""
        tile, writer = self.tile, self.writer
        for stage in range(tile.stages - 1):
            self._begin(f"(start + {stage * tile.stage_bytes})")
            writer.line("gpu.cp_async_commit()")
        writer.line("read = start")
        writer.line(f"write = start + {(tile.stages - 1) * tile.stage_bytes}")
        writer.line(f"stop = start + {tile.stages * tile.stage_bytes}")
        with writer.block("for _ in range(steps)"):
            writer.line(f"gpu.cp_async_wait({tile.stages - 2})")
            # All see the tile, and all have read the one whose place is written next.
            writer.line("cuda.syncthreads()")
            self._begin("write")
            writer.line("gpu.cp_async_commit()")
            self._multiply()
            for name in ("read", "write"):
                writer.line(f"{name} += {tile.stage_bytes}")
                writer.line(f"{name} = start if {name} == stop else {name}")
        writer.line("gpu.cp_async_wait(0)")
        writer.line("cuda.syncthreads()")

    def _two_stages(self) -> None:
        """The next tile is loaded into registers while this one is multiplied."""
        tile, writer = self.tile, self.writer
        writer.line("write = start")
        writer.line(f"read = start + {tile.stage_bytes}")
        with writer.block("for step in range(steps + 1)"):
            self._begin("write")
            with writer.block("if step > 0"):
                self._multiply()
            for loader, offset in zip(self.loaders, (0, self.layouts[0].bytes), strict=True):
                loader.end(f"(write + {offset})")
            writer.line("cuda.syncthreads()")
            writer.line("other = read")
            writer.line("read = write")
            writer.line("write = other")

    def _begin(self, slot: str) -> None:
        for loader, offset in zip(self.loaders, (0, self.layouts[0].bytes), strict=True):
            loader.begin(f"{slot} + {offset}" if offset else slot)

    def _multiply(self) -> None:
        """A tile of depth: fragments of all steps, then their products."""
        writer = self.writer
        a, b = self.layouts
        writer.line("a_at = read + a_read")
        writer.line("b_at = read + b_read")
        for step in range(STEPS):
            for row in range(self._fragments_down):
                writer.line(f"x{step}_{row} = {self._rounded(a.fragment('a_at', row, step))}")
            for pair in range(self._fragments_across // 2):
                writer.line(f"y{step}_{pair} = {self._rounded(b.fragment('b_at', pair, step))}")
        for step, row, column in itertools.product(
            range(STEPS), range(self._fragments_down), range(self._fragments_across)
        ):
            loaded, low = f"y{step}_{column // 2}", column % 2 * 2
            right = (f"{loaded}[{low}]", f"{loaded}[{low + 1}]")
            self._product(f"x{step}_{row}", right, f"c{row}_{column}")

    def _product(self, left: str, right: tuple[str, str], total: str) -> None:
        """16 rows, 8 columns and 32 bytes of depth; of sm_75 in parts.

        Source: PTX ISA 8.8, "Matrix Fragments for mma.m16n8k8", "…m8n8k16", "…m16n8k16" and "…m16n8k32": the
        registers of the larger ones are those of the smaller, rows first, then the depth.
        """
        writer, product = self.writer, self.matrices.product
        mma = f"gpu.{product.mma}"
        if product.needs >= (8, 0):
            writer.line(f"{total} = {mma}({left}, ({', '.join(right)}), {total})")
        elif product.dtype == f16:
            for half in range(2):
                both = f"({left}[{2 * half}], {left}[{2 * half + 1}])"
                writer.line(f"{total} = {mma}({both}, ({right[half]},), {total})")
        else:
            for rows in range(2):
                part = f"({total}[{2 * rows}], {total}[{2 * rows + 1}])"
                for half in range(2):
                    one = f"({left}[{rows + 2 * half}],)"
                    writer.line(f"t{rows} = {mma}({one}, ({right[half]},), {part})")
                    part = f"t{rows}"
            writer.line(f"{total} = (t0[0], t0[1], t1[0], t1[1])")

    def _rounded(self, fragment: str) -> str:
        """float32 in memory becomes tf32 here, rounded; the products would cut it off."""
        wide = self.matrices.product.name == "tf32" and self.copied > 0
        return f"gpu.round_tf32_x4({fragment})" if wide else fragment

    def _write_results(self, batch: Name) -> None:
        out = None if self.splits == 1 else self.splits
        write_sums(self.body, self.root, self.matrices, self.tile.sums, batch, splits=out)
