"""Charts of a report as plotly figures in plain data.

Figures are dicts of plotly's `data` and `layout`, not `graph_objects` (45 ms and
no help here). Colours are written `var:--name` and resolved by the page, which
knows whether it is light or dark. Every text that comes from a user goes
through `label`, since plotly reads a little HTML in texts.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tessera.profiler.bench_result import BenchResult
from tessera.profiler.report_data import (
    Bars,
    BufferLife,
    Heatmap,
    KernelRow,
    MemoryPlan,
    StageTime,
    Table,
    check_heatmap,
)
from tessera.profiler.report_runs import Origin

Json = dict[str, Any]
_SERIES = tuple(f"var:--series-{i}" for i in range(1, 9))
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px,3px", "2px,6px")
_PATTERNS = ("", "/", "x", ".", "+", "|", "-", "\\")
_TICK_CHARACTERS = 26
LEGIBLE: Json = {"mode": "hide", "minsize": 8}
"""Names in boxes that are too small for them are left out, not shrunk to dots."""
OCCUPANCY_KERNELS = 40
"""Kernels whose occupancy is drawn at most: those with the least."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure and what is said about it."""

    key: str
    """Unique in the page, a valid id."""
    title: str
    origin: Origin
    height: int
    """Height in pixels."""
    figure: Json
    """plotly's `data` and `layout`."""
    about: str = ""
    """A sentence for those who do not see it, and what it leaves out."""
    table: Table | None = None
    """Its figures, where no table of the page has them."""


def color_of(place: int) -> str:
    """A colour; told apart by readers who see few of them, with `symbol_of` and `dash_of`."""
    return _SERIES[place % len(_SERIES)]


def symbol_of(place: int) -> str:
    """A form of marks."""
    return _SYMBOLS[place % len(_SYMBOLS)]


def dash_of(place: int) -> str:
    """A form of lines."""
    return _DASHES[place % len(_DASHES)]


def rounded(value: float) -> float:
    """Four digits: what a chart shows, and a page has no use for more."""
    return float(f"{value:.4g}")


def label(text: str, *, limit: int | None = None) -> str:
    """`text` for plotly: no markup in it, and at most `limit` characters, cut in the middle."""
    if limit is not None and len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    # `$…$` would be read as a formula, for which a page without MathJax has no use.
    return html.escape(text, quote=False).replace("$", "&#36;")


def occupancy_chart(kernels: Sequence[KernelRow]) -> Chart | None:
    """Occupancy of each kernel, one bar for each architecture; None if none is known."""
    known = [k for k in kernels if k.occupancy is not None]
    if not known:
        return None
    every = list(dict.fromkeys((k.program, k.kernel) for k in known))
    names = every
    if len(every) > OCCUPANCY_KERNELS:
        least = {
            name: min(k.occupancy or 0 for k in known if (k.program, k.kernel) == name) for name in every
        }
        names = sorted(every, key=lambda name: least[name])[:OCCUPANCY_KERNELS]
        known = [k for k in known if (k.program, k.kernel) in names]
    targets = list(dict.fromkeys(k.target for k in known))
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(target),
            "y": [names.index((k.program, k.kernel)) for k in known if k.target == target],
            "x": [round(100 * (k.occupancy or 0), 2) for k in known if k.target == target],
            "customdata": [[label(k.kernel), label(k.limiter or "N/A")] for k in known if k.target == target],
            "hovertemplate": "%{customdata[0]}: %{x:.0f} %, limited by %{customdata[1]}"
            "<extra>%{fullData.name}</extra>",
            "marker": {
                "color": color_of(i),
                "pattern": {
                    "shape": _PATTERNS[i % len(_PATTERNS)],
                    "fillmode": "overlay",
                    "fgcolor": "var:--surface",
                    "size": 7,
                },
            },
        }
        for i, target in enumerate(targets)
    ]
    layout = {
        "barmode": "group",
        "bargap": 0.3,
        "xaxis": {
            "range": [0, 101],
            "ticksuffix": " %",
            "title": {"text": "of the warps possible"},
        },
        "yaxis": _ticks([kernel for _, kernel in names]),
        "showlegend": len(targets) > 1,
        "legend": {"traceorder": "normal"},
    }
    height = 110 + len(names) * (14 + 13 * len(targets))
    about = (
        "From registers, shared memory and threads of a block, by NVIDIA's rules; the table has the figures."
    )
    if len(names) < len(every):
        about += f" Drawn are the {len(names)} of {len(every):,} kernels with the least."
    return Chart("occupancy", "Occupancy", "predicted", height, {"data": data, "layout": layout}, about)


def stage_chart(stages: Sequence[StageTime]) -> Chart:
    """How long each stage took."""
    bars = Bars(
        "Stage timings",
        "s",
        tuple(s.name for s in stages),
        tuple(s.seconds for s in stages),
        "measured",
    )
    return replace(bars_chart("stages", bars), about="On the machine that the environment describes.")


