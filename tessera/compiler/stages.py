"""The stages from a kernel to its machine code as data: any can be where work begins, any where it ends.

    graph → kernels → nvvm → ptx → cubin → sass

Every stage is a file. The first two hold a whole program: the traced graph (`.graph.json`), and its launch
plans with the kernels written for them (`.kernels.json`); `load_program` reads them, and the compiler takes
what it gives in place of a function. A kernel written by hand begins with the third. Each of the others is of
one kernel and architecture: LLVM for NVVM (`.ll`), PTX (`.ptx`), machine code (`.cubin`), its text (`.sass`).
A kernel's `.ll` says in its head what NVVM is to be asked for, so that it becomes the PTX of the compiler.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tessera.compiler.cubin import ptx_to_cubin
from tessera.compiler.nvvm import NvvmRefusal, nvvm_ptx
from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.ptx import (
    UNBOUNDED,
    CudaKernel,
    LaunchBounds,
    Ptx,
    for_target,
    lower,
    nvvm_modules,
    ptx_arch,
)
from tessera.compiler.sass import disassemble, kernels_of, with_source
from tessera.compiler.stage_text import HEAD, check_ptx_target, decoded, kernel_names, named_target
from tessera.program.artifact import Resources
from tessera.program.errors import (
    CompileError,
    OptionError,
    SourceLocation,
    ToolchainError,
)

if TYPE_CHECKING:
    from tessera.compiler.gpu_code import Timings
    from tessera.compiler.graph_file import SavedGraph
    from tessera.compiler.graph_unit import Lowered
    from tessera.compiler.subject import Specs

STAGES = ("graph", "kernels", "nvvm", "ptx", "cubin", "sass")
"""In the order of the work."""
PROGRAM_STAGES = ("graph", "kernels")
"""Those that hold a program rather than a kernel."""
ENDINGS: Mapping[str, str] = {
    "graph": ".graph.json",
    "kernels": ".kernels.json",
    "nvvm": ".ll",
    "ptx": ".ptx",
    "cubin": ".cubin",
    "sass": ".sass",
}
"""How a stage's files end."""

_NEXT = "; tessera: next module"
_PTXAS = re.compile(r"line (\d+)\s*; (?:error|fatal)\s*: ([^;]+)")
_NVVM = re.compile(r"\((\d+), (\d+)\): (?:parse )?([^\n]+)")


@dataclass(frozen=True, slots=True)
class Stage:
    """What one program, one kernel, or the kernels of one file became."""

    name: str
    """One of `STAGES`."""
    kernels: tuple[str, ...]
    """Entry names; none yet of a graph."""
    target: str
    """Architecture, as `sm_90a`; empty for a program, which has them all."""
    data: bytes
    """The file's contents."""
    resources: Resources | None = None
    """What the kernel needs, where a cubin was made of one."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of each stage that was gone through."""
    program: str = ""
    """Name of the program, where it holds one."""

    @property
    def label(self) -> str:
        """What to call its file."""
        return self.program or self.kernels[0]

    @property
    def text(self) -> str:
        """The contents as text."""
        return self.data.decode("utf-8", "replace")


def stage_of(file: str) -> str | None:
    """The stage that a file belongs to by its ending; None for other files."""
    return next((name for name, ending in ENDINGS.items() if file.endswith(ending)), None)


def emit_stage(
    fn: object, until: str, config: AOTConfig, input_specs: Specs = None, name: str | None = None
) -> list[Stage]:
    """Each kernel of a function, kernel or model, for each GPU target, at one stage; or its one program.

    Args:
        fn: What `AOTCompiler.compile` takes.
        until: The stage to end with; PTX and cubins are those that a package holds.
        config: Targets and options.
        input_specs: Shapes and dtypes of the inputs, if annotations do not say them.
        name: Name of the program; by default the function's.

    Raises:
        OptionError: No such stage.
        CompileError: As for `AOTCompiler.compile`; a kernel has no such stage.
    """
    from tessera.compiler.aot import AOTCompiler

    _check(until)
    if until in PROGRAM_STAGES:
        return [_program(fn, until, config, input_specs, name)]
    if until == "nvvm":
        return _lowered(fn, config, input_specs, name)
    whole = replace(config, generate_ptx=True, generate_cubin=until != "ptx")
    compiled = AOTCompiler(whole).compile(fn, input_specs, name)
    kind = "ptx" if until == "ptx" else "cubin"
    made = [
        Stage(kind, (b.name,), b.target, b.data, b.resources, dict(compiled.seconds))
        for b in compiled.binaries
        if b.format == kind
    ]
    return [
        _run(stage, ("sass",), ToolOptions(stage.target), "") if until == "sass" else stage for stage in made
    ]


