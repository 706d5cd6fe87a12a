"""What the demo shows: tables in the terminal, and the sections it adds to the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.workbench.demo import Outcome

if TYPE_CHECKING:
    from tessera.profiler.report_data import Block


def kernel_table(outcome: Outcome, targets: Sequence[str]) -> list[list[str]]:
    """For each kernel its name, then registers, spill bytes and KiB, each for all of `targets`."""
    sizes = {entry.path: entry.size for entry in outcome.package.entries}
    rows: dict[str, dict[str, tuple[str, str, str]]] = {}
    for binary in outcome.package.binaries:
        if binary.format == "cubin" and binary.resources is not None:
            registers, spills = (
                "N/A" if value is None else str(value)
                for value in (binary.resources.registers, binary.resources.spill_bytes)
            )
            size = f"{sizes[binary.path] / 1024:.1f}"
            rows.setdefault(binary.name, {})[binary.target] = (registers, spills, size)
    unknown = ("N/A",) * 3
    return [
        [kernel, *(" / ".join(cells.get(t, unknown)[column] for t in targets) for column in range(3))]
        for kernel, cells in rows.items()
    ]


def sections(outcomes: Sequence[Outcome]) -> Mapping[str, Sequence[Block]]:
    """Accuracy, latency and confusion matrices of the served models, for the report."""
    from tessera.profiler.report_data import Heatmap, Table, Text

    blocks: list[Block] = [
        Text(
            "Every held-out digit was sent to a server process over HTTP, one request at a time. "
            "Reference: the same graph computed operator by operator in NumPy."
        ),
        Table(
            title="Answers",
            columns=("model", "digits", "accuracy %", "equal to reference", "p50 ms", "p99 ms"),
            rows=tuple(_answer_row(o) for o in outcomes),
            origin="measured",
        ),
    ]
    digits = tuple(str(d) for d in range(10))
    for outcome in outcomes:
        counts = [[0.0] * 10 for _ in range(10)]
        for label, predicted in zip(outcome.labels, outcome.predicted, strict=True):
            counts[int(label)][int(predicted)] += 1
        blocks.append(
            Heatmap(
                title=f"Confusion matrix of {outcome.name}",
                x_label="answered",
                y_label="written",
                x=digits,
                y=digits,
                values=tuple(tuple(row) for row in counts),
                origin="measured",
            )
        )
    return {"Served digits": blocks}


def _answer_row(outcome: Outcome) -> tuple[str | int | float, ...]:
    same = int((outcome.predicted == outcome.reference).sum())
    return (
        outcome.name,
        len(outcome.labels),
        round(100 * outcome.accuracy, 2),
        f"{same} of {len(outcome.labels)}",
        round(outcome.latency_ms(0.5), 3),
        round(outcome.latency_ms(0.99), 3),
    )


def write_demo_report(path: Path, outcomes: Sequence[Outcome], stages: Mapping[str, float]) -> Path:
    """One HTML page about the float32 package, with what both models answered."""
    from tessera.profiler import bench_target, write_report
    from tessera.profiler.report_data import StageTime
    from tessera.workbench.reporting import Wanted, report_data

    first = outcomes[0]
    found = report_data(Wanted(str(first.path), device="cpu", recordings=("demo",)))
    data = replace(
        found,
        title="Tessera demo: handwritten digits",
        subtitle="A classifier compiled for three GPU architectures and this CPU, served and asked.",
        stages=tuple(StageTime(name, seconds) for name, seconds in stages.items()),
        benchmarks=(bench_target(first.package, device="cpu", batch_sizes=(1, 32), seconds=0.5),),
        sections=sections(outcomes),
    )
    return write_report(data, path)


def as_json(outcomes: Sequence[Outcome], stages: Mapping[str, float], report: Path) -> dict[str, Any]:
    """The demo's result as one JSON object."""
    return {
        "models": [
            {
                "name": o.name,
                "package": str(o.path),
                "digits": len(o.labels),
                "accuracy": o.accuracy,
                "equal_to_reference": o.agreement,
                "latency_ms_p50": o.latency_ms(0.5),
                "latency_ms_p99": o.latency_ms(0.99),
            }
            for o in outcomes
        ],
        "stages": dict(stages),
        "report": str(report),
    }
