"""From a target on the command line to the data of a report: compiled, counted, disassembled, judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.program.arch import is_cpu, parse_arch
from tessera.program.errors import TesseraError
from tessera.workbench.failure import UsageError

if TYPE_CHECKING:
    from tessera.profiler import ReportData
    from tessera.profiler.check import Check
    from tessera.profiler.report_lines import LineCode
    from tessera.profiler.report_runs import ExecutionTrace, RecordedRun, SourceListing, TunedSweep
    from tessera.profiler.roof import RooflineChart
    from tessera.profiler.source_lines import SourceFiles
    from tessera.program.artifact import Artifact, KernelBinary
    from tessera.program.program import Program
    from tessera.runtime.source import ProgramSource
    from tessera.workbench.compilation import Compiled
    from tessera.workbench.profiling import Counted

TUNING = Path("autotune_cache.json")
"""Where `tessera tune` keeps its records if nobody says otherwise."""
RUNS = 5
"""Executions that are measured for a trace, which shows the last."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report is to be about."""

    target: str
    arch: tuple[str, ...] = ()
    spec: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    count: bool = True
    """Whether kernels run in the emulator."""
    diagnose: bool = True
    device: str | None = None
    """Where an execution is measured as well."""
    gpus: tuple[str, ...] = ()
    """Models whose rooflines are drawn; empty: one for each architecture."""
    recordings: tuple[str, ...] = ()
    tuning: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """One program with its code."""

    program: Program
    source: ProgramSource
    binaries: tuple[KernelBinary, ...]
    files: SourceFiles


def report_data(wanted: Wanted) -> ReportData:
    """Everything that the page shows.

    Raises:
        UsageError: There is no such target, or an option does not fit it.
        TesseraError: It does not compile, or a file cannot be read.
    """
    from tessera.workbench.source import is_package

    base, subjects = (_package if is_package(wanted.target) else _source)(wanted)
    listings: list[SourceListing] = []
    counted: list[Counted] = []
    notes: list[str] = []
    for subject in subjects:
        found, problem = _counted(subject, wanted)
        counted += [found] if found else []
        notes += [problem] if problem else []
        listings += _listings(subject, found)
    return replace(
        base,
        sources=tuple(listings),
        rooflines=tuple(_rooflines(wanted, base, counted)),
        traces=tuple(_traces(wanted, counted)),
        sweeps=_sweeps(wanted, {k.kernel for k in base.kernels} | {k.program for k in base.kernels}),
        recordings=tuple(_recordings(wanted.recordings)),
        checks=_checks(wanted),
        notes=(*base.notes, *notes),
    )


def _source(wanted: Wanted) -> tuple[ReportData, list[Subject]]:
    from tessera.profiler import report_from_artifact
    from tessera.profiler.source_lines import SourceFiles
    from tessera.runtime import ArtifactSource
    from tessera.workbench.checking import known_sizes, path_of
    from tessera.workbench.compilation import compile_request, make_request

    request = make_request(wanted.target, wanted.arch, wanted.spec)
    compiled = compile_request(request)
    known_sizes([a.programs[0] for a in compiled.artifacts], wanted.sizes)
    base = report_from_artifact(compiled.whole().artifact, title=wanted.target, sizes=wanted.sizes)
    # Whether the cache had it says something of the machine, not of the kernel.
    base = replace(base, kernels=tuple(replace(k, cached=None) for k in base.kernels))
    lined = _with_lines(wanted, request.arch)
    subjects = []
    for entry, kernel in zip(lined.entries, lined.kernels, strict=True) if lined else ():
        (program,) = kernel.artifact.programs
        _keep_written(lined, kernel.artifact)
        files = SourceFiles(lambda name, entry=entry: path_of(name, entry, wanted.target))  # type: ignore[misc]
        subjects.append(Subject(program, ArtifactSource(kernel.artifact), kernel.artifact.binaries, files))
    return base, subjects


def _keep_written(lined: Compiled | None, artifact: Artifact) -> None:
    """Let the lines of kernels that the compiler wrote be read, also where its cache had their code."""
    from tessera.compiler.graph_unit import keep_lines, lower_graph
    from tessera.workbench.compilation import configuration

    (program,) = artifact.programs
    if program.graph is None or lined is None:
        return
    config = configuration(lined.request)
    for source, _ in lower_graph(program.graph, artifact.constants, config.tool_options(), config).kernels:
        keep_lines(source)


