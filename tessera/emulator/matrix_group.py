"""LLVM IR of the products of `wgmma`: what one warp of four computes, 16 rows of 64.

Its operands are read and its results written at once, column after column of tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.emulator.emit_ir import Value
from tessera.emulator.layout import WARP_ID
from tessera.emulator.matrix_code import TILE_BYTES, VECTOR_BYTES, Code, elements_of, register_bits
from tessera.emulator.matrix_product import Product, module_of, per_tile, write_tile
from tessera.emulator.matrix_shared import SharedMatrix

HALVES, STEPS = 2, 2
"""A warp's rows are two tiles high; every operand is 32 bytes deep, two tiles."""
PARAMETERS = ", i64 %columns, i64 %a, i64 %b, i32 %keep, i64 %shared.int, i64 %limit"


@dataclass(frozen=True, slots=True)
class GroupProduct:
    """The form of a `wgmma`, whatever its n."""

    d: str
    a: str
    b: str
    a_place: str
    """`registers`, `lines` (contiguous along k) or `across`."""
    b_place: str
    """`lines` or `across`."""
    form: str
    """A key of `matrix_code.FORMS`."""
    negated: bool
    """Whether the products are subtracted."""
    saturates: bool

    @property
    def name(self) -> str:
        """Of the function."""
        flags = "_neg" * self.negated + "_sat" * self.saturates
        return f"group_{self.d}_{self.a}_{self.b}_{self.a_place}_{self.b_place}_{self.form}{flags}"


def group_text(group: GroupProduct) -> str:
    """The module with the function `group.name`.

    It takes the warp, the table of registers (four of A if they are not in memory, then those of D), the
    mask, tiles of columns, descriptors of A and B, -1 if D is added to and else 0, address and size of
    shared memory. It returns the offset that it wanted to read outside of shared memory, or -1.
    """
    w = Code()
    elements = elements_of(group.a)
    size = elements * VECTOR_BYTES
    a, b = w.space(HALVES * STEPS * size), w.space(STEPS * size)
    sums = w.space(TILE_BYTES)
    w.entry += ["  %outside.at = alloca i64", "  %shared = inttoptr i64 %shared.int to ptr"]
    _stage_a(w, group, a, size)
    right = SharedMatrix(w, "b", "%b", across=group.b_place == "across")
    first = HALVES * STEPS if group.a_place == "registers" else 0
    product = Product(HALVES, 1, STEPS, group.d, group.a, group.b, group.d, group.form, group.saturates)
    with w.loop("%columns") as column:
        for step in range(STEPS):
            tile = right.tile(column, step)
            w.stage_columns(tile, group.b, w.at(b, (step, size)))
        with w.loop(HALVES) as row:
            w.tile(w.at(a, (row, STEPS * size)), b, sums, STEPS, elements, group.form)
            tile_number = w.let(f"add i64 {w.let(f'mul i64 {column}, {HALVES}')}, {row}")
            index = w.let(f"mul i64 {tile_number}, {per_tile(group.d)}")
            old = []
            for i in range(per_tile(group.d)):
                value = w.fetch(w.slot(first + i, index), register_bits(group.d))
                old.append(w.binary("and", value, Value("%keep", 32, vector=False)))
            write_tile(w, product, old, sums, (first, tile_number))
            w.splats = {}
    w.raw("  ret i64 -1")
    w.label("outside")
    w.raw(f"  ret i64 {w.let('load i64, ptr %outside.at')}")
    return module_of(w, group.name, PARAMETERS, result="i64")


def _stage_a(w: Code, group: GroupProduct, target: str, size: int) -> None:
    if group.a_place == "registers":
        with w.loop(HALVES * STEPS) as i:
            w.stage(w.fetch(w.slot(0, i), 32), group.a, w.at(target, (i, size)), negated=group.negated)
        return
    left = SharedMatrix(w, "a", "%a", across=group.a_place == "across")
    place = w.let(f"getelementptr i8, ptr %warp, i64 {WARP_ID}")
    number = w.let(f"zext i32 {w.let(f'load i32, ptr {place}')} to i64")
    rows = w.let(f"mul i64 {w.let(f'and i64 {number}, 3')}, {HALVES}")
    with w.loop(HALVES) as half:
        for step in range(STEPS):
            tile = left.tile(w.let(f"add i64 {rows}, {half}"), step)
            place = w.at(target, (half, STEPS * size), (step, size))
            w.stage(tile, group.a, place, negated=group.negated)
