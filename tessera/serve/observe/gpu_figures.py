"""GPUs' figures on the metrics page. Who can read a GPU is above this room, and hands the way here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tessera.serve.observe.figures import Family, Snapshot

logger = logging.getLogger("tessera.serve")


class GpuFigures(NamedTuple):
    """One GPU now. None is unknown, and is left out."""

    uuid: str
    utilization: float | None = None
    """Share of the time in which some kernel ran, 0 to 1."""
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None
    """Since the driver was loaded."""


Reader = Callable[[], Sequence[GpuFigures]]
"""The newest figures of every GPU; cheap, as every scrape asks."""

_FAMILIES = (
    ("utilization", "nv_gpu_utilization", "gauge", "Share of the time in which some kernel ran, 0 to 1."),
    ("memory_used_bytes", "nv_gpu_memory_used_bytes", "gauge", "GPU memory in use."),
    ("memory_total_bytes", "nv_gpu_memory_total_bytes", "gauge", "GPU memory."),
    ("power_w", "nv_gpu_power_usage", "gauge", "Watts drawn now."),
    ("power_limit_w", "nv_gpu_power_limit", "gauge", "Watts that may be drawn."),
    ("energy_j", "nv_energy_consumption", "counter", "Joules drawn since the driver was loaded."),
)

_opener: Callable[[], Reader | None] | None = None


def set_gpu_opener(opener: Callable[[], Reader | None]) -> None:
    """Say how GPUs are read: `opener` starts reading, or gives None where there is no GPU."""
    global _opener
    _opener = opener


class GpuSource:
    """Reads GPUs from the first scrape on; a server that nobody scrapes leaves them alone."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._opened = False

    def families(self) -> Snapshot:
        """The metrics of every GPU; empty where there is none."""
        if not self._opened:
            self._opened = True
            self._reader = _opener() if _opener is not None else None
        if self._reader is None:
            return []
        gpus = self._reader()
        made: Snapshot = []
        for field, name, kind, text in _FAMILIES:
            values: dict[tuple[str, ...], float] = {
                (g.uuid,): float(v) for g in gpus if (v := getattr(g, field)) is not None
            }
            if not values:
                continue
            # Every process of the server sees the same GPUs.
            is_counter = kind == "counter"
            family = Family(
                name,
                "counter" if is_counter else "gauge",
                text,
                ("gpu_uuid",),
                values,
                merge="max",
                is_plain=is_counter,
            )
            made.append(family)
        return made
