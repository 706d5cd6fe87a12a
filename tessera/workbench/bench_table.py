"""Benchmarks as `tessera bench` prints them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.program.quantity import format_count
from tessera.workbench.failure import visible
from tessera.workbench.output import (
    Column,
    note,
    number_text,
    print_table,
    print_wrapped,
    terminal_width,
    time_text,
)

if TYPE_CHECKING:
    from tessera.profiler.bench_compare import Change, Comparison
    from tessera.profiler.bench_history import SavedRun
    from tessera.profiler.bench_result import BatchResult, BenchResult
    from tessera.workbench.benching import Measured

_WIDE = 110
"""Columns from which on all figures stand in one table."""


def print_measured(measured: Measured) -> None:
    """Every result, the comparison, and where it was saved."""
    for result in measured.results:
        print_result(result)
    if measured.comparison is not None:
        print_comparison(measured.comparison)
    if measured.saved is not None:
        name = f" as {measured.saved.name}" if measured.saved.name else ""
        note(f"saved{name}: run {measured.saved.id} of {measured.database}")


def measured_data(measured: Measured) -> dict[str, Any]:
    """What `--json` prints."""
    from tessera.profiler.bench_export import to_data

    saved = measured.saved
    return {
        **to_data(measured.results, measured.comparison),
        "saved": None if saved is None else {**_run_data(saved), "database": str(measured.database)},
    }


def print_result(result: BenchResult) -> None:
    """One table, and what is to be known about it."""
    print_wrapped(f"{result.target} on {result.device} ({result.hardware}), {result.kind}")
    if any(row.load for row in result.batches):
        _print_server(result)
        return
    rates = RATES
    if not any(row.device_timing for row in result.batches):
        rates = {title: cell for title, cell in RATES.items() if title not in ON_DEVICE}
    if all(row.bytes is None and row.device_timing is None for row in result.batches):
        rates = {}
    tables = [{**TIMES, **rates}] if terminal_width() >= _WIDE or not rates else [TIMES, rates]
    for table in tables:
        titles = ["Batch", *table]
        cells = {"Batch": _batch, **table}
        print_table(
            [Column(title, right=True) for title in titles],
            [[cells[title](result, row) for title in titles] for row in result.batches],
        )
    for text in _facts(result):
        print_wrapped(text)
    for text in result.notes:
        note(text, "warning" if text.startswith("Outputs differ") else "note")


def _print_server(result: BenchResult) -> None:
    titles = ("Batch", *SERVER)
    cells = {"Batch": _batch, **SERVER}
    print_table(
        [Column(title, right=True) for title in titles],
        [[cells[title](result, row) for title in titles] for row in result.batches],
    )
    print_wrapped(
        "latency of whole requests on kept connections, where each client waits for its answer; ±: half the "
        "95 % interval of the median rate of 20 stretches"
    )
    for text in result.notes:
        note(text, "warning" if "failed" in text else "note")


def _batch(_result: BenchResult, row: BatchResult) -> str:
    return number_text(row.batch)


def interval_text(row: BatchResult) -> str:
    """Half the 95 % interval of the median, of the median."""
    timing = row.timing
    if timing.ci_low_ms is None or timing.ci_high_ms is None:
        return "N/A"
    return _half(timing.ci_low_ms, timing.ci_high_ms, timing.median_ms)


def _speedup(row: BatchResult) -> str:
    """`5.18 ± 0.02×`: how far off it is at most, where the medians are as their intervals say."""
    if row.speedup is None or row.speedup_interval is None:
        return number_text(row.speedup, "{:.3g}×")
    low, high = row.speedup_interval
    return f"{row.speedup:.3g} ± {(high - low) / 2:.1g}×"


def _half(low: float, high: float, middle: float) -> str:
    """Half an interval, of its middle."""
    half = (high - low) / 2 / middle
    return "over 100 %" if half > 1 else f"{100 * half:.2g} %"


def _share(result: BenchResult, row: BatchResult) -> str:
    share = row.roofline_share(result.peaks)
    return "N/A" if share is None else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


Cell = Callable[["BenchResult", "BatchResult"], str]

TIMES: dict[str, Cell] = {
    "Median": lambda _, row: time_text(row.timing.median_ms),
    "±": lambda _, row: interval_text(row),
    "p5": lambda _, row: time_text(row.timing.p5_ms),
    "p95": lambda _, row: time_text(row.timing.p95_ms),
    "Per s": lambda _, row: format_count(row.per_second),
    "Base": lambda _, row: time_text(row.baseline.median_ms if row.baseline else None),
    "Faster": lambda _, row: _speedup(row),
}
"""By title, the cell of a row: how long whole calls take."""

RATES: dict[str, Cell] = {
    "On device": lambda _, row: time_text(row.device_timing.median_ms if row.device_timing else None),
    "L2 warm": lambda _, row: time_text(row.warm_timing.median_ms if row.warm_timing else None),
    "GB/s": lambda _, row: number_text(row.gb_per_s, "{:.3g}"),
    "FLOP/s": lambda _, row: "N/A" if row.gflop_per_s is None else format_count(row.gflop_per_s * 1e9),
    "FLOP/B": lambda _, row: number_text(row.intensity, "{:.3g}"),
    "Bound": lambda result, row: row.bound(result.peaks) or "N/A",
    "Roof": _share,
}
"""By title, the cell of a row: how near it comes to what the device can do."""


ON_DEVICE = ("On device", "L2 warm")
"""Columns that only a GPU fills."""

SERVER: dict[str, Cell] = {
    "Clients": lambda _, row: number_text(row.load.concurrency if row.load else None),
    "Req/s": lambda _, row: format_count(row.load.per_second) if row.load else "N/A",
    "±": lambda _, row: _rate_interval(row),
    "Median": TIMES["Median"],
    "p5": TIMES["p5"],
    "p95": TIMES["p95"],
    "p99": lambda _, row: time_text(row.load.p99_ms if row.load else None),
    "Failed": lambda _, row: f"{sum(row.load.failures.values()):,}" if row.load else "N/A",
}
"""By title, the cell of a row: what a server's clients met."""


