"""A traced function becomes a program: its graph planned for each kind of target."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tessera.compiler.build import split_targets
from tessera.compiler.fingerprint import digest
from tessera.compiler.job import Job
from tessera.compiler.kernel_source import KernelSource
from tessera.compiler.matrix_units import MatrixUnits, units_of
from tessera.compiler.native import CpuKernel
from tessera.compiler.numba_adapter import Function
from tessera.compiler.options import AOTConfig, ToolOptions, shared_limit
from tessera.compiler.ptx import CudaKernel, virtual_file
from tessera.compiler.source import parsed_module
from tessera.compiler.tiling import Tilings
from tessera.compiler.unit import Unit
from tessera.language.builder import UNNAMED
from tessera.program.graph import Graph
from tessera.program.interface import program_of
from tessera.program.program import Constant, Plan, Port, Program
from tessera.program.validate import validate

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A program with its plans, and the generated kernels that these launch."""

    program: Program
    kernels: tuple[tuple[KernelSource, tuple[str, ...]], ...]
    """Each with the full names of the targets it is for."""
    constants: Mapping[str, np.ndarray[Any, Any]] = field(repr=False)
    """The weights by name."""
    notes: tuple[str, ...] = ()
    """What was chosen."""

    @property
    def name(self) -> str:
        """Name of the program."""
        return self.program.name

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What goes in."""
        return self.program.inputs


def graph_unit(
    graph: Graph,
    weights: Mapping[str, np.ndarray[Any, Any]],
    targets: Sequence[ToolOptions],
    config: AOTConfig,
) -> Unit:
    """The program of a traced function and the jobs that build its kernels: see `lower_graph`."""
    return lowered_unit(lower_graph(graph, weights, targets, config), targets)


def lower_graph(
    graph: Graph,
    weights: Mapping[str, np.ndarray[Any, Any]],
    targets: Sequence[ToolOptions],
    config: AOTConfig,
) -> Lowered:
    """The program of a traced function and the kernels that its plans launch.

    Args:
        graph: The function; the program has its name.
        weights: Values of its constants.
        targets: What to compile for.
        config: Switches of the graph compiler.

    Raises:
        CompileError: An operator cannot be lowered; the message names it and its line.
    """
    gpu, cpu = split_targets(targets)
    plans: list[Plan] = []
    kernels: list[tuple[KernelSource, tuple[str, ...]]] = []
    notes: list[str] = []
    for (units, tilings), group in _by_units(gpu, config).items():
        plan, sources = _plan(graph, "cuda", group, config, units, tilings)
        plans.append(plan)
        kernels += [(source, tuple(t.target for t in group)) for source in sources]
        notes += _notes(sources, group)
    if cpu:
        plan, sources = _plan(graph, "cpu", cpu, config, None, Tilings())
        plans.append(plan)
        kernels += [(source, tuple(t.target for t in cpu)) for source in sources]
    program = program_of(graph, tuple(plans))
    validate(program)
    return Lowered(
        program=program,
        kernels=tuple(kernels),
        constants={c.name: _stored(c, weights[c.name]) for c in program.constants},
        notes=tuple(dict.fromkeys(notes)),
    )


def lowered_unit(lowered: Lowered, targets: Sequence[ToolOptions]) -> Unit:
    """The jobs that build a lowered program's kernels.

    Args:
        lowered: The program.
        targets: What to compile for: all that it was lowered for, or some of that.
    """
    gpu, cpu = split_targets(targets)
    by_name = {options.target: options for options in targets}
    jobs = []
    for source, names in lowered.kernels:
        wanted = [by_name[name] for name in names if name in by_name]
        if wanted:
            jobs.append(_job(source, wanted))
    return Unit(
        program=lowered.program,
        jobs=tuple(_merged(jobs)),
        gpu=tuple(gpu),
        cpu=tuple(cpu),
        constants=lowered.constants,
        notes=lowered.notes,
    )


def replace_name(graph: Graph, name: str) -> Graph:
    """The graph under another name."""
    return msgspec.structs.replace(graph, name=name)


def own_constants(
    graph: Graph, constants: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[Graph, dict[str, np.ndarray[Any, Any]]]:
    """Arrays that have no name of their own, under names that begin with the graph's."""
    names = {name: f"{graph.name}.{name}" if UNNAMED.fullmatch(name) else name for name in constants}
    nodes = tuple(
        msgspec.structs.replace(node, attrs={**node.attrs, "name": names[str(node.attrs["name"])]})
        if node.op == "constant"
        else node
        for node in graph.nodes
    )
    return msgspec.structs.replace(graph, nodes=nodes), {names[n]: value for n, value in constants.items()}


