"""Matrices between memory and the lanes of a warp: `ldmatrix`, `stmatrix`, `movmatrix`.

Source: PTX ISA 8.8, sections 9.7.14.5.15 to 9.7.14.5.17.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import fragments
from tessera.emulator.lanes import Array
from tessera.emulator.matrices import unknown, warps_of
from tessera.emulator.ptx import Address, Instruction, Operand, Vector

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

_HELD = fragments.operand_a(8, 8, 2)
"""An 8x8 matrix of 16-bit elements as the lanes hold it."""


def _registers(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _space(instruction: Instruction) -> str:
    names = [m.split("::")[0] for m in instruction.modifiers]
    return next((n for n in names if n in ("shared", "global")), "generic")


def _count(instruction: Instruction) -> int:
    return next(int(m[1]) for m in instruction.modifiers if m in ("x1", "x2", "x4"))


def _matrix_form(instruction: Instruction) -> None:
    if "m8n8" not in instruction.modifiers or instruction.modifiers[-1] != "b16":
        raise unknown(instruction)


def _load_matrix(executor: Executor, instruction: Instruction, ready: Array) -> None:
    """`ldmatrix`: lane 8i+r gives the address of row r of matrix i."""
    _matrix_form(instruction)
    target, source = instruction.operands[:2]
    if not isinstance(source, Address):
        raise unknown(instruction)
    count = _count(instruction)
    asked = ready & (np.arange(executor.count) % 32 < 8 * count)
    rows = executor.gather(_space(instruction), source, 16, asked, instruction.line)
    results = np.zeros((count, executor.count), np.uint32)
    for threads in warps_of(ready):
        for i in range(count):
            matrix = np.ascontiguousarray(rows[threads[8 * i : 8 * i + 8]]).view(np.uint16)
            held = fragments.distribute(matrix.T if "trans" in instruction.modifiers else matrix, _HELD)
            results[i, threads] = np.ascontiguousarray(held).view(np.uint32)[:, 0]
    for i, register in enumerate(_registers(target)):
        executor.write(register, results[i], ready)


def _store_matrix(executor: Executor, instruction: Instruction, ready: Array) -> None:
    """`stmatrix`: the way back."""
    _matrix_form(instruction)
    target, source = instruction.operands[:2]
    if not isinstance(target, Address):
        raise unknown(instruction)
    rows = np.zeros((executor.count, 16), np.uint8)
    registers = _registers(source)
    for i, register in enumerate(registers):
        pairs = np.ascontiguousarray(executor.read(register, "b32")).view(np.uint16).reshape(-1, 2)
        for threads in warps_of(ready):
            matrix = fragments.collect(pairs[threads], _HELD, (8, 8))
            if "trans" in instruction.modifiers:
                matrix = matrix.T
            rows[threads[8 * i : 8 * i + 8]] = np.ascontiguousarray(matrix).view(np.uint8)
    giving = ready & (np.arange(executor.count) % 32 < 8 * len(registers))
    executor.scatter(_space(instruction), target, rows, giving, instruction.line)


def _transpose(executor: Executor, instruction: Instruction, ready: Array) -> None:
    """`movmatrix`: the transpose of an 8x8 matrix across the warp."""
    _matrix_form(instruction)
    pairs = np.ascontiguousarray(executor.read(instruction.operands[1], "b32")).view(np.uint16).reshape(-1, 2)
    result = np.zeros(executor.count, np.uint32)
    for threads in warps_of(ready):
        matrix = fragments.collect(pairs[threads], _HELD, (8, 8))
        held = fragments.distribute(matrix.T, _HELD)
        result[threads] = np.ascontiguousarray(held).view(np.uint32)[:, 0]
    executor.write(instruction.operands[0], result, ready)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    "ldmatrix": _load_matrix, "stmatrix": _store_matrix, "movmatrix": _transpose,
}  # fmt: skip
"""What each opcode of this family does."""
