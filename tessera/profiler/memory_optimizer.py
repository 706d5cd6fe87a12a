"""The guide's `MemoryOptimizer`: what memory a package takes, and what pooling and reuse change, measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.profiler.memory_analysis import MemoryAnalysis, analyze, execution_bytes, largest_batch
from tessera.profiler.server_settings import ServerSettings
from tessera.profiler.sizes import choose_sizes, random_inputs
from tessera.program.bytesize import format_bytes
from tessera.program.errors import (
    ConfigError,
    DeviceError,
    MissingDependencyError,
    OptionError,
    OutOfMemoryError,
    PackageError,
)
from tessera.program.lifetimes import lay_apart
from tessera.program.program import Plan, Program

if TYPE_CHECKING:
    from tessera.program.artifact import BinaryFormat, KernelBinary
    from tessera.runtime import DeploymentPackage
    from tessera.runtime.workspace import WorkspacePool

LONGEST_S = 2.0
"""A slow model is measured by fewer executions than asked for: see `MemoryMeasurement.executions`."""
FEWEST = 3

SWITCHES = ("enable_memory_pooling", "enable_tensor_reuse", "enable_gradient_checkpointing")
SIZES = ("pool_size", "max_workspace_size")


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """The settings of `apply_optimizations`, checked."""

    enable_memory_pooling: bool = True
    """Memory of an execution is kept for the next one."""
    enable_tensor_reuse: bool = True
    """A temporary tensor takes the place of one that nobody reads any more."""
    pool_size_bytes: int | None = None
    """The most that a pool holds; None: no limit."""
    max_workspace_bytes: int | None = None
    """The most that one execution takes; None: no limit."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> MemorySettings:
        """From the names and forms of the guide.

        Raises:
            OptionError: A setting that is unknown, no switch, or for training.
            ConfigError: A size that is none.
        """
        from tessera.runtime.memory import parse_bytes

        known = (*SWITCHES, *SIZES)
        for name, value in given.items():
            if name not in known:
                raise OptionError(
                    f"there is no memory optimization called {name!r}", hint="known: " + ", ".join(known)
                )
            if name in SWITCHES and not isinstance(value, bool):
                raise OptionError(f"{name} is {value!r}: it is on or off", hint=f'"{name}": True')
        if given.get("enable_gradient_checkpointing"):
            raise OptionError(
                "enable_gradient_checkpointing: packages are for inference, there are no gradients in them",
                hint='"enable_gradient_checkpointing": False',
            )
        pool, most = (parse_bytes(given.get(name), what=name) for name in SIZES)
        pooling, reuse = (given.get(name, True) for name in SWITCHES[:2])
        return cls(pooling, reuse, pool, most)

    def create_pool(self) -> WorkspacePool:
        """A pool with these limits, for models that are called with `workspace=`.

        Raises:
            ConfigError: One execution might take more than the pool holds.
        """
        from tessera.runtime.workspace import create_memory_pool

        return create_memory_pool(self.pool_size_bytes, max_workspace_size=self.max_workspace_bytes)


UNTOUCHED = MemorySettings(enable_memory_pooling=False, enable_tensor_reuse=False)
"""What settings are compared with."""


@dataclass(frozen=True, slots=True)
class MemoryMeasurement:
    """What executions of one program took."""

    executions: int
    peak_bytes: int
    """Most working memory that was in use at once, as taken from the device."""
    kept_bytes: int
    """Working memory that was still held when the executions were over."""
    allocations: int
    """How often the device was asked for memory, in all executions."""
    median_ms: float
    """Of one execution; copies to a GPU and back included."""

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.peak_bytes)} at most, {format_bytes(self.kept_bytes)} kept, "
            f"{self.executions} executions asked for memory {self.allocations} times, "
            f"median {self.median_ms:.3g} ms"
        )


