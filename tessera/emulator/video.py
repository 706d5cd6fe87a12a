"""Video instructions: arithmetic on two halfwords, four bytes, or one picked part of a register.

Source: PTX ISA 8.8, sections 9.7.17 (scalar video) and 9.7.18 (SIMD video).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tessera.emulator import lanes
from tessera.emulator.instructions import Executor, unsupported
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Instruction, Operand, Register

OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "vadd": lambda a, b: a + b,
    "vsub": lambda a, b: a - b,
    "vavrg": lambda a, b: (a + b + (a + b >= 0)) >> 1,
    "vabsdiff": lambda a, b: np.abs(a - b),
    "vmin": np.minimum,
    "vmax": np.maximum,
}
"""int64 operands to the exact result."""
TYPES = ("u32", "s32")


def _part(operand: Operand) -> str:
    return operand.part if isinstance(operand, Register) else ""


def _compared(instruction: Instruction, a: Array, b: Array) -> Array:
    name = next((m for m in instruction.modifiers if m in lanes.COMPARE), None)
    if name is None:
        raise unsupported(instruction)
    return lanes.COMPARE[name](a, b).astype(np.int64)


def _clipped(values: Array, bits: int, *, signed: bool) -> Array:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return np.clip(values, low, high)


# -- two or four parts at once ------------------------------------------------------------------


def _simd(executor: Executor, instruction: Instruction, mask: Array) -> None:
    opcode = instruction.opcode
    width = 16 if opcode.endswith("2") else 8
    name = opcode[:-1]
    kinds = [m for m in instruction.modifiers if m in TYPES]
    a, b = (_parts(executor, instruction, i, kinds[-2 + i], width) for i in range(2))
    exact = _compared(instruction, a, b) if name == "vset" else OPERATIONS[name](a, b)
    if "sat" in instruction.modifiers:
        exact = _clipped(exact, width, signed=kinds[0] == "s32")
    base = executor.read(instruction.operands[3], "u32")
    count = 32 // width
    chosen = _selected(instruction.operands[0], count)
    if "add" in instruction.modifiers:
        total = np.where(chosen, exact, 0).sum(axis=1) + base.astype(np.int64)
        result = total.astype(np.uint32)
    else:
        old = np.ascontiguousarray(base).view(np.dtype(f"u{width // 8}")).reshape(-1, count)
        fresh = np.where(chosen, exact.astype(old.dtype), old)
        result = np.ascontiguousarray(fresh).view(np.uint32)[:, 0]
    executor.write(instruction.operands[0], result, mask)


def _parts(executor: Executor, instruction: Instruction, which: int, kind: str, width: int) -> Array:
    """(threads, 2 or 4) int64: the parts of a source; its selector picks among those of both sources."""
    letter = "i" if kind == "s32" else "u"
    count = 32 // width
    raw = np.stack([executor.read(op, "u32") for op in instruction.operands[1:3]], axis=1)
    both = np.ascontiguousarray(raw).view(np.dtype(f"{letter}{width // 8}")).astype(np.int64)
    return both[:, picks(_part(instruction.operands[1 + which]), which, count)]


def picks(selector: str, which: int, count: int) -> list[int]:
    """Positions of a source's parts among those of both, the lowest first: `h10`, `b7654`."""
    if not selector:
        return [which * count + i for i in range(count)]
    return [int(digit) for digit in reversed(selector[1:])]


def _selected(target: Operand, count: int) -> Array:
    """Which parts of the destination are written: all, or those that a mask such as `b310` names."""
    names = _part(target)[1:]
    return np.array([not names or str(i) in names for i in range(count)])


# -- one part -----------------------------------------------------------------------------------


def _scalar(executor: Executor, instruction: Instruction, mask: Array) -> None:
    name, modifiers = instruction.opcode, instruction.modifiers
    kinds = [m for m in modifiers if m in TYPES]
    shifts = name in ("vshl", "vshr")
    # `vset` names no type of its own: what it gives is 0 or 1.
    kind = "u32" if name == "vset" else kinds[0]
    a, b = (_one_part(executor, instruction.operands[1 + i], kinds[-2 + i]) for i in range(2))
    if name == "vset":
        exact = _compared(instruction, a, b)
    elif shifts:
        by = b & 31 if "wrap" in modifiers else np.minimum(b, 32)
        exact = a.astype(object) << by.astype(object) if name == "vshl" else a >> by
    else:
        exact = OPERATIONS[name](a, b)
    target, signed = instruction.operands[0], kind == "s32"
    bits = {"b": 8, "h": 16}.get(_part(target)[:1], 32)
    if "sat" in modifiers:
        exact = _clipped(exact, bits, signed=signed)
    exact = (exact & 0xFFFF_FFFF).astype(np.uint64).astype(np.uint32)
    if len(instruction.operands) == 4:
        exact = _combined(executor, instruction, exact, bits, kind)
    executor.write(target, exact, mask)


def _combined(executor: Executor, instruction: Instruction, value: Array, bits: int, kind: str) -> Array:
    """The third source added to the result, compared with it, or kept around the part that is written."""
    c = executor.read(instruction.operands[3], "u32")
    part = _part(instruction.operands[0])
    if part:
        place = np.uint32(int(part[1]) * bits)
        ones = np.uint32(((1 << bits) - 1) << int(place))
        return (c & ~ones) | (value << place & ones)
    # `.sat.add`, `.min`, `.max` come after the types.
    second = next((m for m in instruction.modifiers if m in ("add", "min", "max")), None)
    if second is None:
        raise unsupported(instruction)
    functions: dict[str, Callable[[Array, Array], Array]] = {
        "add": np.add, "min": np.minimum, "max": np.maximum,
    }  # fmt: skip
    dtype = np.int32 if kind == "s32" else np.uint32
    return functions[second](value.view(dtype), c.view(dtype)).view(np.uint32)


def _one_part(executor: Executor, operand: Operand, kind: str) -> Array:
    """int64: a register, or one byte or half of it, extended as its type says."""
    values = executor.read(operand, kind).astype(np.int64)
    part = _part(operand)
    if not part:
        return values
    bits = 8 if part[0] == "b" else 16
    values = values >> int(part[1]) * bits & (1 << bits) - 1
    return values - (values >> bits - 1 << bits) if kind == "s32" else values


def _multiply_add(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`vmad`: a product and a sum of up to 65 bits, perhaps plus one, perhaps shifted right."""
    modifiers = instruction.modifiers
    kinds = [m for m in modifiers if m in TYPES]
    if len(kinds) != 3 or len(instruction.operands) != 4:
        raise unsupported(instruction)
    signed = "s32" in kinds[1:]
    a, b = (_one_part(executor, instruction.operands[1 + i], kinds[1 + i]).astype(object) for i in range(2))
    c = executor.read(instruction.operands[3], "s32" if signed else "u32").astype(object)
    total = a * b + c + int("po" in modifiers)
    total = total >> (7 if "shr7" in modifiers else 15 if "shr15" in modifiers else 0)
    if "sat" in modifiers:
        total = _clipped(total, 32, signed=signed)
    result = np.array([int(t) & 0xFFFF_FFFF for t in total], np.uint32)
    executor.write(instruction.operands[0], result, mask)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    **{f"{name}{count}": _simd for name in (*OPERATIONS, "vset") for count in (2, 4)},
    **dict.fromkeys(("vadd", "vsub", "vabsdiff", "vmin", "vmax", "vset", "vshl", "vshr"), _scalar),
    "vmad": _multiply_add,
}
"""What each opcode of this family does."""
