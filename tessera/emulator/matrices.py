"""`mma.sync`: products of small matrices that a warp holds in registers.

Floating-point products and their sums are computed in float64 in the order of k, the accumulator last, and
rounded once. Tensor cores align and cut the terms instead, so that the last bits differ (by less than a few
units of the accumulator's last place, relative to the largest term). Integer results are exact.

Source: PTX ISA 8.8, section 9.7.14 (warp-level matrix instructions).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import formats, fragments
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Instruction, Operand, Vector
from tessera.program.errors import CompileError

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

WARP = 32
ELEMENT_BITS = {
    "f64": 64, "f32": 32, "s32": 32, "tf32": 32, "f16": 16, "bf16": 16, "e4m3": 8, "e5m2": 8,
    "e3m2": 8, "e2m3": 8, "e2m1": 8,
    "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1,
}  # fmt: skip
"""Size of an element as a fragment holds it."""
_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")


SMALL_FLOATS = {"e3m2": (0, 2, 3), "e2m3": (0, 3, 2), "e2m1": (2, 1, 2)}
"""Floats of 6 and 4 bits without infinities or NaN, kept in 8: bits below them, of the fraction, and of the
exponent.
"""


def unknown(instruction: Instruction) -> CompileError:
    """The error for a form that is not known."""
    return CompileError(
        f"PTX line {instruction.line}: the emulator does not know {instruction.mnemonic}",
        ptx_line=instruction.line,
    )


def shape_of(instruction: Instruction) -> tuple[int, int, int]:
    """m, n, k.

    Raises:
        CompileError: The instruction names no shape.
    """
    for modifier in instruction.modifiers:
        match = _SHAPE.fullmatch(modifier)
        if match:
            return int(match[1]), int(match[2]), int(match[3])
    raise unknown(instruction)


def warps_of(ready: Array) -> list[Array]:
    """Thread numbers of each whole warp among the threads that are ready."""
    starts = np.flatnonzero(ready)
    return [np.arange(w * WARP, (w + 1) * WARP) for w in np.unique(starts // WARP)]


def read_elements(executor: Executor, operand: Operand, kind: str) -> Array:
    """(threads, elements): a fragment's values, as float64 or int64 (bits of `b1` as 0 and 1)."""
    bits = ELEMENT_BITS[kind]
    registers = operand.elements if isinstance(operand, Vector) else (operand,)
    width = 64 if bits == 64 else 32
    raw = np.stack([executor.read(r, f"b{width}") for r in registers], axis=1)
    return unpack(np.ascontiguousarray(raw).view(np.uint8), kind)


