"""Copies of device memory from before a launch, to run parts of it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np

from tessera.emulator.shadow import Region

Array = np.ndarray[Any, Any]
_CHUNK = 4 << 20
"""Bytes that one thread copies at a time."""


class Snapshot:
    """What some regions hold, and which of their bytes were written.

    Args:
        regions: The regions.
        view: Gives the bytes of a range of addresses.
        spare: Buffers of an earlier snapshot, by address and size: fresh pages cost more than the copy.
        pool: Copies in parallel.
    """

    def __init__(
        self, regions: Iterable[Region], view: Callable[[int, int], Array], spare: dict[Any, Array],
        pool: Executor,
    ) -> None:  # fmt: skip
        self._view = view
        self._pool = pool
        self.regions = list(regions)
        self._bytes: list[Array] = []
        self._written: list[Array | None] = []
        for region in self.regions:
            key = (region.base, region.size)
            if key not in spare:
                spare[key] = np.empty(region.size, np.uint8)
            self._bytes.append(spare[key])
            self._written.append(None if region.complete else region.written.copy())
        self._copy(into=True)

    def restore(self) -> None:
        """Put everything back."""
        self._copy(into=False)
        for region, written in zip(self.regions, self._written, strict=True):
            if written is not None:
                region.written[:] = written

    def _copy(self, *, into: bool) -> None:
        jobs: list[tuple[Array, Array]] = []
        for region, kept in zip(self.regions, self._bytes, strict=True):
            memory = self._view(region.base, region.size)
            source, target = (memory, kept) if into else (kept, memory)
            starts = range(0, region.size, _CHUNK)
            jobs += [(target[at : at + _CHUNK], source[at : at + _CHUNK]) for at in starts]
        if len(jobs) == 1:
            np.copyto(*jobs[0])
            return
        list(self._pool.map(lambda job: np.copyto(*job), jobs))
