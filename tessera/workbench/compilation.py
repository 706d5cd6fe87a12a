"""From a target on the command line to compiled kernels, and the table about them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.program.arch import SM_LIMITS, Architecture, is_cpu, resolve_target
from tessera.program.artifact import Artifact, KernelBinary
from tessera.program.errors import TesseraError
from tessera.program.occupancy import limiter_of
from tessera.program.spec import TensorSpec
from tessera.workbench.failure import UsageError
from tessera.workbench.output import Column, bytes_text, note, number_text, progress
from tessera.workbench.project import Project, find_project
from tessera.workbench.source import Entry, load_entries, program_stage, split_target
from tessera.workbench.specs import parse_named_specs, parse_spec

if TYPE_CHECKING:
    from tessera.deploy import AOTCompiler, AOTConfig, CompiledKernel, CompiledPackage

DEFAULT_ARCH = ("sm_80", "sm_90")
"""What is compiled for where neither the call nor the project says: A100 and H100."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be compiled, and how."""

    target: str
    """`FILE[:NAME]`."""
    arch: tuple[str, ...]
    """Full target names, each once."""
    specs: dict[str, dict[str, TensorSpec]]
    """By function (`""`: any) and argument."""
    optimization_level: int = 3
    fast_math: bool = False
    lineinfo: bool = False
    """Whether the PTX is to carry source lines."""
    debug: bool = False
    """Whether it is for a debugger: not optimized, with every variable in memory, and PTX alone."""
    project: Project = field(default_factory=Project)
    """Settings of the project that the file belongs to."""

    def specs_of(self, name: str) -> dict[str, TensorSpec]:
        """The specs for the arguments of one function; the call's come before the project's."""
        configured = {a: parse_spec(text, a) for a, text in self.project.specs.get(name, {}).items()}
        return {**configured, **self.specs.get("", {}), **self.specs.get(name, {})}


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything that one call compiled."""

    request: Request
    entries: tuple[Entry, ...]
    kernels: tuple[CompiledKernel, ...]
    """One per entry."""
    seconds: float
    """Wall clock, loading the file included."""
    whole_file: bool = True
    """Whether all that was asked for was compiled: nothing was left out with a note."""
    failures: tuple[tuple[str, TesseraError], ...] = ()
    """Names of what did not compile, and why, where the others were to be compiled all the same."""

    @property
    def artifacts(self) -> list[Artifact]:
        """One per entry."""
        return [kernel.artifact for kernel in self.kernels]

    def binaries(self) -> list[KernelBinary]:
        """Machine code of every kernel and target."""
        return [b for artifact in self.artifacts for b in artifact.binaries]

    def whole(self) -> CompiledKernel | CompiledPackage:
        """One thing to save: the kernel itself, or all of them as one batch (answered by the cache)."""
        if len(self.kernels) == 1:
            return self.kernels[0]
        from tessera.deploy import BatchCompiler

        batch = BatchCompiler(configuration(self.request))
        for entry in self.entries:
            specs = entry.input_specs(self.request.specs_of(entry.name))
            batch.add_kernel(entry.subject, name=entry.name, input_specs=specs)
        return batch.compile_all()


def stage_ending(target: str) -> bool:
    """Whether a file is one of a stage after the source: LLVM, PTX, a cubin, its text."""
    return target.endswith((".ll", ".ptx", ".cubin", ".sass"))


def make_request(
    target: str,
    arch: Sequence[str] | None,
    spec: Sequence[str] | None,
    *,
    optimization_level: int | None = None,
    fast_math: bool | None = None,
    lineinfo: bool = False,
    debug: bool = False,
    default_arch: tuple[str, ...] = DEFAULT_ARCH,
) -> Request:
    """The request that options and the project file make together.

    Without `default_arch` the target itself, a stage's file, names its architecture: what the project
    compiles for does not count then.

    Raises:
        UsageError: There is no such file, or a spec names no argument.
        ArchitectureError: An architecture is unknown.
        ConfigError: The project file is wrong.
    """
    path, _ = split_target(target)
    project = find_project(path.parent)
    configured = project.compile.get("optimization_level", 3)
    level = optimization_level if optimization_level is not None else configured
    return Request(
        target=target,
        arch=targets(arch or _lowered_for(path), project, default_arch) if arch or default_arch else (),
        specs=parse_named_specs(spec or ()),
        optimization_level=level,
        fast_math=fast_math if fast_math is not None else bool(project.compile.get("fast_math", False)),
        lineinfo=lineinfo,
        debug=debug,
        project=project,
    )


def _lowered_for(path: Path) -> tuple[str, ...]:
    """What the kernels of a file of that stage are for; nothing for other files."""
    if program_stage(path) != "kernels":
        return ()
    (entry,) = load_entries(str(path))
    return entry.subject.program.targets  # type: ignore[union-attr]


_EVERY_GPU = tuple(Architecture(*cc).name for cc in SM_LIMITS)
"""What `--arch all` means: one target for each compute capability."""


def targets(given: Iterable[str], project: Project, default: tuple[str, ...]) -> tuple[str, ...]:
    """Full target names: those given (also `sm_80,sm_90`, or `all`), else the project's, else the default.

    Raises:
        ArchitectureError: One of them is unknown.
    """
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    names = [each for name in names for each in (_EVERY_GPU if name == "all" else (name,))]
    return tuple(dict.fromkeys(resolve_target(name) for name in names or project.arch() or default))


def configuration(request: Request) -> AOTConfig:
    """The compiler's configuration for a request."""
    # The compiler costs 20 ms to import even where every answer comes from its cache.
    from tessera.deploy import AOTConfig, CompilationTarget

    flags = [f"-O{request.optimization_level}", *(["--use_fast_math"] if request.fast_math else [])]
    if request.debug:
        flags = ["-G"]
    return AOTConfig(
        targets=[CompilationTarget(architecture=arch, optimization_flags=flags) for arch in request.arch],
        include_debug_info=request.lineinfo,
        generate_ptx=True,
        generate_cubin=not request.debug,
    )


