"""From a target on the command line to counts or times of its kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tessera.program.errors import DeviceError, MissingDependencyError
from tessera.program.program import Program
from tessera.workbench.draw import Inputs, complete, read_files
from tessera.workbench.failure import UsageError

if TYPE_CHECKING:
    import numpy as np

    from tessera.profiler.advice import Advice
    from tessera.profiler.device_times import DeviceTimes
    from tessera.profiler.emulated import EmulatedProfile
    from tessera.profiler.phases import Phases
    from tessera.profiler.prediction import Prediction
    from tessera.profiler.source_lines import SourceFiles
    from tessera.runtime import Profile, Span
    from tessera.runtime.source import ProgramSource
    from tessera.workbench.compilation import Compiled

VECTOR = 1 << 16
"""Elements of vectors where nobody says otherwise: blocks enough for a GPU, little for an emulator."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One program, counted in the emulator."""

    profile: EmulatedProfile
    inputs: Inputs
    sizes: dict[str, int]
    advice: tuple[Advice, ...]
    """Of all kernels, the costliest first."""
    predictions: tuple[Prediction, ...]
    files: SourceFiles
    spans: tuple[Span, ...] = ()
    """The host's time of each emulated launch."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One program, measured step by step on a device."""

    program: Program
    description: str
    inputs: Inputs
    profile: Profile
    spans: tuple[Span, ...] = ()
    """Every piece of every execution."""
    times: DeviceTimes | None = None
    """By the GPU's clock; None of other devices."""
    dropped: int = 0
    """Spans that were too many to keep."""


def count_source(
    compiled: Compiled,
    given: Sequence[str],
    sizes: Mapping[str, int],
    seed: int,
    steps: int | None = None,
) -> list[Counted]:
    """Every entry of a compiled file, counted.

    Raises:
        InputError: The inputs do not fit.
        DeviceError: A kernel does what no kernel may.
    """
    from tessera.profiler.source_lines import SourceFiles
    from tessera.program.validate import bound_symbols
    from tessera.runtime import ArtifactSource
    from tessera.workbench.checking import known_sizes, one_entry, path_of

    one_entry(compiled, given)
    known_sizes([a.programs[0] for a in compiled.artifacts], sizes)
    results = []
    for entry, kernel in zip(compiled.entries, compiled.kernels, strict=True):
        (program,) = kernel.artifact.programs
        own = {name: value for name, value in sizes.items() if name in bound_symbols(program)}
        files = SourceFiles(lambda name, entry=entry: path_of(name, entry, compiled.request.target))  # type: ignore[misc]
        source = ArtifactSource(kernel.artifact)
        results.append(count_program(program, source, given, own, seed, files, steps))
    return results


def count_package(
    target: str,
    name: str | None,
    given: Sequence[str],
    sizes: Mapping[str, int],
    seed: int,
    steps: int | None = None,
) -> Counted:
    """One program of a package, counted.

    Raises:
        UsageError: There is no such program.
        DeviceError: It has no code for a GPU, or a kernel does what no kernel may.
        InputError: The inputs do not fit.
    """
    from tessera.profiler.source_lines import SourceFiles
    from tessera.workbench.opening import choose_program, trusted_package

    package = trusted_package(target)
    program = choose_program(package.programs, name)
    return count_program(program, package, given, sizes, seed, SourceFiles(), steps)


def count_program(
    program: Program, source: ProgramSource, given: Sequence[str], sizes: Mapping[str, int], seed: int,
    files: SourceFiles, steps: int | None = None,
) -> Counted:  # fmt: skip
    """A program, counted with inputs from files or drawn at random.

    `steps` is what a block of threads may do before its kernel counts as endless; None: the emulator's own
    limit.
    """
    from tessera.profiler.advice import advise_profile
    from tessera.profiler.cost import program_cost
    from tessera.profiler.emulated import profile_emulated
    from tessera.profiler.prediction import predict
    from tessera.program.bind import bind_symbols
    from tessera.runtime import Timeline

    inputs = complete(program, read_files(program, given), sizes, seed, assume=larger_sizes(program))
    timeline = Timeline()
    profile = profile_emulated(
        program, source, inputs.values, step_budget=steps, recorder=timeline, trace=True
    )
    scalars = {p.name: int(inputs.values[p.name]) for p in program.inputs
               if p.kind == "scalar" and not p.dtype.is_float}  # fmt: skip
    tensors = {p.name: inputs.values[p.name].shape for p in program.inputs if p.kind == "tensor"}
    bound = bind_symbols(program, tensors, scalars)
    once = program_cost(program, bound).bytes
    advice = advise_profile(profile, files)
    predicted = predict(profile.counters, once)
    return Counted(profile, inputs, bound, advice, predicted, files, timeline.spans)


