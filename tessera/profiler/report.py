"""One self-contained HTML page about a kernel, a model or a package.

The page holds everything it needs: it makes no request, and its content
security policy forbids any. The same data gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.package.atomic import atomic_file
from tessera.profiler.bench_result import BenchResult
from tessera.profiler.charts import (
    Chart,
    bars_chart,
    heatmap_chart,
    latency_chart,
    memory_chart,
    occupancy_chart,
    stage_chart,
    throughput_chart,
)
from tessera.profiler.charts_roofline import roofline_figure, roofline_table
from tessera.profiler.charts_runs import recording_charts, sweep_charts, trace_chart
from tessera.profiler.check import STATUSES
from tessera.profiler.package_tree import tree_rows
from tessera.profiler.report_data import Bars, Block, Heatmap, KernelRow, ReportData, Table, Text
from tessera.profiler.report_fold import fold_sources, fold_sweep
from tessera.profiler.report_summary import summarize
from tessera.program.arch import is_cpu
from tessera.program.bytesize import format_bytes
from tessera.program.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from jinja2 import Environment

    from tessera.package import Package

TEMPLATES = Path(__file__).parent / "templates"
NOT_KNOWN = "N/A"
NOTHING = "'none'"


def write_report(
    data: ReportData | str | Path | Package, path: str | Path, *, title: str | None = None
) -> Path:
    """Write the page to `path` and return it. An existing file is replaced at once or not at all.

    Args:
        data: What to show, or a package (file, unpacked folder or open) to show.
        path: Where to write, such as `report.html`. Missing folders are made.
        title: Instead of the title of `data`.

    Raises:
        MissingDependencyError: Jinja is not installed.
        PackageError: `data` names a file that is no package, or `path` cannot be written.
        ConfigError: The folder cannot be made, or a chart's data do not fit together.
    """
    if not isinstance(data, ReportData):
        from tessera.profiler.report_source import report_from_package

        data = report_from_package(data)
    page = render_report(data, title=title).encode()
    path = _with_folder(Path(path))
    with atomic_file(path) as file:
        file.write(page)
    return path


def _with_folder(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder of the report, {path.parent}, cannot be made: {error.strerror or error}",
            hint="choose another file with -o",
        ) from error
    return path


def write_report_data(data: ReportData, path: str | Path) -> Path:
    """Write all that a report is made of as JSON, uncut, and return its path.

    Raises:
        PackageError: It cannot be written.
        ConfigError: The folder cannot be made.
    """
    import msgspec

    path = _with_folder(Path(path))
    with atomic_file(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n")
    return path


def render_report(data: ReportData, *, title: str | None = None) -> str:
    """The page as text.

    Raises:
        MissingDependencyError: Jinja is not installed.
        ConfigError: A chart's data do not fit together.
    """
    charts = _charts(data)
    sections = [
        (f"section-{i}", name, [_view(f"section-{i}-{j}", block) for j, block in enumerate(blocks)])
        for i, (name, blocks) in enumerate(data.sections.items())
    ]
    figures = [*charts.every(), *(view.chart for _, _, views in sections for view in views if view.chart)]
    scripts = [_text("vendor/plotly-cartesian.min.js"), _text("charts.js")] if figures else []
    sources, source_notes = fold_sources(data.sources)
    template = _environment().get_template("page.html.jinja")
    return template.render(
        data=data,
        title=title or data.title,
        summary=data.summary or summarize(data),
        charts=charts,
        gpu_kernels=_grouped([k for k in data.kernels if not is_cpu(k.target)]),
        cpu_kernels=[k for k in data.kernels if is_cpu(k.target)],
        cache_known=any(k.cached is not None for k in data.kernels),
        sources=sources,
        source_notes=source_notes,
        sweeps=[fold_sweep(sweep) for sweep in data.sweeps],
        rooflines=[_table_view(roofline_table(chart)) for chart in data.rooflines],
        tree=tree_rows(data.entries),
        sections=sections,
        figures=_embed([[chart.key, chart.figure] for chart in figures]),
        scripts=scripts,
        policy=_policy(scripts),
        style=_text("page.css"),
        status_order=STATUSES,
    )


def every_chart(data: ReportData) -> list[Chart]:
    """The charts of a report in the page's order.

    Raises:
        ConfigError: A chart's data do not fit together.
    """
    blocks = [
        _view(f"section-{i}-{j}", block).chart
        for i, own in enumerate(data.sections.values())
        for j, block in enumerate(own)
    ]
    return [*_charts(data).every(), *(chart for chart in blocks if chart is not None)]


@dataclass(frozen=True, slots=True)
class _Charts:
    occupancy: Chart | None
    stages: Chart | None
    memory: tuple[Chart | None, ...]
    benchmarks: tuple[tuple[Chart, ...], ...]
    rooflines: tuple[Chart, ...]
    sweeps: tuple[tuple[Chart, ...], ...]
    traces: tuple[Chart, ...]
    recordings: tuple[tuple[Chart, ...], ...]

    def every(self) -> list[Chart]:
        rows = (*self.benchmarks, *self.sweeps, *self.recordings, self.rooflines, self.traces)
        found = [self.occupancy, self.stages, *self.memory, *(chart for row in rows for chart in row)]
        return [chart for chart in found if chart is not None]


def _charts(data: ReportData) -> _Charts:
    return _Charts(
        occupancy=occupancy_chart(data.kernels),
        stages=stage_chart(data.stages) if data.stages else None,
        memory=tuple(
            memory_chart(f"memory-{i}", p) if p.buffers else None for i, p in enumerate(data.memory)
        ),
        benchmarks=tuple(_bench_charts(i, result) for i, result in enumerate(data.benchmarks)),
        rooflines=tuple(roofline_figure(f"roofline-{i}", c) for i, c in enumerate(data.rooflines)),
        sweeps=tuple(tuple(sweep_charts(f"sweep-{i}", s)) for i, s in enumerate(data.sweeps)),
        traces=tuple(trace_chart(f"trace-{i}", t) for i, t in enumerate(data.traces)),
        recordings=tuple(tuple(recording_charts(f"nvml-{i}", r)) for i, r in enumerate(data.recordings)),
    )


def _bench_charts(index: int, result: BenchResult) -> tuple[Chart, ...]:
    if len(result.batches) < 2:
        return ()
    return (
        latency_chart(f"bench-{index}-latency", result),
        throughput_chart(f"bench-{index}-throughput", result),
    )


@dataclass(frozen=True, slots=True)
class _View:
    """A block of a caller's section and the template that shows it."""

    kind: str
    block: Block
    chart: Chart | None = None
    numeric: frozenset[int] = frozenset()
    """Columns of a table that hold numbers."""


