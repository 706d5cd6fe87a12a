"""The state of a run as bytes, and back. What has not changed since the last time is kept once.

Python's pickle walks the state; arrays come out of it as buffers of their own, which are shared between
snapshots that hold the same bytes. The code of the program is never copied: the state names its parts.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.emulator.machine import Memory

PAGE = 1 << 14
"""Bytes of device memory that are compared and kept as one."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state at one moment."""

    clock: int
    state: bytes
    buffers: tuple[bytes, ...]
    pages: tuple[bytes, ...]
    """Device memory: each allocation in pages, one after the other."""
    ranges: tuple[tuple[int, int], ...]
    top: int


class Snapshots:
    """Takes and restores snapshots, and keeps as many as fit.

    Args:
        memory: Device memory; its contents are part of each snapshot.
        fixed: Objects that never change: they are named, not copied.
        limit_bytes: Of all that is kept.
        most: Snapshots that are kept.
    """

    def __init__(
        self, memory: Memory, fixed: Iterable[object], *, limit_bytes: int = 256 << 20, most: int = 400
    ) -> None:
        self.memory = memory
        self.fixed = [memory, *fixed]
        self._names = {id(thing): number for number, thing in enumerate(self.fixed)}
        self.limit_bytes, self.most = limit_bytes, most
        self.kept: list[Snapshot] = []
        """By clock."""
        self._pool: dict[bytes, bytes] = {}

    @property
    def bytes_kept(self) -> int:
        """What all snapshots together hold."""
        return sum(map(len, self._pool)) + sum(len(s.state) for s in self.kept)

    def take(self, clock: int, state: object) -> None:
        """Keep the state at a moment, unless it is kept already."""
        at = self._index(clock)
        if at >= 0 and self.kept[at].clock == clock:
            return
        out = io.BytesIO()
        buffers: list[pickle.PickleBuffer] = []
        _Writer(out, buffers, self._names).dump(state)
        memory = self.memory
        pages = [
            self._shared(memory.data[place : min(place + PAGE, end)].tobytes())
            for start, end in memory.ranges
            for place in range(start, end, PAGE)
        ]
        shared = tuple(self._shared(b.raw().tobytes()) for b in buffers)
        snapshot = Snapshot(clock, out.getvalue(), shared, tuple(pages), tuple(memory.ranges), memory.top)
        self.kept.insert(at + 1, snapshot)
        if len(self.kept) > self.most or self.bytes_kept > self.limit_bytes:
            self._thin()

    def before(self, clock: int) -> Snapshot:
        """The last snapshot at or before a moment."""
        return self.kept[max(self._index(clock), 0)]

    def restore(self, snapshot: Snapshot) -> Any:
        """The state as it was, with device memory as it was."""
        memory, pages = self.memory, iter(snapshot.pages)
        memory.ranges, memory.top = list(snapshot.ranges), snapshot.top
        for start, end in snapshot.ranges:
            for place in range(start, end, PAGE):
                stop = min(place + PAGE, end)
                memory.data[place:stop] = np.frombuffer(next(pages), np.uint8)
        writable = [bytearray(b) for b in snapshot.buffers]
        return _Reader(io.BytesIO(snapshot.state), writable, self.fixed).load()

    def _index(self, clock: int) -> int:
        low, high = 0, len(self.kept)
        while low < high:
            middle = (low + high) // 2
            if self.kept[middle].clock <= clock:
                low = middle + 1
            else:
                high = middle
        return low - 1

    def _shared(self, raw: bytes) -> bytes:
        return self._pool.setdefault(raw, raw)

    def _thin(self) -> None:
        """Give up every second snapshot of the older half, but never the first: replay takes longer there."""
        half = max(len(self.kept) // 2, 2)
        self.kept = [*self.kept[:1], *self.kept[2:half:2], *self.kept[half:]]
        self._pool = {b: b for s in self.kept for b in (*s.buffers, *s.pages)}


class _Writer(pickle.Pickler):
    def __init__(self, out: io.BytesIO, buffers: list[pickle.PickleBuffer], names: dict[int, int]) -> None:
        super().__init__(out, protocol=5, buffer_callback=buffers.append)
        self.names = names

    def persistent_id(self, obj: Any) -> int | None:
        """The number of a part of the program."""
        return self.names.get(id(obj))


class _Reader(pickle.Unpickler):
    def __init__(self, source: io.BytesIO, buffers: list[bytearray], fixed: list[object]) -> None:
        super().__init__(source, buffers=buffers)
        self.fixed = fixed

    def persistent_load(self, pid: Any) -> object:
        """The part of the program with that number."""
        return self.fixed[pid]