def unpack(raw: Array, kind: str) -> Array:
    """(rows, elements) float64 or int64 from (rows, bytes)."""
    bits = ELEMENT_BITS[kind]
    if kind == "b1":
        return np.unpackbits(raw, axis=1, bitorder="little").astype(np.int64)
    if bits == 4:
        nibbles = np.stack([raw & 15, raw >> 4], axis=2).reshape(len(raw), -1).astype(np.int64)
        return np.where(nibbles > 7, nibbles - 16, nibbles) if kind == "s4" else nibbles
    raw = np.ascontiguousarray(raw)
    if kind in SMALL_FLOATS:
        return _small_float(raw.astype(np.int64), *SMALL_FLOATS[kind])
    if kind in formats.FORMATS:
        form = formats.FORMATS[kind]
        stored = raw.view(form.dtype)
        if form.padding:
            # Tensor cores ignore the low bits of tf32 operands.
            stored = stored & form.dtype.type(-(1 << form.padding) & 0xFFFF_FFFF)
        return formats.decode(stored, kind)
    return raw.view(np.dtype(("i" if kind[0] == "s" else "u") + str(bits // 8))).astype(np.int64)


def _small_float(raw: Array, low: int, fraction: int, exponent: int) -> Array:
    """float64 of floats of a few bits."""
    part, power = raw >> low & (1 << fraction) - 1, raw >> low + fraction & (1 << exponent) - 1
    lead = np.where(power == 0, 0, 1 << fraction)
    bias = (1 << exponent - 1) - 1
    values = np.ldexp((lead + part).astype(np.float64), np.maximum(power, 1) - bias - fraction)
    signed: Array = np.where(raw >> low + fraction + exponent & 1, -values, values)
    return signed


def pack(values: Array, kind: str) -> Array:
    """(rows, bytes) from (rows, elements) of float64 or int64."""
    if kind == "b1":
        return np.packbits(values.astype(np.uint8), axis=1, bitorder="little")
    if ELEMENT_BITS[kind] == 4:
        nibbles = (values & 15).astype(np.uint8).reshape(len(values), -1, 2)
        return nibbles[:, :, 0] | nibbles[:, :, 1] << 4
    if kind in formats.FORMATS:
        stored = formats.encode(values, kind)
    else:
        stored = values.astype(np.dtype(f"i{ELEMENT_BITS[kind] // 8}"))
    return np.ascontiguousarray(stored).view(np.uint8)


def write_elements(executor: Executor, operand: Operand, raw: Array, mask: Array) -> None:
    """Write (threads, bytes) to the registers of a fragment."""
    registers = operand.elements if isinstance(operand, Vector) else (operand,)
    width = raw.shape[1] // len(registers)
    words = np.ascontiguousarray(raw).view(np.dtype(f"u{width}"))
    for i, register in enumerate(registers):
        executor.write(register, np.ascontiguousarray(words[:, i]), mask)


def product(a: Array, b: Array, c: Array, instruction: Instruction) -> Array:
    """`a @ b + c` of float64 or int64 matrices, as the instruction's modifiers say."""
    modifiers = instruction.modifiers
    if "popc" in modifiers:
        combined = a[:, :, None] ^ b[None] if "xor" in modifiers else a[:, :, None] & b[None]
        counted: Array = combined.sum(axis=1) + c
        return counted
    if a.dtype == np.int64:
        total = a @ b + c
        return np.clip(total, -(1 << 31), (1 << 31) - 1) if "satfinite" in modifiers else total
    total = np.zeros(c.shape)
    for k in range(a.shape[1]):
        total = total + a[:, k : k + 1] * b[k]
    result: Array = total + c
    return result


def types_of(instruction: Instruction) -> tuple[str, str, str, str]:
    """Element types of D, A, B and C.

    Raises:
        CompileError: There are not four of them.
    """
    kinds = [m for m in instruction.modifiers if m in ELEMENT_BITS]
    if len(kinds) != 4:
        raise unknown(instruction)
    return kinds[0], kinds[1], kinds[2], kinds[3]


def plain_kind(instruction: Instruction) -> bool:
    """Whether elements are multiplied as they are, not scaled by blocks."""
    return all(not m.startswith("kind::") or m == "kind::f8f6f4" for m in instruction.modifiers)


def multiply(executor: Executor, instruction: Instruction, ready: Array) -> None:
    """Run `mma.sync` for the warps in `ready`.

    Raises:
        CompileError: A form that is not known.
    """
    from tessera.emulator import sparsity  # it reads this module's tables

    if sparsity.is_sparse(instruction):
        sparsity.multiply(executor, instruction, ready)
        return
    m, n, k = shape_of(instruction)
    d_kind, a_kind, b_kind, c_kind = types_of(instruction)
    if not plain_kind(instruction):
        raise unknown(instruction)
    layouts = [x for x in instruction.modifiers if x in ("row", "col")]
    quads = (m, n, k) == (8, 8, 4) and a_kind == "f16"
    if quads:
        a_layout, b_layout = fragments.quad_a(layouts[0]), fragments.quad_b(layouts[1])
        c_layout, d_layout = fragments.quad_accumulator(c_kind), fragments.quad_accumulator(d_kind)
        shapes = (32, 4), (4, 32), (32, 8)
    else:
        per_register = max(1, 32 // ELEMENT_BITS[a_kind])
        a_layout = fragments.operand_a(m, k, per_register)
        b_layout = fragments.operand_b(k, n, per_register)
        c_layout = d_layout = fragments.accumulator(m, n)
        shapes = (m, k), (k, n), (m, n)
    d_operand, a_operand, b_operand, c_operand = instruction.operands[:4]
    values = [
        read_elements(executor, operand, kind)
        for operand, kind in ((a_operand, a_kind), (b_operand, b_kind), (c_operand, c_kind))
    ]
    results = np.zeros((executor.count, d_layout[0].shape[1]), values[2].dtype)
    for threads in warps_of(ready):
        if threads[-1] >= executor.count:
            raise CompileError(f"PTX line {instruction.line}: a matrix instruction needs whole warps")
        a, b, c = (
            fragments.collect(v[threads], layout, shape)
            for v, layout, shape in zip(values, (a_layout, b_layout, c_layout), shapes, strict=True)
        )
        parts = range(4) if quads else range(1)
        rows = np.vsplit(a, 4) if quads else [a]
        columns = np.hsplit(b, 4) if quads else [b]
        sums = np.vsplit(c, 4) if quads else [c]
        d = np.vstack([product(rows[i], columns[i], sums[i], instruction) for i in parts])
        results[threads] = fragments.distribute(d, d_layout)
    write_elements(executor, d_operand, pack(results, d_kind), ready)


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {"mma": multiply}
"""What each opcode of this family does."""
