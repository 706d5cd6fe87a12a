"""Arithmetic and comparison of integers and of float32 and float64.

Source: PTX ISA 8.8, sections 9.7.1 to 9.7.3, 9.7.6.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tessera.emulator import formats, halves, lanes
from tessera.emulator.conversions import round_directed, rounding_of, without_tiny
from tessera.emulator.instructions import Executor, unsupported
from tessera.emulator.lanes import Array
from tessera.emulator.operands import finish, flushes, inputs, type_of
from tessera.emulator.ptx import TYPE_BYTES, Instruction, Pair


def _arithmetic(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind, opcode = type_of(instruction), instruction.opcode
    a, b = inputs(executor, instruction, kind, 2)
    if opcode == "mul" and "wide" in instruction.modifiers:
        executor.write(instruction.operands[0], lanes.wide_product(a, b, kind), mask)
        return
    if opcode == "mul" and "hi" in instruction.modifiers:
        executor.write(instruction.operands[0], lanes.high_product(a, b), mask)
        return
    if a.dtype.kind == "i" and "sat" in instruction.modifiers:
        executor.write(instruction.operands[0], lanes.saturating(SUMS[opcode], a, b), mask)
        return
    finish(executor, instruction, _rounded(instruction, [a, b]), mask)


SUMS: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "fma": lanes.fma,
}


def _rounded(instruction: Instruction, values: list[Array]) -> Array:
    """A sum, difference, product or fma in the rounding that the instruction names."""
    opcode = "fma" if instruction.opcode == "mad" else instruction.opcode
    rounding = rounding_of(instruction)
    if rounding != "rn" and values[0].dtype.kind == "f":
        result = round_directed(opcode, values, rounding)
    else:
        result = SUMS[opcode](*values)
    if flushes(instruction) and result.dtype == np.float32:
        return without_tiny(opcode, values, result)
    return result


def _mixed(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`add.f32.f16`, `fma.f32.bf16`…: all operands but the last are short; computed in float32."""
    kind = instruction.modifiers[-1]
    short = [
        formats.decode(executor.read(op, "b16"), kind).astype(np.float32) for op in instruction.operands[1:-1]
    ]
    values = [*short, executor.read(instruction.operands[-1], "f32")]
    finish(executor, instruction, _rounded(instruction, values), mask)


