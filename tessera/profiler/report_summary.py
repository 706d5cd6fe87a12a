"""The figures at the top of a report, taken from what the rest of it shows."""

from __future__ import annotations

from collections.abc import Iterator

from tessera.profiler.report_data import Fact, ReportData
from tessera.profiler.report_sweeps import ranked
from tessera.program.arch import is_cpu
from tessera.program.bytesize import format_bytes
from tessera.program.quantity import format_ms


def summarize(data: ReportData) -> tuple[Fact, ...]:
    """At most nine figures, of the sections that `data` has."""
    return (
        *_kernels(data),
        *_sweeps(data),
        *_package(data),
        *_stages(data),
        *_benchmark(data),
        *_checks(data),
    )


def _kernels(data: ReportData) -> Iterator[Fact]:
    if not data.kernels:
        return
    gpu = [k for k in data.kernels if not is_cpu(k.target)]
    targets = list(dict.fromkeys(k.target for k in data.kernels))
    names = {(k.program, k.kernel) for k in (gpu or data.kernels)}
    yield Fact("kernels", f"{len(names):,}", "measured", "on " + ", ".join(targets))
    spills = [k.spill_bytes for k in gpu if k.spill_bytes is not None]
    if spills:
        spilling = sum(1 for spill in spills if spill)
        cubins = _count(len(spills), "cubin")
        detail = f"in {spilling} of {cubins}" if spilling else f"none in {cubins}"
        yield Fact("spilled registers", format_bytes(max(spills)), "measured", detail)
    occupancies = [k.occupancy for k in gpu if k.occupancy is not None]
    if occupancies:
        low, high = min(occupancies), max(occupancies)
        text = f"{100 * low:.0f}–{100 * high:.0f} %" if low < high else f"{100 * low:.0f} %"
        yield Fact("occupancy", text, "predicted", "resident warps of the most possible")


def _sweeps(data: ReportData) -> Iterator[Fact]:
    """The best configuration of the sweep that gained most over its slowest, for what the report is about."""
    targets = {k.target for k in data.kernels}
    sweeps = [s for s in data.sweeps if s.target in targets] or data.sweeps
    found = [(sweep, good) for sweep in sweeps if (good := ranked(sweep))]
    if not found:
        return
    sweep, good = max(found, key=lambda pair: (pair[1][-1].cost_ms or 0) / (pair[1][0].cost_ms or 1))
    cost = good[0].cost_ms or 0.0
    words = " ".join(f"{name}={value}" for name, value in sorted(good[0].configuration.items()))
    where = f"{sweep.kernel}, best of {len(sweep.trials):,} for {sweep.gpu}: {words}"
    yield Fact("tuned kernel", format_ms(cost), sweep.origin, where)


def _package(data: ReportData) -> Iterator[Fact]:
    if data.entries:
        total = sum(entry.bytes for entry in data.entries)
        yield Fact("package", format_bytes(total), "measured", f"{len(data.entries)} files")


def _stages(data: ReportData) -> Iterator[Fact]:
    if data.stages:
        total = sum(stage.seconds for stage in data.stages)
        yield Fact("all stages", f"{total:.2f} s", "measured", f"{len(data.stages)} stages")


def _benchmark(data: ReportData) -> Iterator[Fact]:
    batches = [(b, result) for result in data.benchmarks for b in result.batches]
    if not batches:
        return
    quickest, result = min(batches, key=lambda pair: pair[0].timing.median_ms)
    size = "" if quickest.batch is None else f"batch {quickest.batch}, "
    yield Fact(
        "fastest answer",
        format_ms(quickest.timing.median_ms),
        "measured",
        f"{size}median on {result.device}",
    )
    best, result = max(batches, key=lambda pair: pair[0].per_second)
    size = "" if best.batch is None else f"batch {best.batch}, "
    yield Fact("best throughput", f"{best.per_second:,.0f} /s", "measured", f"{size}on {result.device}")


def _checks(data: ReportData) -> Iterator[Fact]:
    if data.checks:
        ok, warnings, failures = (
            sum(1 for c in data.checks if c.status == status) for status in ("ok", "warning", "failure")
        )
        detail = f"{_count(warnings, 'warning')}, {_count(failures, 'failure')}"
        yield Fact("checks passed", str(ok), "measured", detail)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
