"""What the charts show: one value for each column of dots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tessera.profiler.live.figures import Device, Figures, Sample
from tessera.program.bytesize import format_bytes

Values = list[float | None]

_HOLD = 3
"""A value stands for as many intervals of silence; then the chart shows a gap."""


Full = float | Literal["power_limit_mw", "memory_total_bytes", "max_sm_clock_mhz"] | None
"""Upper edge of a chart: a number, a figure of the GPU, or None: a round number above what was seen."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart."""

    title: str
    color: str
    field: str
    """In `Figures`."""
    full: Full
    show: Callable[[float], str]
    """A value as text."""
    factor: float = 1.0
    """A figure times this is what `show` takes."""

    def value(self, figures: Figures) -> float | None:
        """What the chart shows of one reading."""
        figure: int | None = getattr(figures, self.field)
        return None if figure is None else figure * self.factor

    def top(self, device: Device, figures: Figures, most: float) -> float:
        """Value at the upper edge, `most` being the most that is shown."""
        if isinstance(self.full, (int, float)):
            return self.full
        if self.full is None:
            unit = next((u for u in (1 << 40, 1 << 30) if most >= u), 1 << 20)
            return _round_above(most / unit) * unit
        source = figures if self.full in Figures._fields else device
        limit: int | None = getattr(source, self.full)
        return _round_above(most) if limit is None else limit * self.factor


def _round_above(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, 1 at least: an axis that seldom changes."""
    if value <= 1:
        return 1.0
    power = 10.0 ** (len(str(int(value))) - 1)
    return next((step * power for step in (1, 2, 5) if step * power >= value), 10 * power)


CHARTS: tuple[Chart, ...] = (
    Chart("utilization", "green", "utilization_percent", 100.0, "{:.0f} %".format),
    Chart("power", "yellow", "power_mw", "power_limit_mw", "{:.0f} W".format, factor=1e-3),
    Chart("memory", "cyan", "memory_used_bytes", "memory_total_bytes", format_bytes),
    Chart("SM clock", "magenta", "sm_clock_mhz", "max_sm_clock_mhz", "{:.0f} MHz".format),
    Chart("temperature", "red", "temperature_c", 100.0, "{:.0f} °C".format),
    Chart("PCIe received", "blue", "pcie_rx_bytes_per_s", None, lambda v: f"{format_bytes(v)}/s"),
)
"""Charts, the most telling first; a small screen shows the first ones."""


def chart_values(
    chart: Chart, samples: Sequence[Sample], gpu: int, columns: int, seconds: float, end_ns: int
) -> Values:
    """The mean of the samples that fall into each of `columns` equal parts of the last `seconds`."""
    width_ns = seconds * 1e9 / columns
    begin_ns = end_ns - seconds * 1e9
    sums, counts = [0.0] * columns, [0] * columns
    for sample in samples:
        column = int((sample.time_ns - begin_ns) / width_ns)
        value = chart.value(sample.readings[gpu].figures)
        if value is not None and 0 <= column <= columns:
            column = min(column, columns - 1)
            sums[column] += value
            counts[column] += 1
    values: Values = [s / c if c else None for s, c in zip(sums, counts, strict=True)]
    return _held(values, samples, width_ns)


def _held(values: Values, samples: Sequence[Sample], width_ns: float) -> Values:
    """Columns without a sample show the one before, unless the silence is longer than sampling explains."""
    if len(samples) < 2:
        return values
    interval = (samples[-1].time_ns - samples[0].time_ns) / (len(samples) - 1)
    longest = int(_HOLD * interval / width_ns) + 1
    held, age = list(values), longest
    for place, value in enumerate(values):
        age = 0 if value is not None else age + 1
        if value is None and age <= longest and place:
            held[place] = held[place - 1]
    return held
