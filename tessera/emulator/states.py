"""Memory of running blocks, as compiled code finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tessera.emulator import layout as at
from tessera.emulator.translate import Translation


class State:
    """Memory of one running block: registers, waiting lanes, shared and local memory."""

    def __init__(
        self, translation: Translation, context: np.ndarray[Any, Any], threads: tuple[int, int, int]
    ):
        layout = translation.layout
        count = threads[0] * threads[1] * threads[2]
        warps = -(-count // 32)
        self.layout, self.warps = layout, warps
        self.shared_bytes = int(context[at.CONTEXT["shared_bytes"] // 8])
        shared = at.align(self.shared_bytes, 1024)
        local = translation.local_bytes * warps * 32
        size = layout.state_bytes(warps)
        self._memory = np.zeros(size + shared + local + 3072, np.uint8)
        skip = -self._memory.ctypes.data % 256
        self.bytes = self._memory[skip : skip + size]
        self.address = int(self.bytes.ctypes.data)
        shared_at = at.align(self.address + size, 1024)
        local_at = shared_at + shared
        self.header = self.bytes[: at.BARRIERS].view(np.int64)
        self.header[at.BLOCK["shared"] // 8] = shared_at
        for w in range(warps):
            area = self.warp(w)
            area[at.WARP_ID : at.WARP_ID + 4].view(np.int32)[0] = w
            lanes = min(count - 32 * w, 32)
            area[at.FIRST_MASK : at.FIRST_MASK + 4].view(np.uint32)[0] = (1 << lanes) - 1
            area[at.LOCAL_BASE : at.LOCAL_BASE + 8].view(np.int64)[0] = (
                local_at + w * 32 * translation.local_bytes
            )
            thread = np.arange(32) + 32 * w
            for axis, index in (
                ("x", thread % threads[0]),
                ("y", thread // threads[0] % threads[1]),
                ("z", thread // (threads[0] * threads[1])),
            ):
                area[at.TID[axis] : at.TID[axis] + 128].view(np.int32)[:] = index

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self._memory.nbytes)

    def warp(self, index: int) -> np.ndarray[Any, Any]:
        """The area of one warp."""
        start = self.layout.warps_at + index * self.layout.warp_bytes
        return self.bytes[start : start + self.layout.warp_bytes]

    def word(self, name: str) -> int:
        """A number of the header."""
        return int(self.header[at.BLOCK[name] // 8])


class ClusterState:
    """Blocks that run together, and what they have in common.

    Args:
        states: By rank.
    """

    def __init__(self, states: Sequence[State]) -> None:
        self.states = list(states)
        self.running = list(states)
        """Those that have not ended."""
        self._memory = np.zeros(at.CLUSTER_BYTES // 8, np.int64)
        self._memory[at.CLUSTER["count"] // 8] = len(states)
        for rank, state in enumerate(states):
            self._memory[at.CLUSTER_STATES // 8 + rank] = state.address
            self._memory[at.CLUSTER_SHARED // 8 + rank] = state.word("shared")
            state.header[at.BLOCK["cluster"] // 8] = self._memory.ctypes.data

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(state.size for state in self.states)

    @property
    def happened(self) -> int:
        """Counts what others may have waited for, and jumps of loops that do more than look."""
        return sum(state.word("events") + state.word("steps") for state in self.states)
