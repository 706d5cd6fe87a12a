"""Reading the operands of an instruction and writing its result: what all handlers share."""

from __future__ import annotations

import numpy as np

from tessera.emulator import lanes
from tessera.emulator.instructions import Executor, unsupported
from tessera.emulator.lanes import BITS, Array
from tessera.emulator.ptx import Instruction

CANONICAL_NAN = np.array([0x7FFF_FFFF], np.uint32).view(np.float32)[0]
"""The NaN that float32 arithmetic returns (PTX ISA 8.8, section 9.7.3)."""


def type_of(instruction: Instruction) -> str:
    """The type that an instruction ends with.

    Raises:
        CompileError: It ends with none that registers can have.
    """
    kind = instruction.modifiers[-1] if instruction.modifiers else ""
    if kind not in BITS:
        raise unsupported(instruction)
    return kind


def flushes(instruction: Instruction) -> bool:
    """Whether subnormal float32 values count as zeros."""
    return "ftz" in instruction.modifiers


def inputs(executor: Executor, instruction: Instruction, kind: str, count: int) -> list[Array]:
    """The first `count` sources under a type, subnormals flushed if the instruction says so."""
    ftz = flushes(instruction)
    return [lanes.flush(executor.read(op, kind), ftz=ftz) for op in instruction.operands[1 : 1 + count]]


def finish(executor: Executor, instruction: Instruction, values: Array, mask: Array) -> None:
    """Write the result of floating-point arithmetic: flushed, saturated, NaN canonical."""
    values = lanes.flush(values, ftz=flushes(instruction))
    if "sat" in instruction.modifiers and values.dtype.kind == "f":
        values = lanes.saturate(values)
    if values.dtype == np.float32:
        values = np.where(np.isnan(values), CANONICAL_NAN, values)
    executor.write(instruction.operands[0], values, mask)
