"""`atom` and `red`: a value in memory read, changed and written back by one thread after the other.

Source: PTX ISA 8.8, sections 9.7.13.5 (`atom`) and 9.7.13.6 (`red`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tessera.emulator import formats, lanes
from tessera.emulator.halves import ELEMENT
from tessera.emulator.instructions import PRIVATE, Executor, unsupported
from tessera.emulator.lanes import BITS, Array
from tessera.emulator.operands import CANONICAL_NAN
from tessera.emulator.ptx import TYPE_BYTES, Address, Instruction, Operand, Vector
from tessera.emulator.transfers import space_of

Operation = Callable[[Array, Array, Array], Array]
"""Old value, operand and (for `cas`) second operand to the new value; arrays of one or more elements."""

PLAIN: dict[str, Operation] = {
    "add": lambda old, new, _: old + new,
    "and": lambda old, new, _: old & new,
    "or": lambda old, new, _: old | new,
    "xor": lambda old, new, _: old ^ new,
    "min": lambda old, new, _: lanes.minimum(old, new, nan=False),
    "max": lambda old, new, _: lanes.maximum(old, new, nan=False),
    "exch": lambda _, new, __: new,
    "cas": lambda old, expected, new: np.where(old == expected, new, old).astype(old.dtype),
    "inc": lambda old, limit, _: np.where(old >= limit, 0, old + old.dtype.type(1)).astype(old.dtype),
    "dec": lambda old, limit, _: np.where(
        (old == 0) | (old > limit), limit, old - old.dtype.type(1)
    ).astype(old.dtype),
}  # fmt: skip
"""Operations by their modifier."""


def _half(name: str, form: str) -> Operation:
    """An operation on f16 or bf16 elements, given as their bits."""
    functions: dict[str, Callable[[Array, Array], Array]] = {
        "add": lanes.odd_sum,
        "min": lambda a, b: lanes.minimum(a, b, nan=False),
        "max": lambda a, b: lanes.maximum(a, b, nan=False),
    }

    def run(old: Array, new: Array, _: Array) -> Array:
        values = functions[name](formats.decode(old, form), formats.decode(new, form))
        return formats.encode(values, form)

    return run


def _settled(operation: Operation) -> Operation:
    """float32 addition returns one NaN."""

    def run(old: Array, new: Array, other: Array) -> Array:
        total = operation(old, new, other)
        return np.where(np.isnan(total), CANONICAL_NAN, total)

    return run


def _flushed(operation: Operation) -> Operation:
    """float32 addition in global memory takes subnormals for zeros (section 9.7.13.5)."""

    def run(old: Array, new: Array, other: Array) -> Array:
        total = operation(lanes.flush(old, ftz=True), lanes.flush(new, ftz=True), other)
        return lanes.flush(total, ftz=True)

    return run


def _operation(instruction: Instruction, kind: str, space: str) -> tuple[Operation, np.dtype[Any]]:
    """What is done, and the type of the elements it is done to."""
    name = next((m for m in instruction.modifiers if m in PLAIN), None)
    if name is None or kind not in BITS:
        raise unsupported(instruction)
    if kind in ELEMENT and name in ("add", "min", "max"):
        return _half(name, ELEMENT[kind]), np.dtype(np.uint16)
    operation = PLAIN[name]
    if kind == "f32" and name == "add":
        operation = _settled(_flushed(operation) if space == "global" else operation)
    return operation, np.dtype(BITS[kind])


def combine(instruction: Instruction, old: Array, new: Array) -> Array:
    """Bytes in memory after an operation on all the elements they hold."""
    operation, dtype = _operation(instruction, instruction.modifiers[-1], "shared")
    given = np.ascontiguousarray(new).view(dtype)
    return operation(np.ascontiguousarray(old).view(dtype), given, given).view(np.uint8)


def _raw(executor: Executor, operand: Operand, kind: str) -> Array:
    """(threads, bytes) of a scalar or vector operand."""
    parts = operand.elements if isinstance(operand, Vector) else (operand,)
    raw = [np.ascontiguousarray(executor.read(p, kind)).view(np.uint8) for p in parts]
    return np.concatenate([r.reshape(executor.count, -1) for r in raw], axis=1)


def _atomic(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """Threads one after the other, in their order: any order is allowed."""
    kind = instruction.modifiers[-1]
    returns = instruction.opcode == "atom"
    place, *values = instruction.operands[1 if returns else 0 :]
    if not isinstance(place, Address) or "async" in instruction.modifiers or kind not in TYPE_BYTES:
        raise unsupported(instruction)
    vector = isinstance(values[0], Vector)
    if isinstance(values[-1], Vector) != vector or ("cas" not in instruction.modifiers and len(values) > 1):
        values = values[:1]
    operands = [_raw(executor, v, kind) for v in values]
    size = operands[0].shape[1]
    results = np.zeros((executor.count, size), np.uint8)
    for space, threads, offsets in executor.split(space_of(instruction), place, size, mask, instruction.line):
        operation, dtype = _operation(instruction, kind, space)
        memory = executor.storage(space)
        for thread, offset in zip(threads, offsets, strict=True):
            cell = (memory[thread] if space in PRIVATE else memory)[offset : offset + size]
            results[thread] = cell
            old, *given = (
                np.ascontiguousarray(x).view(dtype) for x in (cell, *(o[thread] for o in operands))
            )
            cell[:] = operation(old, given[0], given[-1]).view(np.uint8)
    if returns:
        target = instruction.operands[0]
        parts = target.elements if isinstance(target, Vector) else (target,)
        width = size // len(parts)
        for i, part in enumerate(parts):
            piece = np.ascontiguousarray(results[:, i * width : (i + 1) * width])
            executor.write(part, piece.view(np.dtype(BITS[kind]))[:, 0], mask)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {"atom": _atomic, "red": _atomic}
"""What each opcode of this family does."""
