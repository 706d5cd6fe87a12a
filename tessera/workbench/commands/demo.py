"""`tessera demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.program.bytesize import format_bytes
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from rich.console import Console

    from tessera.workbench.demo import Outcome


def demo(
    report: Annotated[Path, typer.Option("--report", metavar="HTML", help="Where the report goes.")] = Path(
        "report.html"
    ),
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where packages and the server's log go.")
    ] = Path("out/demo"),
    as_json: JsonOption = False,
) -> None:
    """Compile, package, verify, serve and ask the digits classifier; write a report."""
    from tessera.workbench import demo as way
    from tessera.workbench.demo_report import as_json as to_json
    from tessera.workbench.demo_report import write_demo_report
    from tessera.workbench.output import emit, stdout_console

    console = stdout_console()
    console.quiet = as_json
    stages = way.Stages()
    folder.mkdir(parents=True, exist_ok=True)
    console.print("Tessera demo: a classifier of handwritten digits, from source to served answers")
    with stages.stage("load the example"):
        module = way.example_module()
    _begin(console, 1, f"Compile for {' '.join(way.TARGETS)}, in float32 and bfloat16, and package")
    made = way.compile_models(folder, module, stages)
    for name, path, package in made:
        _say(console, f"{name}: {len(package.binaries)} binaries in {path} ({_size(path)})")
    _begin(console, 2, "Verify: every byte as the manifest says")
    _say(console, f"{way.verify_packages(made, stages)} entries are intact")
    _begin(
        console,
        3,
        f"Serve each in a process of its own; send the {len(module.held_out()[1])} held-out digits",
    )
    outcomes = []
    for name, path, package in made:
        outcome = way.serve_and_ask(name, path, package, module, folder / f"{name}.log", stages)
        _say(console, _answers(outcome))
        outcomes.append(outcome)
    _begin(console, 4, "Report")
    with stages.stage("measure and report"):
        written = write_demo_report(report, outcomes, stages.seconds)
    _say(console, f"{written} ({_size(written)})")
    for outcome in outcomes:
        way.check_outcome(outcome)
    if as_json:
        emit(to_json(outcomes, stages.seconds, written))
        return
    _show_kernels(outcomes)
    _show_stages(stages.seconds)
    _show_next(console, made[0][1], written)


def _begin(console: Console, number: int, text: str) -> None:
    console.print()
    console.print(f"{number}  {text}", style="bold")


def _say(console: Console, text: str) -> None:
    console.print(f"   {text}")


def _size(path: Path) -> str:
    return format_bytes(path.stat().st_size)


def _answers(outcome: Outcome) -> str:
    right = int((outcome.predicted == outcome.labels).sum())
    same = int((outcome.predicted == outcome.reference).sum())
    count = len(outcome.labels)
    return (
        f"{outcome.name}: {outcome.accuracy:.2%} right ({right}/{count}), "
        f"same as reference {same}/{count}, p50 {outcome.latency_ms(0.5):.2f} ms"
    )


def _show_kernels(outcomes: list[Outcome]) -> None:
    from tessera.workbench.demo import TARGETS
    from tessera.workbench.demo_report import kernel_table
    from tessera.workbench.output import Column, print_table

    gpus = [target for target in TARGETS if target.startswith("sm_")]
    columns = [Column("kernel"), *(Column(t, right=True) for t in ("registers", "spill bytes", "KiB"))]
    for outcome in outcomes:
        print()
        title = f"Cubins of {outcome.name} for {' / '.join(gpus)}"
        print_table(columns, kernel_table(outcome, gpus), title=title)


def _show_stages(seconds: dict[str, float]) -> None:
    from tessera.workbench.output import Column, print_table

    rows = [[name, f"{value:.2f} s"] for name, value in seconds.items()]
    rows.append(["total", f"{sum(seconds.values()):.2f} s"])
    print_table([Column("stage"), Column("time", right=True)], rows, title="Stages, measured on this machine")


def _show_next(console: Console, package: Path, report: Path) -> None:
    prefix = _command_prefix()
    console.print("Next", style="bold")
    for command, what in (
        (f"{prefix}tessera package inspect {package}", "what is inside"),
        (f"{prefix}tessera serve {package}", "serve it yourself"),
        (f"{prefix}tessera bench {package}", "measure it"),
        (f"{prefix}tessera new hello", "a project of your own"),
        (f"{prefix}tessera compile hello/kernels.py --arch sm_90", "compile what is in it"),
        (f"{prefix}tessera-workbench hello", "the terminal app"),
    ):
        console.print(f"   {command}", soft_wrap=True, end="")
        console.print(f"   # {what}", style="dim")
    console.print(f"   open {report} in a browser")


def _command_prefix() -> str:
    """What to type before `tessera` where it is in a virtual environment that is not active."""
    import os
    import shutil
    import sys

    if shutil.which("tessera") is not None:
        return ""
    folder = Path(os.path.relpath(Path(sys.argv[0]).parent))
    return f"{folder}/"
