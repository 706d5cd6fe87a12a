"""`tessera compile`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.workbench.output import JsonOption
from tessera.workbench.streams import copied

if TYPE_CHECKING:
    from tessera.workbench.compilation import Compiled

Target = Annotated[str, typer.Argument(metavar="FILE[:NAME]", show_default=False)]
Arch = Annotated[
    list[str] | None,
    typer.Option("--arch", "-a", metavar="ARCH", help="sm_70 … sm_121, sm_90a, cpu, all; may be repeated."),
]
Spec = Annotated[
    list[str] | None,
    typer.Option("--spec", metavar="ARG=DTYPE[SIZES]", help="Shape of an argument; may be repeated."),
]


def compile_(
    target: Target,
    arch: Arch = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="OUT", help="A .tsc or .tsp file, or a folder."),
    ] = None,
    spec: Spec = None,
    optimization_level: Annotated[
        int | None, typer.Option("-O", min=0, max=3, help="Optimization level; 3 if not given.")
    ] = None,
    fast_math: Annotated[
        bool | None, typer.Option("--fast-math/--no-fast-math", help="Trade accuracy for speed.")
    ] = None,
    lineinfo: Annotated[bool, typer.Option("--lineinfo", help="Keep source lines.")] = False,
    emit_stage: Annotated[
        str | None,
        typer.Option(
            "--emit", metavar="STAGE", help="Stop at graph, kernels, nvvm, ptx, cubin or sass, and give that."
        ),
    ] = None,
    timings: Annotated[bool, typer.Option("--timings", help="Show the time of each stage.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compile, save if asked, and show what every kernel needs."""
    from tessera.workbench.answers import keep
    from tessera.workbench.compilation import (
        DEFAULT_ARCH,
        compile_request,
        kernel_rows,
        make_request,
        stage_ending,
        write_outputs,
    )
    from tessera.workbench.output import emit
    from tessera.workbench.source import split_target

    begun = stage_ending(target)
    request = make_request(
        target,
        arch,
        spec,
        optimization_level=optimization_level,
        fast_math=fast_math,
        lineinfo=lineinfo,
        default_arch=() if begun else DEFAULT_ARCH,
    )
    if emit_stage is not None or begun:
        from tessera.workbench.staging import emitted, resumed, show

        stages = resumed(request, emit_stage) if begun else emitted(request, emit_stage or "cubin")
        show(stages, out, as_json=as_json, timings=timings)
        return
    compiled = compile_request(request)
    place = out or request.project.out()
    written = write_outputs(compiled, place) if place else []
    rows = kernel_rows(compiled.binaries())
    if as_json:
        data: dict[str, Any] = {"kernels": rows, "seconds": compiled.seconds}
        if timings:
            data["stages"] = dict(compiled.kernels[0].seconds)
        emit(data)
        if compiled.whole_file:
            again = {"kernels": [{**row, "cached": True} for row in rows]}
            keep(split_target(target)[0], request.project.file, written, data=again)
        return
    shown = _show(compiled, written)
    if compiled.whole_file:
        keep(split_target(target)[0], request.project.file, written, shown=shown)
    if timings:
        spent = compiled.kernels[0].seconds
        print("  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in spent.items() if seconds))


def _show(compiled: Compiled, written: list[Path]) -> tuple[str, str, str]:
    """Show it all; what the cache will say another time: text before and after the seconds, and notes."""
    from tessera.workbench.compilation import KERNEL_COLUMNS, kernel_cells
    from tessera.workbench.failure import short_path, visible
    from tessera.workbench.output import note, print_table

    with copied("stdout") as table:
        print_table(KERNEL_COLUMNS, kernel_cells(compiled.binaries()))
    machine = [b for b in compiled.binaries() if b.format != "ptx"]
    cached = sum(b.cached for b in machine)
    origin = "" if not cached else ", all cached" if cached == len(machine) else f", {cached} cached"
    things = f"{len(machine)} {'binary' if len(machine) == 1 else 'binaries'} in "
    print(f"{things}{compiled.seconds:.2f} s{origin}")
    with copied("stdout") as places:
        for path in written[:1]:
            more = f" and {len(written) - 1} files beside it" if len(written) > 1 else ""
            print(f"wrote {visible(short_path(str(path)))}{more}")
    sys.stdout.flush()
    with copied("stderr") as notes:
        for text in dict.fromkeys(n for artifact in compiled.artifacts for n in artifact.notes):
            note(text)
    return table.text + things, f", all cached\n{places.text}", notes.text
