"""`tessera bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.workbench.commands.compile import Spec
from tessera.workbench.commands.run import Device, Size
from tessera.workbench.output import JsonOption

_SHOWN = 20
"""Runs that `--history` lists; `--json` has all."""


def bench(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET…", help="FILE:NAME, a package, or a server's URL.", show_default=False
        ),
    ] = None,
    device: Device = "cpu",
    batch: Annotated[
        list[int] | None, typer.Option("--batch", "-b", min=1, help="A batch size; may be repeated.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="To measure each batch size for.")
    ] = 1.0,
    warmup: Annotated[
        float, typer.Option("--warmup", min=0, metavar="SECONDS", help="Of calls that do not count.")
    ] = 0.2,
    size: Size = None,
    program: Annotated[str | None, typer.Option("--program", help="Which program of a package.")] = None,
    spec: Spec = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NAME|FILE:NAME",
            help="numpy (if not given), torch, cupy, onnxruntime, none, or a function.",
        ),
    ] = None,
    concurrency: Annotated[
        list[int] | None,
        typer.Option("--concurrency", "-c", min=1, help="Clients of a server; may be repeated: 1, 4, 16."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="For an answer of a server.")
    ] = 10.0,
    save: Annotated[str | None, typer.Option("--save", metavar="NAME", help="Give the run a name.")] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Whether to save the run.")] = True,
    against: Annotated[
        str | None,
        typer.Option("--compare", metavar="NAME|ID|last", help="With a saved run; exit status 1 if slower."),
    ] = None,
    least_change: Annotated[
        float, typer.Option("--least-change", min=0, metavar="PERCENT", help="What counts as a change.")
    ] = 5.0,
    history: Annotated[bool, typer.Option("--history", help="List saved runs; measure nothing.")] = False,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="Where runs are saved.")
    ] = None,
    export: Annotated[
        list[Path] | None,
        typer.Option("--export", metavar="FILE", help="Write .json, .csv or .md; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency and throughput against a baseline, and against saved runs."""
    from tessera.workbench.bench_table import measured_data, print_measured
    from tessera.workbench.benching import Wanted, run_bench
    from tessera.workbench.failure import UsageError
    from tessera.workbench.output import emit
    from tessera.workbench.specs import parse_sizes

    if history:
        _show_history(targets or [], database, as_json)
        return
    if not targets:
        raise UsageError("nothing to measure", hint="tessera bench kernels.py:linear_relu")
    if save is not None and not keep:
        raise UsageError("--save and --no-keep contradict each other", hint="leave one out")
    wanted = Wanted(
        targets=tuple(targets), device=device, batch=tuple(batch) if batch else None, seconds=seconds,
        warmup=warmup, sizes=parse_sizes(size or ()), program=program, spec=tuple(spec or ()),
        baseline=baseline, concurrency=tuple(concurrency) if concurrency else None, timeout=timeout,
        name=save, keep=keep, against=against, least_change=least_change,
        database=database, exports=tuple(export or ()),
    )  # fmt: skip
    measured = run_bench(wanted)
    if not as_json:
        print_measured(measured)
    if measured.problem is not None:
        raise measured.problem
    if as_json:
        emit(measured_data(measured))
    if measured.failed:
        raise typer.Exit(1)


def _show_history(targets: list[str], database: Path | None, as_json: bool) -> None:
    from tessera.workbench.bench_table import history_data, print_history
    from tessera.workbench.benching import open_history, target_label
    from tessera.workbench.output import emit, note

    saved = open_history(database)
    runs = saved.runs()
    if targets:
        wanted = {target_label(target) for target in targets}
        runs = [run for run in runs if any(result.target in wanted for result in run.results)]
    if as_json:
        emit(history_data(runs, saved.path))
        return
    print_history(runs[:_SHOWN], saved.path)
    if len(runs) > _SHOWN:
        note(f"{len(runs) - _SHOWN} earlier runs are not shown; --json has all")