def resume_stage(
    data: bytes, stage: str, until: str, options: ToolOptions | None = None, *, file: str = "input"
) -> Stage:
    """Go on from the contents of a stage's file.

    Args:
        data: The contents.
        stage: The stage they are of.
        until: The stage to end with, later than `stage`.
        options: Target and switches; None: the target that the file names.
        file: Its name, for errors.

    Raises:
        OptionError: No such stage, or it is not a later one.
        ArchitectureError: The file is for another architecture.
        CompileError: The file is damaged; `location` is the line.
        ToolchainError: A tool is missing, or failed.
    """
    first, last = _check(stage), _check(until)
    if stage in PROGRAM_STAGES:
        raise OptionError(
            f"{file} is a whole program, with kernels for several architectures",
            hint=f"emit_stage(load_program(data, {stage!r}), {until!r}, AOTConfig([…]))",
        )
    if last <= first:
        raise OptionError(
            f"{file} is {stage} already, which comes no earlier than {until}",
            hint="one of " + ", ".join(STAGES[first + 1 :]) if first + 1 < len(STAGES) else None,
        )
    if stage == "cubin":
        given = Stage(stage, kernels_of(data, file), options.target if options else "", data)
        return _run(given, STAGES[first + 1 : last + 1], options or ToolOptions("sm_80"), file)
    text = decoded(data, file)
    wanted = options or ToolOptions(named_target(text, stage, file))
    given = Stage(stage, kernel_names(text, stage, file), wanted.target, data)
    return _run(given, STAGES[first + 1 : last + 1], wanted, file)


def _run(given: Stage, stages: Sequence[str], options: ToolOptions, file: str) -> Stage:
    for name in stages:
        start = time.perf_counter()
        data, resources = _STEPS[name](given, options, file)
        seconds = {**given.seconds, name: time.perf_counter() - start}
        given = replace(given, name=name, data=data, resources=resources or given.resources, seconds=seconds)
    return given


def load_program(data: bytes, stage: str, file: str = "input") -> SavedGraph | Lowered:
    """The program in a file of the graph or kernels stage: what `AOTCompiler.compile` and `emit_stage` take.

    Args:
        data: The contents.
        stage: `graph` or `kernels`.
        file: Its name, for errors.

    Raises:
        OptionError: The stage is another one.
        CompileError: The file is damaged, or no such file; the message names the field, node or kernel.
    """
    from tessera.compiler.graph_file import graph_from_json
    from tessera.compiler.kernels_file import kernels_from_json

    if stage not in PROGRAM_STAGES:
        raise OptionError(f"{stage} holds no program", hint="resume_stage(data, stage, until)")
    return (graph_from_json if stage == "graph" else kernels_from_json)(data, file)


def _program(fn: object, until: str, config: AOTConfig, input_specs: Specs, name: str | None) -> Stage:
    from tessera.compiler.gpu_code import Timings
    from tessera.compiler.graph_file import graph_to_json
    from tessera.compiler.graph_unit import Lowered, lower_graph
    from tessera.compiler.kernels_file import kernels_to_json
    from tessera.compiler.subject import graph_of, spec_list, tuned_targets
    from tessera.language.kernel import Kernel

    if isinstance(fn, Kernel):
        raise CompileError(
            f"{fn.name} is a kernel written by hand: it has no {until} stage", hint="--emit nvvm"
        )
    if isinstance(fn, Lowered):
        raise OptionError(
            f"{fn.name} is at the kernels stage already, which comes no earlier than {until}",
            hint="one of " + ", ".join(STAGES[2:]),
        )
    timings = Timings()
    saved = timings.timed("graph", lambda: graph_of(fn, spec_list(input_specs), name))
    if until == "graph":
        return Stage(until, (), "", graph_to_json(saved), None, _spent(timings), saved.name)
    targets, _ = tuned_targets(saved.graph, saved.constants, config)
    lowered = timings.timed("kernels", lambda: lower_graph(saved.graph, saved.constants, targets, config))
    names = dict.fromkeys(source.name for source, _ in lowered.kernels)
    return Stage(until, tuple(names), "", kernels_to_json(lowered), None, _spent(timings), saved.name)


def _spent(timings: Timings) -> dict[str, float]:
    return {stage: seconds for stage, seconds in timings.seconds.items() if seconds}


def _lowered(fn: object, config: AOTConfig, input_specs: Specs, name: str | None) -> list[Stage]:
    from tessera.compiler.gpu_code import Timings
    from tessera.compiler.subject import make_unit, spec_list

    timings = Timings()
    unit = make_unit(fn, spec_list(input_specs), name, config, timings=timings)
    found: list[Stage] = []
    for job in unit.jobs_for("cuda"):
        kernel = job.load()
        if not isinstance(kernel, CudaKernel):
            raise CompileError(
                f"{job.name} is CUDA C++, which NVRTC makes PTX of at once: it has no nvvm stage",
                hint="--emit ptx",
            )
        for options in (o for o in unit.gpu if job.is_for(o)):
            start = time.perf_counter()
            text = _nvvm_text(kernel, options)
            seconds = {**_spent(timings), "nvvm": time.perf_counter() - start}
            found.append(Stage("nvvm", (job.name,), options.target, text.encode(), None, seconds))
    return found