def _multiply_add(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = type_of(instruction)
    a, b = inputs(executor, instruction, kind, 2)
    if a.dtype.kind == "f":
        c = lanes.flush(executor.read(instruction.operands[3], kind), ftz=flushes(instruction))
        finish(executor, instruction, _rounded(instruction, [a, b, c]), mask)
        return
    if "wide" in instruction.modifiers:
        product = lanes.wide_product(a, b, kind)
        wide = f"{kind[0]}{int(kind[1:]) * 2}"
        values = product + executor.read(instruction.operands[3], wide)
    else:
        product = lanes.high_product(a, b) if "hi" in instruction.modifiers else a * b
        c = executor.read(instruction.operands[3], kind)
        values = lanes.saturating(np.add, product, c) if "sat" in instruction.modifiers else product + c
    executor.write(instruction.operands[0], values, mask)


def _divide(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = type_of(instruction)
    a, b = inputs(executor, instruction, kind, 2)
    if a.dtype.kind == "f":
        rounding = rounding_of(instruction)
        values = a / b if rounding == "rn" else round_directed("div", [a, b], rounding)
        if flushes(instruction) and a.dtype == np.float32:
            values = without_tiny("div", [a, b], values)
        if "approx" in instruction.modifiers:
            # Section 9.7.3.8: the reciprocal of a divisor beyond 2^126 is flushed to zero.
            huge = (np.abs(b) > 2.0**126) & np.isfinite(b)
            values = np.where(huge, a * np.copysign(np.float32(0), b), values)
        finish(executor, instruction, values, mask)
    else:
        executor.write(instruction.operands[0], lanes.truncated_division(a, b), mask)


def _remainder(executor: Executor, instruction: Instruction, mask: Array) -> None:
    # By zero: unspecified; all ones is what GPUs of capability 9.0 were seen to give.
    a, b = inputs(executor, instruction, type_of(instruction), 2)
    quotient = lanes.truncated_division(a, b)
    executor.write(
        instruction.operands[0], np.where(b == 0, quotient, a - quotient * b).astype(a.dtype), mask
    )


def _extremum(executor: Executor, instruction: Instruction, mask: Array) -> None:
    values, *others = inputs(executor, instruction, type_of(instruction), len(instruction.operands) - 1)
    for other in others:
        values = halves.extremum([values, other], instruction)
    if "relu" in instruction.modifiers:
        values = np.maximum(values, 0)
    finish(executor, instruction, values, mask)


def _unary(executor: Executor, instruction: Instruction, mask: Array) -> None:
    (a,) = inputs(executor, instruction, type_of(instruction), 1)
    opcode = instruction.opcode
    if opcode in ("rcp", "sqrt") and rounding_of(instruction) != "rn":
        operands = [np.ones_like(a), a] if opcode == "rcp" else [a]
        values = round_directed("div" if opcode == "rcp" else "sqrt", operands, rounding_of(instruction))
    else:
        values = lanes.UNARY[opcode](a)
    if opcode in ("rcp", "rsqrt") and a.dtype == np.float64 and flushes(instruction):
        values = _upper_half(opcode, a)
    if opcode in ("neg", "abs") and a.dtype == np.float32:
        finish(executor, instruction, values, mask)
    elif opcode in ("neg", "abs", "not", "cnot", "popc", "clz", "brev"):
        executor.write(instruction.operands[0], lanes.flush(values, ftz=flushes(instruction)), mask)
    else:
        finish(executor, instruction, values, mask)


def _upper_half(opcode: str, a: Array) -> Array:
    """`rcp.approx.ftz.f64`, `rsqrt.approx.ftz.f64`: the upper 32 bits of the result, the others zero."""
    values = lanes.UNARY[opcode](formats.flush_subnormal(a, "f64"))
    bits = formats.flush_subnormal(values, "f64").view(np.uint64) & np.uint64(0xFFFF_FFFF_0000_0000)
    return bits.view(np.float64)


def _compare(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = type_of(instruction)
    name = next(m for m in instruction.modifiers if m in lanes.COMPARE)
    a, b = inputs(executor, instruction, kind, 2)
    result = lanes.COMPARE[name](a, b)
    combine = next((m for m in instruction.modifiers if m in lanes.LOGIC), None)
    other = executor.read(instruction.operands[3], "pred") if combine else None

    def combined(value: Array) -> Array:
        return value if combine is None or other is None else lanes.LOGIC[combine](value, other)

    target = instruction.operands[0]
    if instruction.opcode == "set":
        to = instruction.modifiers[-2]
        if to not in ("f32", "u32", "s32", "f16", "bf16", "u16", "s16"):
            raise unsupported(instruction)
        executor.write(target, halves.set_value(combined(result)[:, None], to), mask)
    elif isinstance(target, Pair):
        executor.write(target.first, combined(result), mask)
        executor.write(target.second, combined(~result), mask)
    else:
        executor.write(target, combined(result), mask)


def _select(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b = inputs(executor, instruction, type_of(instruction), 2)
    chosen = executor.read(instruction.operands[3], "pred")
    executor.write(instruction.operands[0], np.where(chosen, a, b), mask)


def _select_by_sign(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind, by = instruction.modifiers[-2], instruction.modifiers[-1]
    # `.ftz` is about the operand that is compared alone.
    a, b = (executor.read(op, kind) for op in instruction.operands[1:3])
    chosen = lanes.flush(executor.read(instruction.operands[3], by), ftz=flushes(instruction)) >= 0
    executor.write(instruction.operands[0], np.where(chosen, a, b), mask)


def _copy_sign(executor: Executor, instruction: Instruction, mask: Array) -> None:
    sign, magnitude = inputs(executor, instruction, type_of(instruction), 2)
    executor.write(instruction.operands[0], np.copysign(magnitude, sign), mask)


def _test_property(executor: Executor, instruction: Instruction, mask: Array) -> None:
    (a,) = inputs(executor, instruction, type_of(instruction), 1)
    small = np.finfo(a.dtype).tiny
    tests: dict[str, Callable[[], Array]] = {
        "finite": lambda: np.isfinite(a),
        "infinite": lambda: np.isinf(a),
        "number": lambda: ~np.isnan(a),
        "notanumber": lambda: np.isnan(a),
        # Section 9.7.3.1: zeros count as normal.
        "normal": lambda: np.isfinite(a) & ((np.abs(a) >= small) | (a == 0)),
        "subnormal": lambda: (np.abs(a) < small) & (a != 0),
    }
    name = next(m for m in instruction.modifiers if m in tests)
    executor.write(instruction.operands[0], tests[name](), mask)


def _carry(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`add.cc`, `addc`, `sub.cc`, `subc`, `mad.lo.cc`, `madc`: sums with the carry flag."""
    kind = type_of(instruction)
    unsigned = f"u{TYPE_BYTES[kind] * 8}"
    width = TYPE_BYTES[kind] * 8
    read_as = kind if "hi" in instruction.modifiers else unsigned
    a, b = (executor.read(op, read_as).astype(object) for op in instruction.operands[1:3])
    opcode = instruction.opcode
    flag = executor.registers.setdefault("%carry", np.zeros(executor.count, np.bool_))
    carry = flag.astype(object) if opcode in ("addc", "subc", "madc") else np.zeros(executor.count, object)
    if opcode.startswith("mad"):
        c = executor.read(instruction.operands[3], unsigned).astype(object)
        product = a * b
        half = (product >> width if "hi" in instruction.modifiers else product) & (1 << width) - 1
        total = half + c + carry
    elif opcode.startswith("add"):
        total = a + b + carry
    else:
        total = a - b - carry
    result = np.array([int(t) & (1 << width) - 1 for t in total], np.dtype(f"u{width // 8}"))
    if "cc" in instruction.modifiers:
        flag[mask] = np.array([bool(int(t) >> width) for t in total])[mask]
    executor.write(instruction.operands[0], result, mask)


def _add_or_carry(executor: Executor, instruction: Instruction, mask: Array) -> None:
    handler = _carry if "cc" in instruction.modifiers else _arithmetic
    handler(executor, instruction, mask)


def _mad_or_carry(executor: Executor, instruction: Instruction, mask: Array) -> None:
    handler = _carry if "cc" in instruction.modifiers else _multiply_add
    handler(executor, instruction, mask)


def _short_multiply(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`mul24`, `mad24`: products of the low 24 bits; `.hi` gives bits 16 to 47."""
    kind = type_of(instruction)
    signed = kind == "s32"
    a, b = (
        (executor.read(op, kind) << (8 if signed else np.uint32(8))).astype(np.int64) >> 8
        for op in instruction.operands[1:3]
    )
    product = a * b
    values = (product >> 16 if "hi" in instruction.modifiers else product).astype(np.int32)
    if instruction.opcode == "mad24":
        c = executor.read(instruction.operands[3], "s32")
        saturates = "sat" in instruction.modifiers
        values = lanes.saturating(np.add, values, c) if saturates else values + c
    executor.write(instruction.operands[0], values, mask)


def _packed_integers(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`add`, `min`, `max` of two 16-bit integers in a register."""
    dtype = np.int16 if instruction.modifiers[-1] == "s16x2" else np.uint16
    a, b = (
        np.ascontiguousarray(executor.read(op, "b32")).view(dtype).reshape(-1, 2)
        for op in instruction.operands[1:3]
    )
    functions = {"add": np.add, "min": np.minimum, "max": np.maximum}
    if instruction.opcode not in functions:
        raise unsupported(instruction)
    values = functions[instruction.opcode](a, b)
    if "relu" in instruction.modifiers:
        values = np.maximum(values, 0)
    executor.write(instruction.operands[0], np.ascontiguousarray(values).view(np.uint32)[:, 0], mask)


Handler = Callable[[Executor, Instruction, Array], None]


def _by_type(plain: Handler, half: Handler = halves.arithmetic) -> Handler:
    """`half` for f16 and bf16 operands, `_packed_integers` for pairs of integers, `plain` for others."""

    def run(executor: Executor, instruction: Instruction, mask: Array) -> None:
        if (
            halves.is_half(instruction)
            and instruction.modifiers[-2:-1] == ("f32",)
            and half is not halves.compare
        ):
            _mixed(executor, instruction, mask)
        elif halves.is_half(instruction):
            half(executor, instruction, mask)
        elif instruction.modifiers[-1:] in (("s16x2",), ("u16x2",)):
            _packed_integers(executor, instruction, mask)
        else:
            plain(executor, instruction, mask)

    return run


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("neg", "abs", "ex2", "tanh"), _by_type(_unary)),
    **dict.fromkeys(("not", "cnot", "popc", "clz", "brev", "rcp", "sqrt", "rsqrt", "lg2", "sin", "cos"),
                    _unary),
    "add": _by_type(_add_or_carry), "sub": _by_type(_add_or_carry), "mul": _by_type(_arithmetic),
    "addc": _carry, "subc": _carry, "mad": _mad_or_carry, "madc": _carry, "fma": _by_type(_multiply_add),
    "div": _divide, "rem": _remainder, "min": _by_type(_extremum), "max": _by_type(_extremum),
    "setp": _by_type(_compare, halves.compare), "set": _by_type(_compare, halves.compare),
    "selp": _select, "slct": _select_by_sign, "copysign": _copy_sign, "testp": _test_property,
    "mul24": _short_multiply, "mad24": _short_multiply,
}  # fmt: skip
"""What each opcode of this family does."""
