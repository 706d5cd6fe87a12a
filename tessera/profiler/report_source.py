"""What a package or an artifact holds, as the data of a report."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tessera
from tessera.profiler.bench_result import BenchResult
from tessera.profiler.check import Check
from tessera.profiler.check_machine import available_cores, cpu_model
from tessera.profiler.report_data import (
    Block,
    BufferLife,
    KernelRow,
    LaunchPlan,
    LaunchRow,
    MemoryPlan,
    PackageEntry,
    ReportData,
    StageTime,
)
from tessera.profiler.sizes import choose_sizes
from tessera.program.artifact import Artifact, Resources
from tessera.program.dim import evaluate, format_dim, format_shape
from tessera.program.lifetimes import buffer_lives
from tessera.program.occupancy import limiter_of
from tessera.program.program import Choice, Gemm, Launch, Plan, Program, Step

if TYPE_CHECKING:
    from tessera.package import Package

SHOWN_BATCH = 32
"""Batch size that memory plans are drawn for."""


def report_from_package(
    package: str | Path | Package,
    *,
    title: str | None = None,
    subtitle: str = "",
    stages: Sequence[StageTime] = (),
    benchmarks: Sequence[BenchResult] = (),
    sections: Mapping[str, Sequence[Block]] | None = None,
    checks: Sequence[Check] = (),
    sizes: Mapping[str, int] | None = None,
) -> ReportData:
    """A report of everything that a package states about itself, and of what the caller adds.

    Args:
        package: File, unpacked folder, or an open package.
        title: None: its name and version.
        subtitle: A sentence below the title.
        stages: How long making it took.
        benchmarks: Measured on this machine.
        sections: The caller's own sections by title.
        checks: What `diagnose` found.
        sizes: Values of symbols that memory plans are drawn for; by default the batch is 32.

    Raises:
        PackageError: It is no package, or a damaged one.
    """
    from tessera.package import Package

    opened = package if isinstance(package, Package) else Package.load(package)
    size_of = {entry.path: entry.size for entry in opened.entries}
    programs = list(opened.programs.values())
    # A loaded package's manifest is on disk; one in memory has not been written yet.
    on_disk = _manifest_size(opened)
    entries = [PackageEntry(entry.path, entry.size, entry.sha256) for entry in opened.entries]
    return ReportData(
        title=title or f"{opened.name} {opened.version}",
        subtitle=subtitle or str(opened.manifest.metadata.get("description", "")),
        kernels=tuple(
            kernel_row(row.program, kernel, row.target, row.resources, size_of[row.path])
            for row in opened.binaries
            if row.format != "ptx"
            for kernel in row.kernels
        ),
        stages=tuple(stages),
        package=f"{opened.name} {opened.version}",
        entries=(*entries, *([PackageEntry("manifest.json", on_disk)] if on_disk else [])),
        memory=tuple(_memory_plans(programs, sizes or {})),
        launches=tuple(_launch_plans(programs)),
        benchmarks=tuple(benchmarks),
        sections=dict(sections or {}),
        checks=tuple(checks),
        environment={**environment(), **_made_with(opened.manifest.provenance)},
        notes=opened.manifest.notes,
    )


def report_from_artifact(
    artifact: Artifact, *, title: str, subtitle: str = "", sizes: Mapping[str, int] | None = None
) -> ReportData:
    """A report of what a compiler handed over. Sections of the caller go in by `dataclasses.replace`."""
    return ReportData(
        title=title,
        subtitle=subtitle,
        kernels=tuple(
            kernel_row(b.program, kernel, b.target, b.resources, len(b.data), cached=b.cached)
            for b in artifact.binaries
            if b.format != "ptx"
            for kernel in b.kernels
        ),
        memory=tuple(_memory_plans(artifact.programs, sizes or {})),
        launches=tuple(_launch_plans(artifact.programs)),
        environment={**environment(), **_made_with(artifact.provenance)},
        notes=artifact.notes,
    )


def kernel_row(
    program: str,
    kernel: str,
    target: str,
    resources: Resources | None,
    binary_bytes: int,
    *,
    cached: bool | None = None,
) -> KernelRow:
    """One row of the kernel table; what the assembler did not say stays None."""
    if resources is None:
        return KernelRow(program, kernel, target, binary_bytes=binary_bytes, cached=cached)
    static, dynamic = resources.shared_bytes, resources.dynamic_shared_bytes
    shared = None if static is None else static + (dynamic or 0)
    return KernelRow(
        program=program,
        kernel=kernel,
        target=target,
        registers=resources.registers,
        spill_bytes=resources.spill_bytes,
        shared_bytes=shared,
        threads=resources.threads,
        occupancy=resources.occupancy,
        limiter=limiter_of(resources, target),
        binary_bytes=binary_bytes,
        cached=cached,
    )


def environment() -> dict[str, str]:
    """This machine and its Python."""
    import numpy

    return {
        "tessera": tessera.__version__,
        "Python": platform.python_version(),
        "NumPy": numpy.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "CPU": f"{cpu_model()}, {available_cores()} cores",
    }


def _made_with(provenance: Mapping[str, Any]) -> dict[str, str]:
    """The versions among a compiler's provenance, one for each line of the page."""
    tools = provenance.get("toolchain", provenance.get("versions", {}))
    if not isinstance(tools, Mapping):
        return {}
    return {
        f"built with {name}": str(value) for name, value in tools.items() if isinstance(value, (str, int))
    }


