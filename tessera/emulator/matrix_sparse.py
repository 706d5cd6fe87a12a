"""LLVM IR of `mma.sp`: each element of A meets the row of B that its metadata names."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.emulator.matrix_code import (
    TILE_BYTES,
    VECTOR_BYTES,
    Code,
    elements_of,
    register_bits,
)
from tessera.emulator.matrix_product import Product, module_of, per_tile, table_text, write_tile
from tessera.emulator.sparsity import ROWS, Metadata

HALVES = 2


@dataclass(frozen=True, slots=True)
class SparseProduct:
    """A product whose registers come as those of `Product` do, after the metadata."""

    product: Product
    """With the registers of A along k, half of B's."""
    depth: int
    """k."""
    selector: int

    @property
    def name(self) -> str:
        """Of the function."""
        return f"sparse_{self.depth}_{self.selector}_{self.product.name}"


def sparse_text(sparse: SparseProduct, metadata: Metadata) -> str:
    """The module with the function `sparse.name`, of the warp, the table of registers, and the mask.

    The table has the metadata, then A, B, C and D.
    """
    w, product = Code(), sparse.product
    elements, kept = elements_of(product.a), sparse.depth // 2
    count_a, count_b = HALVES * product.steps, 2 * product.steps
    count_c = HALVES * per_tile(product.c)
    size, register = elements * VECTOR_BYTES, register_bits(product.c) * 4
    a, b, c = w.space(count_a * size), w.space(count_b * size), w.space(count_c * register)
    with w.loop(count_a) as i:
        w.stage(w.fetch(w.slot(1, i), 32), product.a, w.at(a, (i, size)))
    with w.loop(count_b) as i:
        w.stage_columns(w.fetch(w.slot(1 + count_a, i), 32), product.b, w.at(b, (i, size)))
    with w.loop(count_c) as i:
        w.keep(w.at(c, (i, register)), w.fetch(w.slot(1 + count_a + count_b, i), 32))
    tables, offsets = _offsets(w, sparse, metadata, elements)
    sums = w.space(TILE_BYTES)
    with w.loop(HALVES) as half:
        totals = w.zeros("exact")
        with w.loop(product.steps) as step, w.loop(4) as member, w.loop(elements) as i:
            column = w.let(f"add i64 {w.let(f'mul i64 {step}, {4 * elements}')}, {i}")
            column = w.let(f"add i64 {w.let(f'mul i64 {member}, {elements}')}, {column}")
            left = w.at(a, (half, product.steps * size), (step, size), (i, VECTOR_BYTES), (member, 8))
            mine = w.at(offsets, (half, 8 * kept * 4), (column, 4))
            for row in range(8):
                place = w.at(mine, (row, kept * 4))
                offset = w.let(f"load i32, ptr {place}, align 4")
                right = w.let(f"getelementptr i8, ptr {b}, i32 {offset}")
                w.add_product("exact", totals[row], w.at(left, (row, 4 * 8)), right)
        w.spill(totals, "exact", sums)
        place = w.at(c, (half, per_tile(product.c) * register))
        old = [w.fetch(w.at(place, (i, register)), 32) for i in range(per_tile(product.c))]
        write_tile(w, product, old, sums, (1 + count_a + count_b + count_c, half))
    return "\n".join((*tables, module_of(w, sparse.name)))


def _offsets(w: Code, sparse: SparseProduct, metadata: Metadata, elements: int) -> tuple[list[str], str]:
    """Global tables, and a buffer of i32: where in staged B the row for each kept element of A lies."""
    per_step = 4 * elements
    rows = [
        ((k // per_step * elements + k % elements) * 32 + k % per_step // elements * 8) * 8
        for k in range(sparse.depth)
    ]
    picks, places = metadata.picks, metadata.lanes.size
    chunks = places // ROWS
    numbers = {
        "lanes": metadata.lanes.ravel().tolist(),
        "shifts": metadata.shifts.ravel().tolist(),
        "rows": rows,
    }
    tables = [table_text(name, values) for name, values in numbers.items()]
    target = w.space(places * len(picks) * 4)
    words = w.slot(0, 0)

    def entry(name: str, index: str) -> str:
        return w.let(f"load i32, ptr {w.let(f'getelementptr i32, ptr {name}, i64 {index}')}, align 4")

    with w.loop(places) as i:
        lane = entry("@lanes", i)
        word = w.let(f"load i32, ptr {w.let(f'getelementptr i32, ptr {words}, i32 {lane}')}")
        field = w.let(f"lshr i32 {word}, {entry('@shifts', i)}")
        start = w.let(f"mul i64 {w.let(f'urem i64 {i}, {chunks}')}, {metadata.chunk}")
        for position, (which, factor, more) in enumerate(picks):
            # Elements of 32 bits count as two of sixteen.
            shift = 2 * which + (metadata.chunk == 2)
            number = w.let(
                f"and i32 {w.let(f'lshr i32 {field}, {shift}')}, {1 if metadata.chunk == 2 else 3}"
            )
            inside = w.let(f"add i32 {w.let(f'mul i32 {number}, {factor}')}, {more}")
            k = w.let(f"add i64 {start}, {w.let(f'zext i32 {inside} to i64')}")
            place = w.at(target, (i, 4 * len(picks)), (position, 4))
            w.raw(f"  store i32 {entry('@rows', k)}, ptr {place}, align 4")
    return tables, target
