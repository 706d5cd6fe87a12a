"""Rooflines as plotly figures in plain data: ceilings of one GPU, and kernels below them."""

from __future__ import annotations

from tessera.profiler.charts import Chart, Json, color_of, label, rounded, symbol_of
from tessera.profiler.report_data import Table
from tessera.profiler.roof import Ceiling, RooflineChart, RooflinePoint

_DASH = {"datasheet": "solid", "computed": "dash", "measured": "dot"}
_WIDTH = {"DRAM": 2.0, "L2": 1.4, "shared memory": 0.8}
"""Of a memory's slope: two may have one origin, and so one dash."""
_LEAST, _MOST = 0.01, 1e4


def roofline_figure(key: str, chart: RooflineChart) -> Chart:
    """A roof of every compute ceiling under DRAM, slopes of nearer memories, and the kernels.

    A kernel is a mark where its rate was measured, else at the roof; a line reaches from its intensity with
    no cache to that with perfect caches.
    """
    points = [p for p in chart.points if p.intensity is not None and p.attainable]
    known = {p.pipe for p in points}
    pipes = [
        c for c in chart.ceilings if c.kind == "compute" and (c.name in known or not known or c.name == "f32")
    ]
    levels = [c for c in chart.ceilings if c.kind == "memory"]
    top = max((c.rate for c in pipes), default=1.0)
    slope = chart.ceiling("DRAM").rate
    data = [_level(c, top) for c in levels] + [_roof(c, slope) for c in pipes]
    data += [trace for i, p in enumerate(points) for trace in _point(p, i)]
    layout = {
        "xaxis": {"type": "log", "title": {"text": "operations per byte of memory"}, "range": [-2, 4],
                  "tickvals": [0.01, 0.1, 1, 10, 100, 1000, 10000],
                  "ticktext": ["0.01", "0.1", "1", "10", "100", "1,000", "10,000"]},
        "yaxis": {"type": "log", "title": {"text": "TFLOP/s or TOP/s"}, "dtick": 1, "exponentformat": "none"},
        "showlegend": True,
        "legend": {"traceorder": "normal", "font": {"size": 11}},
    }  # fmt: skip
    about = (
        f"Solid ceilings are the datasheet's, dashed ones computed from it, dotted ones measured; "
        "the slope of a nearer memory is thinner. "
        f"{_points_text(len(points), len(chart.points))}"
    )
    height = 430 + 20 * -(-(len(levels) + len(pipes) + len(points)) // 4)
    return Chart(
        key, f"Roofline of {chart.gpu}", "datasheet", height, {"data": data, "layout": layout}, about
    )


def _points_text(drawn: int, total: int) -> str:
    idle = total - drawn
    parts = []
    if drawn:
        parts.append("A filled mark was measured, an open one is the most that the ceilings allow.")
    if idle:
        parts.append(f"{idle} of {total} kernels compute nothing, and have no place in it.")
    return " ".join(parts)


def _roof(ceiling: Ceiling, slope: float) -> Json:
    corner = ceiling.rate / slope
    corners = [(_LEAST, _LEAST * slope), (corner, ceiling.rate), (_MOST, ceiling.rate)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label(ceiling.label),
        "x": [x for x, _ in corners],
        "y": [rounded(y) for _, y in corners],
        "line": {"color": "var:--text", "width": 1.8 if ceiling.origin == "datasheet" else 1.2,
                 "dash": _DASH[ceiling.origin]},
        "hovertemplate": f"{label(ceiling.label)}<extra></extra>",
    }  # fmt: skip


def _level(ceiling: Ceiling, top: float) -> Json:
    ends = [_LEAST, top / ceiling.rate]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label(ceiling.label),
        "x": [rounded(x) for x in ends],
        "y": [rounded(x * ceiling.rate) for x in ends],
        "line": {
            "color": "var:--muted",
            "width": _WIDTH.get(ceiling.name, 1.2),
            "dash": _DASH[ceiling.origin],
        },
        "hovertemplate": f"{label(ceiling.label)}<extra></extra>",
    }


def _point(point: RooflinePoint, place: int) -> list[Json]:
    intensity, rate = point.intensity or 0.0, point.reached or point.attainable or 0.0
    worst = point.operations / point.worst_bytes if point.worst_bytes else intensity
    color, origin = color_of(place), "measured" if point.reached else f"predicted from {point.origin}"
    form = symbol_of(place) + ("" if point.reached else "-open")
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [rounded(worst), rounded(intensity)],
        "y": [rounded(rate)] * 2,
        "line": {"color": color, "width": 2},
        "showlegend": False,
        "hoverinfo": "skip",
    }
    mark = {
        "type": "scatter",
        "mode": "markers",
        "name": label(point.name, limit=32),
        "x": [rounded(intensity)],
        "y": [rounded(rate)],
        "marker": {"color": color, "size": 11, "symbol": form,
                   "line": {"width": 2, "color": color}},
        "hovertemplate": f"{label(point.name)}: %{{x}} operations per byte, %{{y}} × 10¹²/s, "
        f"{origin}<extra></extra>",
    }  # fmt: skip
    return [line, mark]


def roofline_table(chart: RooflineChart) -> Table:
    """The kernels with their figures."""
    return Table(
        f"Kernels under the ceilings of {chart.gpu}",
        ("kernel", "units", "operations, M", "bytes, MB", "touched, MB", "op/byte", "attainable T/s",
         "reached T/s", "predicted ms", "limited by"),
        tuple(
            (p.name, p.pipe or "–", rounded(p.operations / 1e6), rounded(p.bytes / 1e6),
             rounded(p.worst_bytes / 1e6), _known(p.intensity), _known(p.attainable), _known(p.reached),
             _known(p.predicted_ms), p.bound)
            for p in chart.points
        ),
        "predicted",
    )  # fmt: skip


def _known(value: float | None) -> float | None:
    return None if value is None else rounded(value)