def compile_request(request: Request, *, single: bool = False, keep_going: bool = False) -> Compiled:
    """Compile what the request names, with a progress bar where it takes long.

    Args:
        request: What to compile.
        single: Whether it must name one thing.
        keep_going: Whether what does not compile is left out, as one of the failures, if it is not the
            only thing.

    Raises:
        TesseraError: Whatever is wrong with the file, a name, a spec or a kernel.
    """
    start = time.perf_counter()
    entries = load_entries(request.target)
    if single and len(entries) > 1:
        names = ", ".join(e.name for e in entries)
        raise UsageError(
            f"{request.target} has {len(entries)} things to run: {names}",
            hint=f"name one: {request.target}:{entries[0].name}",
        )
    ready = with_specs(entries, request)
    whole, entries = len(ready) == len(entries), ready
    from tessera.deploy import AOTCompiler

    compiler: AOTCompiler = AOTCompiler(configuration(request))
    with progress(len(entries)) as advance:

        def tell(done: int, total: int, label: str) -> None:
            advance(len(entries) * done / max(1, total), f"compiled {label}")

        advance(0, f"compiling {', '.join(entry.name for entry in entries)}")
        wanted = [(e.subject, e.input_specs(request.specs_of(e.name)), e.name) for e in entries]
        failures: list[tuple[str, TesseraError]] = []
        try:
            kernels = compiler.compile_each(wanted, progress=tell)
        except TesseraError:
            if not keep_going or len(entries) == 1:
                raise
            kernels, entries = [], []
            for entry, item in zip(ready, wanted, strict=True):
                try:
                    kernels += compiler.compile_each([item])
                except TesseraError as error:
                    failures.append((entry.name, error))
                else:
                    entries.append(entry)
    return Compiled(
        request, tuple(entries), tuple(kernels), time.perf_counter() - start, whole, tuple(failures)
    )


def with_specs(entries: list[Entry], request: Request) -> list[Entry]:
    """The entries that can be compiled; of several, those without specs are left out and named.

    Raises:
        UsageError: The only entry has no specs, or one is given to what takes none.
    """
    ready = [e for e in entries if not e.needs_specs() or request.specs_of(e.name)]
    if not ready:
        entries[0].input_specs({})
    for entry in entries:
        if entry not in ready:
            wanted = " ".join(f"--spec '{entry.name}.{a}=f32[None,…]'" for a in entry.arguments)
            note(f"{entry.name} left out: its arguments have no specs; add {wanted}")
    unknown = set(request.specs) - {e.name for e in entries} - {""}
    if unknown:
        known = ", ".join(e.name for e in entries)
        raise UsageError(f"--spec: there is no function {sorted(unknown)[0]!r}", hint=f"it has {known}")
    kernels = [e.name for e in entries if e.is_specified]
    idle = [name for name in kernels if name in request.specs]
    if "" in request.specs and len(kernels) == len(entries):
        idle += kernels
    if idle and program_stage(split_target(request.target)[0]):
        raise UsageError(
            f"--spec: {request.target} says what its inputs are",
            hint="compile the source with that --spec, and --emit graph again",
        )
    if idle:
        raise UsageError(
            f"--spec: {idle[0]} is a kernel, whose annotations say what its arguments are",
            hint="change them in the source: x: ts.Array[ts.f32, 'n']",
        )
    return ready


