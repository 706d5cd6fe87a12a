"""How warps of a persistent kernel write their sums: each by itself, without waiting for the others.

A warp has 16 rows of the tile. It takes 64 columns at a time through 4 KB of shared memory of its own, so
that what it writes, and what is read by the operators fused into the product, are neighbours in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.index import Index
from tessera.compiler.matmul_operand import Matrices
from tessera.compiler.writer import Name
from tessera.program.dim import Dim
from tessera.program.dtype import DType, bf16, f8e4m3, f8e5m2, f16, f32, i8, i16, i32, i64, tf32, u8

SLAB = 64
"""Columns that go out at a time."""
WARP_BYTES = 16 * SLAB * 4
"""Shared memory of a warp."""
_QUAD = 4
"""Neighbours that a lane writes together."""


def write_warp_sums(
    body: Body, root: int, matrices: Matrices, *, columns: int, stage: str, batch: Name
) -> None:
    """Write 16 rows of sums, in terms of `lane`, `first_row` (the warp's), `first_column` and `c`.

    Args:
        body: Takes the text.
        root: The node that is written.
        matrices: The product.
        columns: Columns of the tile.
        stage: Address of the warp's shared memory.
        batch: The batch's number.
    """
    writer, shape = body.writer, body.graph.nodes[matrices.core].shape
    floats = matrices.product.sums == "f32"
    # Rows change places of 8 columns with their two low bits: no two lanes meet in a bank.
    writer.line(f"put = {stage} + (lane >> 2) * {4 * SLAB} + ((((lane >> 2) & 3) << 5) | ((lane & 3) << 3))")
    with writer.block(f"for slab in range({columns // SLAB})"):
        _stage(body, columns, "f32" if floats else "u32")
        writer.line("cuda.syncwarp()")
        left = writer.let("left", f"first_column + slab * {SLAB}")
        for width, condition in _widths(body, root, matrices):
            if condition is None:
                _write_rows(body, root, matrices, shape, stage, batch, left, width)
                continue
            with writer.block(f"if {condition}"):
                _write_rows(body, root, matrices, shape, stage, batch, left, width)
        writer.line("cuda.syncwarp()")


def _stage(body: Body, columns: int, kind: str) -> None:
    writer = body.writer
    for slab in range(columns // SLAB):
        with writer.block(f"if slab == {slab}"):
            for column in range(SLAB // 8):
                for half in (0, 1):
                    first = 4 * (slab * SLAB // 8 + column) + 2 * half
                    at = f"(put ^ {32 * column}) + {half * 8 * 4 * SLAB}"
                    writer.line(f"gpu.store_shared_{kind}x2({at}, (c[{first}], c[{first + 1}]))")


def _widths(body: Body, root: int, matrices: Matrices) -> list[tuple[int, str | None]]:
    """How many neighbours a lane writes, and where: always, or where the columns allow it."""
    columns = body.graph.nodes[matrices.core].shape[-1]
    if body.graph.nodes[root].dtype not in _PACKED:
        return [(1, None)]
    if isinstance(columns, int):
        return [(_QUAD if columns % _QUAD == 0 else 1, None)]
    right = matrices.views[1]
    if not matrices.along_depth[1] and right is not None and right.node >= 0:
        # Copies of B as it lies have been found possible: its rows are whole chunks of 16 bytes.
        return [(_QUAD, None)]
    size = body.writer.size(columns)
    return [(_QUAD, f"{size} & 3 == 0"), (1, f"{size} & 3 != 0")]


def _write_rows(
    body: Body,
    root: int,
    matrices: Matrices,
    shape: tuple[Dim, ...],
    stage: str,
    batch: Name,
    left: Name,
    width: int,
) -> None:
    """A lane has `width` columns of a row: 64 columns of 2 rows at a time, or 32 of one."""
    writer = body.writer
    per_row = SLAB // width if width > 1 else 32
    halves = SLAB // (width * per_row)
    rows = 32 // per_row
    for half in range(halves):
        across = writer.let("across", f"int64((lane & {per_row - 1}) * {width} + {half * 32})")
        column = writer.let("column", f"{left} + {across}")
        with (
            writer.block(f"if {column} < {writer.size(shape[-1])}"),
            writer.block(f"for step in range({16 // rows})"),
        ):
            line = writer.let("line", f"step * {rows} + (lane >> {per_row.bit_length() - 1})")
            row = writer.let("row", f"first_row + {line}")
            with writer.block(f"if {row} < {writer.size(shape[-2])}"):
                at = f"{stage} + {line} * {4 * SLAB} + (({across} << 2) ^ (({line} & 3) << 5))"
                totals = _totals(body, matrices, at, width)
                next_ones = (Name(f"({column} + {j})", column.depth) for j in range(1, width))
                first = (len(shape) - 2, batch), (1, row)
                places = [Index(writer, shape, (*first, (1, place))) for place in (column, *next_ones)]
                _write(body, root, matrices, totals, places)


def _totals(body: Body, matrices: Matrices, at: str, width: int) -> list[Name]:
    writer, dtype = body.writer, body.graph.nodes[matrices.core].dtype
    kind = "f32" if matrices.product.sums == "f32" else "u32"
    if width == 1:
        raw = [writer.let("sum", f"gpu.load_shared_{kind}({at})")]
    else:
        four = writer.let("sums", f"gpu.load_shared_{kind}x{width}({at})")
        raw = [Name(f"{four}[{j}]", writer.depth) for j in range(width)]
    if kind == "f32":
        return [writer.let("total", value) for value in raw]
    return [writer.let("total", scalar_math.cast(f"int64(int32({value}))", i64, dtype)) for value in raw]


def _write(body: Body, root: int, matrices: Matrices, totals: list[Name], places: list[Index]) -> None:
    """Store neighbours that one lane has."""
    writer, node = body.writer, body.graph.nodes[root]
    values: list[Name] = []
    for total, place in zip(totals, places, strict=True):
        body.results[matrices.core] = total
        if len(places) == 1:
            body.store(root, place)
            return
        values.append(body.value(root, place, rounded=False))
    store, packed = _PACKED[node.dtype]
    outside, writer.location = writer.location, node.location
    writer.line(f"gpu.{store}(gpu.address(out, {places[0].position}), {packed(values)})")
    writer.location = outside


Pack = Callable[[list[Name]], str]


def _pairs(name: str) -> Pack:
    return lambda v: f"(gpu.f32_to_{name}x2({v[0]}, {v[1]}), gpu.f32_to_{name}x2({v[2]}, {v[3]}))"


def _words(v: list[Name]) -> str:
    return f"({', '.join(f'uint32({x})' for x in v)})"


def _halves(v: list[Name]) -> str:
    pairs = [f"uint32(({a} & 65535) | (({b} & 65535) << 16))" for a, b in zip(v[::2], v[1::2], strict=True)]
    return f"({', '.join(pairs)})"


def _bytes(bits: Callable[[Name], str]) -> Pack:
    return lambda v: "uint32(" + " | ".join(f"(({bits(x)} & 255) << {8 * i})" for i, x in enumerate(v)) + ")"


_PACKED: dict[DType, tuple[str, Pack]] = {
    f32: ("store_f32x4", lambda v: f"({', '.join(v)})"),
    tf32: ("store_f32x4", lambda v: f"({', '.join(v)})"),
    i32: ("store_u32x4", _words),
    f16: ("store_u32x2", _pairs("f16")),
    bf16: ("store_u32x2", _pairs("bf16")),
    i16: ("store_u32x2", _halves),
    i8: ("store_u32", _bytes(str)),
    u8: ("store_u32", _bytes(str)),
    f8e4m3: ("store_u32", _bytes(lambda x: f"int64(f32_to_f8e4m3({x}))")),
    f8e5m2: ("store_u32", _bytes(lambda x: f"int64(f32_to_f8e5m2({x}))")),
}
"""How four neighbours become one store, by the dtype in memory."""