def _view(key: str, block: Block) -> _View:
    if isinstance(block, Heatmap):
        return _View("chart", block, heatmap_chart(key, block))
    if isinstance(block, Bars):
        return _View("chart", block, bars_chart(key, block))
    if isinstance(block, Table):
        return _table_view(block)
    return _View("text" if isinstance(block, Text) else "facts", block)


def _table_view(table: Table) -> _View:
    return _View("table", table, numeric=_numeric(table))


def _numeric(table: Table) -> frozenset[int]:
    return frozenset(i for row in table.rows for i, cell in enumerate(row) if isinstance(cell, (int, float)))


def _grouped(kernels: Sequence[KernelRow]) -> list[list[KernelRow]]:
    groups: dict[tuple[str, str], list[KernelRow]] = {}
    for row in kernels:
        groups.setdefault((row.program, row.kernel), []).append(row)
    return list(groups.values())


def _environment() -> Environment:
    try:
        # 40 ms, for a report only.
        import jinja2
    except ImportError:
        raise MissingDependencyError.extra("jinja2", "profile", needed_for="an HTML report") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=lambda value: NOT_KNOWN if value is None else format_bytes(value),
        number=_number,
        percent=lambda value: NOT_KNOWN if value is None else f"{100 * value:.0f} %",
        duration=_duration,
        plain=lambda value: NOT_KNOWN if value is None else str(value),
        fixed=_fixed,
        numeric=_numeric,
    )
    return environment


def _number(value: Any) -> str:
    if value is None:
        return NOT_KNOWN
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else _fixed(value, 4)


def _fixed(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits, without an exponent for everyday sizes."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _duration(value: float) -> str:
    """Of seconds."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{_fixed(value * 1e3)} ms" if value >= 1e-3 else f"{_fixed(value * 1e6)} µs"


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _embed(data: Any) -> Any:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    from markupsafe import Markup

    try:
        text = json.dumps(data, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ConfigError(
            f"a chart holds a number that is not finite: {error}", hint="pass None where a value is unknown"
        ) from None
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy: no request at all, and no script but ours."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes or NOTHING}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
