"""Bring matrix products into the form that a BLAS takes."""

from __future__ import annotations

import msgspec

from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.dim import Dim, product
from tessera.program.dtype import DType, f32, f64, tf32
from tessera.program.graph import Graph, Node


def widen_cpu_matmuls(graph: Graph) -> Graph:
    """`graph` with every floating-point matmul in float32 or float64, and its batch in one stride.

    Casts around it become ordinary nodes, so that those of weights are done once, at load.
    """

    def visit(rewriter: Rewriter, node: Node) -> int:
        if node.op != "matmul" or not node.dtype.is_float:
            return rewriter.add(node)
        dtype = node.dtype if node.dtype in (f32, tf32, f64) else f32
        inputs = tuple(
            _expanded(rewriter, _cast(rewriter, index, dtype, node), node) for index in node.inputs
        )
        product = rewriter.add(msgspec.structs.replace(node, inputs=inputs, dtype=dtype))
        return _cast(rewriter, product, node.dtype, node)

    return rewrite(graph, visit)


def is_blas_matmul(node: Node) -> bool:
    """Whether the CPU's BLAS does this product."""
    return node.op == "matmul" and node.dtype in (f32, tf32, f64)


def batch_is_uniform(batch: tuple[Dim, ...], whole: tuple[Dim, ...]) -> bool:
    """Whether an operand's batch axes are the product's own, or hold one matrix for all."""
    return product(batch) in (1, product(whole))


def _cast(rewriter: Rewriter, index: int, dtype: DType, node: Node) -> int:
    source = rewriter.nodes[index]
    if source.dtype == dtype or {source.dtype, dtype} == {f32, tf32}:
        return index
    cast = Node(op="cast", inputs=(index,), shape=source.shape, dtype=dtype, file=node.file, line=node.line)
    return rewriter.add(cast)


def _expanded(rewriter: Rewriter, index: int, node: Node) -> int:
    operand = rewriter.nodes[index]
    whole = node.shape[:-2]
    if batch_is_uniform(operand.shape[:-2], whole):
        return index
    shape = (*whole, *operand.shape[-2:])
    expand = Node(
        op="expand", inputs=(index,), shape=shape, dtype=operand.dtype, file=node.file, line=node.line
    )
    return rewriter.add(expand)
