"""Notes accesses to memory that somebody watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tessera.emulator.debugging.breakpoints import Watchpoint
from tessera.emulator.debugging.expression import Expression
from tessera.emulator.debugging.stop import Access
from tessera.emulator.debugging.timeline import Timeline
from tessera.emulator.instructions import GLOBAL_BASE
from tessera.emulator.lanes import Array

_WINDOW = (1 << 56) - 1


class MemoryWatch:
    """Listens to the accesses of one instruction.

    Args:
        timeline: What executes instructions.
        points: What is watched, by number.
    """

    def __init__(self, timeline: Timeline, points: Mapping[int, Watchpoint]) -> None:
        self.timeline, self.points = timeline, points
        self._hits: list[tuple[Watchpoint, int, bool]] = []
        self._before: dict[int, bytes] = {}
        self._block: Any = None

    def begin(self) -> None:
        """Another instruction is about to be executed."""
        self._hits.clear()
        run = self.timeline.run
        watching = run is not None and any(p.enabled for p in self.points.values())
        self.timeline.listener = self._heard if watching else None
        self._before = {}
        self._block = run
        if watching and run is not None:
            self._before = {
                p.number: self._bytes(p, run) for p in self.points.values() if self._exists(p, run)
            }

    def _exists(self, point: Watchpoint, run: Any) -> bool:
        return point.enabled and point.block in (None, run.geometry.index)

    def _bytes(self, point: Watchpoint, run: Any) -> bytes:
        start, size = point.start & _WINDOW, point.size
        if point.space == "shared":
            raw = run.shared[start : start + size]
        elif point.space == "local":
            raw = run.local[point.thread, start : start + size]
        else:
            raw = run.machine.memory.data[point.start - GLOBAL_BASE :][:size]
        return bytes(raw.tobytes())

    def _heard(self, space: str, threads: Array, places: Array, size: int, write: bool) -> None:
        for number in self._before:
            point = self.points[number]
            if point.space != space or point.kind == ("read" if write else "write"):
                continue
            start = point.start if space == "global" else point.start & _WINDOW
            inside = (places < start + point.size) & (places + size > start)
            if point.thread is not None:
                inside &= threads == point.thread
            self._hits += [(point, int(thread), write) for thread in np.sort(threads[inside])]

    def hit(self, clock: int, holds: Callable[[Expression, int], bool]) -> Access | None:
        """The first access that counts, if the instruction of a moment made one."""
        for point, thread, write in self._hits:
            if point.condition is not None and not holds(point.condition, thread):
                continue
            after = self._bytes(point, self._block)
            return Access(
                point.number, point.expression.text, thread, write,
                _text(point, self._before[point.number]), _text(point, after), clock,
            )  # fmt: skip
        return None


def _text(point: Watchpoint, raw: bytes) -> str:
    """The bytes of one element as a number, those of more as bytes."""
    if point.dtype is not None and len(raw) == point.dtype.itemsize:
        return str(np.frombuffer(raw, point.dtype)[0])
    return raw[:16].hex(" ") + (" …" if len(raw) > 16 else "")
