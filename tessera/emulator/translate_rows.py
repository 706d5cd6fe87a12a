"""Moves of matrix fragments in LLVM IR: `ldmatrix`, `stmatrix`, `movmatrix`.

Source: PTX ISA 8.8, sections 9.7.14.5.15 to 9.7.14.5.17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import WARP, Value, constant, lanes_of
from tessera.emulator.ptx import Instruction, Operand, Vector
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_memory import V64, hosts, space_of

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _count(instruction: Instruction) -> int:
    return next(int(m[1:]) for m in instruction.modifiers if m in ("x1", "x2", "x4"))


def _plain(instruction: Instruction) -> None:
    if "m8n8" not in instruction.modifiers or instruction.modifiers[-1] != "b16":
        raise unsupported(instruction)


def _row_addresses(t: Translator, instruction: Instruction, address: Operand, count: int) -> str:
    """Checked host addresses of the matrices' rows, as the first `8 * count` lanes give them."""
    place = "shared" if space_of(instruction) == "shared" else "global"
    whole = t.mask
    t.mask = t.let(f"and i32 {whole}, {(1 << 8 * count) - 1}", "m")
    found, _ = hosts(t, instruction, address, place, 16)
    t.mask = whole
    return found


def _of_row(t: Translator, rows: str, picks: list[int], offsets: list[int]) -> Value:
    order = ", ".join(f"i32 {p}" for p in picks)
    moved = t.let(f"shufflevector {V64} {rows}, {V64} poison, <{WARP} x i32> <{order}>")
    return t.binary("add", Value(moved, 64, vector=True), lanes_of(offsets, 64))


def load_matrix(t: Translator, instruction: Instruction) -> None:
    """`ldmatrix`."""
    _plain(instruction)
    count = _count(instruction)
    rows = _row_addresses(t, instruction, instruction.operands[1], count)
    for i, target in enumerate(_elements(instruction.operands[0])):
        t.write(target, _loaded(t, rows, 8 * i, transposed="trans" in instruction.modifiers))


def _loaded(t: Translator, rows: str, first: int, *, transposed: bool) -> Value:
    lanes = range(WARP)
    if not transposed:
        places = _of_row(t, rows, [first + lane // 4 for lane in lanes], [lane % 4 * 4 for lane in lanes])
        return _read(t, places, 32)
    halves = []
    for half in (0, 1):
        picks = [first + lane % 4 * 2 + half for lane in lanes]
        halves.append(_read(t, _of_row(t, rows, picks, [lane // 4 * 2 for lane in lanes]), 16))
    return floats.pack(t, *halves)


def _read(t: Translator, places: Value, bits: int) -> Value:
    t.helpers.add(f"read_{bits}")
    text = t.let(f"call <{WARP} x i{bits}> @read_{bits}({V64} {places.text}, i32 {t.mask})")
    return Value(text, bits, vector=True)


def store_matrix(t: Translator, instruction: Instruction) -> None:
    """`stmatrix`."""
    _plain(instruction)
    count = _count(instruction)
    values = [t.spread(t.read(v, "b32")) for v in _elements(instruction.operands[1])]
    rows = _row_addresses(t, instruction, instruction.operands[0], count)
    lanes = range(WARP)
    for i, value in enumerate(values):
        if "trans" not in instruction.modifiers:
            picks, offsets = [8 * i + lane // 4 for lane in lanes], [lane % 4 * 4 for lane in lanes]
            _written(t, _of_row(t, rows, picks, offsets), value)
            continue
        for half in (0, 1):
            picks = [8 * i + lane % 4 * 2 + half for lane in lanes]
            part = t.resize(t.binary("lshr", value, constant(16 * half, 32)), 16)
            _written(t, _of_row(t, rows, picks, [lane // 4 * 2 for lane in lanes]), part)


def _written(t: Translator, places: Value, value: Value) -> None:
    t.helpers.add(f"write_{value.bits}")
    t.raw(f"  call void @write_{value.bits}({V64} {places.text}, i32 {t.mask}, {value.type} {value.text})")


def move_matrix(t: Translator, instruction: Instruction) -> None:
    """`movmatrix.trans`."""
    _plain(instruction)
    value = t.spread(t.read(instruction.operands[1], "b32"))
    halves = []
    for half in (0, 1):
        # Element (row, column) of the result lies at (column, row) of the source.
        homes = [((lane % 4 * 2 + half) * 4 + lane // 4 // 2, lane // 4 % 2) for lane in range(WARP)]
        order = ", ".join(f"i32 {home}" for home, _ in homes)
        moved = t.let(
            f"shufflevector {value.type} {value.text}, {value.type} poison, <{WARP} x i32> <{order}>"
        )
        shifts = lanes_of([16 * side for _, side in homes], 32)
        halves.append(t.resize(t.binary("lshr", Value(moved, 32, vector=True), shifts), 16))
    t.write(instruction.operands[0], floats.pack(t, *halves))


TABLE = {"ldmatrix": load_matrix, "stmatrix": store_matrix, "movmatrix": move_matrix}
