"""The state of a running block of a kernel compiled with checks: shadow of shared and local memory, notes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.emulator import layout as at
from tessera.emulator.checks_ir import FENCED
from tessera.emulator.shadow_ir import GAP, GRID_RACE, KINDS, OFTEN
from tessera.emulator.states import State
from tessera.emulator.translate import Translation

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Note:
    """An access, or a meeting of lanes, that may be wrong."""

    block: int
    kind: int
    """One of the kinds of `shadow_ir`."""
    site: int
    """Place in the code."""
    other: int | None
    """Serial number of the other block, where there is one."""


class Notes:
    """What one worker notes during a launch.

    Args:
        translation: The kernel.
    """

    def __init__(self, translation: Translation) -> None:
        cells = (translation.layout.sites + translation.layout.blocks + 1) * KINDS
        self._told = np.zeros(cells, np.uint32)
        self._log = np.zeros((cells * OFTEN + 1, 4), np.int64)
        self._log[0, 1] = self._told.ctypes.data

    @property
    def address(self) -> int:
        """Where compiled code writes them."""
        return int(self._log.ctypes.data)

    def all(self) -> list[Note]:
        """Every note."""
        found = []
        for block, what, _, other in self._log[1 : 1 + int(self._log[0, 0])].tolist():
            kind = what & 0xFF
            found.append(Note(block, kind, what >> 8, other if kind == GRID_RACE else None))
        return found


class CheckedState(State):
    """The state of one block, with what its checks need.

    Args:
        translation: The kernel, with checks.
        context: The launch.
        threads: Of a block, by axis.
        notes: The worker's.
    """

    def __init__(
        self, translation: Translation, context: Array, threads: tuple[int, int, int], notes: Notes
    ) -> None:
        super().__init__(translation, context, threads)
        self._notes = notes
        self._set("notes", notes.address)
        self._shade_shared(translation, context)
        self._shade_local(translation)

    def _set(self, name: str, value: int) -> None:
        self.bytes[at.WATCHED : at.SITES].view(np.int64)[(at.WATCH[name] - at.WATCHED) // 8] = value

    def _shade_shared(self, translation: Translation, context: Array) -> None:
        checks = translation.checks
        assert checks is not None  # noqa: S101 - such kernels alone come here
        piece = 4 >> checks.shared_shift
        count = at.align(self.shared_bytes, 64) // piece
        # Before and behind lies room for lanes that do not take part in an access.
        self._tables = [np.zeros(count + 512, np.uint32) for _ in range(4)]
        written = self._tables[0]
        written[:] = GAP
        dynamic = int(context[at.CONTEXT["dynamic_bytes"] // 8])
        for start, size in (*checks.shared_extents, (self.shared_bytes - dynamic, dynamic)):
            written[-(-start // piece) : (start + size) // piece] = 0
        for name, table in zip(("written", "read", "updated", "pending"), self._tables, strict=True):
            self._set(name, int(table.ctypes.data))
        self._set("words", count)

    def _shade_local(self, translation: Translation) -> None:
        checks = translation.checks
        size = translation.local_bytes
        if not size or checks is None:
            return
        fresh = np.full(size, FENCED, np.uint8)
        for start, length in checks.local_extents:
            fresh[start : start + length] = 0
        self._fresh = fresh
        self._marks = np.zeros(size * 32 * self.warps + 64, np.uint8)
        base = int(self.warp(0)[at.LOCAL_BASE : at.LOCAL_BASE + 8].view(np.int64)[0])
        self._set("local_marks", int(self._marks.ctypes.data) - base)
        self._set("local_fresh", int(fresh.ctypes.data))

    @property
    def size(self) -> int:
        """Bytes."""
        return super().size + sum(t.nbytes for t in self._tables)
