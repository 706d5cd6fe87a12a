"""Bits of integers: logic, shifts, fields, permutations, and dot products of bytes.

Source: PTX ISA 8.8, sections 9.7.1 and 9.7.8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tessera.emulator import lanes
from tessera.emulator.instructions import Executor, unsupported
from tessera.emulator.lanes import Array
from tessera.emulator.operands import inputs, type_of
from tessera.emulator.ptx import TYPE_BYTES, Immediate, Instruction, Pair


def _logic(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b = inputs(executor, instruction, type_of(instruction), 2)
    executor.write(instruction.operands[0], lanes.LOGIC[instruction.opcode](a, b), mask)


def _shift(executor: Executor, instruction: Instruction, mask: Array) -> None:
    (a,) = inputs(executor, instruction, type_of(instruction), 1)
    amount = executor.read(instruction.operands[2], "u32")
    shift = lanes.shift_left if instruction.opcode == "shl" else lanes.shift_right
    executor.write(instruction.operands[0], shift(a, amount), mask)


def _funnel_shift(executor: Executor, instruction: Instruction, mask: Array) -> None:
    low, high = inputs(executor, instruction, "u32", 2)
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


def _bit_field(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = type_of(instruction)
    if instruction.opcode == "bfe":
        (a,) = inputs(executor, instruction, kind, 1)
        position, length = (executor.read(op, "u32") for op in instruction.operands[2:4])
        values = lanes.extract_field(a, position, length)
    else:
        a, b = inputs(executor, instruction, kind, 2)
        position, length = (executor.read(op, "u32") for op in instruction.operands[3:5])
        values = lanes.insert_field(a, b, position, length)
    executor.write(instruction.operands[0], values, mask)


def _find_bit(executor: Executor, instruction: Instruction, mask: Array) -> None:
    (a,) = inputs(executor, instruction, type_of(instruction), 1)
    shift_amount = "shiftamt" in instruction.modifiers
    executor.write(instruction.operands[0], lanes.highest_bit(a, shift_amount=shift_amount), mask)


def _permute(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b = inputs(executor, instruction, "u32", 2)
    selector = executor.read(instruction.operands[3], "u32")
    mode = next((m for m in instruction.modifiers if m in lanes.PERMUTE_MODES), None)
    if mode is not None:
        selector = lanes.PERMUTE_MODES[mode][selector & np.uint32(3)]
    executor.write(instruction.operands[0], lanes.permute_bytes(a, b, selector), mask)


def _logic3(executor: Executor, instruction: Instruction, mask: Array) -> None:
    a, b, c = inputs(executor, instruction, "b32", 3)
    table = instruction.operands[4]
    if not isinstance(table, Immediate):
        raise unsupported(instruction)
    values = lanes.logic3(a, b, c, int(table.value))
    target = instruction.operands[0]
    if isinstance(target, Pair):
        combine = next(m for m in instruction.modifiers if m in lanes.LOGIC)
        other = executor.read(instruction.operands[5], "pred")
        executor.write(target.second, lanes.LOGIC[combine](values != 0, other), mask)
        target = target.first
    executor.write(target, values, mask)


def _sum_of_differences(executor: Executor, instruction: Instruction, mask: Array) -> None:
    kind = type_of(instruction)
    a, b = inputs(executor, instruction, kind, 2)
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


def _dot2(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`dp2a`: two 16-bit values times two bytes of the lower or upper half."""
    first, second = instruction.modifiers[-2:]
    words = np.ascontiguousarray(executor.read(instruction.operands[1], "u32"))
    pairs = words.view(np.int16 if first == "s32" else np.uint16).reshape(-1, 2).astype(np.int64)
    raw = np.ascontiguousarray(executor.read(instruction.operands[2], "u32"))
    four = raw.view(np.int8 if second == "s32" else np.uint8).reshape(-1, 4).astype(np.int64)
    two = four[:, 2:] if "hi" in instruction.modifiers else four[:, :2]
    total = (pairs * two).sum(axis=1) + executor.read(instruction.operands[3], "s32")
    executor.write(instruction.operands[0], total.astype(np.int32), mask)


def _bit_mask(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`bmsk`: ones from a position on, as many as the width says."""
    start, width = (v.astype(np.uint64) for v in inputs(executor, instruction, "u32", 2))
    if "wrap" in instruction.modifiers:
        start, width = start & np.uint64(31), width & np.uint64(31)
    else:
        start, width = np.minimum(start, np.uint64(32)), np.minimum(width, np.uint64(32))
    ones = ((np.uint64(1) << width) - np.uint64(1)) << start
    executor.write(instruction.operands[0], (ones & np.uint64(0xFFFF_FFFF)).astype(np.uint32), mask)


def _extend(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`szext`: the low bits, extended by zeros or by their sign."""
    kind = type_of(instruction)
    values = executor.read(instruction.operands[1], "u32").astype(np.uint64)
    width = executor.read(instruction.operands[2], "u32").astype(np.uint64)
    wraps = "wrap" in instruction.modifiers
    width = width & np.uint64(31) if wraps else np.minimum(width, np.uint64(32))
    low = values & ((np.uint64(1) << width) - np.uint64(1))
    if kind == "s32":
        sign = (np.uint64(1) << width) >> np.uint64(1)
        low = (low ^ sign) - sign
    executor.write(instruction.operands[0], low.astype(np.uint32), mask)


def _find_nth(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`fns`: position of the n-th set bit from a base; all ones if there is none."""
    bits, base = inputs(executor, instruction, "b32", 2)
    offset = executor.read(instruction.operands[3], "s32")
    found = np.full(executor.count, 0xFFFF_FFFF, np.uint32)
    for i in np.flatnonzero(mask):
        start, n = int(base[i]), int(offset[i])
        if n >= 0:
            ordered = range(start, 32)
            skip = max(n - 1, 0)
        else:
            ordered = range(start, -1, -1)
            skip = -n - 1
        if n == 0:
            ordered = range(start, start + 1)
        ordered = ordered if start < 32 else range(0)
        places = [p for p in ordered if int(bits[i]) >> p & 1]
        if skip < len(places):
            found[i] = places[skip]
    executor.write(instruction.operands[0], found, mask)


Handler = Callable[[Executor, Instruction, Array], None]

HANDLERS: dict[str, Handler] = {
    "and": _logic, "or": _logic, "xor": _logic, "shl": _shift, "shr": _shift, "shf": _funnel_shift,
    "bfe": _bit_field, "bfi": _bit_field, "bfind": _find_bit, "prmt": _permute, "lop3": _logic3,
    "sad": _sum_of_differences, "dp4a": _dot4, "dp2a": _dot2, "bmsk": _bit_mask, "szext": _extend,
    "fns": _find_nth,
}  # fmt: skip
"""What each opcode of this family does."""
