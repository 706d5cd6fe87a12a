"""Matrix products by warpgroups, on sm_90a alone: `wgmma` on operands that stay in shared memory.

Two warpgroups compute 64 rows each of a block's tile. Copies run ahead by two stages fewer than there are:
one product is under way while the next tile is awaited, and the place of the one before is free for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tessera.compiler.body import Body
from tessera.compiler.geometry import Geometry
from tessera.compiler.load_patches import copies_for
from tessera.compiler.matmul_operand import Copies, Matrices, Side
from tessera.compiler.staged_tiles import StagedTiles, with_most_stages
from tessera.compiler.tile_layout import Chunk
from tessera.compiler.tile_result import Sums, place_tile, write_sums
from tessera.compiler.writer import Name
from tessera.program.dim import ceildiv, product

PRODUCTS = ("f16", "bf16", "s8", "u8", "e4m3", "e5m2")
"""What is multiplied so. Not tf32, whose operands nobody could round on their way."""
WIDTHS = (64, 128, 256)
"""Columns of the result that a product may have here."""
ROWS = 128
"""Rows of a block's tile: 64 for each of two warpgroups."""
_ROW = 128
"""Bytes of a swizzled row, the depth of a tile."""
_STEP = 32
"""Bytes of depth of one instruction."""
_ATOM = 8 * _ROW
"""Bytes of eight swizzled rows."""