def _with_lines(wanted: Wanted, arch: Sequence[str]) -> Compiled | None:
    """The target once more, with line information, for the newest of its architectures."""
    from tessera.workbench.compilation import compile_request, make_request

    newest = newest_gpu(arch)
    if newest is None:
        return None
    return compile_request(make_request(wanted.target, [newest], wanted.spec, lineinfo=True))


def newest_gpu(targets: Iterable[str]) -> str | None:
    """The GPU architecture of the highest number; None where there is none."""
    gpus = [name for name in targets if not is_cpu(name)]
    return max(gpus, key=lambda name: (parse_arch(name).cc, name), default=None)


def _package(wanted: Wanted) -> tuple[ReportData, list[Subject]]:
    from tessera.profiler import report_from_package
    from tessera.profiler.source_lines import SourceFiles
    from tessera.workbench.contents import package_binaries
    from tessera.workbench.opening import trusted_package

    if wanted.arch or wanted.spec:
        option = "--arch" if wanted.arch else "--spec"
        raise UsageError(f"{option}: a package is compiled already", hint=f"leave {option} out")
    package = trusted_package(wanted.target)
    binaries = package_binaries(package)
    subjects = [
        Subject(program, package, tuple(b for b in binaries if b.program == name), SourceFiles())
        for name, program in package.programs.items()
        if newest_gpu(program.targets) is not None
    ]
    return report_from_package(package, sizes=wanted.sizes), subjects


def _counted(subject: Subject, wanted: Wanted) -> tuple[Counted | None, str | None]:
    """The program, run in the emulator; or why it was not."""
    from tessera.program.validate import bound_symbols
    from tessera.workbench.profiling import count_program

    name = subject.program.name
    if not wanted.count:
        return None, None
    own = {n: value for n, value in wanted.sizes.items() if n in bound_symbols(subject.program)}
    try:
        return count_program(subject.program, subject.source, (), own, wanted.seed, subject.files), None
    except TesseraError as error:
        return None, f"{name} was not counted: {error.message}" + (f" ({error.hint})" if error.hint else "")


def _listings(subject: Subject, counted: Counted | None) -> Iterator[SourceListing]:
    from tessera.profiler.report_lines import source_listings

    profiles = {k.kernel: k for k in counted.profile.kernels} if counted else {}
    ran = counted.profile.target.split()[0] if counted else newest_gpu(subject.program.targets)
    names = dict.fromkeys(k for b in subject.binaries if not is_cpu(b.target) for k in b.kernels)
    for kernel in names:
        code, notes = _code(subject, kernel, ran, counted=kernel in profiles)
        profile = profiles.get(kernel)
        if counted is not None and profile is None:
            notes.append("It was not launched for these sizes.")
        yield from source_listings(
            subject.program.name,
            kernel,
            code,
            subject.files,
            counters=profile.counters if profile else None,
            advice=counted.advice if counted else (),
            device=f"emulator, {counted.profile.target}" if counted else None,
            sizes=counted.sizes if counted else None,
            notes=notes,
        )


