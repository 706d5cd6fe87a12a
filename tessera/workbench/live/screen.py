"""The screen of `tessera top`, as lines of styled text of a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from tessera.profiler.live.figures import Device, Mark, Reading, Sample
from tessera.profiler.live.player import Feed, Player
from tessera.profiler.live.throttling import describe
from tessera.workbench.failure import visible
from tessera.workbench.live.braille import area_chart, bar
from tessera.workbench.live.details import detail_lines, process_lines
from tessera.workbench.live.series import CHARTS, Chart, chart_values

WIDE = 120
"""Columns from which there is room for longer bars and a third chart in a row."""
SMALLEST_CHART = 3
"""Rows of dots below which a chart tells nothing."""


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at."""

    heading: str
    """`live`, or the recording and where it stands."""
    selected: int = 0
    """GPU whose charts, details and processes are shown."""
    window_s: float = 60.0
    """Time that the charts show."""


WINDOWS_S = (10.0, 30.0, 60.0, 300.0, 600.0)
"""Times that charts may show."""


def fitting_window(feed: Feed) -> float:
    """The shortest window that shows a whole recording; a minute of what is live."""
    if not isinstance(feed, Player):
        return 60.0
    return next((w for w in WINDOWS_S if w >= feed.recording.duration_s), WINDOWS_S[-1])


