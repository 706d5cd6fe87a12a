"""Which accesses of a kernel happen before which: barriers, warp barriers, fences with atomics.

Every thread has a clock. An access carries the clock of its thread; what thread `t` knows of thread `u` is
the last clock of `u` whose accesses happened before `t` goes on. A barrier makes its members know what any of
them knew. A fence followed by an atomic or volatile access hands on what the thread knew at the fence to
whoever reads that location by an atomic or volatile access afterwards.

Source: L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", 1978; PTX ISA 8.8,
section 8.9 (causality order).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tessera.emulator.lanes import Array

Place = tuple[str, int]
"""State space and address of a location that threads synchronize through."""


@dataclass(slots=True)
class GridOrder:
    """What blocks handed on to each other in one launch."""

    released: dict[Place, dict[int, Array]] = field(default_factory=dict)
    """By location and block: the clocks of that block's threads which a reader gets to know."""


class BlockOrder:
    """The clocks of one block's threads.

    Args:
        grid: The order between blocks.
        block: Number of the block in its grid.
        threads: Threads of the block.
    """

    def __init__(self, grid: GridOrder, block: int, threads: int) -> None:
        self.grid = grid
        self.block = block
        self.clock = np.ones(threads, np.int32)
        self.known = np.zeros((threads, threads), np.int32)
        """(t, u): last clock of thread u that thread t is behind."""
        np.fill_diagonal(self.known, self.clock)
        self.fenced: dict[int, Array] = {}
        """By thread: what it knew at its last fence."""
        self.seen: dict[int, Array] = {}
        """By other block: last clocks of its threads that this block is behind."""
        self.arrivals: dict[int, Array] = {}
        """By barrier: what the threads that only arrived knew."""

    def synchronize(self, threads: Array, barrier: int | None = None) -> None:
        """The threads with these numbers met at a barrier."""
        everyone = len(threads) == len(self.clock)
        row = self.clock.copy() if everyone else self.known[threads].max(axis=0)
        arrived = self.arrivals.pop(barrier, None) if barrier is not None else None
        if arrived is not None:
            row = np.maximum(row, arrived)
        self.known[threads] = row
        self._advance(threads)

    def arrive(self, threads: Array, barrier: int) -> None:
        """The threads passed a barrier without waiting: those who wait there will be behind them."""
        row = self.known[threads].max(axis=0)
        before = self.arrivals.get(barrier)
        self.arrivals[barrier] = row if before is None else np.maximum(row, before)
        self._advance(threads)

    def fence(self, threads: Array) -> None:
        """The threads executed a memory fence."""
        for thread in threads:
            self.fenced[int(thread)] = self.known[thread].copy()
        self._advance(threads)

    def strong(self, space: str, threads: Array, addresses: Array, *, writes: bool) -> None:
        """The threads accessed locations atomically or as volatile."""
        if not self.fenced and not self.grid.released:
            return
        for thread, address in zip(threads.tolist(), addresses.tolist(), strict=True):
            self._acquire(thread, self.grid.released.get((space, address)))
            if writes and thread in self.fenced:
                self._release(thread, (space, address))

    def publish(self, space: str, threads: Array, addresses: Array) -> None:
        """The threads arrived at barriers in memory: those who wait there will be behind them."""
        for thread, address in zip(threads.tolist(), addresses.tolist(), strict=True):
            at = self.grid.released.setdefault((space, address), {})
            row = self.known[thread]
            at[self.block] = np.maximum(at[self.block], row) if self.block in at else row.copy()
        self._advance(threads)

    def observe(self, space: str, threads: Array, addresses: Array) -> None:
        """The threads looked at barriers in memory."""
        for thread, address in zip(threads.tolist(), addresses.tolist(), strict=True):
            self._acquire(thread, self.grid.released.get((space, address)))

    def before(self, thread: Array, other_block: Array, other_thread: Array, clock: Array) -> Array:
        """Whether each access of another thread happened before what `thread` does now."""
        own = other_block == self.block
        known = np.where(own, self.known[thread, np.where(own, other_thread, 0)], -1)
        for block, row in self.seen.items():
            there = other_block == block
            if there.any():
                known[there] = row[other_thread[there]]
        ordered: Array = known >= clock
        return ordered

    def _advance(self, threads: Array) -> None:
        self.clock[threads] += 1
        self.known[threads, threads] = self.clock[threads]

    def _acquire(self, thread: int, released: dict[int, Array] | None) -> None:
        for block, row in (released or {}).items():
            if block == self.block:
                np.maximum(self.known[thread], row, out=self.known[thread])
            else:
                before = self.seen.get(block)
                self.seen[block] = row.copy() if before is None else np.maximum(before, row)

    def _release(self, thread: int, place: Place) -> None:
        at = self.grid.released.setdefault(place, {})
        for block, row in [(self.block, self.fenced[thread]), *self.seen.items()]:
            at[block] = np.maximum(at[block], row) if block in at else row.copy()
