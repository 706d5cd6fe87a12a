"""What each PTX instruction does: one function for a family of opcodes, found through a table.

Source: PTX ISA 8.8, chapter 9.7.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tessera.emulator import lanes
from tessera.emulator.conversions import convert, round_directed
from tessera.emulator.instructions import WINDOWS, Executor, unsupported
from tessera.emulator.lanes import BITS, Array
from tessera.emulator.ptx import (
    TYPE_BYTES,
    Address,
    Immediate,
    Instruction,
    Pair,
    Vector,
)


def _type(instruction: Instruction) -> str:
    kind = instruction.modifiers[-1] if instruction.modifiers else ""
    if kind not in BITS:
        raise unsupported(instruction)
    return kind


def _ftz(instruction: Instruction) -> bool:
    return "ftz" in instruction.modifiers


def _finish(
    executor: Executor, instruction: Instruction, values: Array, mask: Array, kind: str | None = None
) -> None:
    values = lanes.flush(values, ftz=_ftz(instruction))
    if "sat" in instruction.modifiers and values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0, np.clip(values, 0, 1)).astype(values.dtype)
    if kind is not None:
        values = values.astype(BITS[kind])
    executor.write(instruction.operands[0], values, mask)


def _inputs(executor: Executor, instruction: Instruction, kind: str, count: int) -> list[Array]:
    ftz = _ftz(instruction)
    return [lanes.flush(executor.read(op, kind), ftz=ftz) for op in instruction.operands[1 : 1 + count]]


def _rounding(instruction: Instruction) -> str:
    return next((m for m in instruction.modifiers if m in ("rn", "rz", "rm", "rp")), "rn")


def _arithmetic(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind, opcode = _type(instruction), instruction.opcode
    if kind in ("f16x2", "bf16x2", "bf16"):
        raise unsupported(instruction)
    a, b = _inputs(executor, instruction, kind, 2)
    if opcode == "mul" and "wide" in instruction.modifiers:
        executor.write(instruction.operands[0], lanes.wide_product(a, b, kind), mask)
        return
    if opcode == "mul" and "hi" in instruction.modifiers:
        executor.write(instruction.operands[0], lanes.high_product(a, b), mask)
        return
    functions: dict[str, Callable[[Array, Array], Array]] = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
    }
    if a.dtype.kind == "i" and "sat" in instruction.modifiers:
        exact = functions[opcode](a.astype(np.int64), b.astype(np.int64))
        limits = np.iinfo(a.dtype)
        executor.write(instruction.operands[0], np.clip(exact, limits.min, limits.max).astype(a.dtype), mask)
        return
    rounding = _rounding(instruction)
    if rounding != "rn" and a.dtype.kind == "f":
        values = round_directed(opcode, [a, b], rounding, instruction)
    else:
        values = functions[opcode](a, b)
    _finish(executor, instruction, values, mask)


def _multiply_add(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = _type(instruction)
    if kind not in BITS or kind in ("f16x2", "bf16x2", "bf16"):
        raise unsupported(instruction)
    a, b = _inputs(executor, instruction, kind, 2)
    if a.dtype.kind == "f":
        c = lanes.flush(executor.read(instruction.operands[3], kind), ftz=_ftz(instruction))
        if _rounding(instruction) != "rn":
            values = round_directed("fma", [a, b, c], _rounding(instruction), instruction)
        else:
            values = lanes.fma(a, b, c)
        _finish(executor, instruction, values, mask)
        return
    if "wide" in instruction.modifiers:
        product = lanes.wide_product(a, b, kind)
        wide = f"{kind[0]}{int(kind[1:]) * 2}"
        values = product + executor.read(instruction.operands[3], wide)
    else:
        product = lanes.high_product(a, b) if "hi" in instruction.modifiers else a * b
        values = product + executor.read(instruction.operands[3], kind)
    executor.write(instruction.operands[0], values, mask)


def _divide(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = _type(instruction)
    a, b = _inputs(executor, instruction, kind, 2)
    if a.dtype.kind == "f":
        if _rounding(instruction) == "rn":
            _finish(executor, instruction, a / b, mask)
        else:
            values = round_directed("div", [a, b], _rounding(instruction), instruction)
            _finish(executor, instruction, values, mask)
    else:
        executor.write(instruction.operands[0], lanes.truncated_division(a, b), mask)


def _remainder(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b = _inputs(executor, instruction, _type(instruction), 2)
    quotient = lanes.truncated_division(a, b)
    executor.write(instruction.operands[0], np.where(b == 0, a, a - quotient * b).astype(a.dtype), mask)


def _extremum(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b = _inputs(executor, instruction, _type(instruction), 2)
    pick = lanes.minimum if instruction.opcode == "min" else lanes.maximum
    _finish(executor, instruction, pick(a, b, nan="NaN" in instruction.modifiers), mask)


def _unary(executor: Executor, instruction: Instruction, mask: Array) -> None:
    (a,) = _inputs(executor, instruction, _type(instruction), 1)
    _finish(executor, instruction, lanes.UNARY[instruction.opcode](a), mask)


def _logic(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b = _inputs(executor, instruction, _type(instruction), 2)
    executor.write(instruction.operands[0], lanes.LOGIC[instruction.opcode](a, b), mask)


def _shift(executor: Executor, instruction: Instruction, mask: Array) -> None:
    (a,) = _inputs(executor, instruction, _type(instruction), 1)
    amount = executor.read(instruction.operands[2], "u32")
    shift = lanes.shift_left if instruction.opcode == "shl" else lanes.shift_right
    executor.write(instruction.operands[0], shift(a, amount), mask)


def _funnel_shift(executor: Executor, instruction: Instruction, mask: Array) -> None:
    low, high = _inputs(executor, instruction, "u32", 2)
    amount = executor.read(instruction.operands[3], "u32").astype(np.uint64)
    wraps = "wrap" in instruction.modifiers
    by = amount & np.uint64(31) if wraps else np.minimum(amount, np.uint64(32))
    both = (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
    if "l" in instruction.modifiers:
        shifted = (both << by) >> np.uint64(32)
        shifted = np.where(by == 32, low.astype(np.uint64), shifted)
    else:
        shifted = both >> by
    executor.write(instruction.operands[0], shifted.astype(np.uint32), mask)


def _move(executor: Executor, instruction: Instruction, mask: Array) -> None:
    target, source = instruction.operands
    kind = _type(instruction)
    if isinstance(source, Vector):
        raw = [executor.read(e, f"b{TYPE_BYTES[kind] * 8 // len(source.elements)}") for e in source.elements]
        packed = np.stack(raw, axis=1)
        executor.write(
            target, np.ascontiguousarray(packed).view(np.dtype(f"u{TYPE_BYTES[kind]}"))[:, 0], mask
        )
    elif isinstance(target, Vector):
        part = np.dtype(f"u{TYPE_BYTES[kind] // len(target.elements)}")
        values = np.ascontiguousarray(executor.read(source, f"b{TYPE_BYTES[kind] * 8}"))
        parts = values.view(part).reshape(executor.count, -1)
        for i, element in enumerate(target.elements):
            executor.write(element, np.ascontiguousarray(parts[:, i]), mask)
    else:
        executor.write(target, executor.read(source, kind), mask)


def _compare(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = _type(instruction)
    name = next(m for m in instruction.modifiers if m in lanes.COMPARE)
    a, b = _inputs(executor, instruction, kind, 2)
    result = lanes.COMPARE[name](a, b)
    combine = next((m for m in instruction.modifiers if m in lanes.LOGIC), None)
    other = executor.read(instruction.operands[3], "pred") if combine else None

    def combined(value: Array) -> Array:
        return value if combine is None or other is None else lanes.LOGIC[combine](value, other)

    target = instruction.operands[0]
    if instruction.opcode == "set":
        to = instruction.modifiers[-2]
        ones = np.ones(1, np.float32) if to == "f32" else np.full(1, 0xFFFFFFFF, np.uint32)
        executor.write(target, np.where(combined(result), ones, np.zeros(1, ones.dtype)), mask)
    elif isinstance(target, Pair):
        executor.write(target.first, combined(result), mask)
        executor.write(target.second, combined(~result), mask)
    else:
        executor.write(target, combined(result), mask)


def _select(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b = _inputs(executor, instruction, _type(instruction), 2)
    chosen = executor.read(instruction.operands[3], "pred")
    executor.write(instruction.operands[0], np.where(chosen, a, b), mask)


def _select_by_sign(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind, by = instruction.modifiers[-2], instruction.modifiers[-1]
    a, b = _inputs(executor, instruction, kind, 2)
    chosen = executor.read(instruction.operands[3], by) >= 0
    executor.write(instruction.operands[0], np.where(chosen, a, b), mask)


def _copy_sign(executor: Executor, instruction: Instruction, mask: Array) -> None:
    sign, magnitude = _inputs(executor, instruction, _type(instruction), 2)
    executor.write(instruction.operands[0], np.copysign(magnitude, sign), mask)


def _test_property(executor: Executor, instruction: Instruction, mask: Array) -> None:
    (a,) = _inputs(executor, instruction, _type(instruction), 1)
    small = np.finfo(a.dtype).tiny
    tests: dict[str, Callable[[], Array]] = {
        "finite": lambda: np.isfinite(a),
        "infinite": lambda: np.isinf(a),
        "number": lambda: ~np.isnan(a),
        "notanumber": lambda: np.isnan(a),
        "normal": lambda: np.isfinite(a) & (np.abs(a) >= small),
        "subnormal": lambda: (np.abs(a) < small) & (a != 0),
    }
    name = next(m for m in instruction.modifiers if m in tests)
    executor.write(instruction.operands[0], tests[name](), mask)


def _bit_field(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = _type(instruction)
    if instruction.opcode == "bfe":
        (a,) = _inputs(executor, instruction, kind, 1)
        position, length = (executor.read(op, "u32") for op in instruction.operands[2:4])
        values = lanes.extract_field(a, position, length)
    else:
        a, b = _inputs(executor, instruction, kind, 2)
        position, length = (executor.read(op, "u32") for op in instruction.operands[3:5])
        values = lanes.insert_field(a, b, position, length)
    executor.write(instruction.operands[0], values, mask)


def _find_bit(executor: Executor, instruction: Instruction, mask: Array) -> None:
    (a,) = _inputs(executor, instruction, _type(instruction), 1)
    shift_amount = "shiftamt" in instruction.modifiers
    executor.write(instruction.operands[0], lanes.highest_bit(a, shift_amount=shift_amount), mask)


def _permute(executor: Executor, instruction: Instruction, mask: Array) -> None:
    if len(instruction.modifiers) > 1:
        raise unsupported(instruction)
    a, b = _inputs(executor, instruction, "u32", 2)
    selector = executor.read(instruction.operands[3], "u32")
    executor.write(instruction.operands[0], lanes.permute_bytes(a, b, selector), mask)


def _logic3(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b, c = _inputs(executor, instruction, "b32", 3)
    table = instruction.operands[4]
    if not isinstance(table, Immediate):
        raise unsupported(instruction)
    executor.write(instruction.operands[0], lanes.logic3(a, b, c, int(table.value)), mask)


def _carry(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`add.cc`, `addc`, `sub.cc`, `subc`, `mad.lo.cc`, `madc`: sums with the carry flag."""
    kind = _type(instruction)
    unsigned = f"u{TYPE_BYTES[kind] * 8}"
    width = TYPE_BYTES[kind] * 8
    a, b = (executor.read(op, unsigned).astype(object) for op in instruction.operands[1:3])
    opcode = instruction.opcode
    flag = executor.registers.setdefault("%carry", np.zeros(executor.count, np.bool_))
    carry = flag.astype(object) if opcode in ("addc", "subc", "madc") else np.zeros(executor.count, object)
    if opcode.startswith("mad"):
        c = executor.read(instruction.operands[3], unsigned).astype(object)
        product = a * b
        half = product >> width if "hi" in instruction.modifiers else product & (1 << width) - 1
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