def _by_units(
    targets: Sequence[ToolOptions], config: AOTConfig
) -> dict[tuple[MatrixUnits | None, Tilings], list[ToolOptions]]:
    """GPU targets by what their products may use and what was tuned: those that can share a plan."""
    found: dict[tuple[MatrixUnits | None, Tilings], list[ToolOptions]] = {}
    for options in targets:
        cap = config.max_shared_memory_per_block
        most = shared_limit(options.target, cap) if options.tilings else 0
        found.setdefault((units_of(options, cap), Tilings(options.tilings, most)), []).append(options)
    return found


def _merged(jobs: Sequence[Job]) -> list[Job]:
    """Kernels that several plans launch, once each for all their targets."""
    found: dict[tuple[str, str], Job] = {}
    for job in jobs:
        key = (job.kind, digest(job.parts))
        other = found.get(key)
        if other is not None:
            targets = (other.targets or frozenset()) | (job.targets or frozenset())
            job = replace(other, targets=targets)
        found[key] = job
    return list(found.values())


def _plan(
    graph: Graph,
    kind: Literal["cuda", "cpu"],
    targets: Sequence[ToolOptions],
    config: AOTConfig,
    units: MatrixUnits | None,
    tilings: Tilings,
) -> tuple[Plan, tuple[KernelSource, ...]]:
    from tessera.compiler.plan import plan_graph

    return plan_graph(
        graph,
        kind=kind,
        targets=tuple(t.target for t in targets),
        enable_graph_optimization=config.enable_graph_optimization,
        enable_kernel_fusion=config.enable_kernel_fusion,
        units=units,
        tilings=tilings,
    )


def _stored(constant: Constant, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.ascontiguousarray(value, dtype=constant.dtype.numpy).reshape(constant.shape)


def _job(source: KernelSource, targets: Sequence[ToolOptions]) -> Job:
    parts: dict[str, Any] = {
        "form": source.target,
        "name": source.name,
        "source": source.source,
        "args": source.args,
        "noalias": source.noalias_const,
        "threads": source.threads,
        "cc_dependent": source.cc_dependent,
        "least_cc": source.least_cc,
    }
    if any(t.lineinfo or t.debug for t in targets):
        parts["lines"] = [
            [line, virtual_file(place.file), place.line, place.column]
            for line, place in sorted(source.locations.items())
        ]
    return Job(
        name=source.name,
        kind=source.target,
        parts=parts,
        load=lambda: _kernel(source),
        threads=source.threads,
        dynamic_shared_bytes=source.dynamic_shared_bytes if source.target == "cuda" else None,
        targets=frozenset(options.target for options in targets),
    )


def _kernel(source: KernelSource) -> CudaKernel | CpuKernel:
    function = load_source(source)
    if source.target == "cpu":
        return CpuKernel(source.name, function, source.args, source.noalias_const, source.locations)
    return CudaKernel(
        source.name,
        function,
        source.args,
        source.noalias_const,
        source.threads,
        source.cc_dependent,
        source.least_cc,
        source.locations,
        source.source,
    )


def keep_lines(source: KernelSource) -> str:
    """The name of generated source, under which `linecache` has its lines from now on."""
    digest = hashlib.sha256(source.source.encode()).hexdigest()[:12]
    file = f"<{source.name}.{source.target}.{digest}.py>"
    linecache.cache[file] = (len(source.source), None, source.source.splitlines(keepends=True), file)
    return file


def load_source(source: KernelSource) -> Function:
    """The function that generated source defines; tracebacks and Numba's messages can show its lines."""
    file = keep_lines(source)
    namespace: dict[str, Any] = {"__name__": f"tessera_generated_{source.name}"}
    exec(compile(parsed_module(source.source), file, "exec"), namespace)  # noqa: S102 - written by this compiler
    function: Function = namespace[source.name]
    return function


def _notes(sources: Sequence[KernelSource], targets: Sequence[ToolOptions]) -> list[str]:
    """What was chosen for kernels that had a choice, and settings that chose nothing."""
    names = ", ".join(t.target for t in targets)
    notes = [f"{names}: {source.name}: {source.note}" for source in sources if source.note]
    warpgroups = any("wgmma" in source.note for source in sources)
    notes += [
        f"{t.target}: wgmma_config m{t.wgmma[0]}n{t.wgmma[1]}k{t.wgmma[2]} chose nothing: no product here "
        "has 16- or 8-bit operands that can be copied as they lie, and sizes and shared memory for it"
        for t in targets
        if t.wgmma is not None and not warpgroups
    ]
    return notes
