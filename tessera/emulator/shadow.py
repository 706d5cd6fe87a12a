"""What is known about memory besides its contents: whose it is, what was written, who touched it last."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tessera.emulator.findings import Finding
from tessera.emulator.lanes import Array

WRITE, ATOMIC, READ, READ_TOO = range(4)
"""Slots of `Touches`: the last plain write, the last atomic, the last read and one by another thread."""
CONFLICTS = {
    "read": (WRITE, ATOMIC),
    "write": (WRITE, ATOMIC, READ, READ_TOO),
    "atomic": (WRITE, READ, READ_TOO),
}
"""Earlier accesses that may race with an access."""
SLOT_ACCESS = ("write", "atomic", "read", "read")
_COARSE = 4
"""Bytes that share one record until a smaller access asks for finer ones."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two accesses that may not stand beside each other."""

    thread: int
    """Who accesses now."""
    byte: int
    """Offset in the region."""
    other: int
    """Who did before: block × threads per block + thread."""
    access: str
    """What that was: `read`, `write` or `atomic`."""
    site: int
    """Where in the code that was."""
    count: int
    """Threads that are in conflict now."""


Before = Callable[[Array, Array, Array], Array]
"""Whether the accesses of others (who, clock) happened before what each thread does now."""


class Touches:
    """The last accesses of each piece of a region.

    Args:
        size: Bytes of the region.
    """

    def __init__(self, size: int) -> None:
        self.grain = _COARSE
        """Bytes of a piece: a power of two."""
        pieces = -(-size // _COARSE)
        self.who = np.full((4, pieces), -1, np.int32)
        self.clock = np.zeros((4, pieces), np.int32)
        self.site = np.zeros((4, pieces), np.int32)

    def refine(self, grain: int) -> None:
        """Keep smaller pieces."""
        factor = self.grain // grain
        self.who, self.clock, self.site = (
            np.repeat(a, factor, axis=1) for a in (self.who, self.clock, self.site)
        )
        self.grain = grain

    def touch(
        self, access: str, who: Array, threads: Array, offsets: Array, size: int, clock: Array, site: int,
        before: Before,
    ) -> Conflict | None:  # fmt: skip
        """Record an access by many threads at once.

        Args:
            access: `read`, `write` or `atomic`.
            who: Numbers of the threads in the grid.
            threads: Their numbers in the block.
            offsets: Where each begins to access.
            size: Bytes of each access.
            clock: The threads' clocks.
            site: Where in the code this is.
            before: Which earlier accesses are in order.

        Returns:
            The first conflict, if there is any.
        """
        grain = min(self.grain, size & -size)
        if len(offsets):
            low = int(np.bitwise_or.reduce(offsets))
            grain = min(grain, low & -low) if low else grain
        if grain < self.grain:
            self.refine(grain)
        steps = size // self.grain
        pieces = (offsets[:, None] // self.grain + np.arange(steps)).reshape(-1)
        who, threads, clock = (np.repeat(a, steps) for a in (who, threads, clock))
        found = self._conflict(access, who, threads, pieces, site, before)
        self._record(access, who, clock, pieces, site)
        return found

    def _conflict(
        self, access: str, who: Array, threads: Array, pieces: Array, site: int, before: Before
    ) -> Conflict | None:
        found: Conflict | None = None
        for slot in CONFLICTS[access]:
            other = self.who[slot, pieces]
            racing = (other >= 0) & (other != who)
            if not racing.any():
                continue
            at = np.flatnonzero(racing)
            ordered = before(threads[at], other[at], self.clock[slot, pieces[at]])
            at = at[~ordered]
            if at.size and found is None:
                i = int(at[0])
                place = int(pieces[i])
                found = Conflict(
                    int(threads[i]), place * self.grain, int(other[i]), SLOT_ACCESS[slot],
                    int(self.site[slot, place]), len(np.unique(threads[at])),
                )  # fmt: skip
        if access == "write" and found is None:
            found = self._same_instruction(who, threads, pieces, site)
        return found

    def _same_instruction(self, who: Array, threads: Array, pieces: Array, site: int) -> Conflict | None:
        order = np.argsort(pieces, kind="stable")
        same = (pieces[order][1:] == pieces[order][:-1]) & (who[order][1:] != who[order][:-1])
        if not same.any():
            return None
        i = int(np.flatnonzero(same)[0])
        first, second = int(order[i]), int(order[i + 1])
        return Conflict(
            int(threads[second]), int(pieces[second]) * self.grain, int(who[first]), "write", site,
            int(same.sum()),
        )  # fmt: skip

    def _record(self, access: str, who: Array, clock: Array, pieces: Array, site: int) -> None:
        if access != "read":
            self._put(WRITE if access == "write" else ATOMIC, who, clock, pieces, site)
            return
        previous = self.who[READ, pieces], self.clock[READ, pieces], self.site[READ, pieces]
        self._put(READ, who, clock, pieces, site)
        # Of two readers at once, the first goes where the last did not.
        self._put(READ_TOO, who[::-1], clock[::-1], pieces[::-1], site)
        alone = (self.who[READ_TOO, pieces] == self.who[READ, pieces]) & (previous[0] >= 0)
        alone &= previous[0] != who
        at = pieces[alone]
        for table, values in zip((self.who, self.clock, self.site), previous, strict=True):
            table[READ_TOO, at] = values[alone]

    def _put(self, slot: int, who: Array, clock: Array, pieces: Array, site: int) -> None:
        self.who[slot, pieces] = who
        self.clock[slot, pieces] = clock
        self.site[slot, pieces] = site


@dataclass(slots=True, eq=False)
class Region:
    """An array, a buffer or a shared variable."""

    base: int
    """Its address, or its offset in shared memory."""
    size: int
    """Bytes."""
    name: str | None = None
    itemsize: int | None = None
    """Bytes of an element, where known."""
    shape: tuple[int, ...] | None = None
    freed: bool = False
    written: Array = field(default_factory=lambda: np.zeros(0, np.bool_))
    """By byte: whether anything was ever written there."""
    complete: bool = False
    """Whether all of it was, whatever `written` says."""
    touches: Touches | None = None
    """Who accessed it in this launch; None until somebody does."""

    def __post_init__(self) -> None:
        self.written = np.zeros(self.size, np.bool_)

    def wrote(self, offset: int, size: int) -> None:
        """The host wrote bytes."""
        if offset == 0 and size >= self.size:
            self.complete = True
        elif not self.complete:
            self.written[offset:][:size] = True

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.base + self.size


class Regions:
    """Regions by address; they do not overlap."""

    def __init__(self) -> None:
        self.regions: list[Region] = []
        self.heap: dict[int, Finding] = {}
        """By address: what is to be said of memory that a kernel took, if nobody gives it back."""
        self._bases: Array | None = None

    def add(self, region: Region) -> Region:
        """One more."""
        insort(self.regions, region, key=lambda r: r.base)
        self._bases = None
        return region

    def at(self, base: int) -> Region | None:
        """The region that begins there."""
        index = bisect_right(self.regions, base, key=lambda r: r.base) - 1
        return self.regions[index] if index >= 0 and self.regions[index].base == base else None

    def find(self, addresses: Array, size: int) -> Array:
        """Index of the region that holds each access of `size` bytes; -1 where there is none."""
        if self._bases is None:
            self._bases = np.array([[r.base, r.end] for r in self.regions], np.int64).reshape(-1, 2).T
        starts, ends = self._bases
        if not starts.size:
            return np.full(len(addresses), -1)
        index = np.searchsorted(starts, addresses, side="right") - 1
        inside = (index >= 0) & (addresses + size <= ends[np.maximum(index, 0)])
        return np.where(inside, index, -1)

    def holding(self, address: int) -> Region | None:
        """The region that an address lies in."""
        index = int(self.find(np.array([address]), 1)[0])
        return self.regions[index] if index >= 0 else None

    def nearest(self, address: int, reach: int) -> Region | None:
        """The region that an access outside of all was most likely meant for."""
        gaps = [(max(r.base - address, address - r.end, 0), i) for i, r in enumerate(self.regions)]
        distance, index = min(gaps, default=(reach, -1))
        return self.regions[index] if distance < reach else None

    def forget(self, region: Region) -> None:
        """Remove a region."""
        self.regions.remove(region)
        self._bases = None

    def forget_touches(self) -> None:
        """A launch is over: nothing races with what comes next."""
        for region in self.regions:
            region.touches = None
