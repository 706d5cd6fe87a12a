"""The front door of the compiler: kernels, functions and models in, artifacts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.compiler.advice import resource_notes
from tessera.compiler.build import Builder, Pending, Progress
from tessera.compiler.cache import CompileCache, toolchain
from tessera.compiler.fingerprint import digest
from tessera.compiler.gpu_code import Timings
from tessera.compiler.options import DEFAULT_ARCHITECTURES, AOTConfig, ToolOptions
from tessera.compiler.subject import Specs, make_unit, name_of, spec_list
from tessera.compiler.unit import Unit
from tessera.program.artifact import Artifact, KernelBinary
from tessera.program.errors import CompileError, OptionError
from tessera.program.program import Program

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """One compiled kernel, function or model."""

    artifact: Artifact
    """Its program, machine code and weights."""
    config: AOTConfig
    """What it was compiled with."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time spent in each stage, added over threads and over all that was compiled with it."""

    @property
    def programs(self) -> tuple[Program, ...]:
        """Its programs: one."""
        return self.artifact.programs

    @property
    def binaries(self) -> tuple[KernelBinary, ...]:
        """Cubins, PTX and shared libraries."""
        return self.artifact.binaries

    @property
    def name(self) -> str:
        """Name of the program."""
        return self.artifact.programs[0].name

    def save(self, path: str | Path) -> Path:
        """Write a package file, whole or not at all, and return its path.

        Raises:
            PackageError: The file cannot be written.
        """
        return _save(self.artifact, Path(path), self.name)


