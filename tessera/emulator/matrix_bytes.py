"""LLVM IR of `ldmatrix` on elements of 8 bits, and of 6 or 4 bits that become 8: rows of 16 elements.

A matrix of 16 rows is transposed: register i of lane 4 * g + m holds rows 4 * m to 4 * m + 3 of column
8 * i + g. One of 8 rows stays as it is.
"""

from __future__ import annotations

from tessera.emulator.emit_ir import Value
from tessera.emulator.layout import HOSTS, SCRATCH
from tessera.emulator.matrix_code import Code
from tessera.emulator.matrix_product import module_of

COLUMNS = 16
ROW, WIDE = "<16 x i8>", "<16 x i16>"
BITS = {"b8": 8, "b6x16_p32": 6, "b4x16_p64": 4}
"""Size of an element in memory by the format of a row of 16 bytes; the rest of a row is padding."""


def bytes_name(rows: int, count: int, source: str) -> str:
    """Name of the function that loads `count` matrices."""
    return f"bytes_{rows}_{count}_{source}"


def bytes_text(rows: int, count: int, source: str) -> str:
    """The module with that function, of the warp, the table of registers, and the mask.

    The rows' checked host addresses lie in the warp's list of addresses.
    """
    w = Code()
    addresses = w.fetch(w.let(f"getelementptr i8, ptr %warp, i64 {HOSTS}"), 64)
    # Lanes that do not exist have no address that could be checked.
    nowhere = w.let(f"ptrtoint ptr {w.let(f'getelementptr i8, ptr %warp, i64 {SCRATCH}')} to i64")
    own = w.select(w.lane_predicate("%mask"), addresses, Value(nowhere, 64, vector=False))
    list_of = w.space(256)
    w.keep(list_of, own)
    plain, turned = w.space(rows * COLUMNS), w.space(rows * COLUMNS)
    registers = rows // 8
    with w.loop(count) as matrix:
        with w.loop(rows) as row:
            index = w.let(f"add i64 {w.let(f'mul i64 {matrix}, {rows}')}, {row}")
            address = w.let(f"load i64, ptr {w.at(list_of, (index, 8))}, align 8")
            line = w.let(f"load {ROW}, ptr {w.let(f'inttoptr i64 {address} to ptr')}, align 1")
            w.raw(
                f"  store {ROW} {_spread(w, line, BITS[source])}, ptr {w.at(plain, (row, COLUMNS))}, align 16"
            )
        if rows == COLUMNS:
            with w.loop(rows) as row, w.loop(COLUMNS) as column:
                byte = w.let(f"load i8, ptr {w.at(plain, (row, COLUMNS), (column, 1))}")
                w.raw(f"  store i8 {byte}, ptr {w.at(turned, (column, COLUMNS), (row, 1))}")
        first = w.let(f"mul i64 {matrix}, {registers}")
        for i in range(registers):
            held = w.fetch(w.at(turned if rows == COLUMNS else plain, (i, 128)), 32)
            w.put(w.slot(i, first), held)
            w.splats = {}
    return module_of(w, bytes_name(rows, count, source))


def _spread(w: Code, line: str, bits: int) -> str:
    """16 elements of `bits` bits, one after the other, as 16 bytes."""
    if bits == 8:
        return line
    starts = [i * bits for i in range(COLUMNS)]
    parts = []
    for more in (0, 1):
        order = ", ".join(f"i32 {min(start // 8 + more, 15)}" for start in starts)
        part = w.let(f"shufflevector {ROW} {line}, {ROW} poison, <16 x i32> <{order}>")
        parts.append(w.let(f"zext {ROW} {part} to {WIDE}"))

    def every(numbers: list[int]) -> str:
        return "<" + ", ".join(f"i16 {n}" for n in numbers) + ">"

    high = w.let(f"shl {WIDE} {parts[1]}, {every([8] * COLUMNS)}")
    both = w.let(f"or {WIDE} {parts[0]}, {high}")
    moved = w.let(f"lshr {WIDE} {both}, {every([start % 8 for start in starts])}")
    kept = w.let(f"and {WIDE} {moved}, {every([(1 << bits) - 1] * COLUMNS)}")
    return w.let(f"trunc {WIDE} {kept} to {ROW}")
