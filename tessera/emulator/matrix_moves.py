"""Matrices between memory and the lanes of a warp: `ldmatrix`, `stmatrix`, `movmatrix`.

Source: PTX ISA 8.8, sections 9.7.14.5.15 to 9.7.14.5.17.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class ByteMatrices:
    """What an `ldmatrix` of elements of 8 bits or less loads: rows of 16."""

    rows: int
    """Of a matrix: 16 are transposed, 8 are not."""
    count: int
    source: str
    """Format of a row in memory: `b8`, `b6x16_p32` or `b4x16_p64`."""

    @staticmethod
    def are_in(instruction: Instruction) -> bool:
        """Whether the instruction is one."""
        return bool({"m16n16", "m8n16"} & set(instruction.modifiers))

    @staticmethod
    def of(instruction: Instruction) -> ByteMatrices:
        """What the instruction loads.

        Raises:
            CompileError: There is no such form.
        """
        modifiers = instruction.modifiers
        rows, source = 16 if "m16n16" in modifiers else 8, modifiers[-1]
        known = (*_PACKED, "b8") if rows == 16 else tuple(_PACKED)
        count = _count(instruction)
        if source not in known or ("trans" in modifiers) != (rows == 16) or rows * count > 32:
            raise unknown(instruction)
        return ByteMatrices(rows, count, source)

    def unpacked(self, rows: Array) -> Array:
        """(threads, 16) bytes, one for each element, from rows as memory has them."""
        if self.source == "b8":
            return rows
        size = _PACKED[self.source]
        bits = np.unpackbits(rows, axis=1, bitorder="little")[:, : 16 * size].reshape(len(rows), 16, size)
        found: Array = np.packbits(bits, axis=2, bitorder="little")[:, :, 0]
        return found


_PACKED = {"b6x16_p32": 6, "b4x16_p64": 4}
"""Bits of an element in formats of 16 elements in 16 bytes, padded at the end."""


def _load_bytes(executor: Executor, instruction: Instruction, ready: Array) -> None:
    """`ldmatrix` of bytes: lane `rows * i + r` gives the address of row r of matrix i."""
    shape = ByteMatrices.of(instruction)
    target, source = instruction.operands[:2]
    if not isinstance(source, Address):
        raise unknown(instruction)
    asked = ready & (np.arange(executor.count) % 32 < shape.rows * shape.count)
    rows = shape.unpacked(executor.gather(_space(instruction), source, 16, asked, instruction.line))
    results = np.zeros((shape.count * shape.rows // 8, executor.count), np.uint32)
    for threads in warps_of(ready):
        for i in range(shape.count):
            matrix = rows[threads[shape.rows * i : shape.rows * (i + 1)]]
            words = np.ascontiguousarray(matrix.T if shape.rows == 16 else matrix).view(np.uint32)
            for k, part in enumerate(words.reshape(-1, 32)):
                results[i * shape.rows // 8 + k, threads] = part
    for i, register in enumerate(_registers(target)):
        executor.write(register, results[i], ready)


def _load_matrix(executor: Executor, instruction: Instruction, ready: Array) -> None:
    """`ldmatrix`: lane 8i+r gives the address of row r of matrix i."""
    if ByteMatrices.are_in(instruction):
        _load_bytes(executor, instruction, ready)
        return
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