def _code(subject: Subject, kernel: str, target: str | None, *, counted: bool) -> tuple[LineCode, list[str]]:
    """PTX and SASS of one kernel, and what of them is missing and why."""
    from tessera.compiler.sass import disassemble
    from tessera.profiler.report_lines import LineCode

    own = [b for b in subject.binaries if kernel in b.kernels]
    ptx = next((b for b in own if b.format == "ptx" and b.target == target), None)
    ptx = ptx or next((b for b in own if b.format == "ptx"), None)
    newest = newest_gpu(b.target for b in own if b.format == "cubin")
    cubin = next((b for b in own if b.format == "cubin" and b.target in (target, newest)), None)
    code, notes = LineCode(), []
    if ptx is not None:
        text = ptx.data.decode("utf-8", "replace")
        code = LineCode(text, ptx.target, {} if counted else ptx_places(text))
    if cubin is not None:
        try:
            code = replace(code, sass=disassemble(cubin.data, kernel), sass_target=cubin.target)
        except TesseraError as error:
            notes.append(f"No SASS: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    return code, notes


def ptx_places(text: str) -> dict[int, tuple[str, int]]:
    """For each instruction of PTX, by its line from 1: file and line of the source; ("", 0) where unknown."""
    from tessera.workbench.app.ptx_lines import line_map

    files = dict.fromkeys(
        path.rsplit("/", 1)[-1] for path in re.findall(r'^\s*\.file\s+\d+\s+"([^"]*)"', text, re.MULTILINE)
    )
    found: dict[int, tuple[str, int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.split("//")[0].strip()
        if bare.endswith(";") and not bare.startswith("."):
            found[number] = ("", 0)
    for file in files:
        for index, line_number in enumerate(line_map(text, file).source_of):
            if line_number and found.get(index + 1) == ("", 0):
                found[index + 1] = (file, line_number)
    return found


def _rooflines(wanted: Wanted, base: ReportData, counted: Sequence[Counted]) -> Iterator[RooflineChart]:
    """One for each GPU named, else for the datasheet of each architecture; without points if none counted."""
    from tessera.profiler.datasheets import find_datasheet
    from tessera.profiler.roof import roofline_chart
    from tessera.profiler.tuning.cost_model import datasheet_for
    from tessera.profiler.verdict import judge
    from tessera.profiler.work import kernel_works

    names = list(wanted.gpus)
    for target in dict.fromkeys(k.target for k in base.kernels if not is_cpu(k.target)) if not names else ():
        try:
            names.append(datasheet_for(parse_arch(target)).name)
        except TesseraError:
            # No datasheet of that architecture is known: its ceilings are not drawn.
            continue
    for name in dict.fromkeys(find_datasheet(name).name for name in names):
        points, notes = [], []
        for each in counted:
            for work in kernel_works(each.profile, each.sizes, find_datasheet(name).capability):
                try:
                    points.append(judge(work, name))
                except TesseraError as error:
                    notes.append(f"{work.name} is not in it: {error.message}")
        if points or wanted.gpus:
            chart = roofline_chart(name, points)
            yield replace(chart, notes=(*chart.notes, *notes))


def _traces(wanted: Wanted, counted: Sequence[Counted]) -> Iterator[ExecutionTrace]:
    from tessera.profiler.phases import Phases
    from tessera.profiler.report_trace import emulated_trace, measured_trace, timeline_trace
    from tessera.workbench.profiling import time_program

    if wanted.device:
        timed = time_program(
            wanted.target, wanted.device, wanted.spec, None, (), wanted.sizes, wanted.seed, RUNS, Phases()
        )
        name, where = timed.program.name, timed.description
        if timed.spans:
            yield timeline_trace(name, where, timed.spans)
        else:
            yield measured_trace(name, where, timed.profile.steps)
    for each in counted:
        if each.profile.launches:
            yield emulated_trace(each.profile)


def _sweeps(wanted: Wanted, kernels: set[str]) -> tuple[TunedSweep, ...]:
    """Records of the kernels in the files that are named, or in the one that is always looked for."""
    from tessera.compiler.tuning.record_file import RecordFile
    from tessera.profiler.report_sweeps import sweeps_of

    for path in wanted.tuning:
        if not path.is_file():
            raise UsageError(f"--tuning {path}: there is no such file", hint=f"tessera tune {wanted.target}")
    records = [r for path in wanted.tuning or (TUNING,) for r in RecordFile(path).read()]
    # Records of a function are of its steps: layer.0_matmul.
    own = [r for r in records if r.kernel in kernels or r.kernel.rpartition(".")[0] in kernels]
    if wanted.tuning and not own:
        raise UsageError(
            f"--tuning {', '.join(map(str, wanted.tuning))}: no record is of {', '.join(sorted(kernels))}",
            hint=f"tessera tune {wanted.target}",
        )
    return sweeps_of(own)


def _recordings(names: Sequence[str]) -> Iterator[RecordedRun]:
    from tessera.profiler.report_live import recorded_run

    for name in names:
        if name != "demo" and not Path(name).is_file():
            what = "is a folder, not a recording" if Path(name).is_dir() else "there is no such file"
            raise UsageError(f"--recording {name}: {what}", hint="demo is Tessera's own: --recording demo")
        yield recorded_run(name)


def _checks(wanted: Wanted) -> tuple[Check, ...]:
    from tessera.profiler import diagnose
    from tessera.workbench.source import is_package

    if not wanted.diagnose:
        return ()
    return tuple(diagnose(wanted.target if is_package(wanted.target) else None))
