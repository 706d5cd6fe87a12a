"""LLVM IR of whole matrix products on the registers of a warp: what `mma` and `wmma` call.

Products and their sums are computed in f64 in the order of k, the accumulator last, and rounded once, as the
lockstep interpreter does; integers are exact in f64 as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.emulator.emit_ir import Value
from tessera.emulator.matrices import ELEMENT_BITS
from tessera.emulator.matrix_code import (
    DECLARATIONS,
    TILE_BYTES,
    VECTOR_BYTES,
    Code,
    elements_of,
    finished,
    packed,
    register_bits,
    unpacked,
)


@dataclass(frozen=True, slots=True)
class Product:
    """A product of matrices whose registers come in the order of their tiles.

    A: for each 8 rows the registers along k; B: for each 8 columns; C and D: for each 8 columns, for each 8
    rows, the one (16-bit elements) or two registers of the tile.
    """

    rows: int
    """Tiles of 8."""
    columns: int
    """Tiles of 8."""
    steps: int
    """Registers along k."""
    d: str
    a: str
    b: str
    c: str
    form: str
    """How products are added: a key of `matrix_code.FORMS`."""
    saturates: bool = False

    @property
    def name(self) -> str:
        """Of the function."""
        sizes = f"{self.rows}x{self.columns}x{self.steps}"
        return f"product_{sizes}_{self.d}_{self.a}_{self.b}_{self.c}_{self.form}" + "_sat" * self.saturates

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Registers of A, B, C and D."""
        tiles = self.rows * self.columns
        return (
            self.rows * self.steps, self.columns * self.steps,
            tiles * per_tile(self.c), tiles * per_tile(self.d),
        )  # fmt: skip


def per_tile(kind: str) -> int:
    """Registers of C or D that hold 8 by 8 elements."""
    return 1 if ELEMENT_BITS[kind] == 16 else 2


def product_text(product: Product) -> str:
    """The module with the function `product.name`, of the warp, the table of A, B, C and D, and the mask."""
    w = Code()
    count_a, count_b, count_c, _ = product.counts
    elements = elements_of(product.a)
    register = register_bits(product.c) * 4
    a = w.space(count_a * elements * VECTOR_BYTES)
    b = w.space(count_b * elements * VECTOR_BYTES)
    c = w.space(count_c * register)
    sums = w.space(TILE_BYTES)
    with w.loop(count_a) as i:
        value = w.fetch(w.slot(0, i), register_bits(product.a))
        w.stage(value, product.a, w.at(a, (i, elements * VECTOR_BYTES)))
    with w.loop(count_b) as i:
        value = w.fetch(w.slot(count_a, i), register_bits(product.b))
        w.stage_columns(value, product.b, w.at(b, (i, elements * VECTOR_BYTES)))
    # The registers of D may be among those of C: all are read before any is written.
    with w.loop(count_c) as i:
        w.keep(w.at(c, (i, register)), w.fetch(w.slot(count_a + count_b, i), register_bits(product.c)))
    size = product.steps * elements * VECTOR_BYTES
    with w.loop(product.columns) as column, w.loop(product.rows) as row:
        w.tile(w.at(a, (row, size)), w.at(b, (column, size)), sums, product.steps, elements, product.form)
        tile = w.let(f"add i64 {w.let(f'mul i64 {column}, {product.rows}')}, {row}")
        place = w.at(c, (tile, per_tile(product.c) * register))
        bits = register_bits(product.c)
        old = [w.fetch(w.at(place, (i, bits * 4)), bits) for i in range(per_tile(product.c))]
        write_tile(w, product, old, sums, (count_a + count_b + count_c, tile))
    return module_of(w, product.name)


def write_tile(w: Code, product: Product, registers: list[Value], sums: str, target: tuple[int, str]) -> None:
    """Add the accumulator to staged sums and write a tile's registers of D.

    Args:
        w: Where the code goes.
        product: Kinds of elements.
        registers: Those of C.
        sums: Pointer to the staged sums.
        target: Position of D in the table, and number of the tile.
    """
    old = [piece for value in registers for piece in unpacked(w, value, product.c)]
    results = []
    for i in (0, 1):
        total = w.fetch(w.at(sums, (i, VECTOR_BYTES)), 64)
        results.append(
            finished(w, total, old[i], (product.c, product.d), saturates=product.saturates)
        )  # fmt: skip
    for i, value in enumerate(packed(w, results, product.d)):
        first, tile = target
        index = w.let(f"mul i64 {tile}, {per_tile(product.d)}")
        w.put(w.slot(first + i, index), value)


def table_text(name: str, numbers: list[int]) -> str:
    """A global array of i32."""
    items = ", ".join(f"i32 {n}" for n in numbers)
    return f"@{name} = private unnamed_addr constant [{len(numbers)} x i32] [{items}], align 4"


def module_of(w: Code, name: str, parameters: str = "", result: str = "void") -> str:
    """The module of one function that a kernel's module may call. One with a result returns it itself."""
    head = f"define {result} @{name}(ptr noalias %warp, ptr noalias %table, i32 %mask{parameters})"
    body = "\n".join(w.entry + w.lines)
    end = "\n  ret void" if result == "void" else ""
    return "\n".join((f"{head} {{\n{body}{end}\n}}", DECLARATIONS, *sorted(w.declared)))
