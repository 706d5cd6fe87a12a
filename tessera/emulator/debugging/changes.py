"""What differs between two stops."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tessera.emulator.debugging.values import ArrayValue
from tessera.emulator.debugging.view import Row
from tessera.emulator.lanes import Array
from tessera.program.errors import InputError

_MOST_BYTES = 1 << 10
"""Of a thread's own array whose elements are compared. Shared memory is compared as a whole."""


class Changes:
    """Remembers the values of a warp's variables at the last two stops."""

    def __init__(self) -> None:
        self._place: Hashable = None
        self._last: dict[str, tuple[Any, ...]] = {}
        self._before: dict[str, tuple[Any, ...]] | None = None
        self._block: Hashable = None
        self._shared: Array = np.zeros(0, np.uint8)
        self.shared: Array = np.zeros(0, np.bool_)
        """Bytes of shared memory that changed."""

    def note(self, place: tuple[Hashable, ...], rows: Sequence[Row], shared: Array) -> None:
        """The program has stopped: these are the values now.

        Args:
            place: Launch, block, warp and function. Values of two places are not compared.
            rows: The warp's variables.
            shared: Bytes of the block's shared memory.
        """
        values = {row.name: tuple(_content(lane.value) for lane in row.lanes) for row in rows}
        self._before = self._last if place == self._place else None
        same_block = place[:2] == self._block and len(shared) == len(self._shared)
        self.shared = shared != self._shared if same_block else np.zeros(len(shared), np.bool_)
        self._place, self._last, self._block, self._shared = place, values, place[:2], shared.copy()

    def mark(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with those lanes marked whose values are not what they were at the stop before."""
        return [self._marked(row) for row in rows]

    def _marked(self, row: Row) -> Row:
        before = (self._before or {}).get(row.name)
        now = self._last.get(row.name)
        if before is None or now is None or not len(before) == len(now) == len(row.lanes):
            return row
        pairs = zip(row.lanes, before, now, strict=True)
        return replace(row, lanes=tuple(replace(lane, changed=b != n) for lane, b, n in pairs))


def _content(value: Any) -> Any:
    """Something that is equal when a value is: of arrays their place, of small local ones the elements."""
    if not isinstance(value, ArrayValue):
        # A NaN is not equal to itself, but it has not changed either.
        return value.tobytes() if isinstance(value, np.floating) else value
    small = value.space == "local" and value.count * value.dtype.itemsize <= _MOST_BYTES
    try:
        content = value.all().tobytes() if small else b""
    except InputError:
        content = b""
    return value.address, value.shape, content
