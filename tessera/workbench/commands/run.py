"""`tessera run`."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from tessera.workbench.commands.compile import Spec
from tessera.workbench.output import JsonOption

if TYPE_CHECKING:
    import numpy as np

    from tessera.program.program import Program
    from tessera.runtime import Runtime
    from tessera.workbench.draw import Inputs

Target = Annotated[
    str, typer.Argument(metavar="FILE[:NAME]|PKG", help="Source, .tsc, .tsp or .tsd.", show_default=False)
]
Device = Annotated[str, typer.Option("--device", "-d", help="cpu, cuda:0, reference or emulator.")]
Size = Annotated[
    list[str] | None, typer.Option("--size", metavar="NAME=N", help="A symbolic size; may be repeated.")
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps", min=1, help="Jumps of one block of threads after which a kernel is endless (emulator)."
    ),
]

_LONGEST_NAME = 80
"""Letters of a file's name; at three bytes each, within the 255 bytes of file systems."""


def run(
    target: Target,
    device: Device = "cpu",
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="[NAME=]FILE.npy", help="An input; may be repeated."),
    ] = None,
    size: Size = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of inputs drawn at random.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT", help="A .npy file, .npz, or a folder.")
    ] = None,
    steps: Steps = None,
    program: Annotated[str | None, typer.Option("--program", help="Which program of a package.")] = None,
    spec: Spec = None,
    as_json: JsonOption = False,
) -> None:
    """Run once; show or save the outputs."""
    import time

    from tessera.workbench.draw import complete, read_files, say_drawn
    from tessera.workbench.failure import UsageError
    from tessera.workbench.opening import choose_program, open_runtime
    from tessera.workbench.specs import parse_sizes

    if steps is not None and device != "emulator":
        raise UsageError(f"--steps: {device} does not count them", hint="--device emulator does")
    sizes = parse_sizes(size or ())
    with open_runtime(target, device, spec, step_budget=steps) as runtime:
        chosen = choose_program(runtime.programs, program)
        drawn = complete(chosen, read_files(chosen, inputs or ()), sizes, seed)
        if not as_json:
            say_drawn(drawn, seed)
        start = time.perf_counter()
        result = runtime.execute(chosen.name, drawn.values)
        seconds = time.perf_counter() - start
        outputs = result if isinstance(result, dict) else {chosen.outputs[0].name: result}
        written = _save(outputs, output) if output else []
        _tell(chosen, runtime, outputs, drawn, seconds, written, seed if drawn.drawn else None, as_json)


def _save(outputs: Mapping[str, np.ndarray[Any, Any]], place: Path) -> list[Path]:
    from tessera.package.atomic import atomic_file
    from tessera.workbench.failure import UsageError

    if place.suffix == ".npz":
        with atomic_file(place) as file, zipfile.ZipFile(file, "w") as archive:
            for name, value in _by_file(outputs).items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    _write_array(entry, value)
        return [place]
    if place.suffix == ".npy":
        if len(outputs) > 1:
            raise UsageError(
                f"{place} holds one array, but there are {len(outputs)} outputs", hint="-o outputs.npz"
            )
        with atomic_file(place) as file:
            _write_array(file, next(iter(outputs.values())))
        return [place]
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for name, value in _by_file(outputs).items():
        written.append(place / f"{name}.npy")
        with atomic_file(written[-1]) as file:
            _write_array(file, value)
    return written


def _by_file(outputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs by names that are safe for files: a stranger's package may call one `../../.profile`."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for index, (name, value) in enumerate(outputs.items()):
        safe = re.sub(r"[^\w.-]", "_", name).strip(".")[:_LONGEST_NAME] or f"output_{index}"
        found[f"{safe}_{index}" if safe in found else safe] = value
    return found


def _write_array(file: IO[bytes], value: np.ndarray[Any, Any]) -> None:
    import numpy as np

    np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=False)


def _tell(
    program: Program,
    runtime: Runtime,
    outputs: Mapping[str, np.ndarray[Any, Any]],
    inputs: Inputs,
    seconds: float,
    written: list[Path],
    seed: int | None,
    as_json: bool,
) -> None:
    from tessera.workbench.failure import visible
    from tessera.workbench.output import emit
    from tessera.workbench.values import array_data, array_lines

    if as_json:
        emit(
            {
                "program": program.name,
                "device": runtime.device,
                "seconds": seconds,
                "seed": seed,
                "inputs": {name: array_data(value) for name, value in inputs.values.items()},
                "outputs": {name: array_data(value) for name, value in outputs.items()},
                "written": [str(path) for path in written],
            }
        )
        return
    print(f"{visible(program.name)} on {runtime.device_description}: {seconds * 1e3:.2f} ms, first run")
    for name, value in outputs.items():
        for line in array_lines(name, value):
            print(visible(line))
    for path in written:
        print(f"wrote {path}")
