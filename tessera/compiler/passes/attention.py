"""Take attention apart where no kernel does it in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from tessera.compiler.lower_attention import attention_tile
from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.dim import Dim
from tessera.program.dtype import DType, bool_, f32, f64, i64, tf32
from tessera.program.graph import Attr, Graph, Node


def expand_attention(graph: Graph, kind: Literal["cuda", "cpu"]) -> Graph:
    """`graph` with attentions made of matrix products and exponentials.

    A CPU has a BLAS for the products; a GPU's kernel needs heads of a fixed and not too large width.
    """

    def visit(rewriter: Rewriter, node: Node) -> int:
        whole = msgspec.structs.replace(graph, nodes=tuple(rewriter.nodes))
        if node.op != "attention" or (kind == "cuda" and attention_tile(whole, node)):
            return rewriter.add(node)
        return _Expansion(rewriter, node).write()

    if all(node.op != "attention" for node in graph.nodes):
        return graph
    return rewrite(graph, visit)


@dataclass(frozen=True, slots=True)
class _Expansion:
    rewriter: Rewriter
    node: Node

    @property
    def dtype(self) -> DType:
        """What is computed in: as wide as the kernel's sums."""
        return self.node.dtype if self.node.dtype in (f64, tf32) else f32

    def add(
        self, op: str, inputs: Sequence[int], shape: Sequence[Dim], dtype: DType | None = None, **attrs: Attr
    ) -> int:
        """A node on the line of the attention."""
        made = msgspec.structs.replace(
            self.node, op=op, inputs=tuple(inputs), shape=tuple(shape), dtype=dtype or self.dtype, attrs=attrs
        )
        return self.rewriter.add(made)

    def shape(self, index: int) -> tuple[Dim, ...]:
        return self.rewriter.nodes[index].shape

    def number(self, value: float, dtype: DType | None = None) -> int:
        return self.add("scalar", (), (), dtype, value=value)

    def cast(self, index: int, dtype: DType) -> int:
        have = self.rewriter.nodes[index].dtype
        return index if have == dtype else self.add("cast", (index,), self.shape(index), dtype)

    def write(self) -> int:
        """The nodes; the last of them."""
        q, k, v = (self.cast(i, self.dtype) for i in self.node.inputs[:3])
        # Heads that share keys are rows of one product: their keys need not be repeated.
        *batch, heads, queries, depth = self.shape(q)
        kv_heads, length = self.shape(k)[-3:-1]
        each: Dim = 1 if heads == kv_heads else int(str(heads)) // int(str(kv_heads))
        q = self.add("reshape", (q,), (*batch, kv_heads, each * queries, depth))
        turned = (*batch, kv_heads, depth, length)
        rank = len(turned)
        k = self.add("transpose", (k,), turned, perm=[*range(rank - 2), rank - 1, rank - 2])
        grouped = (*batch, kv_heads, each * queries, length)
        scores = self.add("matmul", (q, k), grouped)
        shape = (*batch, heads, queries, length)
        scores = self.add("reshape", (scores,), shape)
        scale = self.number(float(str(self.node.attrs["scale"])))
        scores = self.add("mul", (scores, scale), shape)
        weights, total = self._weights(scores, shape)
        weights = self.add("reshape", (weights,), grouped)
        width = self.shape(v)[-1]
        result = self.add("matmul", (weights, v), (*batch, kv_heads, each * queries, width))
        result = self.add("reshape", (result,), self.node.shape)
        if total is not None:
            result = self.add("div", (result, total), self.node.shape)
        return self.cast(result, self.node.dtype)

    def _weights(self, scores: int, shape: tuple[Dim, ...]) -> tuple[int, int | None]:
        """What values are weighed with, and what their sum is divided by."""
        if len(self.node.inputs) == 3 and not self.node.attrs["causal"]:
            return self.add("softmax", (scores,), shape, axis=len(shape) - 1), None
        scores = self._masked(scores, shape)
        # By hand, because a row that sees no key has no maximum to go below, and gives 0.
        rows = (*shape[:-1], 1)
        fold = {"axes": [len(shape) - 1], "keepdims": True}
        top = self.add("max", (scores,), rows, **fold)  # type: ignore[arg-type]
        lowest = self._lowest(top, rows)
        top = self.add("where", (lowest, self.number(0.0), top), rows)
        weights = self.add("exp", (self.add("sub", (scores, top), shape),), shape)
        total = self.add("sum", (weights,), rows, **fold)  # type: ignore[arg-type]
        none = self.add("eq", (total, self.number(0.0)), rows, bool_)
        return weights, self.add("where", (none, self.number(1.0), total), rows)

    def _lowest(self, top: int, rows: tuple[Dim, ...]) -> int:
        """Whether a maximum is minus infinity: infinite, and below 0."""
        infinite = self.add("isinf", (top,), rows, bool_)
        below = self.add("lt", (top, self.number(0.0)), rows, bool_)
        return self.add("minimum", (infinite, below), rows, bool_)

    def _masked(self, scores: int, shape: tuple[Dim, ...]) -> int:
        hidden = self._minus_infinity()
        if len(self.node.inputs) > 3:
            mask = self.node.inputs[3]
            if self.rewriter.nodes[mask].dtype == bool_:
                scores = self.add("where", (mask, scores, hidden), shape)
            else:
                scores = self.add("add", (scores, self.cast(mask, self.dtype)), shape)
        if self.node.attrs["causal"]:
            queries, length = shape[-2:]
            square = (queries, length)
            row, column = (self.add("iota", (), square, i64, axis=axis) for axis in (0, 1))
            # The last query sees the last key.
            back = self.add("add", (row, self._size(length)), square, i64)
            ahead = self.add("add", (column, self._size(queries)), square, i64)
            seen = self.add("le", (ahead, back), square, bool_)
            scores = self.add("where", (seen, scores, hidden), shape)
        return scores

    def _size(self, size: Dim) -> int:
        if isinstance(size, int):
            return self.number(size, i64)
        return self.add("extent", (self.add("iota", (), (size,), i64, axis=0),), (), i64, axis=0)

    def _minus_infinity(self) -> int:
        """Of the number 0 the logarithm: a literal must be finite."""
        return self.add("log", (self.number(0.0),), ())
