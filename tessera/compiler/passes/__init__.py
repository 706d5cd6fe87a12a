"""Rewrites of a graph, each from a Graph to a Graph that computes the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.operators import check_supported
from tessera.compiler.passes.attention import expand_attention
from tessera.compiler.passes.channels_last import lay_channels_last
from tessera.compiler.passes.common_subexpressions import merge_common_subexpressions
from tessera.compiler.passes.cpu_matmul import widen_cpu_matmuls
from tessera.compiler.passes.dead_code import remove_dead_code
from tessera.compiler.passes.find_attention import find_attention
from tessera.compiler.passes.fold_numbers import fold_numbers
from tessera.compiler.passes.outputs import separate_outputs
from tessera.compiler.passes.simplify import simplify
from tessera.compiler.passes.sink_reshapes import sink_reshapes
from tessera.compiler.passes.sort_scatters import sort_scatters
from tessera.program.graph import Graph

Kind = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Pass:
    """A rewrite and what it is for."""

    name: str
    does: str
    """In a few words."""
    rewrite: Callable[[Graph, Kind], Graph] = field(repr=False)
    optional: bool = True
    """Whether `enable_graph_optimization=False` leaves it out."""


@dataclass(frozen=True, slots=True)
class PassStep:
    """One pass over one graph."""

    by: Pass
    before: Graph
    after: Graph


PASSES: tuple[Pass, ...] = (
    Pass("dead code", "leave out what no output needs", lambda g, _: remove_dead_code(g), optional=False),
    Pass("find attention", "one kernel for products around a softmax", find_attention),
    Pass("attention", "take attention apart where no kernel does it", expand_attention, optional=False),
    Pass(
        "cpu products",
        "bring products into the form of a BLAS",
        lambda g, kind: widen_cpu_matmuls(g) if kind == "cpu" else g,
        optional=False,
    ),
    Pass("scatters", "sort the updates of a scatter", sort_scatters),
    Pass("numbers", "compute what numbers alone make", lambda g, _: fold_numbers(g)),
    Pass("simplify", "identities, casts and views that cancel", lambda g, _: simplify(g)),
    Pass("reshapes", "compute before a reshape rather than behind it", lambda g, _: sink_reshapes(g)),
    Pass("simplify", "identities, casts and views that cancel", lambda g, _: simplify(g)),
    Pass("common", "compute equal things once", lambda g, _: merge_common_subexpressions(g)),
    Pass("dead code", "leave out what no output needs", lambda g, _: remove_dead_code(g)),
    Pass("outputs", "memory of its own for each output", lambda g, _: separate_outputs(g), optional=False),
)
"""All passes, in order; those for tensor cores follow them."""


def _passes(units: MatrixUnits | None) -> tuple[Pass, ...]:
    if units is None:
        return PASSES
    return (
        *PASSES,
        Pass(
            "channels last",
            "lay convolutions out for tensor cores",
            lambda g, kind: lay_channels_last(g, units) if kind == "cuda" else g,
        ),
        Pass("dead code", "leave out what no output needs", lambda g, _: remove_dead_code(g)),
    )


def optimize_graph(
    graph: Graph,
    *,
    kind: Kind,
    enable_graph_optimization: bool = True,
    units: MatrixUnits | None = None,
    watch: Callable[[PassStep], None] | None = None,
) -> Graph:
    """The graph that is lowered for a kind of target: what `inspect --graph` shows.

    Args:
        graph: As traced.
        kind: Kind of target.
        enable_graph_optimization: Whether optional passes run.
        units: What the targets' tensor cores do; None for none.
        watch: Called after each pass.

    Raises:
        CompileError: An operator cannot be lowered.
    """
    check_supported(graph)
    for each in _passes(units):
        if each.optional and not enable_graph_optimization:
            continue
        after = each.rewrite(graph, kind)
        if watch is not None:
            watch(PassStep(each, graph, after))
        graph = after
    return graph
