"""LLVM IR of `ldmatrix` and `stmatrix`: rows of 16 bytes in memory, and tiles of eight of them in registers.

A tile as a register holds it: lane 4 * row + member has four bytes of the row.
"""

from __future__ import annotations

from tessera.emulator.emit_ir import WARP, Value
from tessera.emulator.layout import HOSTS, SCRATCH
from tessera.emulator.matrix_code import Code
from tessera.emulator.matrix_product import module_of

ROWS = 8
WHOLE = f"<{WARP} x i32>"
PART = "<4 x i32>"


def joined(w: Code, parts: list[str]) -> str:
    """A tile from its rows (`<4 x i32>` each)."""
    size = 4
    while len(parts) > 1:
        order = ", ".join(f"i32 {i}" for i in range(2 * size))
        kind = f"<{size} x i32>"
        parts = [
            w.let(f"shufflevector {kind} {a}, {kind} {b}, <{2 * size} x i32> <{order}>")
            for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
        size *= 2
    return parts[0]


def turned(w: Code, tile: str) -> str:
    """The transpose of a tile of 8 by 8 elements of 16 bits."""
    kind = f"<{2 * WARP} x i16>"
    source = w.let(f"bitcast {WHOLE} {tile} to {kind}")
    picks = [(2 * member + i) * 8 + row for row in range(ROWS) for member in range(4) for i in (0, 1)]
    order = ", ".join(f"i32 {p}" for p in picks)
    moved = w.let(f"shufflevector {kind} {source}, {kind} poison, <{2 * WARP} x i32> <{order}>")
    return w.let(f"bitcast {kind} {moved} to {WHOLE}")


def rows_name(operation: str, count: int, *, transposed: bool) -> str:
    """Name of the function that moves `count` tiles."""
    return f"rows_{operation}_{count}" + "_trans" * transposed


def rows_text(operation: str, count: int, *, transposed: bool) -> str:
    """The module with that function, of the warp, the table of registers, and the mask.

    The rows' checked host addresses lie in the warp's list of addresses.
    """
    w = Code()
    hosts = w.let(f"getelementptr i8, ptr %warp, i64 {HOSTS}")
    addresses = w.fetch(hosts, 64)
    # Lanes that do not exist have no address that could be checked.
    nowhere = w.let(f"ptrtoint ptr {w.let(f'getelementptr i8, ptr %warp, i64 {SCRATCH}')} to i64")
    own = w.select(w.lane_predicate("%mask"), addresses, Value(nowhere, 64, vector=False))
    for i in range(count):
        places = []
        for row in range(ROWS):
            address = w.let(f"extractelement {own.type} {own.text}, i32 {ROWS * i + row}")
            places.append(w.let(f"inttoptr i64 {address} to ptr"))
        register = w.slot(i, 0)
        if operation == "load":
            tile = joined(w, [w.let(f"load {PART}, ptr {place}, align 1") for place in places])
            w.put(register, Value(turned(w, tile) if transposed else tile, 32, vector=True))
            continue
        tile = w.fetch(register, 32).text
        tile = turned(w, tile) if transposed else tile
        for row, place in enumerate(places):
            order = ", ".join(f"i32 {4 * row + k}" for k in range(4))
            part = w.let(f"shufflevector {WHOLE} {tile}, {WHOLE} poison, <4 x i32> <{order}>")
            w.raw(f"  store {PART} {part}, ptr {place}, align 1")
    return module_of(w, rows_name(operation, count, transposed=transposed))
