"""What the compiler makes of a graph: what each pass does, the kernels, and the bytes that they move."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from tessera.compiler.groups import Group, Grouping, group_nodes
from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.operators import LEAVES, VIEWS
from tessera.compiler.passes import PassStep, optimize_graph
from tessera.program.dim import Dim, format_dim, format_shape, product
from tessera.program.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass did."""

    name: str
    does: str
    """What it is for."""
    before: int
    """Operators before, leaves not counted."""
    after: int
    removed: dict[str, int]
    """Operators that are gone, by name."""
    added: dict[str, int]


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One kernel, or one product left to a BLAS."""

    root: int
    """The node that it writes."""
    operators: tuple[str, ...]
    """What it computes, in order; views, which cost nothing, left out."""
    shape: tuple[Dim, ...]
    """Of what it writes."""
    dtype: str
    reads: tuple[int, ...]
    """Nodes in memory that it reads."""
    bytes: Dim
    """Bytes read and written, each tensor once."""
    blas: bool
    at_load: bool
    """Whether it runs once, when the program is loaded."""


@dataclass(frozen=True, slots=True)
class GraphReport:
    """A graph before and after, and all between."""

    name: str
    kind: Literal["cuda", "cpu"]
    traced: Graph
    optimized: Graph
    passes: tuple[PassReport, ...]
    kernels: tuple[KernelReport, ...]
    """In the order in which they run."""
    unfused: int = field(default=0)
    """Kernels there would be with one for each operator."""
    unfused_bytes: Dim = 0
    """Bytes that those would move in an execution."""
    targets: tuple[str, ...] = ()
    """Architectures that it is for, where it is not all of its kind."""

    @property
    def bytes(self) -> Dim:
        """Bytes that the kernels of one execution move."""
        return _total(k.bytes for k in self.kernels if not k.at_load)

    @property
    def launches(self) -> int:
        """Kernels of one execution."""
        return sum(not kernel.at_load for kernel in self.kernels)


def explain_graph(
    graph: Graph,
    *,
    kind: Literal["cuda", "cpu"] = "cuda",
    enable_graph_optimization: bool = True,
    enable_kernel_fusion: bool = True,
    units: MatrixUnits | None = None,
    targets: tuple[str, ...] = (),
) -> GraphReport:
    """What the compiler does with a traced graph, for one kind of target.

    Args:
        graph: As traced: `ts.jit(f).trace(specs).graph`.
        kind: Kind of target.
        enable_graph_optimization: As in `AOTConfig`.
        enable_kernel_fusion: As in `AOTConfig`.
        units: What the targets' tensor cores do; None for none.
        targets: Architectures to name in the report.

    Raises:
        CompileError: An operator cannot be lowered.
    """
    steps: list[PassStep] = []
    ready = optimize_graph(
        graph,
        kind=kind,
        enable_graph_optimization=enable_graph_optimization,
        units=units,
        watch=steps.append,
    )
    hoist = enable_graph_optimization
    fused = _kernels(ready, group_nodes(ready, kind=kind, fuse=enable_kernel_fusion, hoist=hoist))
    apart = _kernels(ready, group_nodes(ready, kind=kind, fuse=False, hoist=hoist))
    return GraphReport(
        name=graph.name,
        kind=kind,
        traced=graph,
        optimized=ready,
        passes=tuple(map(_pass_report, steps)),
        kernels=fused,
        unfused=sum(not kernel.at_load for kernel in apart),
        unfused_bytes=_total(kernel.bytes for kernel in apart if not kernel.at_load),
        targets=targets,
    )


def _pass_report(step: PassStep) -> PassReport:
    before, after = (_operators(graph) for graph in (step.before, step.after))
    return PassReport(
        name=step.by.name,
        does=step.by.does,
        before=before.total(),
        after=after.total(),
        removed=dict(sorted((before - after).items())),
        added=dict(sorted((after - before).items())),
    )


def _operators(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes if node.op not in LEAVES)


def _kernels(graph: Graph, grouping: Grouping) -> tuple[KernelReport, ...]:
    return tuple(_kernel(graph, grouping, group) for group in grouping.groups)


def _kernel(graph: Graph, grouping: Grouping, group: Group) -> KernelReport:
    members = frozenset(group.members)
    reads: dict[int, None] = {}
    for member in group.members:
        for operand in graph.nodes[member].inputs:
            source = _in_memory(graph, grouping, operand, members, blas=group.blas)
            if source is not None:
                reads[source] = None
    root = graph.nodes[group.root]
    names = [graph.nodes[member].op for member in group.members]
    return KernelReport(
        root=group.root,
        operators=tuple(n for n in names if n not in VIEWS) or tuple(names),
        shape=root.shape,
        dtype=str(root.dtype),
        reads=tuple(reads),
        bytes=_total(_bytes(graph.nodes[i]) for i in (*reads, group.root)),
        blas=group.blas,
        at_load=group.at_load,
    )


def _in_memory(
    graph: Graph, grouping: Grouping, operand: int, members: frozenset[int], *, blas: bool
) -> int | None:
    """The tensor in memory behind an operand; None for numbers and what the kernel computes itself."""
    from tessera.compiler.groups import blas_operand

    if blas:
        operand = blas_operand(graph, operand)[0]
    if operand in members or graph.nodes[operand].op == "scalar":
        return None
    return grouping.owner(operand)


def _bytes(node: Node) -> Dim:
    return product(node.shape) * node.dtype.itemsize


def _total(sizes: Any) -> Dim:
    total: Dim = 0
    for size in sizes:
        total = total + size
    return total


def report_data(report: GraphReport) -> dict[str, Any]:
    """A report as JSON data; sizes that depend on symbols are text."""
    return {
        "name": report.name,
        "kind": report.kind,
        "targets": list(report.targets),
        "passes": [
            {
                "name": p.name, "does": p.does, "before": p.before, "after": p.after,
                "removed": p.removed, "added": p.added,
            }
            for p in report.passes
        ],
        "before": [str(node) for node in report.traced.nodes],
        "after": [str(node) for node in report.optimized.nodes],
        "kernels": [
            {
                "writes": k.root, "operators": list(k.operators), "dtype": k.dtype,
                "shape": [_json(size) for size in k.shape], "reads": list(k.reads),
                "bytes": _json(k.bytes), "blas": k.blas, "at_load": k.at_load,
            }
            for k in report.kernels
        ],
        "launches": report.launches,
        "bytes": _json(report.bytes),
        "unfused_launches": report.unfused,
        "unfused_bytes": _json(report.unfused_bytes),
    }  # fmt: skip


def _json(size: Dim) -> int | str:
    return size if isinstance(size, int) else format_dim(size)


def report_text(report: GraphReport, *, whole: bool = True, width: int = 80) -> str:
    """A report for people.

    Args:
        report: What to tell.
        whole: Whether to list both graphs, operator by operator.
        width: Columns; longer lines are folded.
    """
    lines: list[str] = []
    if whole:
        lines += ["as traced:", *_graph_lines(report.traced, width), ""]
    lines += [f"passes for {report.kind} (operators before → after):"]
    lines += [line for each in report.passes for line in _folded(_pass_line(each), 4, width)]
    if whole:
        lines += ["", "as compiled:", *_graph_lines(report.optimized, width)]
    lines += ["", "kernels:"]
    lines += [line for k in report.kernels for line in _folded(_kernel_line(k), 4, width)]
    moved = f"{_amount(report.bytes)} moved; one for each operator: {report.unfused}"
    moved += f", {_amount(report.unfused_bytes)}"
    lines += _folded(f"{report.launches} kernels an execution, {moved}", 4, width)
    whom = f" ({', '.join(report.targets)})" if report.targets else ""
    return "\n".join(
        [f"graph {report.name} for {report.kind}{whom}", *(f"  {line}".rstrip() for line in lines)]
    )


def _graph_lines(graph: Graph, width: int) -> list[str]:
    return [piece for line in str(graph).splitlines()[1:] for piece in _folded(f"  {line}", 4, width)]


def _pass_line(each: PassReport) -> str:
    changes = [f"{op} -{count}" for op, count in each.removed.items()]
    changes += [f"{op} +{count}" for op, count in each.added.items()]
    return f"  {each.name:15}{each.before:4} → {each.after:<4} {', '.join(changes) or 'nothing'}"


def _kernel_line(kernel: KernelReport) -> str:
    names = [f"{n}" for n in kernel.operators]
    words = [n for i, n in enumerate(names) if i == 0 or n != names[i - 1]]
    reads = " ".join(f"%{i}" for i in kernel.reads)
    how = " BLAS" if kernel.blas else ""
    when = " at load" if kernel.at_load else ""
    written = f"{kernel.dtype}{format_shape(kernel.shape)}"
    text = f"  %{kernel.root} {written}{how}{when} = {'+'.join(words)}"
    return f"{text}({reads}) {_amount(kernel.bytes)}"


def _amount(size: Dim) -> str:
    from tessera.program.bytesize import format_bytes

    return format_bytes(size) if isinstance(size, int) else f"{format_dim(size)} bytes"


def _folded(line: str, indent: int, width: int) -> list[str]:
    """A line in pieces that fit; what goes on is indented."""
    import textwrap

    start = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip(), max(width - 2, 40), initial_indent=start, subsequent_indent=start + " " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
