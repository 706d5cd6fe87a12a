"""Accesses of a traced block as columns, and how they are counted by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tessera.emulator.block_trace import BlockTrace, TracedAccess
    from tessera.emulator.ptx import Instruction

Array = np.ndarray[Any, Any]
Line = tuple[str, int]
"""File and number."""
Values = dict[Line, dict[str, float]]
"""Numbers by name, of each line."""
LOAD, STORE, ATOMIC, STRONG = 0, 1, 2, 3
"""Operations; `STRONG` loads look at what others may write."""
WARP = 32
_STRONG = frozenset({"volatile", "relaxed", "acquire", "mmio"})


@dataclass(slots=True)
class Accesses:
    """Accesses of threads to one state space, in the order of execution."""

    lines: list[tuple[str, int]]
    line: Array
    """Index into `lines`."""
    seq: Array
    """Number of the instruction's execution."""
    thread: Array
    at: Array
    size: Array
    operation: Array

    @property
    def warp(self) -> Array:
        """Number of each thread's warp."""
        found: Array = self.thread // WARP
        return found

    def where(self, mask: Array) -> Accesses:
        """Some of them."""
        return Accesses(
            self.lines, self.line[mask], self.seq[mask], self.thread[mask], self.at[mask], self.size[mask],
            self.operation[mask],
        )  # fmt: skip


def operation_of(access: TracedAccess) -> int:
    """What an access is."""
    instruction = access.instruction
    if instruction.opcode in ("atom", "red", "multimem"):
        return ATOMIC
    if access.write:
        return STORE
    return STRONG if _STRONG & set(instruction.modifiers) else LOAD


def line_of(trace: BlockTrace, instruction: Instruction) -> Line:
    """The line of source that an instruction is from."""
    return trace.module.files.get(instruction.file, ""), instruction.source_line


def accesses_of(trace: BlockTrace, space: str) -> Accesses:
    """All accesses to a state space."""
    own = [(i, a) for i, a in enumerate(trace.accesses) if a.space == space]
    lines: dict[tuple[str, int], int] = {}
    parts: list[tuple[int, int, int]] = []
    for _, access in own:
        key = line_of(trace, access.instruction)
        parts.append((lines.setdefault(key, len(lines)), access.size, operation_of(access)))
    counts = [len(a.threads) for _, a in own]

    def spread(values: list[int]) -> Array:
        return np.repeat(np.array(values, np.int64), counts)

    return Accesses(
        list(lines),
        spread([p[0] for p in parts]),
        spread([i for i, _ in own]),
        np.concatenate([a.threads for _, a in own]) if own else np.zeros(0, np.int64),
        np.concatenate([a.addresses for _, a in own]) if own else np.zeros(0, np.int64),
        spread([p[1] for p in parts]),
        spread([p[2] for p in parts]),
    )


def add(found: Values, accesses: Accesses, name: str, mask: Array | None = None) -> None:
    """Count accesses by line under a name."""
    chosen = accesses.line if mask is None else accesses.line[mask]
    for index, count in enumerate(np.bincount(chosen, minlength=len(accesses.lines)).tolist()):
        if count:
            values = found.setdefault(accesses.lines[index], {})
            values[name] = values.get(name, 0.0) + count


def group_starts(*keys: Array) -> Array:
    """Whether each element of sorted keys differs from the one before."""
    if not len(keys[0]):
        return np.zeros(0, np.bool_)
    starts = np.zeros(len(keys[0]), np.bool_)
    starts[0] = True
    for key in keys:
        starts[1:] |= key[1:] != key[:-1]
    return starts


def add_distinct(accesses: Accesses, name: str, keys: tuple[Array, ...], found: Values) -> None:
    """Count different keys by line."""
    if not len(accesses.at):
        return
    order = np.lexsort(keys[::-1])
    starts = group_starts(*(key[order] for key in keys))
    add(found, accesses.where(order), name, starts)
