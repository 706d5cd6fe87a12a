"""A recording of GPUs as curves for a report, thinned so that no peak is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tessera.profiler.live.figures import Device, Reading, Sample
from tessera.profiler.live.rates import rate_between
from tessera.profiler.live.recording import Recording
from tessera.profiler.live.throttling import reasons
from tessera.profiler.report_runs import RecordedRun, RecordedSeries

KEPT = 300
"""Intervals of a curve; of each its least and its greatest sample are drawn."""
RATE_S = 10.0
"""Time that rates of counters are averaged over: counters are read every 1 to 5 s."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One curve of each GPU."""

    title: str
    unit: str
    read: Callable[[Reading], float | None]


def _scaled(name: str, scale: float = 1.0) -> Callable[[Reading], float | None]:
    def read(reading: Reading) -> float | None:
        value = getattr(reading.figures, name)
        return None if value is None else value * scale

    return read


FIGURES: tuple[Figure, ...] = (
    Figure("utilization", "%", _scaled("utilization_percent")),
    Figure("memory used", "GiB", _scaled("memory_used_bytes", 2**-30)),
    Figure("power", "W", _scaled("power_mw", 1e-3)),
    Figure("temperature", "°C", _scaled("temperature_c")),
    Figure("SM clock", "MHz", _scaled("sm_clock_mhz")),
    Figure("memory clock", "MHz", _scaled("memory_clock_mhz")),
    Figure("PCIe sent", "GB/s", _scaled("pcie_tx_bytes_per_s", 1e-9)),
    Figure("PCIe received", "GB/s", _scaled("pcie_rx_bytes_per_s", 1e-9)),
)
RATES: tuple[tuple[str, str, str, float], ...] = (
    ("NVLink sent", "GB/s", "nvlink_tx_kib", 1024e-9),
    ("NVLink received", "GB/s", "nvlink_rx_kib", 1024e-9),
)
"""Curves of counters: title, unit, counter, factor."""


@dataclass(slots=True)
class _Curve:
    """Gathers one figure, sample by sample: all that is kept is drawn."""

    width_ns: int
    times: list[float] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)
    least: float | None = None
    most: float | None = None
    total: float = 0.0
    known: int = 0
    _interval: int = -1
    _low: tuple[int, float] | None = None
    _high: tuple[int, float] | None = None
    _gap: int | None = None

    def add(self, time_ns: int, value: float | None) -> None:
        interval = time_ns // self.width_ns
        if interval != self._interval:
            self.flush()
            self._interval = interval
        if value is None:
            self._gap = time_ns if self._gap is None else self._gap
            return
        self.known, self.total = self.known + 1, self.total + value
        self.least = value if self.least is None else min(self.least, value)
        self.most = value if self.most is None else max(self.most, value)
        if self._low is None or value < self._low[1]:
            self._low = (time_ns, value)
        if self._high is None or value > self._high[1]:
            self._high = (time_ns, value)

    def flush(self) -> None:
        """End an interval: keep its least and greatest sample in their order, and that some was unknown."""
        kept: dict[int, float | None] = {} if self._gap is None else {self._gap: None}
        kept |= dict(each for each in (self._low, self._high) if each is not None)
        for time_ns in sorted(kept):
            value = kept[time_ns]
            self.times.append(round(time_ns / 1e9, 3))
            self.values.append(None if value is None else float(f"{value:.5g}"))
        self._low = self._high = self._gap = None


def recorded_run(recording: Recording | str | Path) -> RecordedRun:
    """The curves of a recording, each of at most `KEPT` intervals.

    Args:
        recording: Open, or a file; `demo` is the one that comes with Tessera.

    Raises:
        RecordingError: It is no recording, or damaged in its middle.
    """
    opened = recording if isinstance(recording, Recording) else Recording(recording)
    devices = opened.machine.devices
    width_ns = max(int(opened.duration_s * 1e9) // KEPT + 1, 1)
    titles = [f.title for f in FIGURES] + [title for title, *_ in RATES]
    curves = [{title: _Curve(width_ns) for title in titles} for _ in devices]
    held = [Counter[str]() for _ in devices]
    _read(opened.samples(), curves, held)
    names = [_name(device, devices) for device in devices]
    series = [
        RecordedSeries(
            gpu=name,
            figure=title,
            unit=unit,
            times_s=tuple(curve.times),
            values=tuple(curve.values),
            least=curve.least,
            mean=curve.total / curve.known,
            most=curve.most,
        )
        for title, unit in _units()
        for name, own in zip(names, curves, strict=True)
        if (curve := own[title]).known
    ]
    return RecordedRun(
        label=opened.label,
        driver=opened.machine.driver,
        gpus=tuple(names),
        duration_s=opened.duration_s,
        samples=len(opened),
        interval_s=opened.interval_s,
        series=tuple(series),
        marks=tuple((mark.time_ns / 1e9, mark.text) for mark in opened.marks),
        throttling=tuple(
            (name, word, count / len(opened))
            for name, counts in zip(names, held, strict=True)
            for word, count in counts.most_common()
        ),
        notes=tuple(_notes(opened, width_ns, titles, series)),
    )


def _units() -> Iterable[tuple[str, str]]:
    yield from ((f.title, f.unit) for f in FIGURES)
    yield from ((title, unit) for title, unit, *_ in RATES)


def _read(samples: Iterable[Sample], curves: list[dict[str, _Curve]], held: list[Counter[str]]) -> None:
    """Go through a recording once, whatever its length, and hold no more than the curves."""
    before: Sample | None = None
    for sample in samples:
        for gpu, reading in enumerate(sample.readings):
            own = curves[gpu]
            for figure in FIGURES:
                own[figure.title].add(sample.time_ns, figure.read(reading))
            bits = reading.figures.throttle_reasons
            if bits:
                held[gpu].update(reason.word for reason in reasons(bits))
        if before is None:
            before = sample
        elif sample.time_ns - before.time_ns >= RATE_S * 1e9:
            for gpu, own in enumerate(curves):
                for title, _, counter, factor in RATES:
                    rate = rate_between(before, sample, gpu, counter)
                    own[title].add(sample.time_ns, None if rate is None else rate * factor)
            before = sample
    for own in curves:
        for curve in own.values():
            curve.flush()


def _name(device: Device, devices: Sequence[Device]) -> str:
    return device.name if len(devices) == 1 else f"{device.index} {device.name}"


def _notes(
    recording: Recording, width_ns: int, titles: Sequence[str], series: Sequence[RecordedSeries]
) -> Iterable[str]:
    if recording.duration_s > KEPT * recording.interval_s:
        yield (
            f"Curves hold the least and the greatest sample of every {width_ns / 1e9:.3g} s, so that no peak "
            f"is lost; least, mean and greatest in the table are of all {len(recording):,} samples."
        )
    shown = {one.figure for one in series}
    silent = [title for title in titles if title not in shown]
    if silent:
        yield f"N/A, as the GPUs did not report it: {', '.join(silent)}."
    if recording.damage:
        yield f"The recording is damaged: {recording.damage}."
    elif not recording.complete:
        yield "The recorder was stopped before it could say that it was done."