def _nvvm_text(kernel: CudaKernel, options: ToolOptions) -> str:
    from tessera.compiler.gpu_code import guarded

    ir = guarded(kernel, lambda: lower(kernel, options))
    if ir.shims:
        raise CompileError(
            f"{kernel.name} calls functions that numba-cuda writes in CUDA C++, which no .ll file can hold",
            hint="--emit ptx",
        )
    arch = ptx_arch(kernel, options).replace("sm_", "compute_")
    modules = nvvm_modules(ir, kernel, options)
    # What the assembler is to know of launches is said in PTX alone.
    bounds = json.dumps({"block": kernel.bounds.block, **kernel.bounds.parts})
    head = f"; tessera: {kernel.name} for {options.target}, -arch={arch} -launch={bounds}\n"
    return head + f"{_NEXT}\n".join(f"{m.rstrip()}\n" for m in modules)


# -- steps ----------------------------------------------------------------------------------------


def _nvvm_to_ptx(given: Stage, options: ToolOptions, file: str) -> tuple[bytes, Resources | None]:
    head = HEAD.search(given.text)
    arch = head["arch"] if head else options.target.replace("sm_", "compute_")
    modules = given.text.split(f"{_NEXT}\n")
    translate = partial(nvvm_ptx, arch=arch, opt_level=options.opt_level, fast_math=options.fast_math)
    try:
        (text,) = translate(modules)
    except NvvmRefusal as refusal:
        raise _nvvm_error(refusal, modules, translate, file) from None
    return for_target(Ptx(text), options, _bounds(head, file)).text.encode(), None


def _bounds(head: re.Match[str] | None, file: str) -> LaunchBounds:
    if head is None:
        return UNBOUNDED
    try:
        return msgspec.json.decode(head["bounds"], type=LaunchBounds)
    except msgspec.MsgspecError as error:
        line = head.string.count("\n", 0, head.start()) + 1
        raise CompileError(
            f"the limits of its launches cannot be read: {error}", location=SourceLocation(file, line)
        ) from None


def _nvvm_error(
    refusal: NvvmRefusal, modules: Sequence[str], translate: Callable[[Sequence[str]], object], file: str
) -> CompileError:
    """The error with its line; NVVM counts from the start of a module, and does not say which."""
    above = 0
    for module in modules:
        try:
            translate([module])
        except NvvmRefusal as error:
            place = _NVVM.search(error.log)
            if place:
                location = SourceLocation(file, above + int(place[1]), max(int(place[2]) - 1, 0))
                return CompileError(f"NVVM cannot read it: {place[3]}", location=location)
        above += module.count("\n") + 1
    said = refusal.log.strip().splitlines()
    return CompileError(f"{file}: NVVM cannot compile it: {said[0] if said else refusal}")


def _ptx_to_cubin(given: Stage, options: ToolOptions, file: str) -> tuple[bytes, Resources | None]:
    main, *linked = given.text.split("\0")
    check_ptx_target(main, options.target, file)
    try:
        cubin, resources = ptx_to_cubin(Ptx(main, tuple(linked)), given.kernels[0], options)
    except ToolchainError as error:
        place = _PTXAS.search(error.message)
        if place is None or not file:
            raise
        raise CompileError(
            f"the assembler cannot read it for {options.target}: {place[2].strip()}",
            location=SourceLocation(file, int(place[1])),
        ) from None
    return cubin, resources if len(given.kernels) == 1 else None


def _cubin_to_sass(given: Stage, options: ToolOptions, file: str) -> tuple[bytes, Resources | None]:
    del options
    texts = [f"// {name}\n{_listing(given.data, name, file or 'the cubin')}\n" for name in given.kernels]
    return "\n".join(texts).encode(), None


def _listing(cubin: bytes, kernel: str, file: str) -> str:
    return with_source(disassemble(cubin, kernel, file), None, [])


_STEPS: Mapping[str, Callable[[Stage, ToolOptions, str], tuple[bytes, Resources | None]]] = {
    "ptx": _nvvm_to_ptx,
    "cubin": _ptx_to_cubin,
    "sass": _cubin_to_sass,
}
"""What makes each stage of the one before."""


def _check(stage: str) -> int:
    if stage not in STAGES:
        raise OptionError(f"no stage is called {stage!r}", hint="one of " + ", ".join(STAGES))
    return STAGES.index(stage)
