"""`wmma` in LLVM IR. A fragment is loaded and stored lane by lane, like any memory; products are those of
`mma`, for several tiles at once.

Source: PTX ISA 8.8, section 9.7.14.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import Value, constant, lanes_of
from tessera.emulator.matrices import ELEMENT_BITS, shape_of
from tessera.emulator.matrix_code import elements_of, register_bits
from tessera.emulator.matrix_product import Product
from tessera.emulator.ptx import Instruction
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_matrix import call_product, form_of, registers_of
from tessera.emulator.translate_memory import PLACES, load_at, space_of, store_at
from tessera.emulator.wmma import Transfer, product_types

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


class _Matrix:
    """Addresses of a matrix's elements."""

    def __init__(self, t: Translator, transfer: Transfer) -> None:
        self.t = t
        self.bits = ELEMENT_BITS[transfer.kind]
        rows, columns = transfer.layout
        lines, places = (columns, rows) if transfer.by_column else (rows, columns)
        self.lines, self.places = lines.T.tolist(), places.T.tolist()
        self.base = t.spread(t.address(transfer.place))
        if transfer.stride is None:
            self.step = constant(transfer.lines[1] * self.bits // 8, 64)
        else:
            elements = t.resize(t.read(transfer.stride, "s32"), 64, signed=True)
            self.step = t.binary("ashr", t.binary("mul", elements, constant(self.bits, 64)), constant(3, 64))
        self.starts: dict[tuple[int, ...], Value] = {}

    def together(self, first: int, count: int) -> bool:
        """Whether these elements of each lane follow each other in memory."""
        return all(
            self.lines[first + i] == self.lines[first]
            and self.places[first + i] == [place + i for place in self.places[first]]
            for i in range(count)
        )

    def address(self, element: int) -> Value:
        """Of an element of each lane."""
        t, key = self.t, tuple(self.lines[element])
        if key not in self.starts:
            self.starts[key] = t.binary("add", self.base, t.binary("mul", lanes_of(key, 64), self.step))
        offsets = [place * self.bits // 8 for place in self.places[element]]
        return t.binary("add", self.starts[key], lanes_of(offsets, 64))


def _load(t: Translator, instruction: Instruction) -> None:
    transfer = Transfer.of(instruction)
    matrix, place = _Matrix(t, transfer), PLACES[space_of(instruction)]
    width = register_bits(transfer.kind)
    per = width // matrix.bits
    loaded = []
    for first in range(0, len(matrix.lines), per):
        if matrix.together(first, per):
            loaded += load_at(t, instruction, matrix.address(first), place, width, 1)
            continue
        if matrix.bits < 8:
            raise unsupported(instruction)
        register = constant(0, width)
        for i in range(per):
            (part,) = load_at(t, instruction, matrix.address(first + i), place, matrix.bits, 1)
            moved = t.binary("shl", t.resize(part, width), constant(i * matrix.bits, width))
            register = t.binary("or", register, moved)
        loaded.append(register)
    if len(transfer.registers) % len(loaded):
        raise unsupported(instruction)
    for i, register_name in enumerate(transfer.registers):
        # A fragment with room for more than its share repeats it.
        t.write(register_name, loaded[i % len(loaded)])


def _store(t: Translator, instruction: Instruction) -> None:
    transfer = Transfer.of(instruction)
    matrix, place = _Matrix(t, transfer), PLACES[space_of(instruction)]
    width = register_bits(transfer.kind)
    per = width // matrix.bits
    if len(transfer.registers) * per != len(matrix.lines):
        raise unsupported(instruction)
    for i, register in enumerate(transfer.registers):
        value = t.spread(t.read(register, f"b{width}"))
        if matrix.together(i * per, per):
            store_at(t, instruction, matrix.address(i * per), place, [value])
            continue
        for k in range(per):
            part = t.resize(t.binary("lshr", value, constant(k * matrix.bits, width)), matrix.bits)
            store_at(t, instruction, matrix.address(i * per + k), place, [part])


def _multiply(t: Translator, instruction: Instruction) -> None:
    kinds = product_types(instruction)
    d, a, b, c = kinds
    m, n, k = shape_of(instruction)
    form = form_of(instruction, kinds)
    saturates = "satfinite" in instruction.modifiers
    if saturates and d != "s32":
        raise unsupported(instruction)
    steps = k // (4 * (32 if a == "b1" else elements_of(a)))
    product = Product(m // 8, n // 8, steps, d, a, b, c, form, saturates)
    target, *groups = (registers_of(o) for o in instruction.operands[:4])
    counts = product.counts
    if [len(groups[2]), len(target)] != list(counts[2:]) or any(
        len(group) < count for group, count in zip(groups, counts, strict=False)
    ):
        raise unsupported(instruction)
    # Fragments hold tiles of 16 rows, or of 8: register by register along k, their halves alternate.
    halves = min(m, 16) // 8
    ordered = [
        groups[0][row // halves * halves * steps + row % halves + halves * step]
        for row in range(product.rows)
        for step in range(steps)
    ]
    call_product(t, product, (ordered, groups[1][: counts[1]], groups[2], target))


def wmma(t: Translator, instruction: Instruction) -> None:
    """`wmma.load`, `wmma.store`, `wmma.mma`."""
    emitter = {"load": _load, "store": _store, "mma": _multiply}.get(instruction.modifiers[0])
    if emitter is None:
        raise unsupported(instruction)
    emitter(t, instruction)


TABLE = {"wmma": wmma}