def draw(feed: Feed, view: View, width: int, height: int) -> list[Text]:
    """The screen: `height` lines at most, `width` columns at most.

    From the top: heading, a line for each GPU, details of the selected one, its charts, its processes.
    """
    samples = feed.history(view.window_s)
    lines = [_heading(feed, view, width)]
    devices = feed.machine.devices
    if not devices:
        return [*lines, Text("the driver sees no GPU", style="yellow")]
    if not samples:
        return [*lines, Text("no sample yet", style="dim")]
    selected = min(view.selected, len(devices) - 1)
    lines += _table(devices, samples[-1], selected, width, most=max(3, height - 12))
    lines += detail_lines(devices[selected], samples, selected, width)[: max(height - len(lines) - 1, 1)]
    left = height - len(lines)
    known = samples[-1].readings[selected].processes
    processes = process_lines(samples[-1].readings[selected], width)
    wanted = min(len(processes), 3 + 2 * (height > 30), max(left // 4, 2)) if known != () else 1
    charts = _charts(feed, samples, view, selected, width, left - wanted)
    lines += charts
    lines += processes[: max(height - len(lines), 0)]
    return [_cut(line, width) for line in lines[:height]]


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _heading(feed: Feed, view: View, width: int) -> Text:
    """The program and the machine to the left; to the right, never cut, where the figures come from."""
    machine = feed.machine
    cuda = ".".join(map(str, machine.cuda_version)) if machine.cuda_version else "N/A"
    driver = machine.driver or "N/A"
    right = visible(view.heading)
    left = next(
        (
            text
            for text in (f"tessera top · driver {driver} · CUDA {cuda}", f"driver {driver} · CUDA {cuda}")
            if len(text) + 2 + len(right) <= width
        ),
        "tessera top",
    )
    gap = max(width - len(left) - len(right), 2)
    return Text(left, style="bold") + Text(" " * gap) + Text(right, style="bold cyan")


def _table(devices: Sequence[Device], sample: Sample, selected: int, width: int, most: int) -> list[Text]:
    """A line for each GPU; as many around the selected one as fit."""
    name_width = min(max(max(len(d.name) for d in devices), 4), 30 if width >= WIDE else 17)
    bar_width = 24 if width >= WIDE else 8
    hidden = max(len(devices) - most, 0)
    first = min(max(selected - most // 2, 0), hidden)
    titles = (
        f"   # {'name'.ljust(name_width)} {'utilization'.ljust(bar_width + 6)} "
        f"{'memory'.rjust(13)} {'power'.rjust(9)} {'temp'.rjust(6)} {'MHz'.rjust(5)} "
        f"{f'{hidden} more' if hidden else 'throttling'}"
    )
    lines = [Text(titles, style="dim")]
    for index in range(first, min(first + most, len(devices))):
        reading = sample.readings[index]
        lines.append(_row(devices[index], reading, index == selected, name_width, bar_width))
    return lines


def _row(device: Device, reading: Reading, selected: bool, name_width: int, bar_width: int) -> Text:
    line = Text(" ▸" if selected else "  ", style="bold cyan")
    name = visible(device.name)[:name_width].ljust(name_width)
    line.append(f"{device.index:>2} {name} ", style="bold" if selected else "")
    if reading.fault is not None:
        return line.append(reading.fault, style="bold red")
    figures = reading.figures
    share = figures.utilization_percent
    line.append(bar(None if share is None else share / 100, bar_width), style="green")
    percent = f"{share:>3} % " if share is not None else "MIG   " if device.mig else "N/A   "
    line.append(f" {percent}")
    line.append(_of(_gib(figures.memory_used_bytes), _gib(figures.memory_total_bytes), "G").rjust(13))
    line.append(_of(_watts(figures.power_mw), _watts(figures.power_limit_mw), "W").rjust(10))
    hot = figures.temperature_c
    line.append((f"{hot} °C" if hot is not None else "N/A").rjust(7))
    clock = figures.sm_clock_mhz
    line.append((f"{clock}" if clock is not None else "N/A").rjust(6))
    words = describe(figures.throttle_reasons)
    line.append(f" {words}", style="dim" if words in ("none", "idle", "N/A") else "bold yellow")
    return line


def _gib(count: int | None) -> str | None:
    if count is None:
        return None
    return f"{count / 2**30:.1f}" if count < 100 * 2**30 else f"{count / 2**30:.0f}"


def _watts(power_mw: int | None) -> str | None:
    return None if power_mw is None else f"{power_mw / 1000:.0f}"


def _of(part: str | None, whole: str | None, unit: str) -> str:
    if part is None:
        return "N/A"
    return f"{part}/{whole} {unit}" if whole is not None else f"{part} {unit}"


def _charts(
    feed: Feed, samples: tuple[Sample, ...], view: View, gpu: int, width: int, height: int
) -> list[Text]:
    """As many charts as fit, with a line for the time and one for marks."""
    across = 3 if width >= WIDE else 2
    marks = [m for m in feed.marks if m.time_ns >= samples[-1].time_ns - view.window_s * 1e9]
    room = height - 1 - bool(marks)
    down = min(-(-len(CHARTS) // across), room // (1 + SMALLEST_CHART))
    if down < 1 or samples[-1].readings[gpu].fault is not None:
        return []
    each = min(room // down - 1, 12)
    cells = (width - (across - 1) * 2) // across
    lines: list[Text] = []
    for row in range(down):
        blocks = [
            _chart(chart, feed.machine.devices[gpu], samples, gpu, view, cells, each)
            for chart in CHARTS[row * across : (row + 1) * across]
        ]
        lines += [Text("  ").join(parts) for parts in zip(*blocks, strict=True)]
    axis = _axis(view.window_s, cells)
    lines.append(Text("  ".join([axis] * across), style="dim"))
    if marks:
        lines.append(_mark_line(marks, samples[-1].time_ns, view.window_s, cells))
    return lines


def _chart(
    chart: Chart, device: Device, samples: tuple[Sample, ...], gpu: int, view: View, cells: int, height: int
) -> list[Text]:
    figures = samples[-1].readings[gpu].figures
    values = chart_values(chart, samples, gpu, cells * 2, view.window_s, samples[-1].time_ns)
    known = [v for v in values if v is not None]
    top = chart.top(device, figures, max(known, default=0.0))
    value = chart.value(figures)
    now = "N/A" if value is None else chart.show(value)
    scale = chart.show(top)
    title = Text(f"{chart.title} ", style="dim") + Text(now, style="bold")
    title.append(scale.rjust(max(cells - len(title), len(scale) + 1)), style="dim")
    title.truncate(cells)
    return [title, *(Text(row, style=chart.color) for row in area_chart(values, height, top))]


def _axis(window_s: float, cells: int) -> str:
    left, right = f"-{_span(window_s)}", "now"
    return left + " " * max(cells - len(left) - len(right), 1) + right


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _mark_line(marks: Sequence[Mark], now_ns: int, window_s: float, cells: int) -> Text:
    """Marks under the first chart, each at its time; the newest win where there is no room."""
    line = [" "] * cells
    for mark in marks:
        place = int((mark.time_ns - now_ns + window_s * 1e9) / (window_s * 1e9) * cells)
        text = f"▴{visible(mark.text)}"
        place = max(min(place, cells - 1), 0)
        for offset, character in enumerate(text[: cells - place]):
            line[place + offset] = character
    return Text("".join(line), style="cyan")