def bars_chart(key: str, bars: Bars) -> Chart:
    """Horizontal bars, first on top."""
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(bars.labels))),
        "x": list(bars.values),
        "text": [f"{value:,.3g} {label(bars.unit)}" for value in bars.values],
        "textposition": "auto",
        "customdata": [label(name) for name in bars.labels],
        "hovertemplate": "%{customdata}: %{text}<extra></extra>",
        "marker": {"color": "var:--series-1"},
        "cliponaxis": False,
    }
    layout = {
        "xaxis": {"title": {"text": label(bars.unit)}, "rangemode": "tozero"},
        "yaxis": _ticks(bars.labels),
        "showlegend": False,
        "bargap": 0.35,
    }
    return Chart(
        key,
        bars.title,
        bars.origin,
        90 + 28 * len(bars.labels),
        {"data": [trace], "layout": layout},
        "",
        Table(bars.title, ("", bars.unit), tuple(zip(bars.labels, bars.values, strict=True)), bars.origin),
    )


def memory_chart(key: str, plan: MemoryPlan) -> Chart:
    """The arena over the steps: each buffer a rectangle from its first to its last step."""
    # One trace for each colour: a trace for each of a thousand buffers takes the browser seconds.
    groups = [plan.buffers[i :: len(_SERIES)] for i in range(len(_SERIES))]
    traces = [_rectangles(buffers, i) for i, buffers in enumerate(groups) if buffers]
    layout = {
        "barmode": "overlay",
        "xaxis": {
            **_step_ticks(plan.steps),
            "range": [-0.6, len(plan.steps) - 0.4],
            "title": {"text": "step"},
            "showgrid": False,
            "zeroline": False,
        },
        "yaxis": {"title": {"text": "bytes into the arena"}, "rangemode": "tozero", "exponentformat": "SI"},
        "showlegend": False,
        "uniformtext": LEGIBLE,
    }
    traces.append(_in_use(plan))
    title = f"Arena of {plan.program} on {plan.target}"
    return Chart(
        key,
        title,
        "predicted",
        300,
        {"data": traces, "layout": layout},
        "Each box is a buffer: as high as its bytes, as wide as the steps it is in use. The line is what is "
        f"in use at once, {max(in_use(plan), default=0):,} bytes at most.",
        Table(
            "Buffers",
            ("buffer", "offset, bytes", "bytes", "first step", "last step"),
            tuple((b.name, b.offset_bytes, b.bytes, b.first, b.last) for b in plan.buffers),
            "predicted",
        ),
    )


def _step_ticks(steps: Sequence[str]) -> Json:
    """Names where there is room for them, else numbers, at most thirty."""
    if len(steps) <= 6:
        names = [f"{i} {label(step, limit=14)}" for i, step in enumerate(steps)]
        return {"tickvals": list(range(len(steps))), "ticktext": names}
    shown = range(0, len(steps), -(-len(steps) // 30))
    return {"tickvals": list(shown), "ticktext": [str(i) for i in shown]}


def _rectangles(buffers: Sequence[BufferLife], place: int) -> Json:
    return {
        "type": "bar",
        "x": [(b.first + b.last) / 2 for b in buffers],
        "width": [b.last - b.first + 0.92 for b in buffers],
        "base": [b.offset_bytes for b in buffers],
        "y": [b.bytes for b in buffers],
        "text": [label(b.name, limit=14) for b in buffers],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "constraintext": "inside",
        "customdata": [[label(b.name), b.first, b.last] for b in buffers],
        "hovertemplate": "%{customdata[0]}: %{y:,} bytes at %{base:,}, "
        "steps %{customdata[1]} to %{customdata[2]}<extra></extra>",
        "marker": {"color": color_of(place), "line": {"width": 1, "color": "var:--surface"}},
    }


def in_use(plan: MemoryPlan) -> list[int]:
    """Bytes of buffers in use at each step."""
    return [
        sum(b.bytes for b in plan.buffers if b.first <= step <= b.last) for step in range(len(plan.steps))
    ]


def _in_use(plan: MemoryPlan) -> Json:
    totals = in_use(plan)
    edges = [edge for step in range(len(totals)) for edge in (step - 0.5, step + 0.5)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "in use",
        "x": edges,
        "y": [total for total in totals for _ in range(2)],
        "line": {"color": "var:--text", "width": 1.6, "dash": "dot"},
        "hovertemplate": "in use: %{y:,} bytes<extra></extra>",
    }


def latency_chart(key: str, result: BenchResult) -> Chart:
    """Median time by batch size, with the span from 5th to 95th percentile."""
    series = [("target", [(b.batch, b.timing) for b in result.batches])]
    if any(b.baseline for b in result.batches):
        series.append(("baseline", [(b.batch, b.baseline) for b in result.batches if b.baseline]))
    if any(b.device_timing for b in result.batches):
        series.append(("device", [(b.batch, b.device_timing) for b in result.batches if b.device_timing]))
    traces = []
    for i, (_, points) in enumerate(series):
        timings = [timing for _, timing in points if timing is not None]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label(timings[0].name),
                "x": [batch or 1 for batch, _ in points],
                "y": [t.median_ms for t in timings],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [t.p95_ms - t.median_ms for t in timings],
                    "arrayminus": [t.median_ms - t.p5_ms for t in timings],
                    "thickness": 1.2,
                    "width": 4,
                },
                "hovertemplate": "batch %{x}: %{y:.4g} ms<extra>%{fullData.name}</extra>",
                "line": {"color": color_of(i), "width": 2, "dash": dash_of(i)},
                "marker": {"color": color_of(i), "size": 7, "symbol": symbol_of(i)},
            }
        )
    about = "By batch size; the table has the figures."
    return Chart(key, "Latency, median and p5–p95", "measured", 300, _by_batch(traces, result, "ms"), about)


