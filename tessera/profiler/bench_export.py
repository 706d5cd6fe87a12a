"""Benchmarks as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.program.errors import OptionError

if TYPE_CHECKING:
    from tessera.profiler.bench_compare import Comparison
    from tessera.profiler.bench_result import BatchResult, BenchResult

Cell = str | int | float | bool | None
_Column = Callable[["BenchResult", "BatchResult"], Cell]

COLUMNS: dict[str, _Column] = {
    "target": lambda result, _: result.target,
    "program": lambda result, _: result.program,
    "device": lambda result, _: result.device,
    "hardware": lambda result, _: result.hardware,
    "kind": lambda result, _: result.kind,
    "batch": lambda _, row: row.batch,
    "sizes": lambda _, row: " ".join(f"{name}={size}" for name, size in row.sizes.items()),
    "concurrency": lambda _, row: row.load.concurrency if row.load else None,
    "calls": lambda _, row: row.timing.repetitions,
    "median_ms": lambda _, row: row.timing.median_ms,
    "ci_low_ms": lambda _, row: row.timing.ci_low_ms,
    "ci_high_ms": lambda _, row: row.timing.ci_high_ms,
    "p5_ms": lambda _, row: row.timing.p5_ms,
    "p95_ms": lambda _, row: row.timing.p95_ms,
    "p99_ms": lambda _, row: row.load.p99_ms if row.load else None,
    "minimum_ms": lambda _, row: row.timing.minimum_ms,
    "mean_ms": lambda _, row: row.timing.mean_ms,
    "outliers": lambda _, row: row.timing.outliers,
    "device_median_ms": lambda _, row: row.device_timing.median_ms if row.device_timing else None,
    "per_second": lambda _, row: row.per_second,
    "requests_per_s": lambda _, row: row.load.per_second if row.load else None,
    "failures": lambda _, row: sum(row.load.failures.values()) if row.load else None,
    "gb_per_s": lambda _, row: row.gb_per_s,
    "gflop_per_s": lambda _, row: row.gflop_per_s,
    "roofline_share": lambda result, row: row.roofline_share(result.peaks),
    "roofline_origin": lambda result, _: result.peaks.origin if result.peaks else None,
    "bound": lambda result, row: row.bound(result.peaks),
    "baseline": lambda _, row: row.baseline.name if row.baseline else None,
    "baseline_median_ms": lambda _, row: row.baseline.median_ms if row.baseline else None,
    "speedup": lambda _, row: row.speedup,
    "speedup_low": lambda _, row: row.speedup_interval[0] if row.speedup_interval else None,
    "speedup_high": lambda _, row: row.speedup_interval[1] if row.speedup_interval else None,
    "max_difference": lambda _, row: row.max_difference,
    "agrees": lambda _, row: row.agrees,
}
"""By name, with the unit; one row of a file for each batch size, or number of clients."""

MARKDOWN = (
    "target", "device", "batch", "concurrency", "median_ms", "ci_low_ms", "ci_high_ms", "p5_ms", "p95_ms",
    "per_second", "gb_per_s", "gflop_per_s", "roofline_share", "baseline", "baseline_median_ms", "speedup",
)  # fmt: skip
"""Columns of the Markdown table; those that are empty in every row are left out."""


def to_json(results: Sequence[BenchResult], comparison: Comparison | None = None) -> str:
    """One JSON object: `results`, and `comparison` where there was one."""
    return json.dumps(to_data(results, comparison), indent=2, ensure_ascii=False) + "\n"


def to_data(results: Sequence[BenchResult], comparison: Comparison | None = None) -> dict[str, Any]:
    """What `to_json` writes, as dicts and lists."""
    data: dict[str, Any] = {"results": [result.to_data() for result in results]}
    if comparison is not None:
        data["comparison"] = {**asdict(comparison), "regressions": len(comparison.regressions)}
    return data


def to_csv(results: Sequence[BenchResult], comparison: Comparison | None = None) -> str:
    """One line for each row, all columns; of a comparison the columns `ratio`, `p` and `verdict`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    changes = _changes(comparison)
    extra = ["before_ms", "ratio", "p", "verdict"] if comparison else []
    writer.writerow([*COLUMNS, *extra])
    for result in results:
        for row in result.batches:
            cells = [_plain(column(result, row)) for column in COLUMNS.values()]
            change = changes.get(_place(result, row))
            if comparison:
                found = (change.before_ms, change.ratio, change.p, change.verdict) if change else ("",) * 4
                cells += [_plain(cell) for cell in found]
            writer.writerow(cells)
    return text.getvalue()


