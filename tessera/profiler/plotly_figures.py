"""The charts of a report as plotly's own figures, for notebooks and other pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.profiler.report import every_chart
from tessera.profiler.report_data import ReportData
from tessera.profiler.report_source import report_from_package
from tessera.program.errors import MissingDependencyError

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PAIR = re.compile(r"(--[a-z0-9-]+): light-dark\(([^,()]+), ([^()]+)\)")


def report_figures(data: ReportData | str | Path, *, dark: bool = False) -> dict[str, go.Figure]:
    """Every chart of a report by its title; of charts with one title the later ones are numbered.

    Args:
        data: What a report shows, or the path of a package.
        dark: Whether in the colours of the dark page.

    Raises:
        MissingDependencyError: plotly is not installed.
        PackageError: `data` names a file that is no package.
        ConfigError: A chart's data do not fit together.
    """
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise MissingDependencyError.extra("plotly", "profile", needed_for="figures of reports") from None
    found = data if isinstance(data, ReportData) else report_from_package(data)
    colors = _colors(dark=dark)
    figures: dict[str, go.Figure] = {}
    for chart in every_chart(found):
        place = sum(1 for name in figures if name == chart.title or name.startswith(f"{chart.title} ("))
        name = f"{chart.title} ({place + 1})" if place else chart.title
        figure = go.Figure(_resolved(chart.figure, colors))
        figure.update_layout(
            title=chart.title,
            height=chart.height,
            template="plotly_dark" if dark else "plotly_white",
            xaxis={"automargin": True},
            yaxis={"automargin": True},
        )
        figures[name] = figure
    return figures


def _colors(*, dark: bool) -> dict[str, str]:
    """The page's colours by name."""
    style = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
    return {name: (night if dark else day).strip() for name, day, night in _PAIR.findall(style)}


def _resolved(value: Any, colors: dict[str, str]) -> Any:
    if isinstance(value, str):
        return colors[value[4:]] if value.startswith("var:") else value
    if isinstance(value, list | tuple):
        return [_resolved(part, colors) for part in value]
    if isinstance(value, dict):
        return {key: _resolved(part, colors) for key, part in value.items()}
    return value