def throughput_chart(key: str, result: BenchResult) -> Chart:
    """Items per second by batch size."""
    traces = [_throughput(result, "target", 0)]
    if any(b.baseline for b in result.batches):
        traces.append(_throughput(result, "baseline", 1))
    about = "By batch size; the table has the figures."
    return Chart(key, "Throughput", "measured", 300, _by_batch(traces, result, "items/s"), about)


def _throughput(result: BenchResult, which: str, color: int) -> Json:
    points = [(b.batch or 1, b.timing if which == "target" else b.baseline) for b in result.batches]
    known = [(batch, timing) for batch, timing in points if timing is not None]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(known[0][1].name),
        "x": [batch for batch, _ in known],
        "y": [batch / (timing.median_ms / 1e3) for batch, timing in known],
        "hovertemplate": "batch %{x}: %{y:,.4s} items/s<extra>%{fullData.name}</extra>",
        "line": {"color": color_of(color), "width": 2, "dash": dash_of(color)},
        "marker": {"color": color_of(color), "size": 7, "symbol": symbol_of(color)},
    }


def _by_batch(traces: list[Json], result: BenchResult, unit: str) -> Json:
    sizes = [b.batch or 1 for b in result.batches]
    axis = {"type": "log", "dtick": "D2", "exponentformat": "SI", "title": {"text": unit}}
    layout = {
        "xaxis": {
            "type": "log",
            "tickvals": sizes,
            "ticktext": [f"{size:,}" for size in sizes],
            "title": {"text": "batch size"},
            "showgrid": False,
        },
        "yaxis": axis,
        "showlegend": len(traces) > 1,
    }
    return {"data": traces, "layout": layout}


def heatmap_chart(key: str, heatmap: Heatmap) -> Chart:
    """A matrix in colour, first row on top, its values written where there is room.

    Raises:
        ConfigError: The matrix has not the shape that its labels say.
    """
    check_heatmap(heatmap)
    rows, columns = len(heatmap.y), len(heatmap.x)
    trace = {
        "type": "heatmap",
        "x": list(range(columns)),
        "y": list(range(rows)),
        "z": [list(row) for row in heatmap.values],
        "text": [["" if v is None else f"{v:,.4g}" for v in row] for row in heatmap.values],
        "texttemplate": "%{text}" if max(rows, columns) <= 16 else "",
        "customdata": [[[label(y), label(x)] for x in heatmap.x] for y in heatmap.y],
        "hovertemplate": f"{label(heatmap.y_label)} %{{customdata[0]}}, "
        f"{label(heatmap.x_label)} %{{customdata[1]}}: %{{text}}<extra></extra>",
        "colorscale": [[0, "var:--heat-low"], [1, "var:--heat-high"]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": False,
    }
    layout = {
        "xaxis": {
            **_ticks(heatmap.x, limit=10),
            "autorange": True,
            "title": {"text": label(heatmap.x_label)},
        },
        "yaxis": {**_ticks(heatmap.y), "title": {"text": label(heatmap.y_label)}},
        "showlegend": False,
    }
    height = 110 + max(28 * rows, 120)
    table = Table(
        heatmap.title,
        (f"{heatmap.y_label} \\ {heatmap.x_label}", *heatmap.x),
        tuple((y, *row) for y, row in zip(heatmap.y, heatmap.values, strict=True)),
        heatmap.origin,
    )
    about = f"Down: {heatmap.y_label}. Across: {heatmap.x_label}."
    figure = {"data": [trace], "layout": layout}
    return Chart(key, heatmap.title, heatmap.origin, height, figure, about, table)


def _ticks(names: Sequence[str], *, limit: int = _TICK_CHARACTERS) -> Json:
    """An axis with a name at each of 0, 1, 2…: names may repeat, or look like numbers."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [label(name, limit=limit) for name in names],
        "autorange": "reversed",
        "showgrid": False,
        "zeroline": False,
    }
