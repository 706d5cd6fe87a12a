"""Where a block's tile lies in the result, and how its sums get there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler.body import Body
from tessera.compiler.index import Index
from tessera.compiler.matmul_operand import Matrices
from tessera.compiler.writer import Name, Writer
from tessera.program.dim import Dim, product

_BAND = 8
"""Rows of tiles that blocks go through column by column: those at work share operands in the cache."""
_PADDING = 8
"""Sums between lines, so that the rows that a warp stores together lie in different banks."""


@dataclass(frozen=True, slots=True)
class Sums:
    """How the sums of a block's tile go through shared memory: 16 rows of each warp at a time."""

    rows: int
    columns: int
    warps_down: int
    warps_across: int

    @property
    def parts(self) -> int:
        """How many times."""
        return self.rows // self.warps_down // 16

    @property
    def pitch(self) -> int:
        """Sums from one line to the next."""
        return self.columns + _PADDING

    @property
    def shared_bytes(self) -> int:
        """Shared memory of one time."""
        return 4 * self.warps_down * 16 * self.pitch

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_down * self.warps_across


SumName = Callable[[int, int, int], str]
"""(16 rows, 8 columns, which of a lane's four sums there) → what it is called."""


def _fragment_sum(rows: int, columns: int, number: int) -> str:
    return f"c{rows}_{columns}[{number}]"


def place_tile(writer: Writer, tiles: list[Dim], rows: int, columns: int, batch: Dim, splits: int) -> Name:
    """Write `first_row` and `first_column` of the block's tile, and `part` of several; the batch's number."""
    writer.line("tile = int64(cuda.blockIdx.x)")
    if splits > 1:
        writer.line(f"part = tile % {splits}")
        writer.line(f"tile = tile // {splits}")
    return place_numbered(writer, tiles, rows, columns, batch)


def place_numbered(writer: Writer, tiles: list[Dim], rows: int, columns: int, batch: Dim) -> Name:
    """Write `first_row` and `first_column` of the tile of number `tile`; the batch's number."""
    down, across = (writer.size(count) for count in tiles)
    tile = Name("tile")
    each = writer.let("each", f"{down} * {across}")
    one = batch == 1
    number = Name("int64(0)") if one else writer.let("number", f"udiv({tile}, {each})")
    writer.line(f"inner = {tile if one else f'{tile} - {number} * {each}'}")
    writer.line(f"band = udiv(inner, {_BAND} * {across})")
    writer.line(f"height = min({down} - band * {_BAND}, {_BAND})")
    writer.line(f"within = inner - band * {_BAND} * {across}")
    writer.line(f"first_row = (band * {_BAND} + urem(within, height)) * {rows}")
    writer.line(f"first_column = udiv(within, height) * {columns}")
    return Name("0") if one else number


def write_sums(
    body: Body,
    root: int,
    matrices: Matrices,
    sums: Sums,
    batch: Name,
    *,
    splits: int | None = None,
    sum_of: SumName = _fragment_sum,
) -> None:
    """Write the sums of every lane: with what is fused, or as they are for each split.

    Args:
        body: Takes the text.
        root: The node that is written.
        matrices: The product.
        sums: How a block's sums go through shared memory.
        batch: The batch's number.
        splits: How many parts the depth is cut into, if it is.
        sum_of: What the sums are called.
    """
    writer = body.writer
    total_type = "float32" if matrices.product.sums == "f32" else "int32"
    stage = writer.declare("stage", f"cuda.shared.array(0, {total_type}, 1024)")
    shift = sums.columns.bit_length() - 1
    per_pass = sums.threads // sums.columns
    lines = "warp_down * 16 + (lane >> 2)"
    columns = f"warp_across * {sums.columns // sums.warps_across} + ((lane & 3) << 1)"
    writer.line(f"put = start + 4 * (({lines}) * {sums.pitch} + {columns})")
    writer.line(f"local = int64(thread & {sums.columns - 1})")
    writer.line("column = first_column + local")
    with writer.block(f"for slab in range({sums.parts})"):
        _stage_sums(writer, sums, total_type, sum_of)
        writer.line("cuda.syncthreads()")
        shape = body.graph.nodes[matrices.core].shape
        passes = sums.warps_down * 16 // per_pass
        inside = writer.block(f"if column < {writer.size(shape[-1])}")
        with inside, writer.block(f"for step in range({passes})"):
            writer.line(f"line = (thread >> {shift}) + step * {per_pass}")
            warp_rows = sums.rows // sums.warps_down
            writer.line(f"row = first_row + (line >> 4) * {warp_rows} + slab * 16 + (line & 15)")
            with writer.block(f"if row < {writer.size(shape[-2])}"):
                total = f"{stage}[line * {sums.pitch} + local]"
                _write_one(body, root, matrices, total, batch, splits)
        writer.line("cuda.syncthreads()")


def _stage_sums(writer: Writer, sums: Sums, total_type: str, sum_of: SumName) -> None:
    store = "gpu.store_shared_f32x2" if total_type == "float32" else "gpu.store_shared_u32x2"
    for slab in range(sums.parts):
        with writer.block(f"if slab == {slab}"):
            for column in range(sums.columns // sums.warps_across // 8):
                for half in (0, 1):
                    at = f"put + {4 * (half * 8 * sums.pitch + column * 8)}"
                    pair = ", ".join(sum_of(slab, column, 2 * half + i) for i in (0, 1))
                    writer.line(f"{store}({at}, ({pair}))")


def _write_one(
    body: Body, root: int, matrices: Matrices, total: str, batch: Name, splits: int | None
) -> None:
    from tessera.compiler.lower_matmul import store_total

    writer, shape = body.writer, body.graph.nodes[matrices.core].shape
    row, column = Name("row", writer.depth), Name("column")
    if splits is None:
        value = writer.let("total", total if matrices.product.sums == "f32" else f"int64({total})")
        parts = ((len(shape) - 2, batch), (1, row), (1, column))
        store_total(body, root, matrices.core, value, Index(writer, shape, parts))
        return
    elements = writer.size(product(shape))
    place = f"({batch} * {writer.size(shape[-2])} + {row}) * {writer.size(shape[-1])} + {column}"
    writer.line(f"out[part * {elements} + {place}] = {total}")
