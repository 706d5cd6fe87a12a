"""`tessera check`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.workbench.commands.compile import Spec, Target
from tessera.workbench.commands.run import Size
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    from tessera.emulator.findings import Finding
    from tessera.program.errors import TesseraError
    from tessera.workbench.checking import Checked

_EXAMPLE = "tessera check kernels.py"


def check(
    target: Target,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="[NAME=]FILE.npy", help="An input; may be repeated."),
    ] = None,
    size: Size = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of inputs drawn at random.")] = 0,
    arch: Annotated[
        str, typer.Option("--arch", "-a", metavar="ARCH", help="GPU architecture to compile for.")
    ] = "sm_80",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Findings after which the run ends.")] = 100,
    steps: Annotated[
        int,
        typer.Option("--steps", min=1, help="Jumps of one block of threads after which a kernel is endless."),
    ] = 100_000,
    sarif: Annotated[
        Path | None, typer.Option("--sarif", metavar="FILE", help="Write the findings as SARIF 2.1.0.")
    ] = None,
    spec: Spec = None,
    as_json: JsonOption = False,
) -> None:
    """Find memory errors and races, without a GPU."""
    from tessera.program.arch import is_cpu
    from tessera.workbench.checking import Limits, check_entry, known_sizes, one_entry
    from tessera.workbench.compilation import compile_request, make_request
    from tessera.workbench.destinations import check_destinations, make_folders
    from tessera.workbench.failure import UsageError, show_error
    from tessera.workbench.output import emit
    from tessera.workbench.source import is_package
    from tessera.workbench.specs import parse_sizes

    if is_package(target):
        raise UsageError(f"{target} is a package: check compiles source, to name its lines", hint=_EXAMPLE)
    sizes = parse_sizes(size or ())
    check_destinations({"--sarif": sarif})
    request = make_request(target, [arch], spec, lineinfo=True)
    if any(is_cpu(name) for name in request.arch):
        raise UsageError(f"--arch {arch}: check runs GPU code", hint="--arch sm_80")
    compiled = compile_request(request, keep_going=True)
    one_entry(compiled, inputs or ())
    known_sizes([a.programs[0] for a in compiled.artifacts], sizes)
    if not as_json:
        for _, error in compiled.failures:
            show_error(error)
    results = []
    for index in range(len(compiled.entries)):
        # What kernels print is no part of the data.
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            result = check_entry(compiled, index, inputs or (), sizes, seed, Limits(limit, steps))
        results.append(result)
        if not as_json:
            _print_result(result, seed)
    findings = [f for result in results for f in result.findings]
    if sarif is not None:
        from tessera.workbench.sarif import write_sarif

        make_folders({"--sarif": sarif})
        write_sarif(sarif, findings)
    if as_json:
        emit(_data(results, compiled.failures, seed, sarif))
    elif sarif is not None:
        print(f"wrote {sarif}")
    if findings or compiled.failures:
        raise typer.Exit(1)


def _data(
    results: Sequence[Checked], failures: Sequence[tuple[str, TesseraError]], seed: int, sarif: Path | None
) -> dict[str, Any]:
    from tessera.workbench.failure import error_data

    return {
        "ok": not failures and not any(r.findings for r in results),
        "seed": seed,
        "programs": [
            {
                "name": r.program.name,
                "target": r.target,
                "inputs": {n: list(v.shape) for n, v in r.inputs.values.items()},
                "drawn": list(r.inputs.drawn),
                "sizes_assumed": r.inputs.assumed,
                "complete": r.complete,
                "seconds": r.seconds,
                "findings": [f.data() for f in r.findings],
            }
            for r in results
        ],
        "not_compiled": [{"name": name, **error_data(error)} for name, error in failures],
        "written": [str(sarif)] if sarif else [],
    }


def _print_result(result: Checked, seed: int) -> None:
    from tessera.workbench.failure import visible
    from tessera.workbench.output import note

    if result.inputs.assumed:
        text = ", ".join(f"{name}={value}" for name, value in result.inputs.assumed.items())
        note(f"{result.program.name}: sizes assumed: {text}; --size says otherwise")
    if result.inputs.drawn:
        note(f"{result.program.name}: drawn at random (--seed {seed}): {', '.join(result.inputs.drawn)}")
    for finding in result.findings:
        print("\n".join(_block(finding)))
        print()
    count = len(result.findings)
    said = "nothing found" if count == 0 else "1 finding" if count == 1 else f"{count} findings"
    stopped = "" if result.complete else "; stopped there, see --limit"
    print(f"{visible(result.program.name)}: {said}{stopped} ({result.target}, {result.seconds:.1f} s)")


def _block(finding: Finding) -> list[str]:
    """The finding as lines of text, in the form of an error."""
    from tessera.program.errors import SourceLocation, TesseraError
    from tessera.workbench.failure import colored, error_block, paint, visible

    color = colored(sys.stdout)
    location = SourceLocation(finding.file, finding.line, function=finding.kernel) if finding.line else None
    error = TesseraError(f"{finding.kind}: {finding.message}", location=location)
    lines = [error_block(error, color=color)]
    who = f"block {finding.block}, thread {finding.thread}"
    if finding.count > 1:
        who += f", the first of {finding.count} times"
    lines.append(
        f"{paint('where:', 'blue', color)} {who}; PTX line {finding.ptx_line}: {finding.instruction}"
    )
    other = finding.other
    if other is not None:
        place = f"line {other.line}" if other.line else f"PTX line {other.ptx_line}"
        lines.append(
            f"{paint('other:', 'blue', color)} block {other.block}, thread {other.thread}: "
            f"{visible(other.access)} in {place}"
        )
    lines.append(f"{paint('hint:', 'green', color)} {visible(finding.hint)}")
    return lines
