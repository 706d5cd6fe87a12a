"""Charts of what ran, was tuned or recorded, as plotly figures in plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tessera.profiler.charts import LEGIBLE, Chart, Json, color_of, dash_of, label, rounded
from tessera.profiler.report_data import Table
from tessera.profiler.report_runs import ExecutionTrace, RecordedRun, TunedSweep, TunedTrial, Value
from tessera.profiler.report_sweeps import axes, best_so_far, heat_axes, least_by, ranked

DRAWN_LINES = 400
"""Configurations that parallel coordinates draw at most: the best ones and an even choice of the rest."""
DRAWN_SPANS = 2000
"""Pieces of a trace that are drawn at most."""
_CELLS = 24
"""Rows or columns of a heatmap above which its values are not written into it."""


def sweep_charts(key: str, sweep: TunedSweep) -> list[Chart]:
    """Heatmap, parallel coordinates and best so far; those of them that the records allow."""
    made = (_sweep_heatmap(key, sweep), _parallel(key, sweep), _best(key, sweep))
    return [chart for chart in made if chart is not None]


def _sweep_heatmap(key: str, sweep: TunedSweep) -> Chart | None:
    pair = heat_axes(sweep)
    if pair is None:
        return None
    values = axes(sweep)
    down, across = pair if len(values[pair[0]]) <= len(values[pair[1]]) else pair[::-1]
    cells = least_by(ranked(sweep), (down, across))
    rows = [[cells.get((y, x)) for x in values[across]] for y in values[down]]
    written = max(map(len, (values[down], values[across]))) <= _CELLS
    unit, scale = _unit(list(cells.values()))
    trace: Json = {
        "type": "heatmap",
        "x": list(range(len(values[across]))),
        "y": list(range(len(values[down]))),
        "z": [[None if v is None else rounded(v * scale) for v in row] for row in rows],
        "texttemplate": "%{z:.3g}" if written and len(values[across]) <= 12 else "",
        "customdata": [[f"{label(down)}={y}, {label(across)}={x}" for x in _texts(values[across])]
                       for y in _texts(values[down])],
        "hovertemplate": f"%{{customdata}}: %{{z:.4g}} {unit}<extra></extra>",
        "colorscale": [[0, "var:--heat-good"], [1, "var:--heat-low"]],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": False,
    }  # fmt: skip
    layout = {
        "xaxis": _categories(across, values[across]),
        "yaxis": _categories(down, values[down]),
        "showlegend": False,
    }
    rest = [name for name in values if name not in pair]
    over = f", the least over {', '.join(rest)}" if rest else ""
    return Chart(
        f"{key}-heat",
        f"Cost by {down} and {across}, {unit}{over}",
        sweep.origin,
        120 + max(26 * len(values[down]), 110),
        {"data": [trace], "layout": layout},
        "Stronger colour is faster; empty cells have no configuration that ran. Fastest: "
        f"{rounded(min(cells.values()) * scale)} {unit}.",
        _matrix(down, across, values, rows, scale, unit, sweep) if written else None,
    )


def _matrix(
    down: str, across: str, values: dict[str, list[Value]], rows: list[list[float | None]], scale: float,
    unit: str, sweep: TunedSweep,
) -> Table:  # fmt: skip
    return Table(
        f"Least cost, {unit}",
        (f"{down} \\ {across}", *_texts(values[across])),
        tuple(
            (name, *(None if v is None else rounded(v * scale) for v in row))
            for name, row in zip(_texts(values[down]), rows, strict=True)
        ),
        sweep.origin,
    )


def _parallel(key: str, sweep: TunedSweep) -> Chart | None:
    good, values = ranked(sweep), axes(sweep)
    if len(good) < 2 or not values:
        return None
    drawn = drawn_trials(good)
    names = list(values)
    unit, scale = _unit([t.cost_ms or 0 for t in good])
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": title,
            **_curves(trials, values, good, scale, unit),
            "hovertemplate": "%{text}<extra></extra>",
            "line": {"color": f"var:--rank-{i + 1}", "width": (1, 1, 1.6, 2.6)[i], "dash": "solid"},
            "opacity": (0.35, 0.5, 0.75, 1)[i],
        }
        for i, (title, trials) in enumerate(_by_rank(drawn, good))
    ]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(names) + 1)),
            "ticktext": [*(label(n, limit=16) for n in names), f"cost, {unit}"],
            "range": [-0.25, len(names) + 0.35],
            "gridcolor": "var:--muted",
            "showgrid": True,
            "zeroline": False,
        },
        "yaxis": {"visible": False, "range": [-0.06, 1.06]},
        "annotations": _axis_values(names, values, good, scale),
        "showlegend": True,
        "legend": {"traceorder": "reversed"},
    }
    cut = "" if len(drawn) == len(good) else (
        f" {len(drawn):,} of {len(good):,} configurations are drawn: the best {DRAWN_LINES // 2} and one in "
        f"{_stride(good)} of the others by cost."
    )  # fmt: skip
    return Chart(
        f"{key}-parallel",
        "Parallel coordinates",
        sweep.origin,
        380,
        {"data": traces, "layout": layout},
        "One line for each configuration, from its values on the left to its cost on the right "
        f"(logarithmic).{cut}",
    )


def _curves(
    trials: Sequence[TunedTrial],
    values: Mapping[str, Sequence[Value]],
    good: Sequence[TunedTrial],
    scale: float,
    unit: str,
) -> Json:
    """A line for each trial over the axes, its cost last; between two lines is a gap."""
    low, high = math.log(good[0].cost_ms or 1), math.log(good[-1].cost_ms or 1)
    xs: list[float | None] = []
    ys: list[float | None] = []
    text: list[str | None] = []
    for trial in trials:
        places = [_place(trial.configuration[name], own) for name, own in values.items()]
        cost = math.log(trial.cost_ms or 1)
        places.append(0.5 if high == low else (cost - low) / (high - low))
        words = ", ".join(f"{name}={trial.configuration[name]}" for name in values)
        xs += [*range(len(places)), None]
        ys += [round(p, 4) for p in places] + [None]
        text += [label(f"{words}: {rounded((trial.cost_ms or 0) * scale)} {unit}")] * len(places) + [None]
    return {"x": xs, "y": ys, "text": text}


def drawn_trials(good: Sequence[TunedTrial]) -> list[TunedTrial]:
    """At most `DRAWN_LINES` of the ranked trials: the best half of them, then evenly from the rest."""
    if len(good) <= DRAWN_LINES:
        return list(good)
    half = DRAWN_LINES // 2
    return [*good[:half], *good[half :: _stride(good)]]


def _stride(good: Sequence[TunedTrial]) -> int:
    return -(-(len(good) - DRAWN_LINES // 2) // (DRAWN_LINES // 2))


def _by_rank(drawn: Sequence[TunedTrial], good: Sequence[TunedTrial]) -> list[tuple[str, list[TunedTrial]]]:
    """The rest, faster half, fastest tenth and the best one; what is drawn last lies on top."""
    half = good[(len(good) - 1) // 2].cost_ms or 0
    tenth = good[(len(good) - 1) // 10].cost_ms or 0
    best, rest = drawn[0], drawn[1:]
    fast = [t for t in rest if (t.cost_ms or 0) <= tenth]
    middle = [t for t in rest if tenth < (t.cost_ms or 0) <= half]
    slow = [t for t in rest if (t.cost_ms or 0) > half]
    return [("slower half", slow), ("faster half", middle), ("fastest tenth", fast), ("best", [best])]


def _place(value: Value, values: Sequence[Value]) -> float:
    return 0.5 if len(values) < 2 else values.index(value) / (len(values) - 1)


def _axis_values(
    names: Sequence[str], values: dict[str, list[Value]], good: Sequence[TunedTrial], scale: float
) -> list[Json]:
    def note(x: int, y: float, text: str) -> Json:
        return {
            "x": x, "y": y, "text": label(text, limit=14), "showarrow": False, "xanchor": "left", "xshift": 4,
            "font": {"size": 10.5, "color": "var:--muted"}, "bgcolor": "var:--surface-soft", "borderpad": 1,
        }  # fmt: skip

    found = []
    for x, name in enumerate(names):
        texts = _texts(values[name])
        step = max(1, -(-len(texts) // 9))
        found += [
            note(x, _place(values[name][i], values[name]), texts[i]) for i in range(0, len(texts), step)
        ]
    costs = [t.cost_ms or 0 for t in good]
    low, high = costs[0], costs[-1]
    for part in (0.0, 0.25, 0.5, 0.75, 1.0) if high > low else (0.5,):
        cost = (
            low if high == low else math.exp(math.log(low or 1e-12) + part * math.log(high / (low or 1e-12)))
        )
        found.append(note(len(names), part, f"{rounded(cost * scale)}"))
    return found


def _best(key: str, sweep: TunedSweep) -> Chart | None:
    steps = best_so_far(sweep)
    if not steps:
        return None
    unit, scale = _unit([cost for _, cost in steps])
    good = [
        (i, t.cost_ms) for i, t in enumerate(sweep.trials, 1) if t.status == "ok" and t.cost_ms is not None
    ]
    stride = max(1, -(-len(good) // 1500))
    shown = good[::stride]
    last = len(sweep.trials)
    traces: list[Json] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "tried",
            "x": [i for i, _ in shown],
            "y": [rounded(cost * scale) for _, cost in shown],
            "marker": {"color": "var:--rank-2", "size": 5, "symbol": "circle-open"},
            "hovertemplate": f"trial %{{x}}: %{{y}} {unit}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": [*(i for i, _ in steps), last],
            "y": [*(rounded(cost * scale) for _, cost in steps), rounded(steps[-1][1] * scale)],
            "line": {"color": "var:--rank-4", "width": 2.4, "shape": "hv"},
            "hovertemplate": f"after trial %{{x}}: %{{y}} {unit}<extra></extra>",
        },
    ]
    layout = {
        "xaxis": {
            "title": {"text": "trial"},
            "rangemode": "tozero",
            "showgrid": False,
            # Trials are counted: no half of one among few.
            **({"dtick": 1} if last <= 10 else {}),
        },
        "yaxis": {"title": {"text": unit}, "type": "log", "exponentformat": "none", "nticks": 6},
        "showlegend": True,
    }
    rows = tuple((i, rounded(cost * scale)) for i, cost in steps)
    thinned = f" One trial in {stride} is drawn as a point." if stride > 1 else ""
    return Chart(
        f"{key}-best",
        "Best so far",
        sweep.origin,
        320,
        {"data": traces, "layout": layout},
        f"{last:,} configurations in the order in which they were tried; the best is found at trial "
        f"{steps[-1][0]:,}.{thinned}",
        Table("Where the best became better", ("trial", unit), rows, sweep.origin),
    )


def trace_chart(key: str, trace: ExecutionTrace) -> Chart:
    """Each piece a bar from its start to its end, in the row of its track; kernels have colours."""
    spans = trace.spans
    stride = len(spans) > DRAWN_SPANS
    drawn = sorted(spans, key=lambda s: -s.length)[:DRAWN_SPANS] if stride else list(spans)
    tracks = list(dict.fromkeys(span.track for span in spans))
    names = list(dict.fromkeys(span.name for span in spans))
    unit, scale = ("µs", 1e3) if trace.unit == "ms" and _end(trace) < 1 else (trace.unit, 1.0)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(name, limit=40),
            "y": [tracks.index(s.track) for s in own],
            "base": [rounded(s.start * scale) for s in own],
            "x": [rounded(s.length * scale) for s in own],
            "width": 0.7,
            "text": [label(s.name, limit=24) for s in own],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "constraintext": "inside",
            "customdata": [[label(s.name), label(s.detail)] for s in own],
            "hovertemplate": f"%{{customdata[0]}}: %{{x:,}} {unit} from %{{base:,}}"
            "<br>%{customdata[1]}<extra></extra>",
            "marker": {"color": color_of(i), "line": {"width": 1, "color": "var:--surface"}},
        }
        for i, name in enumerate(names)
        if (own := [s for s in drawn if s.name == name])
    ]
    layout = {
        "barmode": "overlay",
        "xaxis": {"title": {"text": unit}, "rangemode": "tozero"},
        "yaxis": {
            "tickvals": list(range(len(tracks))),
            "ticktext": [label(track) for track in tracks],
            "range": [len(tracks) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
        "showlegend": 1 < len(names) <= 16,
        "legend": {"traceorder": "normal"},
        "uniformtext": LEGIBLE,
    }
    cut = f" The longest {DRAWN_SPANS:,} of {len(spans):,} pieces are drawn." if stride else ""
    title = f"{trace.program} on {trace.device}"
    height = 150 + 46 * len(tracks) + (22 * -(-len(names) // 4) if len(names) <= 16 else 0)
    pieces = "1 piece" if len(spans) == 1 else f"{len(spans):,} pieces"
    about = f"{pieces}, {_amount(_end(trace) * scale)} {unit} in all.{cut}"
    return Chart(key, title, trace.origin, height, {"data": traces, "layout": layout}, about)


def _end(trace: ExecutionTrace) -> float:
    return max((span.start + span.length for span in trace.spans), default=0.0)


def recording_charts(key: str, run: RecordedRun) -> list[Chart]:
    """One chart for each figure, one curve for each GPU, marks as lines."""
    charts = []
    for number, figure in enumerate(dict.fromkeys(s.figure for s in run.series)):
        own = [s for s in run.series if s.figure == figure]
        unit = own[0].unit
        traces = [
            {
                "type": "scatter",
                "mode": "lines",
                "name": label(s.gpu),
                "x": list(s.times_s),
                "y": list(s.values),
                "connectgaps": False,
                "line": {"color": color_of(i), "width": 1.6, "dash": dash_of(i)},
                "hovertemplate": f"%{{x}} s: %{{y}} {unit}<extra>%{{fullData.name}}</extra>",
            }
            for i, gpu in enumerate(run.gpus)
            for s in own
            if s.gpu == gpu
        ]
        top = {"range": [0, 103]} if unit == "%" else {"rangemode": "tozero"}
        layout = {
            "xaxis": {"title": {"text": "seconds"}, "range": [0, rounded(run.duration_s)], "showgrid": False},
            "yaxis": {"title": {"text": unit}, **top},
            "showlegend": len(traces) > 1,
            "shapes": [
                {"type": "line", "x0": rounded(at), "x1": rounded(at), "yref": "paper", "y0": 0, "y1": 1,
                 "line": {"color": "var:--muted", "width": 1, "dash": "dot"}}
                for at, _ in run.marks[:40]
            ],
            "annotations": [
                {"x": rounded(at), "y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "left",
                 "showarrow": False, "text": label(text, limit=12),
                 "font": {"size": 10.5, "color": "var:--muted"}}
                for at, text in run.marks[:12]
            ] if len(traces) == 1 else [],
        }  # fmt: skip
        most = max((s.most for s in own if s.most is not None), default=None)
        about = f"{len(own)} GPU{'s' if len(own) > 1 else ''} over {run.duration_s:,.1f} s"
        about += "" if most is None else f", {_amount(most)} {unit} at most"
        title = f"{figure[:1].upper()}{figure[1:]}"
        height = 250 + (18 * -(-len(traces) // 3) if len(traces) > 1 else 0)
        charts.append(
            Chart(
                f"{key}-{number}", title, "recorded", height, {"data": traces, "layout": layout}, f"{about}."
            )
        )
    return charts


def _categories(name: str, values: Sequence[Value]) -> Json:
    return {
        "tickvals": list(range(len(values))),
        "ticktext": [label(text, limit=12) for text in _texts(values)],
        "title": {"text": label(name)},
        "showgrid": False,
        "zeroline": False,
    }


def _texts(values: Sequence[Value]) -> list[str]:
    return [str(value) for value in values]


def _unit(costs_ms: Sequence[float]) -> tuple[str, float]:
    """The unit that costs read best in, and its size in ms."""
    least = min((c for c in costs_ms if c > 0), default=1.0)
    return ("ms", 1.0) if least >= 1 else ("µs", 1e3)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
