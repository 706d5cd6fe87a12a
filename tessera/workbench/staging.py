"""`tessera compile --emit STAGE`: kernels at any stage of the compiler, from source or a stage's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tessera.compiler.stages import ENDINGS, PROGRAM_STAGES, STAGES, Stage, emit_stage, resume_stage, stage_of
from tessera.program.arch import is_cpu
from tessera.workbench.compilation import Request, configuration, with_specs
from tessera.workbench.failure import UsageError, short_path, visible
from tessera.workbench.source import load_entries


def emitted(request: Request, until: str) -> list[Stage]:
    """Every kernel that the request names, for every architecture, at a stage; or every program.

    Raises:
        UsageError: The stage is unknown, or nothing is compiled for a GPU.
        TesseraError: As for `compile_request`.
    """
    _check(until)
    if until not in PROGRAM_STAGES and all(is_cpu(arch) for arch in request.arch):
        raise UsageError(f"--emit {until}: a CPU has no such stage", hint="--arch sm_90")
    entries = with_specs(load_entries(request.target), request)
    settings = configuration(request)
    return [
        stage
        for entry in entries
        for stage in emit_stage(
            entry.subject, until, settings, entry.input_specs(request.specs_of(entry.name)), entry.name
        )
    ]


def resumed(request: Request, until: str | None) -> list[Stage]:
    """A stage's file taken further, for each architecture; to the next stage if none is named.

    Raises:
        UsageError: There is no such file, or no such stage.
        TesseraError: It cannot be read, or not for that architecture.
    """
    file = Path(request.target)
    stage = stage_of(file.name)
    if stage is None or not file.is_file():
        raise UsageError(f"{request.target} is no file of a stage", hint=", ".join(ENDINGS.values()))
    if stage == STAGES[-1]:
        raise UsageError(f"{request.target} is text: nothing is made of it", hint="give the .cubin")
    until = until or ("sass" if stage == "cubin" else "cubin")
    _check(until)
    data = file.read_bytes()
    if not request.arch or stage == "cubin":
        return [resume_stage(data, stage, until, file=str(file))]
    options = configuration(request).tool_options()
    return [resume_stage(data, stage, until, target, file=str(file)) for target in options]


def _check(stage: str) -> None:
    if stage not in STAGES:
        raise UsageError(f"--emit: no stage is called {stage!r}", hint="one of " + ", ".join(STAGES))


def write_stages(stages: Sequence[Stage], out: Path, stem: str | None = None) -> list[Path]:
    """Write each stage to a file.

    Args:
        stages: What was made.
        out: A file, for one stage, or a folder, which gets `<architecture>/<kernel>.<ending>`, and of
            programs `<program>.<ending>`.
        stem: Name of the files; by default the kernel's.

    Raises:
        UsageError: The ending is another stage's, or one file is given for several.
    """
    from tessera.package.atomic import atomic_file

    ending = ENDINGS[stages[0].name]
    if out.suffix and not out.is_dir():
        if len(stages) > 1:
            raise UsageError(f"-o {out}: there are {len(stages)} kernels to write", hint="give a folder")
        if not out.name.endswith(ending):
            raise UsageError(
                f"-o {out}: {stages[0].name} is written to {ending}", hint=f"-o {_bare(out)}{ending}"
            )
        places = [out]
    else:
        places = [out / stage.target / f"{stem or stage.label}{ending}" for stage in stages]
    for stage, place in zip(stages, places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(place) as file:
            file.write(stage.data)
    return places


def _bare(out: Path) -> Path:
    """A path without its ending, also where that has two parts."""
    known = next((e for e in ENDINGS.values() if out.name.endswith(e)), out.suffix)
    return out.with_name(out.name.removesuffix(known))


def show(stages: Sequence[Stage], out: Path | None, *, as_json: bool, timings: bool) -> None:
    """Write the stages to files, or to stdout where they are text, and say what was made.

    Raises:
        UsageError: Machine code has to go to a file.
    """
    from tessera.workbench.output import emit as emit_json

    if out is None and not as_json and stages[0].name == "cubin":
        raise UsageError("machine code goes to a file", hint="-o kernel.cubin, or --emit sass to read it")
    places: list[Path | None] = [*write_stages(stages, out)] if out else [None] * len(stages)
    if as_json:
        emit_json({"stages": [_row(s, p) for s, p in zip(stages, places, strict=True)]})
        return
    for stage, place in zip(stages, places, strict=True):
        if place is None:
            print(visible(stage.text))
        else:
            needs = stage.resources
            known = needs is not None and needs.registers is not None
            more = f", {needs.registers} registers, {needs.spill_bytes} B spilled" if known and needs else ""
            # The text of a cubin from elsewhere: nothing here has asked what it was assembled for.
            facts = f" ({stage.target}{more})" if stage.target else ""
            if stage.name == "kernels":
                facts = f" ({len(stage.kernels)} {'kernel' if len(stage.kernels) == 1 else 'kernels'})"
            print(f"wrote {visible(short_path(str(place)))}{facts}")
        if timings:
            spent = "  ".join(f"{k} {v * 1e3:.0f} ms" for k, v in stage.seconds.items() if v)
            print(f"// {spent}" if place is None else f"  {spent}")


def _row(stage: Stage, place: Path | None) -> dict[str, Any]:
    return {
        "kernels": list(stage.kernels),
        "arch": stage.target or None,
        "stage": stage.name,
        "bytes": len(stage.data),
        "registers": stage.resources and stage.resources.registers,
        "spill_bytes": stage.resources and stage.resources.spill_bytes,
        "seconds": dict(stage.seconds),
        "file": None if place is None else str(place),
        "text": stage.text if place is None and stage.name != "cubin" else None,
    }
