"""Rewrites of a graph, each from a Graph to a Graph that computes the same."""

from __future__ import annotations

from typing import Literal

from tessera.compiler.operators import check_supported
from tessera.compiler.passes.attention import expand_attention
from tessera.compiler.passes.common_subexpressions import merge_common_subexpressions
from tessera.compiler.passes.cpu_matmul import widen_cpu_matmuls
from tessera.compiler.passes.dead_code import remove_dead_code
from tessera.compiler.passes.outputs import separate_outputs
from tessera.compiler.passes.simplify import simplify
from tessera.compiler.passes.sink_reshapes import sink_reshapes
from tessera.program.graph import Graph


def optimize_graph(
    graph: Graph, *, kind: Literal["cuda", "cpu"], enable_graph_optimization: bool = True
) -> Graph:
    """The graph that is lowered for a kind of target: what `inspect --graph` shows.

    Raises:
        CompileError: An operator cannot be lowered.
    """
    check_supported(graph)
    graph = remove_dead_code(graph)
    graph = expand_attention(graph, kind)
    if kind == "cpu":
        graph = widen_cpu_matmuls(graph)
    if enable_graph_optimization:
        graph = simplify(sink_reshapes(simplify(graph)))
        graph = remove_dead_code(merge_common_subexpressions(graph))
    return separate_outputs(graph)