@dataclass(frozen=True, slots=True)
class MemoryEffect(ServerSettings):
    """What the settings changed, measured on one device."""

    device: str
    """Device as it ran."""
    target: str
    """Code that ran: `cpu-x86_64-v3`, `sm_90 cubin`."""
    sizes: Mapping[str, int]
    """Sizes of the random inputs."""
    settings: MemorySettings
    before: MemoryMeasurement
    """Without pooling, reuse or limits: each execution asks for memory and gives it back."""
    after: MemoryMeasurement
    """With the settings."""
    largest_batch: int | None
    """From the plan, not measured: the most examples that fit `max_workspace_size`, or else the pool; None
    without a limit or a batch axis, or where the working memory does not grow with the batch."""

    def to_settings(self) -> dict[str, str | int]:
        """By the names of `ProductionServer`'s settings."""
        size = self.settings.pool_size_bytes
        return {"device": self.device} if size is None else {"device": self.device, "memory_pool_size": size}

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} = {size}" for name, size in self.sizes.items()) or "all sizes fixed"
        lines = [
            f"measured on {self.device} ({self.target}), {sizes}:",
            f"  before: {self.before}",
            f"  after:  {self.after}",
        ]
        if self.largest_batch is not None:
            lines.append(f"  largest batch that fits, from the plan: {self.largest_batch}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What was analyzed."""

    package: DeploymentPackage
    program: Program
    plan: Plan
    analysis: MemoryAnalysis
    reason: str | None
    """Why no device here runs it."""


class MemoryOptimizer:
    """Says what memory a package takes, and measures what pooling and reuse change.

    optimizer = MemoryOptimizer()
    print(optimizer.analyze_model("deployment.tsd"))
    print(optimizer.apply_optimizations({"enable_memory_pooling": True, "pool_size": "8GB"}))

    Args:
        device: `cpu` or `cuda:0`; None: the first GPU, or the CPU where there is none or it lacks code.
    """

    def __init__(self, *, device: str | None = None) -> None:
        self._device = device
        self._subject: _Subject | None = None
        self.effect: MemoryEffect | None = None
        """What the last `apply_optimizations` measured."""

    def analyze_model(
        self,
        model_package: str | Path | DeploymentPackage,
        *,
        program: str | None = None,
        batch: int | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> MemoryAnalysis:
        """Every temporary tensor, how long it lives and what it reuses, from the plan that would run here.

        Where nothing here runs the package, the plan of its first target is read.

        Args:
            model_package: A package: file, folder or open.
            program: Which program; None: the only one, or the one called `forward`.
            batch: Examples of an execution; None: 256.
            sizes: Of other symbols, by name; 256 where none is given.

        Raises:
            PackageError: It is no package, or has no plan.
            InputError: There is no such program or size.
        """
        from tessera.runtime import DeploymentPackage

        opened = (
            model_package
            if isinstance(model_package, DeploymentPackage)
            else DeploymentPackage.load(model_package)
        )
        found, device, target, reason = _where(opened, self._device, program)
        plan = found.plan_for(target) if target is not None else None
        if plan is None or target is None:
            raise PackageError(
                f"{opened.name}: program {found.name!r} has no plan: there is nothing compiled in it",
                hint="tessera compile FILE --arch cpu",
            )
        values, assumed = choose_sizes(found, batch=batch, given=sizes or {})
        analysis = analyze(opened.name, found, target, plan, device=device, sizes=values, assumed=assumed)
        self._subject = _Subject(opened, found, plan, analysis, reason)
        return analysis

    def apply_optimizations(self, settings: Mapping[str, Any], *, executions: int = 50) -> MemoryEffect:
        """Run the analyzed program without and with the settings, and say what each took.

        Inputs are random, of the sizes of the analysis.

        Args:
            settings: `enable_memory_pooling`, `enable_tensor_reuse` (both on where not given),
                `pool_size`, `max_workspace_size` (no limit where not given), and
                `enable_gradient_checkpointing`, which inference has not.
            executions: How many to measure of each; fewer where they take over 2 s.

        Raises:
            OptionError: A setting that is unknown or no switch.
            ConfigError: A size that is none; or no model was analyzed.
            OutOfMemoryError: The program needs more than the settings allow.
            DeviceError: No device here runs the program.
        """
        chosen = MemorySettings.of(settings)
        if executions < 1:
            raise OptionError(f"executions={executions}: at least 1", hint="executions=50")
        subject = self._subject
        if subject is None:
            raise ConfigError(
                "no model was analyzed yet", hint='mem_optimizer.analyze_model("deployment.tsd")'
            )
        device = subject.analysis.device
        if device is None:
            raise DeviceError(
                f"nothing can be measured: {subject.reason}",
                hint="compile for this machine too: tessera compile FILE --arch cpu",
            )
        largest = _largest(subject, chosen)
        _check_workspace(subject, chosen, largest)
        before, _ = _measure(subject, device, UNTOUCHED, executions)
        after, target = _measure(subject, device, chosen, executions)
        sizes = subject.analysis.sizes
        self.effect = MemoryEffect(device, target, sizes, chosen, before, after, largest)
        return self.effect


def _where(
    package: DeploymentPackage, device: str | None, program: str | None
) -> tuple[Program, str | None, str | None, str | None]:
    """The program, the device that runs it, the target of its plan there, and else why no device does."""
    from tessera.runtime.model import Model, choose_program

    found = package.programs[choose_program(package, program)]
    reason = ""
    for name in (device,) if device is not None else ("cuda:0", "cpu"):
        try:
            with Model(package, name, program=found.name, strict_device=True) as model:
                target = model.runtime.targets[found.name].partition(" ")[0]
                if found.plan_for(target) is not None and name != "emulator":
                    return found, model.runtime.device, target, None
                reason = f"the {name} takes no memory pool"
        except (DeviceError, MissingDependencyError) as error:
            reason = error.message
    return found, None, next(iter(found.targets), None), reason


class _Apart:
    """A package in which no temporary tensor takes the place of another."""

    def __init__(self, package: DeploymentPackage, program: Program) -> None:
        import msgspec

        plans = tuple(map(lay_apart, program.plans))
        self._package = package
        self.programs = {program.name: msgspec.structs.replace(program, plans=plans)}

    def binary(
        self,
        program: str,
        kernel: str,
        target: str,
        format: BinaryFormat | None = None,  # noqa: A002 - as binaries call it
    ) -> KernelBinary | None:
        return self._package.binary(program, kernel, target, format)

    def constant(self, name: str) -> Any:
        return self._package.constant(name)


def _measure(
    subject: _Subject, device: str, settings: MemorySettings, executions: int
) -> tuple[MemoryMeasurement, str]:
    """What executions with these settings take, and the code that ran."""
    from tessera.runtime import Runtime

    name = subject.program.name
    inputs = random_inputs(subject.program, subject.analysis.sizes)
    source = subject.package if settings.enable_tensor_reuse else _Apart(subject.package, subject.program)
    pool = settings.create_pool()
    times: list[float] = []
    runtime = Runtime(source, device, memory_pool_size=None, strict_device=True)
    try:
        with runtime:
            end = time.perf_counter() + LONGEST_S
            while len(times) < executions and (len(times) < FEWEST or time.perf_counter() < end):
                start = time.perf_counter()
                with pool.get_buffer() as buffer:
                    runtime.execute(name, inputs, workspace=buffer)
                if not settings.enable_memory_pooling:
                    pool.trim()
                times.append(time.perf_counter() - start)
            usage = pool.usage()
            target = runtime.targets[name]
            pool.trim()
    finally:
        runtime.close()
    median_ms = statistics.median(times) * 1e3
    measured = MemoryMeasurement(
        len(times), usage["peak_bytes"], usage["reserved_bytes"], pool.allocations, median_ms
    )
    return measured, target


def _largest(subject: _Subject, settings: MemorySettings) -> int | None:
    limit = settings.max_workspace_bytes or settings.pool_size_bytes
    if limit is None:
        return None
    plan = subject.plan if settings.enable_tensor_reuse else lay_apart(subject.plan)
    return largest_batch(subject.program, plan, subject.analysis.sizes, limit)


def _check_workspace(subject: _Subject, settings: MemorySettings, largest: int | None) -> None:
    """Before anything runs: whether one execution is allowed what the plan says it takes."""
    plan = subject.plan if settings.enable_tensor_reuse else lay_apart(subject.plan)
    needed = execution_bytes(subject.program, plan, subject.analysis.sizes)
    for name, limit in (
        ("max_workspace_size", settings.max_workspace_bytes),
        ("pool_size", settings.pool_size_bytes),
    ):
        if limit is not None and needed > limit:
            smaller = f"analyze_model(…, batch={largest}) fits, or " if largest else ""
            raise OutOfMemoryError(
                f"{subject.analysis.device}: one execution needs {format_bytes(needed)} of working memory, "
                f"{name} allows {format_bytes(limit)}",
                hint=f"{smaller}raise {name}",
                required=needed,
                available=limit,
            )