def larger_sizes(program: Program) -> dict[str, int]:
    """Sizes that are large enough to be of interest, for vectors."""
    from tessera.program.validate import bound_symbols

    symbols = sorted(bound_symbols(program))
    flat = all(len(p.shape) <= 1 for p in program.inputs)
    return dict.fromkeys(symbols, VECTOR) if flat and len(symbols) == 1 else {}


def time_program(
    target: str, device: str, spec: Sequence[str] | None, name: str | None, given: Sequence[str],
    sizes: Mapping[str, int], seed: int, repeat: int, phases: Phases,
) -> Timed:  # fmt: skip
    """One program, measured on a device; the first execution is not counted.

    `phases` takes the times of what comes before.

    Raises:
        UsageError: There is no such program or device.
        DeviceError: The device is not there, or does not measure steps.
        InputError: The inputs do not fit.
    """
    from tessera.profiler.device_times import device_times
    from tessera.runtime import Timeline
    from tessera.workbench.opening import benchable, choose_program, load_opened

    is_gpu = needs_gpu(device, target)
    timeline = Timeline()
    with phases.span(f"open {target}") as phase:
        opened = benchable(target, device, spec, phase.parts)
    with phases.span(f"load on {device}"):
        runtime = load_opened(opened, device, enable_profiling=timeline, strict_device=is_gpu)
    with runtime:
        program = choose_program(runtime.programs, name)
        assumed = larger_sizes(program) if is_gpu else None
        inputs = complete(program, read_files(program, given), sizes, seed, assume=assumed)
        values: dict[str, np.ndarray[Any, Any]] = inputs.values
        with phases.span("first execution, not counted"):
            runtime.execute(program.name, values)
        runtime.reset_profile()
        with phases.span(f"measure {repeat} executions"):
            for _ in range(repeat):
                runtime.execute(program.name, values)
        profile = runtime.profile
        if profile is None or not profile.steps:
            raise DeviceError(
                f"the device {runtime.device!r} does not measure single steps",
                hint="--device cpu, cuda:0 or emulator",
            )
        spans = timeline.spans
        return Timed(
            program, runtime.device_description, inputs, profile, spans, device_times(spans), timeline.dropped
        )


def needs_gpu(device: str, target: str) -> bool:
    """Whether a device is a GPU, which then is there.

    Raises:
        UsageError: There is no device of that name.
        DeviceError: It is a GPU that cannot be used here; says what can.
    """
    from tessera.runtime import parse_device
    from tessera.runtime.cuda_driver import open_driver

    try:
        name = parse_device(device)
    except DeviceError as error:
        raise UsageError(f"--device: {error.message}", hint=error.hint) from None
    if name.kind != "cuda":
        return False
    try:
        open_driver(name.index)
    except MissingDependencyError as error:
        raise DeviceError(f"{name} cannot be measured: {error.message}", hint=error.hint) from None
    except DeviceError as error:
        raise DeviceError(
            f"{name} cannot be measured: {error.message}",
            hint=f"without a GPU: tessera profile {target} counts each line in the emulator; "
            "with --device cpu its steps are measured on this machine",
            device=str(name),
        ) from None
    return True


Form = Literal["text", "csv", "json"]


def one_form(as_json: bool, as_csv: bool) -> Form:
    """The form of output.

    Raises:
        UsageError: Two are asked for.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv cannot be written to one stream", hint="give one of them")
    return "json" if as_json else "csv" if as_csv else "text"


def check_options(device: str, emulated: Mapping[str, object], measured: Mapping[str, object]) -> None:
    """Whether a device does what is asked of it.

    Args:
        device: Its name.
        emulated: Options that the emulator alone has, by name; what is not given is false.
        measured: Options that GPUs alone have.

    Raises:
        UsageError: It does not.
    """
    reasons = {
        "--steps": "does not count them",
        "--arch": "runs code for what it is",
        "--gpu": "measures, and judges nothing by datasheets",
        "--ncu": "has no hardware counters",
        "--nvtx": "has no launches to mark",
    }
    is_gpu = device.startswith("cuda")
    for option in (o for o, value in emulated.items() if value and device != "emulator"):
        raise UsageError(f"{option}: {device} {reasons[option]}", hint="--device emulator, or leave it out")
    for option in (o for o, value in measured.items() if value and not is_gpu):
        raise UsageError(f"{option}: {device} {reasons[option]}", hint="--device cuda:0, or leave it out")
