"""Structured sparsity of `mma.sp`: which columns of A its elements are, as the metadata of four lanes says.

A chunk of a row (2 elements of tf32, 8 of four bits, 4 of any other type) keeps half of its elements. Four
bits of metadata say which: two numbers of two bits.

Source: PTX ISA 8.8, section 9.7.14.6 (`mma.sp`, sparse matrix storage).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import fragments, matrices
from tessera.emulator.lanes import Array
from tessera.emulator.matrices import ELEMENT_BITS, shape_of, types_of, unknown
from tessera.emulator.ptx import Immediate, Instruction

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

ROWS = 16
DEPTHS = {32: (8, 16), 16: (16, 32), 8: (32, 64), 4: (64, 128)}
"""k by the size of an element: with few and with many columns."""


def is_sparse(instruction: Instruction) -> bool:
    """Whether A is."""
    return any(m == "sp" or m.startswith("sp::") for m in instruction.modifiers)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where the four bits of each chunk lie: arrays (16 rows, chunks of a row)."""

    lanes: Array
    shifts: Array
    chunk: int
    """Elements of a chunk."""

    @property
    def picks(self) -> tuple[tuple[int, int, int], ...]:
        """Element of a chunk for each that is kept: number in the four bits, its factor, what is added."""
        if self.chunk == 8:
            return ((0, 2, 0), (0, 2, 1), (1, 2, 0), (1, 2, 1))
        return ((0, 1, 0), (1, 1, 0)) if self.chunk == 4 else ((0, 1, 0),)

    @staticmethod
    def of(instruction: Instruction) -> Metadata:
        """That of an instruction.

        Raises:
            CompileError: There is no such sparse product.
        """
        m, n, k = shape_of(instruction)
        bits = ELEMENT_BITS[types_of(instruction)[1]]
        selector = instruction.operands[5] if len(instruction.operands) == 6 else None
        if (m, n) != (16, 8) or k not in DEPTHS.get(bits, ()) or not isinstance(selector, Immediate):
            raise unknown(instruction)
        found = _metadata(bits, k, int(selector.value))
        if found is None:
            raise unknown(instruction)
        return found

    def columns(self, words: Array) -> Array:
        """(16, k / 2) columns of A that the kept elements are.

        Args:
            words: (32,) uint32, the lanes' metadata.
        """
        fields = words.astype(np.int64)[self.lanes] >> self.shifts
        numbers = np.stack([fields & 3, fields >> 2 & 3])
        if self.chunk == 2:
            # Elements of 32 bits count as two of sixteen.
            numbers = numbers >> 1
        starts = np.arange(self.lanes.shape[1]) * self.chunk
        kept = [starts + numbers[which] * factor + more for which, factor, more in self.picks]
        return np.stack(kept, axis=2).reshape(ROWS, -1)


@cache
def _metadata(bits: int, k: int, selector: int) -> Metadata | None:
    chunk = {32: 2, 4: 8}.get(bits, 4)
    row, place = np.arange(ROWS)[:, None], np.arange(k // chunk)[None, :]
    # Of each four lanes so many hold metadata; the selector says which come first.
    holders = ROWS * (k // chunk) * 4 // 32 // 8
    if not 0 <= selector < 4 // holders:
        return None
    if bits >= 16:
        # A lane has four chunks of a row, and of the row eight further down.
        member, shifts = place // 4 + 0 * row, 16 * (row // 8) + 4 * (place % 4)
    else:
        member, shifts = row // 8 + 2 * (place // 8), 4 * (place % 8) + 0 * row
    return Metadata(4 * (row % 8) + member + holders * selector, shifts, chunk)


def multiply(executor: Executor, instruction: Instruction, ready: Array) -> None:
    """Run `mma.sp` for the warps in `ready`: the products of the elements that are kept, in order.

    Raises:
        CompileError: A form that is not known.
    """
    metadata = Metadata.of(instruction)
    m, n, k = shape_of(instruction)
    d_kind, *kinds = types_of(instruction)
    if not matrices.plain_kind(instruction):
        raise unknown(instruction)
    target, *operands = instruction.operands[:5]
    words = executor.read(operands.pop(), "b32")
    values = [matrices.read_elements(executor, o, x) for o, x in zip(operands, kinds, strict=True)]
    per = 32 // ELEMENT_BITS[kinds[0]]
    layouts = (
        fragments.operand_a(m, k // 2, per), fragments.operand_b(k, n, per), fragments.accumulator(m, n),
    )  # fmt: skip
    results = np.zeros((executor.count, m * n // 32), values[2].dtype)
    for threads in matrices.warps_of(ready):
        a, b, c = (
            fragments.collect(v[threads], layout, shape)
            for v, layout, shape in zip(values, layouts, ((m, k // 2), (k, n), (m, n)), strict=True)
        )
        columns = metadata.columns(words[threads])
        total = np.zeros(c.shape, c.dtype)
        for place in range(k // 2):
            total = total + a[:, place : place + 1] * b[columns[:, place]]
        total = total + c
        if "satfinite" in instruction.modifiers:
            total = np.clip(total, -(1 << 31), (1 << 31) - 1)
        results[threads] = fragments.distribute(total, layouts[2])
    matrices.write_elements(executor, target, matrices.pack(results, d_kind), ready)
