"""LLVM IR of `mma.m8n8k4` on f16: four products at once, each by eight lanes.

Its fragments lie in no order that the tiles of other products know, so the staged elements are put into that
order one by one, by tables.
"""

from __future__ import annotations

from tessera.emulator import fragments
from tessera.emulator.emit_ir import WARP
from tessera.emulator.matrices import ELEMENT_BITS
from tessera.emulator.matrix_code import (
    COLUMNS,
    TILE_BYTES,
    VECTOR_BYTES,
    Code,
    finished_from_f64,
    packed,
    register_bits,
    to_f64,
    unpacked,
)
from tessera.emulator.matrix_product import module_of, table_text

QUADS = 4


def quads_name(layouts: tuple[str, str], c: str, d: str) -> str:
    """Name of the function for these layouts of A and B and types of C and D."""
    return "quads_" + "_".join((*layouts, c, d))


def quads_text(layouts: tuple[str, str], c: str, d: str) -> str:
    """The module with that function, of the warp, the table of A, B, C and D, and the mask."""
    w = Code()
    a_layout, b_layout = fragments.quad_a(layouts[0]), fragments.quad_b(layouts[1])
    c_layout, d_layout = fragments.quad_accumulator(c), fragments.quad_accumulator(d)
    a = _staged(w, 0, 2, "f16")
    b = _staged(w, 2, 2, "f16")
    old = _staged(w, 4, 8 * ELEMENT_BITS[c] // 32, c)
    tables: list[str] = []
    a = _mapped(w, tables, a, [_home(a_layout, 8 * q + r, k) for q in range(QUADS) for r in range(8)
                               for k in range(4)])  # fmt: skip
    b = _mapped(w, tables, b, [_home(b_layout, k, 8 * q + column) for q in range(QUADS) for k in range(4)
                               for column in COLUMNS])  # fmt: skip
    rows, columns = d_layout
    places = [(int(rows[lane, e]), int(columns[lane, e])) for e in range(8) for lane in range(WARP)]
    old = _mapped(w, tables, old, [_home(c_layout, *place) for place in places])
    sums = w.space(QUADS * TILE_BYTES)
    with w.loop(QUADS) as quad:
        w.tile(
            w.at(a, (quad, VECTOR_BYTES)), w.at(b, (quad, VECTOR_BYTES)), w.at(sums, (quad, TILE_BYTES)),
            1, 1, "exact",
        )  # fmt: skip
    sums = _mapped(w, tables, sums, [
        row // 8 * 64 + column % 2 * WARP + row % 8 * 4 + column // 2 for row, column in places
    ])  # fmt: skip
    results = []
    for e in range(8):
        total = w.fetch(w.at(sums, (e, VECTOR_BYTES)), 64)
        results.append(finished_from_f64(w, total, w.fetch(w.at(old, (e, VECTOR_BYTES)), 64), d))
    first = 4 + 8 * ELEMENT_BITS[c] // 32
    for i, value in enumerate(packed(w, results, d)):
        w.put(w.slot(first + i, 0), value)
    return "\n".join((*tables, module_of(w, quads_name(layouts, c, d))))


def _staged(w: Code, first: int, count: int, kind: str) -> str:
    """A buffer of f64 elements: element after element, lane after lane."""
    per = register_bits(kind) // ELEMENT_BITS[kind]
    buffer = w.space(count * per * VECTOR_BYTES)
    for i in range(count):
        for k, piece in enumerate(unpacked(w, w.fetch(w.slot(first + i, 0), 32), kind)):
            w.keep(w.at(buffer, (i * per + k, VECTOR_BYTES)), to_f64(w, piece, kind))
    return buffer


def _home(layout: fragments.Layout, row: int, column: int) -> int:
    """Position of an element of a matrix in its staged fragment."""
    rows, columns = layout
    for e in range(rows.shape[1]):
        for lane in range(WARP):
            if rows[lane, e] == row and columns[lane, e] == column:
                return e * WARP + lane
    raise KeyError((row, column))


def _mapped(w: Code, tables: list[str], source: str, order: list[int]) -> str:
    """A buffer of the elements of another one, in this order."""
    name = f"order{len(tables)}"
    tables.append(table_text(name, order))
    target = w.space(len(order) * 8)
    with w.loop(len(order)) as i:
        place = w.let(f"getelementptr i32, ptr @{name}, i64 {i}")
        index = w.let(f"load i32, ptr {place}, align 4")
        value = w.let(f"load i64, ptr {w.let(f'getelementptr i64, ptr {source}, i32 {index}')}, align 8")
        w.raw(f"  store i64 {value}, ptr {w.let(f'getelementptr i64, ptr {target}, i64 {i}')}, align 8")
    return target
