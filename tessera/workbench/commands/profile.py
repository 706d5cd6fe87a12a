"""`tessera profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tessera.workbench.commands.compile import Arch, Spec
from tessera.workbench.commands.run import Size, Steps
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from tessera.profiler.phases import Phases
    from tessera.workbench.profiling import Counted


def profile(
    target: Annotated[
        str | None,
        typer.Argument(metavar="FILE[:NAME]|PKG", help="Source, .tsc, .tsp or .tsd.", show_default=False),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", "-d", help="emulator (counts); cpu or cuda:0 (times).")
    ] = "emulator",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="[NAME=]FILE.npy", help="An input; may be repeated."),
    ] = None,
    size: Size = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of inputs drawn at random.")] = 0,
    arch: Arch = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Executions to measure.")] = 20,
    steps: Steps = None,
    ncu: Annotated[
        bool | None,
        typer.Option(
            "--ncu/--no-ncu",
            help="Hardware counters by Nsight Compute (cuda); taken where ncu is installed.",
            show_default=False,
        ),
    ] = None,
    flame: Annotated[
        Path | None, typer.Option("--flame", metavar="FILE", help="Write folded stacks, for flame graphs.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Write a Chrome trace, for Perfetto.")
    ] = None,
    nvtx: Annotated[
        bool, typer.Option("--nvtx", help="Mark launches by NVTX ranges, for Nsight Systems (cuda).")
    ] = False,
    gpu: Annotated[
        list[str] | None,
        typer.Option("--gpu", metavar="NAME", help="Roofline of a GPU model, such as H200; may be repeated."),
    ] = None,
    program: Annotated[str | None, typer.Option("--program", help="Which program of a package.")] = None,
    spec: Spec = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="One row per line of source (or step) on stdout.")
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List what is looked for, with sources.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Count what kernels do, line by line; or measure their steps."""
    from contextlib import nullcontext

    from tessera.profiler.phases import Phases
    from tessera.runtime.nvtx import nvtx_ranges
    from tessera.workbench import profile_flame, profile_trace
    from tessera.workbench.destinations import check_destinations, make_folders
    from tessera.workbench.failure import UsageError
    from tessera.workbench.profile_ncu import count_with_ncu
    from tessera.workbench.profile_output import show_counted, show_timed
    from tessera.workbench.profiling import check_options, one_form, time_program
    from tessera.workbench.roofline_tables import named_gpus
    from tessera.workbench.specs import parse_sizes

    form = one_form(as_json, as_csv)
    if rules:
        _list_rules(target, as_csv=as_csv, as_json=as_json)
        return
    if target is None:
        raise UsageError("Missing argument 'FILE[:NAME]|PKG'", hint="tessera profile kernels.py:saxpy")
    check_options(device, {"--steps": steps, "--arch": arch, "--gpu": gpu}, {"--ncu": ncu, "--nvtx": nvtx})
    gpus = named_gpus(gpu or (), form)
    written = {"--flame": flame, "--trace": trace}
    check_destinations(written)
    sizes, phases = parse_sizes(size or ()), Phases()
    if device == "emulator":
        results = _counted(target, arch, spec, program, inputs or [], sizes, seed, steps, phases)
        make_folders(written)
        if flame is not None:
            profile_flame.write_counted(flame, results)
        if trace is not None:
            profile_trace.write_counted(trace, results, phases)
        show_counted(results, form, seed, gpus)
        return
    with nvtx_ranges() if nvtx else nullcontext():
        timed = time_program(target, device, spec, program, inputs or (), sizes, seed, repeat, phases)
    found = count_with_ncu(target, device, spec, timed, ncu)
    make_folders(written)
    if flame is not None:
        profile_flame.write_measured(flame, timed, found)
    if trace is not None:
        profile_trace.write_timed(trace, timed, phases, found)
    show_timed(timed, found, form, seed)


def _list_rules(target: str | None, *, as_csv: bool, as_json: bool) -> None:
    from tessera.workbench.failure import UsageError
    from tessera.workbench.output import emit
    from tessera.workbench.rule_table import print_rules, rules_data

    if target is not None:
        raise UsageError(f"--rules profiles nothing, {target} neither", hint="tessera profile --rules")
    if as_csv:
        raise UsageError("--rules has no form as CSV", hint="--json")
    if as_json:
        emit(rules_data())
    else:
        print_rules()


def _counted(
    target: str, arch: list[str] | None, spec: list[str] | None, program: str | None, inputs: list[str],
    sizes: dict[str, int], seed: int, steps: int | None, phases: Phases,
) -> list[Counted]:  # fmt: skip
    from tessera.program.arch import is_cpu
    from tessera.workbench.compilation import compile_request, make_request
    from tessera.workbench.failure import UsageError
    from tessera.workbench.profiling import count_package, count_source
    from tessera.workbench.source import is_package

    if is_package(target):
        if arch:
            raise UsageError("--arch: a package is compiled already", hint="leave --arch out")
        with phases.span(f"count {target}"):
            return [count_package(target, program, inputs, sizes, seed, steps)]
    request = make_request(target, arch, spec, lineinfo=True)
    if all(is_cpu(name) for name in request.arch):
        raise UsageError(f"--arch {', '.join(request.arch)}: the emulator runs GPU code", hint="--arch sm_80")
    with phases.span(f"open {target}") as phase:
        compiled = compile_request(request)
        for kernel in compiled.kernels:
            for name, seconds in kernel.seconds.items():
                phase.parts[name] = phase.parts.get(name, 0.0) + seconds
    with phases.span(f"count {target}"):
        return count_source(compiled, inputs, sizes, seed, steps)
