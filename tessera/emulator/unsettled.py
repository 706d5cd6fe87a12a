"""Memory whose contents are not settled: local variables nobody wrote yet, and copies still under way."""

from __future__ import annotations

import numpy as np

from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Immediate, Instruction


class LocalBytes:
    """Which bytes of its local memory each thread has written.

    Args:
        threads: Threads of the block.
    """

    def __init__(self, threads: int) -> None:
        self._written = np.zeros((threads, 256), np.bool_)

    def reserve(self, start: int, size: int, *, written: bool) -> None:
        """A function begins, and has a variable or (`written`) a parameter there."""
        missing = start + size - self._written.shape[1]
        if missing > 0:
            more = np.zeros((len(self._written), max(missing, self._written.shape[1])), np.bool_)
            self._written = np.concatenate([self._written, more], axis=1)
        self._written[:, start : start + size] = written

    def unwritten(self, threads: Array, offsets: Array, size: int, element: int) -> Array:
        """Whether each access reads an element of which no byte was written.

        Copies of structures take the holes between their fields along: those alone are no error.
        """
        index = offsets[:, None] + np.arange(size)
        known = self._written[threads[:, None], index].reshape(len(threads), -1, min(element, size))
        holes = np.asarray(np.count_nonzero(known, axis=2) == 0)
        return np.asarray(holes.any(axis=1))

    def write(self, threads: Array, offsets: Array, size: int) -> None:
        """Threads write."""
        self._written[threads[:, None], offsets[:, None] + np.arange(size)] = True


class Copies:
    """Asynchronous copies to shared memory that nobody has waited for (`cp.async`).

    A thread's copies belong to groups; it waits for its groups in their order.

    Args:
        threads: Threads of the block.

    Source: PTX ISA 8.8, section 9.7.9.25.3 (`cp.async`, `commit_group`, `wait_group`).
    """

    def __init__(self, threads: int) -> None:
        self._owner = np.full(0, -1, np.int32)
        """By byte of shared memory: the thread whose copy wrote it; -1: none."""
        self._group = np.zeros(0, np.int32)
        self._begun = np.zeros(threads, np.int32)
        """By thread: groups that it closed."""
        self._done = np.zeros(threads, np.int32)
        """By thread: groups that it waited for."""

    def execute(self, instruction: Instruction, threads: Array) -> None:
        """Threads close a group, or wait."""
        modifiers = instruction.modifiers
        if "bulk" in modifiers:
            return
        if "commit_group" in modifiers:
            self._begun[threads] += 1
        elif "wait_group" in modifiers:
            (left,) = instruction.operands
            count = int(left.value) if isinstance(left, Immediate) else 0
            self._done[threads] = np.maximum(self._done[threads], self._begun[threads] - count)
        elif "wait_all" in modifiers or "mbarrier" in modifiers:
            # A barrier in memory that copies report to is waited for by others; that is looked at there.
            self._begun[threads] += 1
            self._done[threads] = self._begun[threads]

    def write(self, threads: Array, places: Array, size: int, *, copies: bool) -> None:
        """Threads write shared memory, by copies or themselves."""
        if not copies and not len(self._owner):
            return
        end = int(places.max(initial=-1)) + size
        if end > len(self._owner):
            self._grow(end)
        index = places[:, None] + np.arange(size)
        if copies:
            self._owner[index] = threads[:, None]
            self._group[index] = self._begun[threads][:, None]
        else:
            self._owner[index] = -1

    def _grow(self, size: int) -> None:
        more = max(size, 2 * len(self._owner)) - len(self._owner)
        self._owner = np.concatenate([self._owner, np.full(more, -1, np.int32)])
        self._group = np.concatenate([self._group, np.zeros(more, np.int32)])

    def unsettled(self, places: Array, size: int) -> Array:
        """Whether each access reads what a copy may still be writing."""
        if not len(self._owner):
            return np.zeros(len(places), np.bool_)
        index = np.minimum(places[:, None] + np.arange(size), len(self._owner) - 1)
        owner = self._owner[index]
        pending = (owner >= 0) & (self._group[index] >= self._done[np.maximum(owner, 0)])
        found: Array = pending.any(axis=1) & (places + size <= len(self._owner))
        return found
