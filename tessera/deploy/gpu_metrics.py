"""GPUs' figures for servers: from the profiler's sampler to the metrics page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tessera.program.errors import DeviceError, MissingDependencyError
from tessera.serve.observe.gpu_figures import GpuFigures

if TYPE_CHECKING:
    from tessera.profiler.live.figures import Device, Reading

logger = logging.getLogger("tessera.serve")

INTERVAL_S = 2.0
"""Between two samples: scrapes come every 15 s, and reading takes the driver's lock."""


def open_gpus() -> Callable[[], Sequence[GpuFigures]] | None:
    """Start sampling; what gives the newest figures, or None where NVML has no answer."""
    from tessera.profiler.live.sampler import Sampler

    try:
        sampler = Sampler(INTERVAL_S, history_s=2 * INTERVAL_S).start()
    except (DeviceError, MissingDependencyError) as error:
        logger.info("no figures of GPUs: %s", error.message)
        return None

    def read() -> Sequence[GpuFigures]:
        sample = sampler.latest
        if sample is None:
            return []
        return [_figures(d, r) for d, r in zip(sampler.machine.devices, sample.readings, strict=True)]

    return read


def _figures(device: Device, reading: Reading) -> GpuFigures:
    found = reading.figures

    def scaled(value: int | None, scale: float) -> float | None:
        return None if value is None else value * scale

    return GpuFigures(
        device.uuid or str(device.index),
        scaled(found.utilization_percent, 0.01),
        found.memory_used_bytes,
        found.memory_total_bytes,
        scaled(found.power_mw, 1e-3),
        scaled(found.power_limit_mw, 1e-3),
        scaled(found.energy_mj, 1e-3),
    )
