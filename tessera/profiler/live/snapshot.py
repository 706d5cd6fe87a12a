"""A sample as plain data, for `--json` and bug reports."""

from __future__ import annotations

from typing import Any

from tessera.profiler.live.figures import Device, Reading, Sample
from tessera.profiler.live.player import Feed
from tessera.profiler.live.rates import per_second
from tessera.profiler.live.throttling import reasons

AVERAGE_S = 10.0
"""Time that rates are averaged over: counters are read every 1 to 5 s."""

RATES = {
    "average_power_w": ("energy_mj", 1e-3),
    "nvlink_tx_bytes_per_s": ("nvlink_tx_kib", 1024.0),
    "nvlink_rx_bytes_per_s": ("nvlink_rx_kib", 1024.0),
}
"""Rate → counter it comes from, and the factor to its unit."""


def snapshot(feed: Feed) -> dict[str, Any]:
    """The newest sample. What is unknown is None, and `missing` says why."""
    machine, history = feed.machine, feed.history(AVERAGE_S + 1)
    sample = history[-1] if history else None
    cuda = machine.cuda_version
    return {
        "driver": machine.driver,
        "cuda": None if cuda is None else f"{cuda[0]}.{cuda[1]}",
        "time_s": None if sample is None else sample.time_ns / 1e9,
        "gpus": [
            _gpu(device, reading, _rates(history, place))
            for place, (device, reading) in enumerate(
                zip(machine.devices, sample.readings if sample else (), strict=False)
            )
        ],
    }


def _rates(history: tuple[Sample, ...], gpu: int) -> dict[str, float | None]:
    found = {}
    for name, (field, factor) in RATES.items():
        rate = per_second(history, gpu, field, over_s=AVERAGE_S)
        found[name] = None if rate is None else rate * factor
    return found


def _gpu(device: Device, reading: Reading, rates: dict[str, float | None]) -> dict[str, Any]:
    bits = reading.figures.throttle_reasons
    return {
        "index": device.index,
        "name": device.name,
        "uuid": device.uuid,
        "bus_id": device.bus_id,
        "compute_capability": None if device.capability is None else list(device.capability),
        "mig": device.mig,
        "fault": reading.fault,
        **reading.figures._asdict(),
        **rates,
        "throttling": None if bits is None else [reason.word for reason in reasons(bits)],
        "processes": None if reading.processes is None else [p._asdict() for p in reading.processes],
        "instances": [instance._asdict() for instance in reading.instances],
        "missing": dict(reading.missing),
    }