def _sum_of_differences(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = _type(instruction)
    a, b = _inputs(executor, instruction, kind, 2)
    c = executor.read(instruction.operands[3], f"u{TYPE_BYTES[kind] * 8}")
    difference = np.where(a > b, a - b, b - a).astype(c.dtype)
    executor.write(instruction.operands[0], difference + c, mask)


def _dot4(executor: Executor, instruction: Instruction, mask: Array) -> None:
    first, second = instruction.modifiers[-2:]
    parts = []
    for operand, kind in zip(instruction.operands[1:3], (first, second), strict=True):
        raw = np.ascontiguousarray(executor.read(operand, "u32"))
        dtype = np.int8 if kind == "s32" else np.uint8
        parts.append(raw.view(dtype).reshape(-1, 4).astype(np.int64))
    total = (parts[0] * parts[1]).sum(axis=1) + executor.read(instruction.operands[3], "s32")
    executor.write(instruction.operands[0], total.astype(np.int32), mask)


def _convert_address(executor: Executor, instruction: Instruction, mask: Array) -> None:
    space = next(m for m in instruction.modifiers if m.split("::")[0] in WINDOWS).split("::")[0]
    source = instruction.operands[1]
    window = np.uint64(WINDOWS[space])
    values = executor.read(source, "u64")
    to_space = "to" in instruction.modifiers
    executor.write(instruction.operands[0], values - window if to_space else values + window, mask)


def _space(instruction: Instruction) -> str:
    names = [m.split("::")[0] for m in instruction.modifiers]
    return next((n for n in names if n in WINDOWS), "generic")


def _load(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind, target, source = _type(instruction), instruction.operands[0], instruction.operands[1]
    if not isinstance(source, Address):
        raise unsupported(instruction)
    parts = target.elements if isinstance(target, Vector) else (target,)
    size = TYPE_BYTES[kind]
    raw = executor.gather(_space(instruction), source, size * len(parts), mask, instruction.line)
    for i, part in enumerate(parts):
        piece = np.ascontiguousarray(raw[:, i * size : (i + 1) * size])
        executor.write(part, piece.view(np.dtype(BITS[kind])).reshape(-1), mask)


def _store(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind, target, source = _type(instruction), instruction.operands[0], instruction.operands[1]
    if not isinstance(target, Address):
        raise unsupported(instruction)
    parts = source.elements if isinstance(source, Vector) else (source,)
    raw = [
        np.ascontiguousarray(executor.read(p, kind)).view(np.uint8).reshape(executor.count, -1) for p in parts
    ]
    executor.scatter(_space(instruction), target, np.concatenate(raw, axis=1), mask, instruction.line)


def _atomic(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`atom` and `red`, thread after thread: any order is allowed."""
    kind = _type(instruction)
    returns = instruction.opcode == "atom"
    place, *values = instruction.operands[1 if returns else 0 :]
    if not isinstance(place, Address) or kind in ("f16x2", "bf16x2", "bf16"):
        raise unsupported(instruction)
    operation = next((m for m in instruction.modifiers if m in lanes.ATOMIC or m == "cas"), None)
    if operation is None:
        raise unsupported(instruction)
    dtype = np.dtype(BITS[kind])
    operands = [executor.read(v, kind) for v in values]
    results = np.zeros(executor.count, dtype)
    for thread in np.flatnonzero(mask):
        alone = np.zeros(executor.count, np.bool_)
        alone[thread] = True
        raw = executor.gather(_space(instruction), place, dtype.itemsize, alone, instruction.line)
        old = np.ascontiguousarray(raw[thread]).view(dtype)[0]
        results[thread] = old
        if operation == "cas":
            new = operands[1][thread] if old == operands[0][thread] else old
        else:
            new = lanes.ATOMIC[operation](old, operands[0][thread])
        raw[thread] = np.array([new], dtype).view(np.uint8)
        executor.scatter(_space(instruction), place, raw, alone, instruction.line)
    if returns:
        executor.write(instruction.operands[0], results, mask)


def _nothing(_executor: Executor, _instruction: Instruction, _mask: Array) -> None:
    """Fences, prefetches and sleeps change no value here: accesses happen in order."""


Handler = Callable[[Executor, Instruction, Array], None]

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("neg", "abs", "not", "cnot", "popc", "clz", "brev", "rcp", "sqrt", "rsqrt", "ex2", "lg2",
                     "sin", "cos", "tanh"), _unary),
    **dict.fromkeys(("membar", "fence", "prefetch", "prefetchu", "nanosleep", "griddepcontrol", "discard",
                     "applypriority"), _nothing),
    "add": _add_or_carry, "sub": _add_or_carry, "mul": _arithmetic, "addc": _carry, "subc": _carry,
    "mad": _mad_or_carry, "madc": _carry, "fma": _multiply_add, "div": _divide, "rem": _remainder,
    "min": _extremum, "max": _extremum, "and": _logic, "or": _logic, "xor": _logic, "shl": _shift,
    "shr": _shift, "shf": _funnel_shift, "mov": _move, "setp": _compare, "set": _compare, "selp": _select,
    "slct": _select_by_sign, "copysign": _copy_sign, "testp": _test_property, "bfe": _bit_field,
    "bfi": _bit_field, "bfind": _find_bit, "prmt": _permute, "lop3": _logic3, "sad": _sum_of_differences,
    "dp4a": _dot4, "cvt": convert, "cvta": _convert_address, "ld": _load, "ldu": _load, "st": _store,
    "atom": _atomic, "red": _atomic,
}  # fmt: skip
"""What each opcode does."""
