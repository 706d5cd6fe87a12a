"""`tessera bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tessera.workbench.commands.compile import Spec
from tessera.workbench.commands.run import Device, Size
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from tessera.profiler import BenchResult


def bench(
    targets: Annotated[
        list[str], typer.Argument(metavar="TARGET…", help="FILE:NAME or a package; several are compared.")
    ],
    device: Device = "cpu",
    batch: Annotated[
        list[int] | None, typer.Option("--batch", "-b", min=1, help="A batch size; may be repeated.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="To measure each batch size for.")
    ] = 1.0,
    size: Size = None,
    program: Annotated[str | None, typer.Option("--program", help="Which program of a package.")] = None,
    spec: Spec = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency and throughput, against NumPy in the same run."""
    from tessera.profiler.bench import bench_target
    from tessera.workbench.opening import benchable
    from tessera.workbench.output import emit, progress
    from tessera.workbench.specs import parse_sizes

    sizes = parse_sizes(size or ())
    results: list[BenchResult] = []
    with progress(len(targets)) as advance:
        for index, target in enumerate(targets):
            advance(index, f"measuring {target}")
            results.append(
                bench_target(
                    benchable(target, device, spec),
                    device=device,
                    batch_sizes=batch,
                    seconds=seconds,
                    program=program,
                    sizes=sizes,
                )
            )
    if as_json:
        emit({"results": [result.to_data() for result in results]})
        return
    for result in results:
        _print_result(result)


def _print_result(result: BenchResult) -> None:
    from tessera.workbench.failure import visible
    from tessera.workbench.output import Column, note, number_text, print_table

    print(visible(f"{result.target} on {result.device} ({result.hardware}), {result.kind}"))
    columns = [
        Column(t, right=True) for t in ("Batch", "Median", "95 %", "Per second", "GB/s", "NumPy", "Faster")
    ]
    rows = [
        (
            number_text(row.batch),
            f"{row.timing.median_ms:.4g} ms",
            f"{row.timing.p95_ms:.4g} ms",
            f"{row.per_second:,.0f}",
            number_text(row.gb_per_s, "{:.3g}"),
            "N/A" if row.baseline is None else f"{row.baseline.median_ms:.4g} ms",
            number_text(row.speedup, "{:.2f}×"),
        )
        for row in result.batches
    ]
    print_table(columns, rows)
    for text in result.notes:
        note(text)
