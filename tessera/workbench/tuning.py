"""From a target on the command line to tuning records of its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.workbench.destinations import check_destinations, make_folders
from tessera.workbench.failure import UsageError

if TYPE_CHECKING:
    from tessera.compiler.options import ToolOptions
    from tessera.compiler.tuning.record import Record
    from tessera.compiler.tuning.record_file import RecordFile
    from tessera.profiler.tuning.subject import Subject
    from tessera.profiler.tuning.trial import Meter
    from tessera.workbench.source import Entry


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one call of `tessera tune` asks for."""

    target: str
    arch: tuple[str, ...]
    device: str
    strategy: str | None
    budget: int | None
    seed: int
    sizes: dict[str, int]
    inputs: tuple[str, ...]
    cache: Path
    show: bool
    lock: Path | None
    export: Path | None
    take: Path | None


@dataclass(frozen=True, slots=True)
class Tuned:
    """Records of one kernel, or step of a function, for one target, GPU and shape bucket."""

    name: str
    target: str
    reference: dict[str, Any]
    """The kernel's own configuration."""
    records: tuple[Record, ...]
    recalled: int | None
    """How many were on record before; None where all are, as nothing was tried."""
    total: int
    """Configurations there are."""


def tune_target(wanted: Wanted) -> list[Tuned]:
    """Tune everything that a target names, for every architecture: kernels, and steps of tensor functions.

    Raises:
        UsageError: Nothing in the file can be tuned, or options contradict each other.
        TesseraError: A kernel's own configuration does not compile or run, or a file cannot be used.
    """
    from tessera.compiler.tuning.record_file import RecordFile

    if wanted.take is not None and not wanted.take.is_file():
        raise UsageError(
            f"--import {wanted.take}: there is no such file",
            hint="Kernel Tuner's store_output_file writes one, and tessera tune … --export FILE",
        )
    written = {
        "--cache": None if wanted.show else wanted.cache, "--lock": wanted.lock, "--export": wanted.export,
    }  # fmt: skip
    check_destinations(written)
    subjects = _subjects(wanted)
    make_folders(written)
    file = RecordFile(wanted.cache)
    found: list[Tuned] = []
    for subject in subjects:
        if wanted.take is not None:
            _import(wanted, subject, file)
        found += _shown(subject, file) if wanted.show else [_swept(wanted, subject, file)]
    if wanted.show and not found:
        names = ", ".join(dict.fromkeys(s.name for s in subjects))
        missing = f"there is no file {wanted.cache}: no records of {names}"
        changed = f"{wanted.cache} has no records of {names} as it is now"
        raise UsageError(
            changed if wanted.cache.exists() else missing,
            hint=f"tessera tune {wanted.target} --cache {wanted.cache}",
        )
    if wanted.lock is not None:
        _lock(wanted.lock, subjects, file)
    if wanted.export is not None:
        _export(wanted.export, [record for tuned in found for record in tuned.records])
    return found


def _subjects(wanted: Wanted) -> list[Subject]:
    """What there is to tune, for every architecture."""
    entries = _entries(wanted)
    if wanted.inputs and len(entries) > 1:
        raise UsageError(
            f"--input: {wanted.target} has {len(entries)} kernels to tune",
            hint=f"name one: {wanted.target}:{entries[0].name}",
        )
    targets = _targets(wanted)
    found = [subject for entry in entries for options in targets for subject in _of(entry, options)]
    if not found:
        raise UsageError(
            f"{wanted.target}: no kernel names values to tune, and no step of a function has tiles to choose",
            hint='@ts.kernel(tune={"BLOCK": [64, 128, 256]}, block=lambda BLOCK: BLOCK, …)',
        )
    return found


def _entries(wanted: Wanted) -> list[Entry]:
    """Kernels that name values to tune, or else functions and models."""
    from tessera.compiler.graph_unit import Lowered
    from tessera.language.kernel import Kernel
    from tessera.workbench.source import load_entries

    entries = load_entries(wanted.target)
    kernels = [e for e in entries if isinstance(e.subject, Kernel) and e.subject.space is not None]
    return kernels or [e for e in entries if not isinstance(e.subject, (Kernel, Lowered))]


def _of(entry: Entry, options: ToolOptions) -> list[Subject]:
    from tessera.compiler.options import AOTConfig
    from tessera.compiler.subject import graph_of
    from tessera.compiler.tuning.function_step import function_steps
    from tessera.language.kernel import Kernel
    from tessera.profiler.tuning.subject import kernel_subject, step_subject

    if isinstance(entry.subject, Kernel):
        return [kernel_subject(entry.subject, options)]
    saved = graph_of(entry.subject, entry.input_specs({}), None)
    config = AOTConfig(targets=(options.target,))
    steps = function_steps(saved.graph, saved.constants, options, config)
    return [step_subject(step) for step in steps]


def _targets(wanted: Wanted) -> list[ToolOptions]:
    from tessera.compiler.options import AOTConfig
    from tessera.program.arch import is_cpu
    from tessera.workbench.compilation import make_request

    if wanted.device.startswith("cuda") and not wanted.arch:
        names: tuple[str, ...] = (_gpu(wanted.device)[2],)
    else:
        names = make_request(wanted.target, wanted.arch, None, default_arch=("sm_80",)).arch
    gpu = tuple(name for name in names if not is_cpu(name))
    if not gpu:
        raise UsageError(f"--arch {', '.join(names)}: kernels are tuned for a GPU", hint="--arch sm_80")
    return list(AOTConfig(targets=gpu).tool_options())


