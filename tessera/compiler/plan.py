"""A graph to a launch plan and the kernels it launches."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tessera.compiler.attention_variants import attention_space, attention_variants
from tessera.compiler.body import SECOND_WORKSPACE, WORKSPACE
from tessera.compiler.codegen import LoweredGroup, kernel_name, lower_group, plain_space, step_name
from tessera.compiler.cpu_sort import digit_sort_variants
from tessera.compiler.fingerprint import digest
from tessera.compiler.groups import Group, Grouping, blas_operand, group_nodes
from tessera.compiler.kernel_source import KernelSource
from tessera.compiler.lower_long_rows import long_row_variants
from tessera.compiler.lower_matmul import blas_sizes
from tessera.compiler.lower_sort import sort_variants
from tessera.compiler.matmul_variants import matmul_variants, product_space
from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.memory_plan import ALIGNMENT_BYTES, Lifetime, plan_memory
from tessera.compiler.operators import ORDERS
from tessera.compiler.passes import optimize_graph
from tessera.compiler.tiling import Tilings, Values, is_own
from tessera.compiler.variant import Variant
from tessera.language.tuning import Space
from tessera.program.dim import Dim, align, maximum, product, symbol
from tessera.program.dtype import f32, f64
from tessera.program.graph import Graph
from tessera.program.program import (
    Arg,
    Buffer,
    Choice,
    Compare,
    Extent,
    Gemm,
    Launch,
    Option,
    Plan,
    Pointer,
    Step,
)

_VARIANTS = {"matmul": matmul_variants, "attention": attention_variants}
"""What tensor cores compute, by operator."""
_SPACES = {"matmul": product_space, "attention": attention_space}
"""What that may be tuned over."""
NO_TILINGS = Tilings()
"""Everything as the compiler chooses it."""


@dataclass(frozen=True, slots=True)
class TunableStep:
    """A step whose kernels have a shape to choose."""

    name: str
    number: int
    """In the names of its kernels."""
    space: Space
    identity: str
    """Digest of its kernels as the compiler chooses them, with what is fused into them and their sizes."""


def plan_graph(
    graph: Graph,
    *,
    kind: Literal["cuda", "cpu"],
    targets: tuple[str, ...],
    enable_graph_optimization: bool = True,
    enable_kernel_fusion: bool = True,
    units: MatrixUnits | None = None,
    tilings: Tilings = NO_TILINGS,
) -> tuple[Plan, tuple[KernelSource, ...]]:
    """What to launch, in order, to compute `graph`, and the kernels for it.

    Args:
        graph: As traced; inputs, constants and outputs keep their names.
        kind: Kind of the targets.
        targets: Full names of the architectures that the plan is for.
        enable_graph_optimization: Whether to simplify, and to compute at load what depends on weights alone.
        enable_kernel_fusion: Whether operators may share a kernel.
        units: What matrix products may use on the targets; None for no tensor cores.
        tilings: What was tuned.

    Raises:
        CompileError: An operator cannot be lowered; the message names it, its line and a remedy. Or a tiling
            does not fit.
    """
    ready = optimize_graph(graph, kind=kind, enable_graph_optimization=enable_graph_optimization, units=units)
    grouping = group_nodes(ready, kind=kind, fuse=enable_kernel_fusion, hoist=enable_graph_optimization)
    return _Planner(ready, grouping, kind, units, tilings).plan(targets)


def tunable_steps(
    graph: Graph,
    *,
    enable_graph_optimization: bool = True,
    enable_kernel_fusion: bool = True,
    units: MatrixUnits | None = None,
) -> tuple[TunableStep, ...]:
    """The steps of a GPU plan whose kernels have a shape to choose, each once.

    Raises:
        CompileError: As for `plan_graph`.
    """
    ready = optimize_graph(
        graph, kind="cuda", enable_graph_optimization=enable_graph_optimization, units=units
    )
    grouping = group_nodes(ready, kind="cuda", fuse=enable_kernel_fusion, hoist=enable_graph_optimization)
    return _Planner(ready, grouping, "cuda", units, NO_TILINGS).steps_to_tune()


@dataclass(slots=True)
class _Planner:
    graph: Graph
    grouping: Grouping
    kind: Literal["cuda", "cpu"]
    units: MatrixUnits | None
    tilings: Tilings
    steps: dict[bool, list[Step]] = field(default_factory=lambda: {False: [], True: []})
    """Steps of an execution, and (True) those at load."""
    kernels: dict[object, KernelSource] = field(default_factory=dict)
    """By what makes two groups' kernels the same."""
    numbers: dict[object, int] = field(default_factory=dict)
    """Numbers in the names of groups' kernels, by the same."""
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
            step = self._gemm(group, places) if group.blas else self._kernels(group, places)
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

    def _kernels(self, group: Group, places: dict[int, Pointer]) -> Step:
        """The launch of a group's kernel, or the choice between those that its sizes decide."""
        variants = self._variants(group)
        # Groups are counted, so that those without variants have the same names in every target's plan.
        number = self.numbers.setdefault(variants[0].kernels[0].key, len(self.numbers))
        variants = self._tuned(group, number, variants)
        options: list[Option] = []
        # One of the variants runs: they share the memory between their kernels.
        between = {
            WORKSPACE: self._workspace(f"parts_{group.root}", [v.workspace_bytes for v in variants]),
            SECOND_WORKSPACE: self._workspace(f"more_{group.root}", [v.second_bytes for v in variants]),
        }
        for variant in variants:
            launches = [
                self._launch(kernel, self._source(kernel, number, variant.text), group, places, between)
                for kernel in variant.kernels
            ]
            options.append(Option(steps=tuple(launches), guard=variant.guard))
        if len(options) == 1 and len(options[0].steps) == 1:
            return options[0].steps[0]
        return Choice(options=tuple(options))

    def steps_to_tune(self) -> tuple[TunableStep, ...]:
        """Steps that have a space of tilings."""
        found: dict[str, TunableStep] = {}
        for group in self.grouping.groups:
            if group.blas:
                continue
            variants = self._variants(group)
            kernel = variants[0].kernels[0]
            number = self.numbers.setdefault(kernel.key, len(self.numbers))
            space = None if group.at_load else self._space(group, variants)
            if space is not None:
                name = step_name(number, kernel.ops)
                identity = [[repr(k.key), str(k.geometry.grid)] for v in variants for k in v.kernels]
                found.setdefault(name, TunableStep(name, number, space, digest(identity)))
        return tuple(found.values())

    def _space(self, group: Group, variants: tuple[Variant, ...]) -> Space | None:
        op = None if group.core is None else self.graph.nodes[group.core].op
        if self.units is not None and op in _SPACES:
            return _SPACES[op](self.graph, group, self.units)
        # Sorts and long rows have kernels of their own; only where plain ones may run is there a choice.
        plain = op not in ORDERS and (variants[-1].guard == () and len(variants[-1].kernels) == 1)
        return plain_space(self.graph, group) if plain else None

    def _tuned(self, group: Group, number: int, own: tuple[Variant, ...]) -> tuple[Variant, ...]:
        """The kernels of every tiling that the step has, each for sizes of its bucket."""
        tilings = self.tilings.of(step_name(number, own[0].kernels[0].ops))
        if group.at_load or not tilings:
            return own
        found: list[Variant] = []
        for tiling in tilings:
            values, last = dict(tiling.values), tiling is tilings[-1]
            guard = [Compare(lhs=symbol(name), op="<=", rhs=size) for name, size in tiling.bucket]
            ways = own if is_own(values) else self._variants(group, values)
            found += [replace(way, guard=(*(() if last else guard), *way.guard)) for way in ways]
        return tuple(found)

    def _variants(self, group: Group, tiling: Values | None = None) -> tuple[Variant, ...]:
        op = None if group.core is None else self.graph.nodes[group.core].op
        if self.units is not None and op in _VARIANTS:
            limit = self.tilings.shared_bytes
            found = _VARIANTS[op](self.graph, group, self.grouping, self.units, tiling, limit)
            if found:
                return found
        if op in ORDERS:
            sorts = sort_variants if self.kind == "cuda" else digit_sort_variants
            ways = sorts(self.graph, group, self.grouping)
            if ways:
                return ways
        split: tuple[Variant, ...] = ()
        if self.kind == "cuda" and group.core is not None:
            split = long_row_variants(self.graph, group, self.grouping)
            if split and not split[-1].guard:
                return split
        return (*split, Variant((lower_group(self.graph, group, self.grouping, self.kind, tiling),)))

    def _workspace(self, name: str, sizes: Iterable[Dim]) -> Pointer:
        """Memory between the kernels of one variant, enough for any of them."""
        asked = [size for size in dict.fromkeys(sizes) if size != 0]
        if not asked:
            return Pointer(space="null")
        size = functools.reduce(maximum, asked)
        step = len(self.steps[False])
        self.lifetimes[-1 - len(self.lifetimes)] = Lifetime(name, size, step, step)
        return Pointer(space="buffer", name=name)

    def _source(self, lowered: LoweredGroup, number: int, note: str) -> KernelSource:
        if lowered.key not in self.kernels:
            name = kernel_name(self.graph.name, number, lowered.ops)
            name = f"{name}_{lowered.label}" if lowered.label else name
            self.kernels[lowered.key] = lowered.source(name, note)
        return self.kernels[lowered.key]

    def _launch(
        self,
        lowered: LoweredGroup,
        source: KernelSource,
        group: Group,
        places: dict[int, Pointer],
        between: Mapping[int, Pointer],
    ) -> Launch:
        args: list[Arg] = [
            between[node] if node in between else self._place(node, places) for node in lowered.reads
        ]
        written = between[SECOND_WORKSPACE if lowered.to_second else WORKSPACE]
        args.append(written if lowered.to_workspace else places[group.root])
        args += [
            found.argument(between.get(found.node) or self._place(found.node, places))
            for found in lowered.maps
        ]
        args += [Extent(value=size) for size in lowered.sizes]
        return Launch(
            kernel=source.name,
            grid=lowered.geometry.grid,
            block=(lowered.geometry.threads or 1, 1, 1),
            shared_bytes=lowered.geometry.dynamic_shared_bytes,
            args=tuple(args),
            persistent=lowered.geometry.persistent,
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