def _rate_interval(row: BatchResult) -> str:
    """Half the 95 % interval of the requests a second, of their number."""
    load = row.load
    if load is None or load.per_second_low is None or load.per_second_high is None:
        return "N/A"
    return _half(load.per_second_low, load.per_second_high, load.per_second)


def _facts(result: BenchResult) -> list[str]:
    said = []
    bases = dict.fromkeys(row.baseline.name for row in result.batches if row.baseline)
    if bases:
        said.append(
            f"Base: {', '.join(bases)}, in turns in the same run; outputs were compared before; Faster ±: "
            "with the medians anywhere in their intervals"
        )
    ceiling = result.peaks
    if ceiling is not None:
        said.append(
            f"Roof: {ceiling.origin}, {ceiling.gb_per_s:.3g} GB/s and {ceiling.gflop_per_s:,.0f} GFLOP/s "
            f"{ceiling.precision} ({ceiling.how})"
        )
    if any((row.roofline_share(ceiling) or 0) > 1 for row in result.batches):
        said.append("over 100 %: what stays in the caches is faster than main memory")
    devices = [row.device_timing.name for row in result.batches if row.device_timing]
    if devices:
        said.append(f"On device: {devices[0]}; GB/s, GFLOP/s and Roof are of that time")
    count = sum(row.timing.repetitions for row in result.batches)
    outliers = sum(row.timing.outliers for row in result.batches)
    said.append(f"±: half the 95 % interval of the median; {outliers:,} of {count:,} times are outliers")
    return said


def print_comparison(comparison: Comparison) -> None:
    """A table of what has changed since a saved run."""
    name = f" ({comparison.name})" if comparison.name else ""
    print(visible(f"against run {comparison.run}{name} of {comparison.made_at}"))
    titles = ("Target", "Batch", "Before", "Now", "Change", "Base", "p", "Verdict")
    columns = [Column(t, right=t not in ("Target", "Verdict"), wraps=t == "Target") for t in titles]
    print_table(columns, [_change_cells(change) for change in comparison.changes])
    least = max(change.threshold for change in comparison.changes)
    print_wrapped(
        f"slower or faster: by more than {100 * least:.2g} %, also after the base's own change, and by "
        "chance in 1 of 100 at most"
    )
    if any(change.verdict == "busy" for change in comparison.changes):
        print_wrapped("busy: other processes were at work, and no base shows that they changed nothing")
    for text in comparison.notes:
        note(text)


def _change_cells(change: Change) -> list[str]:
    batch = number_text(change.batch)
    return [
        change.target,
        batch if change.concurrency is None else f"{batch} × {change.concurrency}",
        time_text(change.before_ms),
        time_text(change.now_ms),
        _percent(change.ratio),
        "N/A" if change.drift is None else _percent(change.drift),
        f"{change.p:.2g}",
        change.verdict,
    ]


def _percent(ratio: float) -> str:
    return f"{ratio:.3g}×" if ratio >= 2 else f"{100 * (ratio - 1):+.1f} %"


def print_history(runs: Sequence[SavedRun], database: Path) -> None:
    """A table of saved runs, the newest first, a line for each row of theirs."""
    if not runs:
        note(f"nothing is saved in {database}: tessera bench TARGET saves what it measures")
        return
    print(visible(f"saved in {database}"))
    titles = ("Run", "Name", "UTC", "Target", "Device", "Batch", "Median", "Per s")
    left = ("Name", "UTC", "Target", "Device")
    columns = [Column(t, right=t not in left, wraps=t in ("Name", "Target")) for t in titles]
    print_table(columns, [line for run in runs for line in _history_lines(run)])


def _history_lines(run: SavedRun) -> Iterator[list[str]]:
    head = [str(run.id), run.name, f"{run.made_at:%m-%d %H:%M}"]
    for result in run.results:
        what = [result.target, result.device]
        for row in result.batches:
            clients = f" × {row.load.concurrency}" if row.load else ""
            times = [time_text(row.best.median_ms), format_count(row.per_second)]
            yield [*head, *what, number_text(row.batch) + clients, *times]
            head, what = ["", "", ""], ["", ""]


def history_data(runs: Sequence[SavedRun], database: Path) -> dict[str, Any]:
    """What `--history --json` prints."""
    listed = [{**_run_data(run), "results": [r.to_data() for r in run.results]} for run in runs]
    return {"database": str(database), "runs": listed}


def _run_data(run: SavedRun) -> dict[str, Any]:
    return {"id": run.id, "name": run.name, "made_at": run.made_at.isoformat(), "version": run.version}