@dataclass(frozen=True, slots=True)
class CompiledPackage:
    """Several compiled programs that share weights and one file."""

    artifact: Artifact
    """All programs, their machine code and weights."""
    config: AOTConfig
    """What they were compiled with."""

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs, in the order in which they were added."""
        return self.artifact.programs

    @property
    def binaries(self) -> tuple[KernelBinary, ...]:
        """Cubins, PTX and shared libraries."""
        return self.artifact.binaries

    def save(self, path: str | Path) -> Path:
        """Write a package file, whole or not at all, and return its path.

        Raises:
            PackageError: The file cannot be written.
        """
        return _save(self.artifact, Path(path), Path(path).stem)


def _save(artifact: Artifact, path: Path, name: str) -> Path:
    from tessera.package.package import Package

    Package.from_artifact(artifact, name=name).save(path)
    return path


class AOTCompiler:
    """Compiles ahead of time, for GPUs that need not be there.

    Args:
        config: Targets and options; or instead of it the three below.
        target_architectures: Names such as `sm_80` and `cpu`.
        optimization_level: 0 to 3.
        enable_fast_math: Approximate division and square root, flushed denormals, reassociation.
        cache: Where finished kernels are kept; by default `CompileCache.default()`.

    Raises:
        ArchitectureError: A target is unknown; the hint names the nearest.
        OptionError: An option is unknown or out of range.
    """

    def __init__(
        self,
        config: AOTConfig | None = None,
        *,
        target_architectures: Iterable[str] | None = None,
        optimization_level: int = 3,
        enable_fast_math: bool = False,
        cache: CompileCache | None = None,
    ) -> None:
        if config is not None and target_architectures is not None:
            raise OptionError(
                "config and target_architectures both say what to compile for",
                hint="AOTCompiler(config) or AOTCompiler(target_architectures=[...])",
            )
        self.config = config or _plain_config(target_architectures, optimization_level, enable_fast_math)
        self.cache = cache or CompileCache.default()

    def compile(
        self,
        fn: object,
        input_specs: Specs = None,
        name: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> CompiledKernel:
        """Compile a `@ts.jit` function, a `@ts.kernel` or a `ts.Module`.

        Args:
            fn: What to compile.
            input_specs: Shapes and dtypes of its inputs, if annotations do not say them.
            name: Name of the program; by default the function's.
            progress: Called as `progress(done, total, label)` after each kernel and target.

        Raises:
            TraceError: `fn` cannot become a graph.
            CompileError: A kernel does not compile; the error names file and line.
            ResourceError: A kernel is over a hardware limit.
            ToolchainError: A compiler or linker is missing or failed.
        """
        return self.compile_each([(fn, input_specs, name)], progress=progress)[0]

    def compile_each(
        self, items: Sequence[tuple[object, Specs, str | None]], *, progress: Progress | None = None
    ) -> list[CompiledKernel]:
        """Compile several things, each for itself, side by side on the machine's cores.

        Args:
            items: What to compile, specs of its inputs and its name, as for `compile`.
            progress: As for `compile`, over all.

        Raises:
            TesseraError: As for `compile`.
        """
        timings = Timings()
        units = [
            [make_unit(fn, spec_list(specs), name, self.config, timings=timings)] for fn, specs, name in items
        ]
        artifacts = build_artifacts(units, self.config, self.cache, progress, timings)
        return [CompiledKernel(artifact, self.config, timings.seconds) for artifact in artifacts]


class BatchCompiler:
    """Compiles several kernels into one package.

    Args:
        config: Targets and options.
        cache: Where finished kernels are kept; by default `CompileCache.default()`.
    """

    def __init__(self, config: AOTConfig | None = None, *, cache: CompileCache | None = None) -> None:
        self.config = config or AOTConfig()
        self.cache = cache or CompileCache.default()
        self._added: dict[str, tuple[object, Specs]] = {}

    def add_kernel(self, fn: object, name: str | None = None, input_specs: Specs = None) -> None:
        """Add a function, kernel or model to the batch.

        Raises:
            CompileError: Another one has that name already.
        """
        key = name or name_of(fn)
        if key in self._added:
            raise CompileError(
                f"the batch already has a kernel called {key!r}", hint="add_kernel(fn, name='another')"
            )
        self._added[key] = (fn, input_specs)

    def compile_all(self, *, progress: Progress | None = None) -> CompiledPackage:
        """Compile everything that was added.

        Raises:
            CompileError: Nothing was added, or something does not compile; see `AOTCompiler.compile`.
        """
        if not self._added:
            raise CompileError("the batch is empty", hint="add_kernel(fn) first")
        units = [
            make_unit(fn, spec_list(specs), name, self.config, batched=True)
            for name, (fn, specs) in self._added.items()
        ]
        return CompiledPackage(build_artifact(units, self.config, self.cache, progress), self.config)


def build_artifact(
    units: Sequence[Unit], config: AOTConfig, cache: CompileCache, progress: Progress | None = None
) -> Artifact:
    """Everything that the units' programs need, compiled.

    Raises:
        CompileError: A kernel does not compile, or two programs want different weights of one name.
    """
    return build_artifacts([units], config, cache, progress)[0]


def build_artifacts(
    groups: Sequence[Sequence[Unit]],
    config: AOTConfig,
    cache: CompileCache,
    progress: Progress | None = None,
    timings: Timings | None = None,
) -> list[Artifact]:
    """An artifact of each group of units. All code is under way before the first is waited for.

    Raises:
        CompileError: A kernel does not compile, or two of a group want different weights of one name.
    """
    total = sum(unit.steps for units in groups for unit in units)
    with Builder(config, cache, total=total, progress=progress, timings=timings) as builder:
        begun = [
            [(unit, builder.begin_gpu(unit.program.name, unit.jobs_for("cuda"), unit.gpu)) for unit in units]
            for units in groups
        ]
        return [_artifact(pairs, config, cache, builder) for pairs in begun]


def _artifact(
    begun: Sequence[tuple[Unit, Sequence[Pending]]], config: AOTConfig, cache: CompileCache, builder: Builder
) -> Artifact:
    binaries: list[KernelBinary] = []
    for unit, items in begun:
        jobs = unit.jobs_for("cpu")
        # While the pool makes GPU code, this thread makes the CPU's.
        native = [builder.cpu(unit.program.name, jobs, options) for options in unit.cpu if jobs]
        binaries += [binary for item in items for binary in builder.gpu(item)] + native
    units = [unit for unit, _ in begun]
    return Artifact(
        programs=tuple(unit.program for unit in units),
        binaries=tuple(binaries),
        constants=_merged_constants(units),
        provenance=_provenance(units, config),
        notes=(*_notes(units, config, cache, builder), *resource_notes(binaries)),
    )


def _merged_constants(units: Sequence[Unit]) -> Mapping[str, np.ndarray[Any, Any]]:
    found: dict[str, np.ndarray[Any, Any]] = {}
    for unit in units:
        for name, value in unit.constants.items():
            other = found.setdefault(name, value)
            if other is not value and (other.dtype != value.dtype or other.tobytes() != value.tobytes()):
                raise CompileError(
                    f"{unit.program.name}: another program of the batch has other weights called {name!r}",
                    hint="compile them into packages of their own, or rename the parameter",
                )
    return found


def _provenance(units: Sequence[Unit], config: AOTConfig) -> Mapping[str, Any]:
    """Versions, options and digests of sources; no folder and no time, so that builds can be compared."""
    tuned = {
        unit.program.name: {t.target: asdict(t)["tilings"] for t in unit.gpu if t.tilings} for unit in units
    }
    cap = config.max_shared_memory_per_block
    return {
        "sources": {unit.program.name: digest([job.parts for job in unit.jobs]) for unit in units},
        "toolchain": {k: v for k, v in toolchain().items() if k != "tessera"},
        "tessera_digest": toolchain()["tessera"],
        "targets": [_plain(options) for options in config.tool_options()],
        **({"tilings": tuned} if any(tuned.values()) else {}),
        "graph": {
            "enable_graph_optimization": config.enable_graph_optimization,
            "enable_kernel_fusion": config.enable_kernel_fusion,
            **({} if cap is None else {"max_shared_memory_per_block": cap}),
        },
    }


def _plain(options: ToolOptions) -> dict[str, Any]:
    """A target's settings; what was tuned belongs to programs."""
    return {name: value for name, value in asdict(options).items() if name != "tilings"}


def _notes(
    units: Sequence[Unit], config: AOTConfig, cache: CompileCache, builder: Builder
) -> tuple[str, ...]:
    notes = [f"{unit.program.name}: {note}" for unit in units for note in unit.notes]
    if config.enable_autotuning and not any(unit.tuned for unit in units):
        notes.append(
            "nothing was tuned: no kernel names values to tune, and no step of a function has tiles to choose"
        )
    if builder.linkers - {""}:
        notes.append("CPU code was linked with " + ", ".join(sorted(builder.linkers - {""})))
    if cache.failure is not None:
        notes.append(cache.failure)
    return tuple(notes)


def _plain_config(architectures: Iterable[str] | None, level: int, fast_math: bool) -> AOTConfig:
    return AOTConfig.of(architectures or DEFAULT_ARCHITECTURES, optimization_level=level, fast_math=fast_math)
