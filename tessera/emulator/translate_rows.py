"""Moves of matrix fragments in LLVM IR: `ldmatrix`, `stmatrix`, `movmatrix`.

Source: PTX ISA 8.8, sections 9.7.14.5.15 to 9.7.14.5.17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import WARP, Value, lanes_of
from tessera.emulator.layout import HOSTS
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
    place = "shared" if space_of(instruction) == "shared" else "global"
    whole = t.mask
    t.mask = t.let(f"and i32 {whole}, {(1 << 8 * count) - 1}", "m")
    found, _ = hosts(t, instruction, address, place, 16)
    t.mask = whole
    t.raw(f"  store {V64} {found}, ptr {t.let(f'getelementptr i8, ptr %warp, i64 {HOSTS}')}, align 64")
    places = [slot_of(t, r, "b16", written=operation == "load") for r in registers]
    transposed = "trans" in instruction.modifiers
    call_library(
        t,
        rows_name(operation, count, transposed=transposed),
        lambda: rows_text(operation, count, transposed=transposed),
        places,
    )


def load_matrix(t: Translator, instruction: Instruction) -> None:
    """`ldmatrix`."""
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