def to_markdown(results: Sequence[BenchResult], comparison: Comparison | None = None) -> str:
    """A table, what is to be known about it, and a table of changes where there was a comparison."""
    rows = [(result, row) for result in results for row in result.batches]
    table = {name: [_short(COLUMNS[name](*pair)) for pair in rows] for name in MARKDOWN}
    shown = {name: cells for name, cells in table.items() if any(cells)}
    lines = _markdown_table(list(shown), zip(*shown.values(), strict=True))
    lines += ["", *(f"- {_escaped(note)}" for note in facts(results))]
    if comparison is not None:
        lines += ["", f"Compared with run {comparison.run} of {comparison.made_at}:", ""]
        lines += _markdown_table(
            ["target", "batch", "clients", "before_ms", "now_ms", "ratio", "p", "verdict"],
            (
                [
                    _short(c)
                    for c in (
                        x.target, x.batch, x.concurrency, x.before_ms, x.now_ms, x.ratio, x.p, x.verdict
                    )
                ]
                for x in comparison.changes
            ),
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def facts(results: Sequence[BenchResult]) -> list[str]:
    """Where it was measured, under which roofline, and the notes of each result, once each."""
    said = []
    for result in results:
        said.append(f"{result.target}: {result.kind} on {result.device} ({result.hardware})")
        if result.peaks is not None:
            c = result.peaks
            said.append(
                f"Roofline, {c.origin}: {c.gb_per_s:.4g} GB/s, {c.gflop_per_s:.4g} GFLOP/s {c.precision} "
                f"({c.device}; {c.how})"
            )
        said += result.notes
    return list(dict.fromkeys(said))


FORMATS: dict[str, Callable[[Sequence[BenchResult], Comparison | None], str]] = {
    ".json": to_json,
    ".csv": to_csv,
    ".md": to_markdown,
}
"""By the ending of the file."""


def export(path: Path, results: Sequence[BenchResult], comparison: Comparison | None = None) -> None:
    """Write a file in the form that its ending names, whole or not at all.

    Raises:
        OptionError: No such form.
        PackageError: The file cannot be written.
    """
    from tessera.package.atomic import atomic_file

    text = form_of(path)(results, comparison)
    with atomic_file(path) as file:
        # A raw file may take less than it is given.
        rest = memoryview(text.encode())
        while rest:
            rest = rest[file.write(rest) :]


def form_of(path: Path) -> Callable[[Sequence[BenchResult], Comparison | None], str]:
    """What writes a file of that ending.

    Raises:
        OptionError: No such form.
    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise OptionError(
            f"{path}: no form of benchmarks ends in {path.suffix!r}", hint=f"one of {', '.join(FORMATS)}"
        )
    return form


def _changes(comparison: Comparison | None) -> dict[tuple[object, ...], Any]:
    return {(c.target, c.batch, c.concurrency): c for c in (comparison.changes if comparison else ())}


def _place(result: BenchResult, row: BatchResult) -> tuple[object, ...]:
    return result.target, row.batch, row.load.concurrency if row.load else None


def _plain(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    text = "" if cell is None else str(cell)
    # A spreadsheet would take a name that begins so for a formula.
    return f"'{text}" if isinstance(cell, str) and text[:1] in ("=", "+", "-", "@") else text


def _short(cell: Cell) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else _escaped(_plain(cell))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    head = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]
