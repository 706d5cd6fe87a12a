"""A graph to a launch plan and the kernels it launches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tessera.compiler.codegen import kernel_name, lower_group
from tessera.compiler.groups import Group, Grouping, blas_operand, group_nodes
from tessera.compiler.kernel_source import KernelSource
from tessera.compiler.lower_matmul import blas_sizes
from tessera.compiler.memory_plan import ALIGNMENT_BYTES, Lifetime, plan_memory
from tessera.compiler.passes import optimize_graph
from tessera.program.dim import Dim, align, product
from tessera.program.dtype import f32, f64
from tessera.program.graph import Graph
from tessera.program.program import Arg, Buffer, Extent, Gemm, Launch, Plan, Pointer


def plan_graph(
    graph: Graph,
    *,
    kind: Literal["cuda", "cpu"],
    targets: tuple[str, ...],
    enable_graph_optimization: bool = True,
    enable_kernel_fusion: bool = True,
) -> tuple[Plan, tuple[KernelSource, ...]]:
    """What to launch, in order, to compute `graph`, and the kernels for it.

    Args:
        graph: As traced; inputs, constants and outputs keep their names.
        kind: Kind of the targets.
        targets: Full names of the architectures that the plan is for.
        enable_graph_optimization: Whether to simplify, and to compute at load what depends on weights alone.
        enable_kernel_fusion: Whether operators may share a kernel.

    Raises:
        CompileError: An operator cannot be lowered; the message names it, its line and a remedy.
    """
    ready = optimize_graph(graph, kind=kind, enable_graph_optimization=enable_graph_optimization)
    grouping = group_nodes(ready, kind=kind, fuse=enable_kernel_fusion, hoist=enable_graph_optimization)
    return _Planner(ready, grouping, kind).plan(targets)


@dataclass(slots=True)
class _Planner:
    graph: Graph
    grouping: Grouping
    kind: Literal["cuda", "cpu"]
    steps: dict[bool, list[Launch | Gemm]] = field(default_factory=lambda: {False: [], True: []})
    """Steps of an execution, and (True) those at load."""
    kernels: dict[object, KernelSource] = field(default_factory=dict)
    """By what makes two groups' kernels the same."""
    lifetimes: dict[int, Lifetime] = field(default_factory=dict)
    """Of temporary tensors, by the node that owns the memory."""
    persistent: list[Buffer] = field(default_factory=list)
    persistent_bytes: int = 0

    def plan(self, targets: tuple[str, ...]) -> tuple[Plan, tuple[KernelSource, ...]]:
        """Go through the groups."""
        places = self._output_places()
        for group in self.grouping.groups:
            root = group.root
            if root not in places:
                places[root] = self._temporary(group)
            step = self._gemm(group, places) if group.blas else self._launch(group, places)
            self.steps[group.at_load].append(step)
        buffers, arena = plan_memory(self.lifetimes.values())
        plan = Plan(
            targets=targets,
            steps=tuple(self.steps[False]),
            buffers=buffers,
            arena_bytes=arena,
            setup=tuple(self.steps[True]),
            persistent=tuple(self.persistent),
            persistent_bytes=self.persistent_bytes,
        )
        return plan, tuple(self.kernels.values())

    def _output_places(self) -> dict[int, Pointer]:
        """Where every leaf and output lies, by the node that owns the memory."""
        places = {
            index: Pointer(space="input" if node.op == "input" else "constant", name=str(node.attrs["name"]))
            for index, node in enumerate(self.graph.nodes)
            if node.op in ("input", "constant")
        }
        for name, index in zip(self.graph.output_names, self.graph.outputs, strict=True):
            places[self.grouping.owner(index)] = Pointer(space="output", name=name)
        return places

    def _temporary(self, group: Group) -> Pointer:
        node = self.graph.nodes[group.root]
        name, size = f"{node.op}_{group.root}", product(node.shape) * node.dtype.itemsize
        if group.at_load:
            self.persistent.append(Buffer(name=name, offset_bytes=self.persistent_bytes, bytes=size))
            end = align(self.persistent_bytes + size, ALIGNMENT_BYTES)
            self.persistent_bytes = _fixed(end)
            return Pointer(space="persistent", name=name)
        step = len(self.steps[False])
        self.lifetimes[group.root] = Lifetime(name, size, step, step)
        return Pointer(space="buffer", name=name)

    def _place(self, node: int, places: dict[int, Pointer]) -> Pointer:
        """Where an operand lies; its memory is in use until this step."""
        owner = self.grouping.owner(node)
        if owner in self.lifetimes:
            step = len(self.steps[False])
            self.lifetimes[owner] = _extended(self.lifetimes[owner], step)
        return places[owner]

    def _launch(self, group: Group, places: dict[int, Pointer]) -> Launch:
        lowered = lower_group(self.graph, group, self.grouping, self.kind)
        if lowered.key not in self.kernels:
            name = kernel_name(self.graph.name, len(self.kernels), lowered.ops)
            self.kernels[lowered.key] = lowered.source(name)
        args: list[Arg] = [self._place(node, places) for node in lowered.reads]
        args.append(places[group.root])
        args += [Extent(value=size) for size in lowered.sizes]
        return Launch(
            kernel=self.kernels[lowered.key].name,
            grid=lowered.geometry.grid,
            block=(lowered.geometry.threads or 1, 1, 1),
            args=tuple(args),
        )

    def _gemm(self, group: Group, places: dict[int, Pointer]) -> Gemm:
        node = self.graph.nodes[group.root]
        (a, transpose_a), (b, transpose_b) = (blas_operand(self.graph, i) for i in node.inputs)
        sizes = blas_sizes(self.graph, group.root, transpose_a=transpose_a)
        return Gemm(
            dtype=f64 if node.dtype == f64 else f32,
            a=self._place(a, places),
            b=self._place(b, places),
            c=places[group.root],
            transpose_a=transpose_a,
            transpose_b=transpose_b,
            **sizes,
        )


def _extended(lifetime: Lifetime, step: int) -> Lifetime:
    return Lifetime(lifetime.name, lifetime.bytes, lifetime.first, max(lifetime.last, step))


def _fixed(size: Dim) -> int:
    if not isinstance(size, int):
        raise TypeError(f"a tensor made at load has a fixed size, not {size}")
    return size
