"""`tessera compile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from tessera.workbench.compilation import Compiled

Target = Annotated[str, typer.Argument(metavar="FILE[:NAME]", show_default=False)]
Arch = Annotated[
    list[str] | None,
    typer.Option("--arch", "-a", metavar="ARCH", help="sm_70 … sm_121, sm_90a, cpu; may be repeated."),
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
    timings: Annotated[bool, typer.Option("--timings", help="Show the time of each stage.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compile, save if asked, and show what every kernel needs."""
    from tessera.workbench.compilation import compile_request, kernel_rows, make_request, write_outputs
    from tessera.workbench.output import emit

    request = make_request(
        target, arch, spec, optimization_level=optimization_level, fast_math=fast_math, lineinfo=lineinfo
    )
    compiled = compile_request(request)
    place = out or request.project.out()
    written = write_outputs(compiled, place) if place else []
    if as_json:
        data: dict[str, Any] = {"kernels": kernel_rows(compiled.binaries()), "seconds": compiled.seconds}
        if timings:
            data["stages"] = dict(compiled.kernels[0].seconds)
        emit(data)
        return
    _show(compiled, written)
    if timings:
        spent = compiled.kernels[0].seconds
        print("  ".join(f"{stage} {seconds:.2f} s" for stage, seconds in spent.items() if seconds))


def _show(compiled: Compiled, written: list[Path]) -> None:
    from tessera.workbench.compilation import KERNEL_COLUMNS, kernel_cells
    from tessera.workbench.failure import short_path, visible
    from tessera.workbench.output import note, print_table

    print_table(KERNEL_COLUMNS, kernel_cells(compiled.binaries()))
    machine = [b for b in compiled.binaries() if b.format != "ptx"]
    cached = sum(b.cached for b in machine)
    origin = "" if not cached else ", all cached" if cached == len(machine) else f", {cached} cached"
    things = "binary" if len(machine) == 1 else "binaries"
    print(f"{len(machine)} {things} in {compiled.seconds:.2f} s{origin}")
    for path in written[:1]:
        more = f" and {len(written) - 1} files beside it" if len(written) > 1 else ""
        print(f"wrote {visible(short_path(str(path)))}{more}")
    for text in dict.fromkeys(n for artifact in compiled.artifacts for n in artifact.notes):
        note(text)
