"""Video instructions: arithmetic on two halfwords, four bytes, or one picked part of a register.

Source: PTX ISA 8.8, sections 9.7.16 (scalar video) and 9.7.17 (SIMD video).
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


def _simd(executor: Executor, instruction: Instruction, mask: Array) -> None:
    opcode = instruction.opcode
    width = 16 if opcode.endswith("2") else 8
    name = opcode[:-1]
    kinds = [m for m in instruction.modifiers if m in ("u32", "s32")]
    a_kind, b_kind = kinds[-2:]
    a, b = (
        _parts(executor, op, kind, width)
        for op, kind in zip(instruction.operands[1:3], (a_kind, b_kind), strict=True)
    )
    if name == "vset":
        compare = next(m for m in instruction.modifiers if m in lanes.COMPARE)
        exact = lanes.COMPARE[compare](a, b).astype(np.int64)
    else:
        exact = OPERATIONS[name](a, b)
    signed = kinds[0] == "s32"
    if "sat" in instruction.modifiers:
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        exact = np.clip(exact, low, high)
    base = executor.read(instruction.operands[3], "u32")
    if "add" in instruction.modifiers:
        result = (exact.sum(axis=1) + base.astype(np.int64)).astype(np.uint32)
    else:
        count = 32 // width
        old = np.ascontiguousarray(base).view(np.dtype(f"u{width // 8}")).reshape(-1, count)
        chosen = _selected(instruction, count)
        fresh = np.where(chosen, exact.astype(old.dtype), old)
        result = np.ascontiguousarray(fresh).view(np.uint32)[:, 0]
    executor.write(instruction.operands[0], result, mask)


def _parts(executor: Executor, operand: Operand, kind: str, width: int) -> Array:
    letter = "i" if kind == "s32" else "u"
    raw = np.ascontiguousarray(executor.read(operand, "u32"))
    return raw.view(np.dtype(f"{letter}{width // 8}")).reshape(executor.count, -1).astype(np.int64)


def _selected(instruction: Instruction, count: int) -> Array:
    """Which parts of the destination are written: a mask such as `.b310` after the operand."""
    target = instruction.operands[0]
    name = target.name if isinstance(target, Register) else ""
    _, _, mask = name.partition(".")
    if not mask:
        return np.ones(count, np.bool_)
    raise unsupported(instruction)


SCALAR: dict[str, Callable[[Array, Array], Array]] = {
    **{name: OPERATIONS[name] for name in ("vadd", "vsub", "vabsdiff", "vmin", "vmax")},
}


def _scalar(executor: Executor, instruction: Instruction, mask: Array) -> None:
    if len(instruction.operands) != 3 or any("." in getattr(o, "name", "") for o in instruction.operands):
        raise unsupported(instruction)
    kinds = [m for m in instruction.modifiers if m in ("u32", "s32")]
    a, b = (
        executor.read(op, kind).astype(np.int64)
        for op, kind in zip(instruction.operands[1:3], kinds[1:], strict=True)
    )
    exact = SCALAR[instruction.opcode](a, b)
    if "sat" in instruction.modifiers:
        limits = np.iinfo(np.int32 if kinds[0] == "s32" else np.uint32)
        exact = np.clip(exact, limits.min, limits.max)
    executor.write(instruction.operands[0], exact.astype(np.uint32), mask)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    **{f"{name}{count}": _simd for name in (*OPERATIONS, "vset") for count in (2, 4)},
    **dict.fromkeys(SCALAR, _scalar),
}
"""What each opcode of this family does."""