def kernel_rows(binaries: Iterable[KernelBinary]) -> list[dict[str, Any]]:
    """What `compile --json` prints for each piece of machine code. Unknown is None."""
    return [
        {
            "name": b.name,
            "arch": b.target,
            "registers": b.resources and b.resources.registers,
            "spill_bytes": b.resources and b.resources.spill_bytes,
            "shared_bytes": b.resources and b.resources.shared_bytes,
            "cubin_bytes": len(b.data),
            "occupancy": b.resources and b.resources.occupancy,
            "cached": b.cached,
        }
        for b in binaries
        if b.format != "ptx"
    ]


KERNEL_COLUMNS = (
    Column("Kernel", wraps=True),
    Column("Arch"),
    Column("Regs", right=True),
    Column("Spills", right=True),
    Column("Shared", right=True),
    Column("Code", right=True),
    Column("Occupancy"),
)
"""Columns of the table that `compile` shows."""


def kernel_cells(binaries: Iterable[KernelBinary]) -> list[tuple[str, ...]]:
    """Rows of that table; a name that several programs use for their kernels stands behind the program's."""
    machine = [b for b in binaries if b.format != "ptx"]
    users = Counter(name for _, name in {(b.program, b.name) for b in machine})
    rows = kernel_rows(machine)
    for binary, row in zip(machine, rows, strict=True):
        if users[binary.name] > 1:
            row["name"] = f"{binary.program}: {binary.name}"
    return [_cells(b, row) for b, row in zip(machine, rows, strict=True)]


def _cells(binary: KernelBinary, row: dict[str, Any]) -> tuple[str, ...]:
    code = bytes_text(row["cubin_bytes"])
    if is_cpu(row["arch"]):
        return (row["name"], row["arch"], "-", "-", "-", code, "-")
    occupied = number_text(row["occupancy"] and row["occupancy"] * 100, "{:.0f} %")
    reason = limiter_of(binary.resources, binary.target)
    return (
        row["name"],
        row["arch"],
        number_text(row["registers"]),
        number_text(row["spill_bytes"], "{} B"),
        bytes_text(_shared_bytes(binary)),
        code,
        f"{occupied:>5} {reason or ''}".rstrip(),
    )


def _shared_bytes(binary: KernelBinary) -> int | None:
    """What a block needs: arrays of fixed size, and what its launch asks for."""
    if binary.resources is None or binary.resources.shared_bytes is None:
        return None
    return binary.resources.shared_bytes + (binary.resources.dynamic_shared_bytes or 0)


def write_outputs(compiled: Compiled, out: Path) -> list[Path]:
    """Save what was compiled.

    Args:
        compiled: The result.
        out: A file ending in .tsc (one kernel) or .tsp (several), or a folder: it gets a .tsc for
            each, and below `<architecture>/` every cubin, PTX and native library on its own.

    Returns:
        Packages first, then the loose files.

    Raises:
        UsageError: The ending does not fit.
        PackageError: A file cannot be written.
    """
    from tessera.package.atomic import atomic_file

    if out.suffix:
        fitting = (".tsc", ".tsp") if len(compiled.kernels) == 1 else (".tsp",)
        if out.suffix not in fitting:
            things = "one kernel is" if len(compiled.kernels) == 1 else f"{len(compiled.kernels)} kernels are"
            hint = f"-o {out.with_suffix(fitting[0])}, or a folder"
            if out.suffix == ".tsd":
                hint += "; a .tsd comes from: tessera package build"
            raise UsageError(f"-o {out}: {things} saved as {fitting[0]}", hint=hint)
        out.parent.mkdir(parents=True, exist_ok=True)
        return [compiled.whole().save(out)]
    out.mkdir(parents=True, exist_ok=True)
    written = [
        kernel.save(out / f"{entry.name}.tsc")
        for entry, kernel in zip(compiled.entries, compiled.kernels, strict=True)
    ]
    for binary in compiled.binaries():
        loose = out / binary.target / f"{binary.name}.{binary.format}"
        loose.parent.mkdir(exist_ok=True)
        with atomic_file(loose) as file:
            file.write(binary.data)
        written.append(loose)
    return written
