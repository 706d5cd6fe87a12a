"""`wmma`: fragments of larger matrices, loaded, multiplied and stored by a warp.

Source: PTX ISA 8.8, section 9.7.14.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import fragments, matrices
from tessera.emulator.lanes import Array
from tessera.emulator.matrices import ELEMENT_BITS, shape_of, types_of, unknown, warps_of
from tessera.emulator.ptx import Address, Instruction, Operand, Register, Vector
from tessera.emulator.transfers import space_of

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor


@dataclass(frozen=True, slots=True)
class Transfer:
    """A fragment and its matrix in memory: what `wmma.load` and `wmma.store` are about."""

    kind: str
    """Type of its elements."""
    shape: tuple[int, int]
    """Of the matrix."""
    layout: fragments.Layout
    """Which of its elements a lane holds."""
    by_column: bool
    """Whether columns are contiguous in memory."""
    registers: tuple[Operand, ...]
    """The fragment."""
    place: Address
    """Of the first element."""
    stride: Operand | None
    """Elements from one row (or column) to the next; None: they follow each other."""

    @staticmethod
    def of(instruction: Instruction) -> Transfer:
        """What the instruction moves.

        Raises:
            CompileError: A form that is not known.
        """
        kind = instruction.modifiers[-1]
        part = next((x for x in instruction.modifiers if x in ("a", "b", "c", "d")), None)
        first, second, *rest = instruction.operands
        fragment, place = (second, first) if instruction.modifiers[0] == "store" else (first, second)
        if not isinstance(place, Address) or kind not in ELEMENT_BITS or part is None:
            raise unknown(instruction)
        m, n, k = shape_of(instruction)
        shape = {"a": (m, k), "b": (k, n)}.get(part, (m, n))
        return Transfer(
            kind,
            shape,
            fragments.wmma(part, (m, n, k), max(1, 32 // ELEMENT_BITS[kind])),
            "col" in instruction.modifiers,
            fragment.elements if isinstance(fragment, Vector) else (fragment,),
            place,
            rest[0] if rest else None,
        )

    @property
    def lines(self) -> tuple[int, int]:
        """Contiguous lines in memory, and elements of each."""
        return (self.shape[1], self.shape[0]) if self.by_column else self.shape


def product_types(instruction: Instruction) -> tuple[str, str, str, str]:
    """Element types of D, A, B and C of `wmma.mma`.

    Raises:
        CompileError: They are not named, or a rounding is that the emulator does not know.
    """
    if {"rz", "rm", "rp"} & set(instruction.modifiers):
        raise unknown(instruction)
    kinds = [m for m in instruction.modifiers if m in ELEMENT_BITS]
    # f16 operands are not named: `.dtype.ctype` only.
    return (kinds[0], "f16", "f16", kinds[1]) if len(kinds) == 2 else types_of(instruction)


def _bits_of(raw: Array, bits: int) -> Array:
    """(rows, elements) of any type as unsigned integers, from (rows, bytes)."""
    if bits < 8:
        return matrices.unpack(raw, {1: "b1", 4: "u4"}[bits])
    return np.ascontiguousarray(raw).view(np.dtype(f"u{bits // 8}"))


def _bytes_of(elements: Array, bits: int) -> Array:
    """(rows, bytes) of such elements."""
    if bits < 8:
        return matrices.pack(elements, {1: "b1", 4: "u4"}[bits])
    return np.ascontiguousarray(elements).view(np.uint8)


def _steps(executor: Executor, transfer: Transfer) -> Array:
    """(threads,): bytes from one line to the next."""
    bits = ELEMENT_BITS[transfer.kind]
    if transfer.stride is None:
        return np.full(executor.count, transfer.lines[1] * bits // 8, np.int64)
    return executor.read(transfer.stride, "s32").astype(np.int64) * bits // 8


def _load(executor: Executor, instruction: Instruction, ready: Array) -> None:
    transfer = Transfer.of(instruction)
    bits = ELEMENT_BITS[transfer.kind]
    count, length = transfer.lines
    size, steps = length * bits // 8, _steps(executor, transfer)
    first = ready & (np.arange(executor.count) % 32 == 0)
    lines = np.zeros((count, executor.count, size), np.uint8)
    base = executor.addresses(transfer.place)
    for i in range(count):
        executor.registers["%line"] = base + (steps * i).astype(np.uint64)
        place = Address(Register("%line"))
        lines[i] = executor.gather(space_of(instruction), place, size, first, instruction.line, 1)
    width = len(transfer.registers) * (64 if bits == 64 else 32) // bits
    raw = np.zeros((executor.count, width * bits // 8), np.uint8)
    for threads in warps_of(ready):
        matrix = _bits_of(lines[:, threads[0]], bits)
        held = fragments.distribute(matrix.T if transfer.by_column else matrix, transfer.layout)
        # A fragment with room for more than its share repeats it.
        raw[threads] = _bytes_of(held[:, np.arange(width) % held.shape[1]], bits)
    matrices.write_elements(executor, Vector(transfer.registers), raw, ready)


def _store(executor: Executor, instruction: Instruction, ready: Array) -> None:
    transfer = Transfer.of(instruction)
    bits = ELEMENT_BITS[transfer.kind]
    count, length = transfer.lines
    size, steps = length * bits // 8, _steps(executor, transfer)
    width = 64 if bits == 64 else 32
    raw = np.stack([executor.read(r, f"b{width}") for r in transfer.registers], axis=1)
    held = _bits_of(np.ascontiguousarray(raw).view(np.uint8), bits)
    lines = np.zeros((count, executor.count, size), np.uint8)
    for threads in warps_of(ready):
        matrix = _collected(held[threads], transfer.layout, transfer.shape)
        lines[:, threads[0]] = _bytes_of(matrix.T if transfer.by_column else matrix, bits)
    first = ready & (np.arange(executor.count) % 32 == 0)
    base = executor.addresses(transfer.place)
    for i in range(count):
        executor.registers["%line"] = base + (steps * i).astype(np.uint64)
        place = Address(Register("%line"))
        executor.scatter(space_of(instruction), place, lines[i], first, instruction.line, 1)


def moves(executor: Executor, instruction: Instruction) -> list[tuple[Array, int]]:
    """What each lane reads or writes for a load or store, one after the other.

    A register is moved as a whole where its elements lie side by side for every lane.

    Returns:
        (threads,) uint64 addresses, and bytes, of each move.
    """
    transfer = Transfer.of(instruction)
    bits = ELEMENT_BITS[transfer.kind]
    rows, columns = transfer.layout
    lines, places = (columns.T, rows.T) if transfer.by_column else (rows.T, columns.T)
    per = (64 if bits == 64 else 32) // bits
    lane = np.arange(executor.count) % 32
    base, steps = executor.addresses(transfer.place), _steps(executor, transfer)
    found = []
    for first in range(0, len(lines), per):
        steady = all(
            (lines[first + i] == lines[first]).all() and (places[first + i] == places[first] + i).all()
            for i in range(per)
        )
        for element in (first,) if steady else range(first, first + per):
            offset = lines[element][lane] * steps + places[element][lane] * bits // 8
            found.append((base + offset.astype(np.uint64), (per if steady else 1) * bits // 8))
    return found


def _collected(held: Array, layout: fragments.Layout, shape: tuple[int, int]) -> Array:
    return fragments.collect(held[:, : layout[0].shape[1]], layout, shape)


def _multiply(executor: Executor, instruction: Instruction, ready: Array) -> None:
    shape = m, n, k = shape_of(instruction)
    d_kind, *kinds = product_types(instruction)
    if d_kind != "s32" and "satfinite" in instruction.modifiers:
        raise unknown(instruction)
    layouts = [
        fragments.wmma(part, shape, max(1, 32 // ELEMENT_BITS[kind]))
        for part, kind in zip("abc", kinds, strict=True)
    ]
    values = [
        matrices.read_elements(executor, operand, kind)
        for operand, kind in zip(instruction.operands[1:4], kinds, strict=True)
    ]
    results = np.zeros((executor.count, m * n // 32), values[2].dtype)
    for threads in warps_of(ready):
        a, b, c = (
            _collected(v[threads], layout, size)
            for v, layout, size in zip(values, layouts, ((m, k), (k, n), (m, n)), strict=True)
        )
        results[threads] = fragments.distribute(matrices.product(a, b, c, instruction), layouts[2])
    matrices.write_elements(executor, instruction.operands[0], matrices.pack(results, d_kind), ready)


def _wmma(executor: Executor, instruction: Instruction, ready: Array) -> None:
    handler = _OPERATIONS.get(instruction.modifiers[0])
    if handler is None:
        raise unknown(instruction)
    handler(executor, instruction, ready)


_OPERATIONS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    "load": _load, "store": _store, "mma": _multiply,
}  # fmt: skip
HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {"wmma": _wmma}
"""What each opcode of this family does."""