def _manifest_size(package: Package) -> int | None:
    from tessera.package.manifest import manifest_to_json

    return None if package.path is None else len(manifest_to_json(package.manifest))


def _memory_plans(programs: Iterable[Program], given: Mapping[str, int]) -> list[MemoryPlan]:
    """The plans of all programs; targets of which the plans are equal share one."""
    found: list[MemoryPlan] = []
    for plan in _every_memory_plan(programs, given):
        place = next((i for i, other in enumerate(found) if replace(other, target=plan.target) == plan), None)
        if place is None:
            found.append(plan)
        else:
            found[place] = replace(plan, target=f"{found[place].target}, {plan.target}")
    return found


def _every_memory_plan(programs: Iterable[Program], given: Mapping[str, int]) -> Iterator[MemoryPlan]:
    for program in programs:
        known = {k: v for k, v in given.items() if k in _symbols(program)}
        sizes, _ = choose_sizes(program, batch=SHOWN_BATCH, given=known)
        for plan in program.plans:
            if plan.buffers or plan.persistent_bytes:
                yield memory_plan(program.name, plan, sizes)


def _symbols(program: Program) -> frozenset[str]:
    from tessera.program.validate import bound_symbols

    return bound_symbols(program)


def memory_plan(program: str, plan: Plan, sizes: Mapping[str, int]) -> MemoryPlan:
    """The arena of `plan`: a buffer lives from the first step that names it to the last.

    Raises:
        InputError: A size has no value.
    """
    lives = tuple(
        BufferLife(
            life.name,
            evaluate(life.offset_bytes, sizes),
            evaluate(life.bytes, sizes),
            life.first,
            life.last,
        )
        for life in buffer_lives(plan)
    )
    return MemoryPlan(
        program=program,
        target=", ".join(plan.targets),
        sizes=dict(sizes),
        steps=tuple(_step_name(step) for step in plan.steps),
        arena_bytes=evaluate(plan.arena_bytes, sizes),
        buffers=lives,
        persistent_bytes=plan.persistent_bytes,
    )


def _step_name(step: Step) -> str:
    if isinstance(step, Choice):
        return _step_name(step.options[-1].steps[0]) if step.options[-1].steps else "choice"
    return "gemm" if isinstance(step, Gemm) else step.kernel


def _launch_plans(programs: Iterable[Program]) -> Iterator[LaunchPlan]:
    for program in programs:
        for plan in program.plans:
            setup = tuple(_launch_rows("setup ", plan.setup))
            yield LaunchPlan(program.name, plan.targets, (*setup, *_launch_rows("", plan.steps)))


def _launch_rows(prefix: str, steps: Iterable[Step], guard: str = "") -> Iterator[LaunchRow]:
    for index, step in enumerate(steps):
        if not isinstance(step, Choice):
            yield _launch_row(f"{prefix}{index}", step, guard)
            continue
        for place, option in enumerate(step.options):
            letter = _letters(place)
            conditions = " and ".join(map(str, option.guard))
            yield from _launch_rows(f"{prefix}{index}{letter}.", option.steps, conditions or "otherwise")


def _letters(place: int) -> str:
    """`a` to `z`, then `aa`, `ab`, …: a step may have any number of variants."""
    before, last = divmod(place, 26)
    return (_letters(before - 1) if before else "") + chr(ord("a") + last)


def _launch_row(index: str, step: Launch | Gemm, guard: str) -> LaunchRow:
    if isinstance(step, Gemm):
        shape = f"{format_dim(step.m)} × {format_dim(step.n)} × {format_dim(step.k)}"
        operands = f"a = {step.a}, b = {step.b}, c = {step.c}"
        flags = [name for name in ("transpose_a", "transpose_b") if getattr(step, name)]
        batch = f", batch {format_dim(step.batch)}" if step.batch != 1 else ""
        text = ", ".join([operands, *flags]) + batch
        return LaunchRow(index, f"gemm {step.dtype}", "gemm", shape, "–", "–", text, guard)
    return LaunchRow(
        index=index,
        kind="kernel",
        name=step.kernel,
        grid=format_shape(step.grid),
        block=format_shape(step.block),
        shared=format_dim(step.shared_bytes),
        arguments=", ".join(map(str, step.args)),
        guard=guard,
    )