def _gpu(device: str) -> tuple[str, str, str]:
    """Model, driver and architecture of a GPU.

    Raises:
        DeviceError: It is not there.
    """
    from tessera.deploy.eager import architecture_for
    from tessera.profiler.gpu import read_gpus
    from tessera.program.errors import DeviceError
    from tessera.runtime.devices import parse_device

    state, index = read_gpus(), parse_device(device).index
    gpu = next((g for g in state.gpus if g.index == index), None)
    if gpu is None or gpu.capability is None:
        raise DeviceError(
            f"{device}: {state.reason or f'this machine has {len(state.gpus)} GPUs'}",
            hint=state.fix or "without a GPU, costs are predicted: --device emulator",
        )
    return gpu.name, state.driver or "N/A", architecture_for(gpu.capability)


def _meter(wanted: Wanted, target: str) -> Meter:
    from tessera.profiler.tuning.trial import DeviceMeter, EmulatorMeter
    from tessera.runtime.devices import parse_device

    kind = parse_device(wanted.device).kind
    if kind == "emulator":
        return EmulatorMeter(target)
    if kind == "cuda":
        name, driver, _ = _gpu(wanted.device)
        return DeviceMeter(wanted.device, name, driver)
    raise UsageError(
        f"--device {wanted.device}: kernels are tuned on emulator or cuda:N", hint="--device cuda:0"
    )


def _swept(wanted: Wanted, subject: Subject, file: RecordFile) -> Tuned:
    from tessera.language.tuning import configuration_text
    from tessera.profiler.tuning.sweep import DEFAULT_BUDGET, tune_subject
    from tessera.workbench.output import progress

    total = _total(subject)
    budget = min(wanted.budget or DEFAULT_BUDGET, total)
    with progress(budget) as advance:
        sweep = tune_subject(
            subject,
            sizes=wanted.sizes,
            inputs=_inputs(wanted, subject),
            meter=_meter(wanted, subject.target),
            strategy=wanted.strategy,
            budget=budget,
            seed=wanted.seed,
            file=file,
            progress=lambda done, last: advance(
                done, f"tried {subject.name} {configuration_text(last.configuration)}"
            ),
        )
    return Tuned(subject.name, subject.target, subject.reference, sweep.records, sweep.recalled, total)


def _inputs(wanted: Wanted, subject: Subject) -> dict[str, Any] | None:
    if not wanted.inputs:
        return None
    from tessera.workbench.draw import complete, read_files

    program = subject.compile(subject.reference).programs[0]
    return complete(program, read_files(program, wanted.inputs), wanted.sizes, wanted.seed).values


def _total(subject: Subject) -> int:
    return sum(1 for _ in subject.space.configurations())


def _own(subject: Subject, file: RecordFile) -> list[Record]:
    wanted = (subject.name, subject.identity, subject.target)
    return [r for r in file.read() if (r.kernel, r.kernel_hash, r.target) == wanted]


def _shown(subject: Subject, file: RecordFile) -> list[Tuned]:
    by_sweep: dict[str, list[Record]] = {}
    for record in _own(subject, file):
        by_sweep.setdefault(record.sweep, []).append(record)
    return [
        Tuned(subject.name, subject.target, subject.reference, tuple(records), None, _total(subject))
        for records in by_sweep.values()
    ]


def _lock(path: Path, subjects: Sequence[Subject], file: RecordFile) -> None:
    from tessera.compiler.tuning.lock_file import LockedPick, write_lock
    from tessera.compiler.tuning.record import picks
    from tessera.workbench.output import note

    found = []
    records = file.read()
    for subject in subjects:
        own = {"kernel": subject.name, "kernel_hash": subject.identity, "target": subject.target}
        found += [
            LockedPick(**own, bucket=dict(p.bucket), configuration=dict(p.configuration), kind=p.kind)
            for p in picks(records, **own, own=subject.usual)
        ]
    write_lock(path, found)
    use = f"AOTConfig(autotune_lock={str(path)!r})"
    note(f"choices written to {path}: {len(found)}; compile with {use}")


def _import(wanted: Wanted, subject: Subject, file: RecordFile) -> None:
    from tessera.compiler.tuning.t4 import from_t4
    from tessera.profiler.tuning.sweep import default_inputs
    from tessera.profiler.tuning.trial import DeviceMeter, Trials
    from tessera.workbench.output import note

    program = subject.compile(subject.reference).programs[0]
    inputs, sizes = default_inputs(program, wanted.sizes, wanted.seed)
    meter = DeviceMeter("", "imported", "N/A")
    template = Trials(subject, meter, inputs, sizes).record(subject.reference, "ok")
    assert wanted.take is not None  # noqa: S101 - the caller looked
    records = [r for r in from_t4(wanted.take, template) if subject.space.holds(r.configuration)]
    file.add(records)
    note(f"{len(records)} results of {wanted.take} are configurations of {subject.name}")


def _export(path: Path, records: Sequence[Record]) -> None:
    from tessera.compiler.tuning.t4 import to_t4
    from tessera.package.atomic import write_json

    write_json(path, to_t4(records), indent=1)