@dataclass(frozen=True, slots=True)
class SharedOperand:
    """One operand's tile as `wgmma` reads it: rows of 128 bytes, their 16-byte chunks exchanged by the row.

    Source: PTX ISA 8.8, "Shared Memory Matrix Layout" of the asynchronous warpgroup-level instructions.
    """

    outer: int
    """Lines of the tile."""
    itemsize: int
    along_depth: bool
    """Whether a row is a line's depth; else it is 64 lines at one depth."""

    @property
    def bytes(self) -> int:
        """Bytes of a tile."""
        return self.outer * _ROW

    @property
    def depth(self) -> int:
        """Elements of depth of a tile."""
        return _ROW // self.itemsize

    @property
    def lines_bytes(self) -> int:
        """Bytes from one 64 lines to the next."""
        return 64 * _ROW

    def chunk(self, threads: int) -> Chunk:
        """What a thread copies of a tile."""
        each = 16 // self.itemsize
        if self.along_depth:
            line, column = "(thread >> 3)", "(thread & 7)"
            to = f"{line} * {_ROW} + (({column} ^ ({line} & 7)) << 4)"
            per_pass = threads // 8
            passes = self.outer // per_pass
            return Chunk(to, line, f"{column} * {each}", passes, per_pass, 0, per_pass * _ROW)
        per_depth = self.outer // each
        depth, column = f"(thread >> {per_depth.bit_length() - 1})", f"(thread & {per_depth - 1})"
        to = (
            f"({column} >> 3) * {self.lines_bytes} + {depth} * {_ROW} "
            f"+ ((({column} & 7) ^ ({depth} & 7)) << 4)"
        )
        per_pass = threads // per_depth
        return Chunk(to, f"{column} * {each}", depth, self.depth // per_pass, 0, per_pass, per_pass * _ROW)

    def descriptor(self, at: str, step: int) -> str:
        """Where the operand of one instruction lies, `at` being where the lines begin."""
        if self.along_depth:
            return f"gpu.wgmma_descriptor({at} + {step * _STEP}, 16, {_ATOM}, {_ROW})"
        each = _STEP // self.itemsize
        return f"gpu.wgmma_descriptor({at} + {step * each * _ROW}, {self.lines_bytes}, {_ATOM}, {_ROW})"


@dataclass(frozen=True, slots=True)
class WarpgroupTile(StagedTiles):
    """How a block's two warpgroups share the result: 64 rows each."""

    line_bytes: ClassVar[int] = _ROW

    @property
    def sums(self) -> Sums:
        """How the result goes out: all at once, each warp with 16 rows."""
        return Sums(self.rows, self.columns, self.rows // 16, 1)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return max(self.stages * self.stage_bytes, self.sums.shared_bytes)


def choose_tile(columns: int, shared_bytes: int) -> WarpgroupTile | None:
    """The tile of that many columns, with as many stages as fit, 3 or 4; None where they do not."""
    return with_most_stages(partial(WarpgroupTile, ROWS, columns), 3, 4, shared_bytes)


def multiplies(matrices: Matrices) -> bool:
    """Whether warpgroups multiply these operands as they lie: across the depth only 16-bit ones."""
    return matrices.product.name in PRODUCTS and (
        all(matrices.along_depth) or matrices.product.dtype.itemsize == 2
    )


def wgmma_kernel(body: Body, root: int, matrices: Matrices, tile: WarpgroupTile) -> Geometry:
    """A kernel of `wgmma` for operands that are copied as they lie.

    Args:
        body: Takes the text.
        root: The node that is written.
        matrices: The product.
        tile: How warpgroups share the result.
    """
    return _Wgmma(body, root, matrices, tile).write()


class _Wgmma:
    def __init__(self, body: Body, root: int, matrices: Matrices, tile: WarpgroupTile) -> None:
        self.body, self.writer = body, body.writer
        self.root, self.matrices, self.tile = root, matrices, tile
        self.node = body.graph.nodes[matrices.core]
        self.depth = body.graph.nodes[matrices.operands[0]].shape[-1]

    def write(self) -> Geometry:
        """The kernel."""
        writer, tile, shape = self.writer, self.tile, self.node.shape
        tiles = [ceildiv(shape[-2], tile.rows), ceildiv(shape[-1], tile.columns)]
        memory = writer.declare("memory", "cuda.shared.array(0, uint8, 1024)")
        batch = place_tile(writer, tiles, tile.rows, tile.columns, product(shape[:-2]), 1)
        for line in (
            "thread = cuda.threadIdx.x",
            "lane = thread & 31",
            "warp = thread >> 5",
            "warp_down = warp",
            "warp_across = int64(0)",
            f"start = int64(gpu.shared_address({memory}, 0))",
        ):
            writer.line(line)
        self._prepare(batch)
        writer.line(f"c = gpu.zeros_{self.matrices.product.sums}({tile.columns // 2})")
        self._main_loop()
        write_sums(
            self.body, self.root, self.matrices, tile.sums, batch, splits=None,
            sum_of=lambda _, column, i: f"c[{4 * column + i}]",
        )  # fmt: skip
        blocks = product(shape[:-2]) * tiles[0] * tiles[1]
        return Geometry((blocks, 1, 1), tile.sums.threads, tile.shared_bytes)

    def _prepare(self, batch: Name) -> None:
        tile = self.tile
        self.loaders: list[Copies] = []
        self.layouts: list[SharedOperand] = []
        for position, (prefix, outer, first, axis) in enumerate(
            (("a", tile.rows, "first_row", -2), ("b", tile.columns, "first_column", -1))
        ):
            itemsize = self.matrices.product.dtype.itemsize
            layout = SharedOperand(outer, itemsize, self.matrices.along_depth[position])
            node, view = self.matrices.operands[position], self.matrices.views[position]
            lines = self.node.shape[axis]
            patches = self.matrices.patches_of(position)
            side = Side(prefix, node, position == 0, layout, Name(first), lines, self.depth, view, patches)
            loader = copies_for(patches)(self.body, self.matrices, side, batch, tile.sums.threads)
            loader.prepare()
            self.loaders.append(loader)
            self.layouts.append(layout)
        self.writer.line(f"steps = int64({self.writer.size(ceildiv(self.depth, self.layouts[0].depth))})")
        # The 64 lines of A that this thread's warpgroup multiplies.
        self.writer.line(f"a_read = (warp >> 2) * {self.layouts[0].lines_bytes}")

    def _main_loop(self) -> None:
        tile, writer = self.tile, self.writer
        for stage in range(tile.stages - 2):
            self._begin(f"(start + {stage * tile.stage_bytes})")
        writer.line("read = start")
        writer.line(f"write = start + {(tile.stages - 2) * tile.stage_bytes}")
        writer.line(f"stop = start + {tile.stages * tile.stage_bytes}")
        with writer.block("for _ in range(steps)"):
            writer.line(f"gpu.cp_async_wait({tile.stages - 3})")
            writer.line("gpu.fence_async_shared()")
            # All see the tile, and nobody's product still reads the one before the last.
            writer.line("cuda.syncthreads()")
            self._begin("write")
            self._multiply()
            for name in ("read", "write"):
                writer.line(f"{name} += {tile.stage_bytes}")
                writer.line(f"{name} = start if {name} == stop else {name}")
        writer.line("c = gpu.wgmma_wait(0, c)")
        writer.line("gpu.cp_async_wait(0)")
        writer.line("cuda.syncthreads()")

    def _begin(self, slot: str) -> None:
        for loader, offset in zip(self.loaders, (0, self.layouts[0].bytes), strict=True):
            loader.begin(f"{slot} + {offset}" if offset else slot)
        self.writer.line("gpu.cp_async_commit()")

    def _multiply(self) -> None:
        writer = self.writer
        a, b = self.layouts
        kind = self.matrices.product.name
        writer.line("a_at = read + a_read")
        writer.line(f"b_at = read + {a.bytes}")
        writer.line("gpu.wgmma_fence()")
        flags = ""
        if not (a.along_depth and b.along_depth):
            kind += "_trans"
            flags = f", {int(not a.along_depth)}, {int(not b.along_depth)}"
        for step in range(_ROW // _STEP):
            left, right = a.descriptor("a_at", step), b.descriptor("b_at", step)
            writer.line(f"c = gpu.wgmma_{kind}(c, {left}, {right}, 1{flags})")
        writer.line("gpu.wgmma_commit()")
        writer.line("c = gpu.wgmma_wait(1, c)")
