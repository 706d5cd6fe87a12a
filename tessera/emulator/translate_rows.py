"""Moves of matrix fragments in LLVM IR: `ldmatrix`, `stmatrix`, `movmatrix`.

Source: PTX ISA 8.8, sections 9.7.14.5.15 to 9.7.14.5.17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import WARP, Value, lanes_of
from tessera.emulator.layout import HOSTS
from tessera.emulator.matrix_bytes import bytes_name, bytes_text
from tessera.emulator.matrix_moves import ByteMatrices
from tessera.emulator.matrix_rows import rows_name, rows_text
from tessera.emulator.ptx import Instruction, Operand
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_matrix import call_library, registers_of, slot_of
from tessera.emulator.translate_memory import V64, hosts, space_of

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


def _plain(instruction: Instruction) -> None:
    if "m8n8" not in instruction.modifiers or instruction.modifiers[-1] != "b16":
        raise unsupported(instruction)


def _move(
    t: Translator, instruction: Instruction, operation: str, address: Operand, fragment: Operand
) -> None:
    """Between memory and registers: lane 8 * i + r gives the address of row r of tile i."""
    _plain(instruction)
    registers = registers_of(fragment)
    count = len(registers)
    if f"x{count}" not in instruction.modifiers:
        raise unsupported(instruction)
    places = [slot_of(t, r, "b16", written=operation == "load") for r in registers]
    transposed = "trans" in instruction.modifiers
    name = rows_name(operation, count, transposed=transposed)
    _find_rows(t, instruction, address, 8 * count)
    call_library(t, name, lambda: rows_text(operation, count, transposed=transposed), places)


def _find_rows(t: Translator, instruction: Instruction, address: Operand, lanes: int) -> None:
    """Put checked host addresses of rows of 16 bytes, which the first lanes give, into the warp's list."""
    place = "shared" if space_of(instruction) == "shared" else "global"
    whole, t.narrowed = t.mask, True
    t.mask = t.let(f"and i32 {whole}, {(1 << lanes) - 1}", "m")
    found, _ = hosts(t, instruction, address, place, 16)
    t.mask, t.narrowed = whole, False
    t.raw(f"  store {V64} {found}, ptr {t.let(f'getelementptr i8, ptr %warp, i64 {HOSTS}')}, align 64")


def _load_bytes(t: Translator, instruction: Instruction) -> None:
    """`ldmatrix` of elements of 8 bits and less."""
    shape = ByteMatrices.of(instruction)
    registers = registers_of(instruction.operands[0])
    if len(registers) != shape.count * shape.rows // 8:
        raise unsupported(instruction)
    places = [slot_of(t, r, "b16", written=True) for r in registers]
    _find_rows(t, instruction, instruction.operands[1], shape.rows * shape.count)
    name = bytes_name(shape.rows, shape.count, shape.source)
    call_library(t, name, lambda: bytes_text(shape.rows, shape.count, shape.source), places)


def load_matrix(t: Translator, instruction: Instruction) -> None:
    """`ldmatrix`."""
    if ByteMatrices.are_in(instruction):
        _load_bytes(t, instruction)
        return
    _move(t, instruction, "load", instruction.operands[1], instruction.operands[0])


def store_matrix(t: Translator, instruction: Instruction) -> None:
    """`stmatrix`."""
    _move(t, instruction, "store", instruction.operands[0], instruction.operands[1])


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
