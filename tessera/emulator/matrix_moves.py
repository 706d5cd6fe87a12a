"""Matrices between memory and the lanes of a warp: `ldmatrix`, `stmatrix`, `movmatrix`, and `wmma`.

The ISA leaves open which lane holds which element of a `wmma` fragment; here lane after lane holds the next
elements of the matrix, row by row, and starts again at its begin where fragments have room for more.

Source: PTX ISA 8.8, sections 9.7.14.4 (`wmma`) and 9.7.14.5.15 to 9.7.14.5.17.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import fragments, matrices
from tessera.emulator.lanes import Array
from tessera.emulator.matrices import ELEMENT_BITS, unknown, warps_of
from tessera.emulator.ptx import Address, Instruction, Operand, Register, Vector

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


# -- wmma ---------------------------------------------------------------------------------------------


def _part(instruction: Instruction) -> tuple[str, tuple[int, int]]:
    """Which matrix a load or store is about, and its shape."""
    m, n, k = matrices.shape_of(instruction)
    name = next(x for x in instruction.modifiers if x in ("a", "b", "c", "d"))
    return name, {"a": (m, k), "b": (k, n)}.get(name, (m, n))


def _held_bytes(kind: str, registers: int) -> int:
    return registers * (8 if kind == "f64" else 4)


def _to_lanes(matrix: Array, per_lane: int) -> Array:
    """(32, per_lane) elements: the matrix row by row, again and again until all lanes are full."""
    return np.resize(matrix.reshape(-1), (32, per_lane))


def _from_lanes(held: Array, shape: tuple[int, int]) -> Array:
    return held.reshape(-1)[: shape[0] * shape[1]].reshape(shape)


def _lines(executor: Executor, instruction: Instruction, shape: tuple[int, int], stride: Operand | None,
           kind: str) -> tuple[int, int, Array, bool]:  # fmt: skip
    """Lines in memory, bytes of a line, bytes between lines (threads,), and whether lines are columns."""
    by_column = "col" in instruction.modifiers
    count, length = (shape[1], shape[0]) if by_column else shape
    bits = ELEMENT_BITS[kind]
    if stride is None:
        steps = np.full(executor.count, length * bits // 8, np.int64)
    else:
        steps = executor.read(stride, "s32").astype(np.int64) * bits // 8
    return count, length * bits // 8, steps, by_column


def _wmma_load(executor: Executor, instruction: Instruction, ready: Array) -> None:
    target, source, *rest = instruction.operands
    kind = instruction.modifiers[-1]
    if not isinstance(source, Address) or kind not in ELEMENT_BITS:
        raise unknown(instruction)
    _, shape = _part(instruction)
    count, size, steps, by_column = _lines(executor, instruction, shape, rest[0] if rest else None, kind)
    registers = _registers(target)
    per_lane = _held_bytes(kind, len(registers)) * 8 // ELEMENT_BITS[kind]
    raw = np.zeros((executor.count, _held_bytes(kind, len(registers))), np.uint8)
    first = ready & (np.arange(executor.count) % 32 == 0)
    lines = np.zeros((count, executor.count, size), np.uint8)
    base = executor.addresses(source)
    for i in range(count):
        executor.registers["%line"] = base + (steps * i).astype(np.uint64)
        place = Address(Register("%line"))
        lines[i] = executor.gather(_space(instruction), place, size, first, instruction.line, 1)
    for threads in warps_of(ready):
        matrix = matrices.unpack(lines[:, threads[0]], kind)
        held = _to_lanes(matrix.T if by_column else matrix, per_lane)
        raw[threads] = matrices.pack(held, kind)
    matrices.write_elements(executor, target, raw, ready)


def _wmma_store(executor: Executor, instruction: Instruction, ready: Array) -> None:
    target, source, *rest = instruction.operands
    kind = instruction.modifiers[-1]
    if not isinstance(target, Address) or kind not in ELEMENT_BITS:
        raise unknown(instruction)
    _, shape = _part(instruction)
    count, size, steps, by_column = _lines(executor, instruction, shape, rest[0] if rest else None, kind)
    held = matrices.read_elements(executor, source, kind)
    lines = np.zeros((count, executor.count, size), np.uint8)
    for threads in warps_of(ready):
        matrix = _from_lanes(held[threads], shape)
        lines[:, threads[0]] = matrices.pack(matrix.T if by_column else matrix, kind)
    first = ready & (np.arange(executor.count) % 32 == 0)
    base = executor.addresses(target)
    for i in range(count):
        executor.registers["%line"] = base + (steps * i).astype(np.uint64)
        executor.scatter(
            _space(instruction), Address(Register("%line")), lines[i], first, instruction.line, 1
        )


def _wmma_types(instruction: Instruction) -> tuple[str, str, str, str]:
    kinds = [m for m in instruction.modifiers if m in ELEMENT_BITS]
    if len(kinds) == 2:
        # f16 operands are not named: `.dtype.ctype` only.
        return kinds[0], "f16", "f16", kinds[1]
    return matrices.types_of(instruction)


def _wmma_multiply(executor: Executor, instruction: Instruction, ready: Array) -> None:
    m, n, k = matrices.shape_of(instruction)
    d_kind, a_kind, b_kind, c_kind = _wmma_types(instruction)
    a, b, c = (
        matrices.read_elements(executor, operand, kind)
        for operand, kind in zip(instruction.operands[1:4], (a_kind, b_kind, c_kind), strict=True)
    )
    target = instruction.operands[0]
    size = _held_bytes(d_kind, len(_registers(target)))
    raw = np.zeros((executor.count, size), np.uint8)
    for threads in warps_of(ready):
        total = matrices.product(
            _from_lanes(a[threads], (m, k)),
            _from_lanes(b[threads], (k, n)),
            _from_lanes(c[threads], (m, n)),
            instruction,
        )
        raw[threads] = matrices.pack(_to_lanes(total, size * 8 // ELEMENT_BITS[d_kind]), d_kind)
    matrices.write_elements(executor, target, raw, ready)


def _wmma(executor: Executor, instruction: Instruction, ready: Array) -> None:
    table = {"load": _wmma_load, "store": _wmma_store, "mma": _wmma_multiply}
    table[instruction.modifiers[0]](executor, instruction, ready)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    "ldmatrix": _load_matrix, "stmatrix": _store_matrix, "movmatrix": _transpose, "wmma": _wmma,
}  # fmt: skip
"""What each opcode of this family does."""
