"""Arithmetic on f16 and bf16, one value or two in a register.

Every operation is exact in float64 (or rounded to odd there) and rounded once.

Source: PTX ISA 8.8, sections 9.7.4 (half precision arithmetic) and 9.7.7 (half precision comparison).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import formats, lanes
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Instruction, Operand, Pair

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

ELEMENT = {"f16": "f16", "f16x2": "f16", "bf16": "bf16", "bf16x2": "bf16"}
"""Format of the elements of each half-precision type."""

ARITHMETIC: dict[str, Callable[..., Array]] = {
    "add": lanes.odd_sum,
    "sub": lambda a, b: lanes.odd_sum(a, -b),
    "mul": lambda a, b: a * b,
    "fma": lambda a, b, c: lanes.odd_sum(a * b, c),
    "ex2": np.exp2,
    "tanh": np.tanh,
}
"""float64 operands to the float64 result."""
BITWISE: dict[str, Callable[[Array], Array]] = {
    "neg": lambda bits: bits ^ np.uint16(0x8000),
    "abs": lambda bits: bits & np.uint16(0x7FFF),
}


def is_half(instruction: Instruction) -> bool:
    """Whether the operands are f16 or bf16."""
    return bool(instruction.modifiers) and instruction.modifiers[-1] in ELEMENT


def _bits(executor: Executor, operand: Operand, kind: str) -> Array:
    """(threads, 1 or 2) uint16: the elements of an operand, the low one first."""
    size = "b32" if kind.endswith("x2") else "b16"
    return np.ascontiguousarray(executor.read(operand, size)).view(np.uint16).reshape(executor.count, -1)


def _joined(bits: Array) -> Array:
    """(threads,) of the register's width."""
    return np.ascontiguousarray(bits).view(np.dtype(f"u{2 * bits.shape[1]}"))[:, 0]


def _values(executor: Executor, instruction: Instruction, operand: Operand) -> Array:
    kind = instruction.modifiers[-1]
    values = formats.decode(_bits(executor, operand, kind), ELEMENT[kind])
    return formats.flush_subnormal(values, ELEMENT[kind]) if "ftz" in instruction.modifiers else values


def arithmetic(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`add sub mul fma min max neg abs ex2 tanh` of half-precision operands."""
    kind = instruction.modifiers[-1]
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if opcode in BITWISE:
        values = _bits(executor, instruction.operands[1], kind)
        form = formats.FORMATS[ELEMENT[kind]]
        bits = BITWISE[opcode](values)
        bits = np.where(np.isnan(formats.decode(values, ELEMENT[kind])), np.uint16(form.nan), bits)
        if "ftz" in modifiers:
            bits = np.where(bits & np.uint16(0x7C00) == 0, bits & np.uint16(0x8000), bits)
        executor.write(instruction.operands[0], _joined(bits), mask)
        return
    inputs = [_values(executor, instruction, op) for op in instruction.operands[1:]]
    result = extremum(inputs, instruction) if opcode in ("min", "max") else ARITHMETIC[opcode](*inputs)
    if "sat" in modifiers:
        result = lanes.saturate(result)
    if "relu" in modifiers:
        result = np.where(result < 0, 0.0, result) + 0.0
    if "ftz" in modifiers:
        result = formats.flush_subnormal(result, ELEMENT[kind])
    executor.write(instruction.operands[0], _joined(formats.encode(result, ELEMENT[kind])), mask)


def extremum(inputs: list[Array], instruction: Instruction) -> Array:
    """`min` and `max`, with `.NaN` and `.xorsign.abs`."""
    pick = lanes.minimum if instruction.opcode == "min" else lanes.maximum
    signs = np.signbit(inputs[0]) ^ np.signbit(inputs[1])
    if "abs" in instruction.modifiers:
        inputs = [np.abs(v) for v in inputs]
    result = pick(inputs[0], inputs[1], nan="NaN" in instruction.modifiers)
    if "xorsign" not in instruction.modifiers:
        return result
    return np.where(np.isnan(result), result, np.copysign(result, np.where(signs, -1.0, 1.0))).astype(
        result.dtype
    )


def compare(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`setp` and `set` of half-precision operands."""
    name = next(m for m in instruction.modifiers if m in lanes.COMPARE)
    a, b = (_values(executor, instruction, op) for op in instruction.operands[1:3])
    result = lanes.COMPARE[name](a, b)
    combine = next((m for m in instruction.modifiers if m in lanes.LOGIC), None)
    if combine is not None:
        other = executor.read(instruction.operands[3], "pred")
        result = lanes.LOGIC[combine](result, other[:, None])
    target = instruction.operands[0]
    if instruction.opcode == "set":
        executor.write(target, set_value(result, instruction.modifiers[-2]), mask)
    elif isinstance(target, Pair):
        executor.write(target.first, result[:, 0], mask)
        executor.write(target.second, result[:, -1], mask)
    else:
        executor.write(target, result[:, 0], mask)


def set_value(result: Array, to: str) -> Array:
    """True as 1.0 in a floating type, as all ones in an integer type."""
    if to in ELEMENT:
        one = formats.encode(np.ones(1), ELEMENT[to])
        return _joined(np.where(result, one, np.zeros(1, np.uint16)))
    if to == "f32":
        return result[:, 0].astype(np.float32)
    dtype = np.dtype(lanes.BITS[to]).newbyteorder("=")
    if result.shape[1] == 2:
        return _joined(np.where(result, np.uint16(0xFFFF), np.uint16(0)))
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return np.where(result[:, 0], np.iinfo(unsigned).max, 0).astype(unsigned)
