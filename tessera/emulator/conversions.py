"""`cvt` in all its forms, and arithmetic with directed rounding.

Source: PTX ISA 8.8, section 9.7.9.21.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.emulator import lanes
from tessera.emulator.lanes import BITS, Array
from tessera.emulator.ptx import Instruction
from tessera.program.errors import CompileError

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

TO_INTEGER = ("rni", "rzi", "rmi", "rpi")
PACKED = {"f16x2": "f16", "bf16x2": "bf16"}


def convert(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """Run a `cvt` instruction.

    Raises:
        CompileError: A form that is not known.
    """
    modifiers = instruction.modifiers
    target, source = modifiers[-2:]
    ftz = "ftz" in modifiers
    if target in PACKED:
        high = _converted(executor.read(instruction.operands[1], source), source, PACKED[target], instruction)
        low = _converted(executor.read(instruction.operands[2], source), source, PACKED[target], instruction)
        pair = np.stack([low.view(np.uint16), high.view(np.uint16)], axis=1)
        executor.write(instruction.operands[0], np.ascontiguousarray(pair).view(np.uint32)[:, 0], mask)
        return
    values = lanes.flush(executor.read(instruction.operands[1], source), ftz=ftz)
    result = _converted(values, source, target, instruction)
    executor.write(instruction.operands[0], lanes.flush(result, ftz=ftz), mask)


def _converted(values: Array, source: str, target: str, instruction: Instruction) -> Array:
    if target not in BITS or source not in BITS:
        raise CompileError(
            f"PTX line {instruction.line}: the emulator does not know {instruction.mnemonic}",
            ptx_line=instruction.line,
        )
    if source == "bf16":
        values = lanes.bf16_to_f32(values)
    to_float = target.startswith(("f", "bf", "tf"))
    if not to_float:
        return _to_integer(values, np.dtype(BITS[target]), instruction)
    whole = next((m for m in instruction.modifiers if m in TO_INTEGER), None)
    if whole is not None and values.dtype.kind == "f":
        values = lanes.ROUND[whole](values)
    if "sat" in instruction.modifiers:
        values = np.where(np.isnan(values), 0, np.clip(values, 0, 1)).astype(values.dtype)
    if "relu" in instruction.modifiers:
        values = np.where(np.isnan(values), values, np.maximum(values, 0)).astype(values.dtype)
    return _to_float(values, target, instruction)


def _to_integer(values: Array, dtype: np.dtype[Any], instruction: Instruction) -> Array:
    limits = np.iinfo(dtype)
    if values.dtype.kind != "f":
        if "sat" not in instruction.modifiers:
            return values.astype(dtype)
        return np.array([min(max(int(v), limits.min), limits.max) for v in values], dtype)
    whole = next((m for m in instruction.modifiers if m in TO_INTEGER), "rzi")
    rounded = lanes.ROUND[whole](values.astype(np.float64))
    found = np.zeros(values.shape, dtype)
    # Section 9.7.9.21: NaN gives 0, or the sign bit alone where a 64-bit type is on either side.
    wide = values.dtype.itemsize == 8 or dtype.itemsize == 8
    nan = np.array([1 << (dtype.itemsize * 8 - 1) if wide else 0], np.uint64)
    for i, value in enumerate(rounded):
        if np.isnan(value):
            found[i] = nan.astype(np.dtype(f"u{dtype.itemsize}")).view(dtype)[0]
        elif np.isinf(value):
            found[i] = limits.max if value > 0 else limits.min
        else:
            found[i] = min(max(int(value), limits.min), limits.max)
    return found


def _to_float(values: Array, target: str, instruction: Instruction) -> Array:
    rounding = next((m for m in instruction.modifiers if m in ("rn", "rz", "rm", "rp", "rna")), "rn")
    if target == "bf16":
        if rounding not in ("rn", "rz"):
            raise CompileError(f"PTX line {instruction.line}: {rounding} to bf16 is not known")
        return lanes.f32_to_bf16(values.astype(np.float32), towards_zero=rounding == "rz")
    if target == "tf32":
        return _to_tf32(values, rounding)
    dtype = np.dtype(BITS[target])
    nearest = values.astype(dtype)
    return nearest if rounding == "rn" else _towards(nearest, values, rounding)


def _to_tf32(values: Array, rounding: str) -> Array:
    bits = values.astype(np.float32).view(np.uint32)
    half = np.uint32(0x1000 if rounding == "rna" else 0xFFF)
    extra = np.uint32(0) if rounding == "rna" else (bits >> np.uint32(13)) & np.uint32(1)
    rounded = (bits + half + extra) & np.uint32(0xFFFFE000)
    return np.where(np.isnan(values), bits, rounded).view(np.float32)


def _towards(nearest: Array, exact: Array, rounding: str) -> Array:
    """`nearest` moved by one step where it lies on the wrong side of `exact`."""
    if exact.dtype.kind in "iu":
        side = np.array(
            [(int(n) > int(e)) - (int(n) < int(e)) for n, e in zip(nearest, exact, strict=True)], np.int64
        )
        negative = np.array([int(e) < 0 for e in exact])
    else:
        wide = exact.astype(np.float64)
        side = np.sign(nearest.astype(np.float64) - wide)
        negative = wide < 0
    down = np.nextafter(nearest, -np.inf, dtype=nearest.dtype)
    up = np.nextafter(nearest, np.inf, dtype=nearest.dtype)
    floor = np.where(side > 0, down, nearest)
    ceiling = np.where(side < 0, up, nearest)
    if rounding == "rm":
        return floor.astype(nearest.dtype)
    if rounding == "rp":
        return ceiling.astype(nearest.dtype)
    return np.where(negative, ceiling, floor).astype(nearest.dtype)


def round_directed(operation: str, operands: list[Array], rounding: str, instruction: Instruction) -> Array:
    """float32 sum, difference, product, quotient or fma, rounded towards zero, down or up.

    The exact result is known closely enough in float64: it is rounded to odd there, so that which side
    of it a float32 lies on cannot be mistaken.

    Raises:
        CompileError: The operands are float64.
    """
    if operands[0].dtype != np.float32:
        raise CompileError(f"PTX line {instruction.line}: the emulator does not know {instruction.mnemonic}")
    a, b = (x.astype(np.float64) for x in operands[:2])
    if operation == "div":
        exact = _odd_quotient(a, b)
    elif operation == "mul":
        exact = a * b
    else:
        first = a * b if operation == "fma" else a
        second = operands[2].astype(np.float64) if operation == "fma" else (-b if operation == "sub" else b)
        exact = lanes.odd_sum(first, second)
    return _towards(exact.astype(np.float32), exact, rounding)


def _odd_quotient(a: Array, b: Array) -> Array:
    quotient = a / b
    # The remainder of a 24-bit division fits float64 exactly after one correction step.
    remainder = lanes.fma(-quotient, b, a)
    bits = quotient.view(np.int64)
    inexact = (remainder != 0) & np.isfinite(quotient) & (bits & 1 == 0)
    away = ((remainder > 0) == (b > 0)) == (quotient > 0)
    return np.where(inexact, np.where(away, bits + 1, bits - 1), bits).view(np.float64)
