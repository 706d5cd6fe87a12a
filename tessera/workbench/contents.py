"""What is in a source file, an artifact or a package, as words and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from tessera.program.arch import is_cpu
from tessera.program.artifact import Artifact, KernelBinary
from tessera.program.codec import encode
from tessera.program.dim import Dim, align, format_dim, format_shape
from tessera.program.lifetimes import buffer_lives, peak_bytes
from tessera.program.occupancy import limiter_of
from tessera.program.program import Choice, Gemm, Launch, Plan, Port, Program, Step
from tessera.workbench.compilation import KERNEL_COLUMNS, kernel_cells, kernel_rows
from tessera.workbench.failure import visible
from tessera.workbench.output import bytes_text, print_table, terminal_width

if TYPE_CHECKING:
    from tessera.compiler.explain import GraphReport
    from tessera.package import Package


@dataclass(frozen=True, slots=True)
class Contents:
    """Programs and their machine code, wherever they came from."""

    title: str
    """What to call it: a package's name and version, or a file's name."""
    programs: tuple[Program, ...]
    binaries: tuple[KernelBinary, ...]
    weight_bytes: int
    """Bytes of all weights."""


def of_artifacts(title: str, artifacts: Iterable[Artifact]) -> Contents:
    """The contents of what was just compiled."""
    found = tuple(artifacts)
    return Contents(
        title,
        tuple(p for a in found for p in a.programs),
        tuple(b for a in found for b in a.binaries),
        sum(int(c.nbytes) for a in found for c in a.constants.values()),
    )


def of_package(package: Package) -> Contents:
    """The contents of an open package."""
    programs = tuple(package.programs.values())
    constants = {c.name: c for p in programs for c in p.constants}
    weight_bytes = 0
    for constant in constants.values():
        count = 1
        for size in constant.shape:
            count *= size
        weight_bytes += count * constant.dtype.itemsize
    manifest = package.manifest
    return Contents(f"{manifest.name} {manifest.version}", programs, package_binaries(package), weight_bytes)


def package_binaries(package: Package) -> tuple[KernelBinary, ...]:
    """Every binary of a package, with its code."""
    found = []
    for descriptor in package.binaries:
        for kernel in descriptor.kernels[:1]:
            binary = package.binary(descriptor.program, kernel, descriptor.target, descriptor.format)
            if binary is not None:
                found.append(binary)
    return tuple(found)


def contents_data(contents: Contents) -> dict[str, Any]:
    """The contents for `--json`."""
    machine = [b for b in contents.binaries if b.format != "ptx"]
    return {
        "title": contents.title,
        "programs": [
            {
                "name": p.name,
                "inputs": [_port_data(port) for port in p.inputs],
                "outputs": [_port_data(port) for port in p.outputs],
                "targets": list(p.targets),
                "weights": len(p.constants),
            }
            for p in contents.programs
        ],
        "kernels": [
            {
                "program": b.program,
                **row,
                "limited_by": limiter_of(b.resources, b.target),
            }
            for b, row in zip(machine, kernel_rows(machine), strict=True)
        ],
        "weight_bytes": contents.weight_bytes,
    }


def _port_data(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "dtype": port.dtype.name,
        "shape": [d if isinstance(d, int) else format_dim(d) for d in port.shape],
        "kind": port.kind,
    }


def signature(program: Program) -> str:
    """`linear(x: f32(n, 64)) -> output: f32(n, 10)`."""
    inputs = ", ".join(map(str, program.inputs))
    return f"{program.name}({inputs}) -> {', '.join(map(str, program.outputs))}"


def print_contents(contents: Contents) -> None:
    """Show programs, weights and the table of kernels."""
    print(visible(contents.title))
    for program in contents.programs:
        print("  " + visible(signature(program)))
        print("    targets: " + ", ".join(program.targets))
    if contents.weight_bytes:
        print(f"  weights: {bytes_text(contents.weight_bytes)}")
    if contents.binaries:
        print_table(KERNEL_COLUMNS, kernel_cells(contents.binaries))


def ptx_texts(contents: Contents) -> list[tuple[KernelBinary, str]]:
    """The PTX of every kernel that has some."""
    return [(b, b.data.decode("utf-8", "replace")) for b in contents.binaries if b.format == "ptx"]


def graph_texts(program: Program) -> list[str]:
    """For each kind of target: the graph before and after, what each pass did, and the kernels."""
    from tessera.compiler.explain import report_text

    if program.graph is None:
        return [f"{program.name}: a kernel written by hand has no graph"]
    width = terminal_width()
    return [report_text(report, width=width) for report in graph_reports(program)]


def graph_reports(program: Program) -> list[GraphReport]:
    """What the compiler makes of a program's graph, for each kind of its targets.

    GPUs whose tensor cores are given other layouts have reports of their own.
    """
    from tessera.compiler.explain import explain_graph
    from tessera.compiler.matrix_units import MatrixUnits, units_of
    from tessera.compiler.options import ToolOptions

    if program.graph is None:
        return []
    by_units: dict[MatrixUnits | None, list[str]] = {}
    for target in program.targets:
        if not is_cpu(target):
            by_units.setdefault(units_of(ToolOptions(target), None), []).append(target)
    reports: list[GraphReport] = []
    for units, targets in by_units.items():
        report = explain_graph(program.graph, kind="cuda", units=units, targets=tuple(targets))
        same = next((i for i, other in enumerate(reports) if other.optimized == report.optimized), None)
        if same is None:
            reports.append(report)
        else:
            reports[same] = replace(report, targets=(*reports[same].targets, *targets))
    if len(reports) == 1:
        reports = [replace(reports[0], targets=())]
    if any(map(is_cpu, program.targets)):
        reports.append(explain_graph(program.graph, kind="cpu"))
    return reports


def plan_text(program: Program, plan: Plan) -> str:
    """What a plan launches, one step a line."""
    lines = [f"plan {program.name} for {', '.join(plan.targets)}"]
    lines += [f"  at load: {line}" for step in plan.setup for line in _step_lines(step)]
    for number, step in enumerate(plan.steps):
        first, *rest = _step_lines(step)
        lines += [f"  {number}: {first}", *(f"     {line}" for line in rest)]
    return "\n".join([*lines, *_memory_lines(plan)])


def _memory_lines(plan: Plan) -> list[str]:
    """Where each temporary tensor lies and from which step to which, and what memory that takes."""
    lives = buffer_lives(plan)
    rows = [
        (life.name, format_dim(life.offset_bytes), format_dim(life.bytes), f"{life.first}-{life.last}")
        for life in lives
    ]
    lines = [f"  arena: {format_dim(plan.arena_bytes)} bytes"]
    if rows:
        heads = ("buffer", "offset", "bytes", "steps")
        widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
        lines += ["    " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in (heads, *rows)]
    memory = memory_data(plan)
    if memory["peak_bytes"] is not None:
        lines.append(
            f"  in use at once: {memory['peak_bytes']} bytes at most; "
            f"without sharing: {memory['separate_bytes']} bytes"
        )
    if plan.persistent:
        lines.append(f"  made at load: {plan.persistent_bytes} bytes in {len(plan.persistent)} tensors")
    return lines


def memory_data(plan: Plan) -> dict[str, Any]:
    """The memory plan for `--json`; what depends on symbols is text, and null where it is a maximum."""
    lives = buffer_lives(plan)
    fixed = all(isinstance(life.bytes, int) for life in lives)
    return {
        "targets": list(plan.targets),
        "arena_bytes": _dim_data(plan.arena_bytes),
        "peak_bytes": peak_bytes(plan, {}) if fixed else None,
        "separate_bytes": sum(align(life.bytes, 256) for life in lives) if fixed else None,
        "buffers": [
            {
                "name": life.name,
                "offset_bytes": _dim_data(life.offset_bytes),
                "bytes": _dim_data(life.bytes),
                "first_step": life.first,
                "last_step": life.last,
            }
            for life in lives
        ],
        "persistent_bytes": plan.persistent_bytes,
    }


def _dim_data(size: Dim) -> int | str:
    return size if isinstance(size, int) else format_dim(size)


def program_json(program: Program) -> Any:
    """The whole Program document as JSON data."""
    return msgspec.json.decode(encode(program))


def _step_lines(step: Step) -> list[str]:
    if isinstance(step, Choice):
        lines = []
        for option in step.options:
            guard = " and ".join(map(str, option.guard))
            lines.append(f"if {guard}:" if guard else "otherwise:")
            lines += [f"  {line}" for inner in option.steps for line in _step_lines(inner)]
        return lines
    return [_launch_text(step) if isinstance(step, Launch) else _gemm_text(step)]


def _launch_text(step: Launch) -> str:
    args = ", ".join(map(str, step.args))
    block = "" if step.block == (1, 1, 1) else f" block{step.block}"
    shared = f" shared {format_dim(step.shared_bytes)} B" if step.shared_bytes != 0 else ""
    return f"{step.kernel} grid{format_shape(step.grid)}{block}{shared} ({args})"


def _gemm_text(step: Gemm) -> str:
    sizes = " × ".join(format_dim(d) for d in (step.m, step.n, step.k))
    batch = "" if step.batch == 1 else f" batch {format_dim(step.batch)}"
    operands = f"({step.a}, {step.b}) -> {step.c}"
    return f"gemm {step.dtype} {sizes}{batch} {operands}"
