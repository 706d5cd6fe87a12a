"""Find attention that is written out as products and a softmax, where a kernel does it in one.

    softmax(q @ kᵀ * scale + mask) @ v   →   attention(q, k, v, mask)

The scores and their softmax, a row for each query, then never go through memory. A row whose scores are
all minus infinity gives 0, as `attention` has it, where a softmax alone gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from tessera.compiler.lower_attention import attention_tile
from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.dtype import bf16, f16, f32
from tessera.program.graph import Graph, Node, attr_ints

_TAKEN = (f16, bf16, f32)


def find_attention(graph: Graph, kind: Literal["cuda", "cpu"]) -> Graph:
    """`graph` with attentions for what computes them; a CPU's BLAS does products best as they are."""
    if kind == "cpu" or all(node.op != "softmax" for node in graph.nodes):
        return graph
    users = graph.users()
    alone = {i for i, readers in enumerate(users) if len(readers) == 1 and i not in graph.outputs}
    found = {}
    for index, node in enumerate(graph.nodes):
        match = _Pattern(graph, alone.__contains__).match(node) if node.op == "matmul" else None
        if match is not None:
            found[index] = match
    if not found:
        return graph
    numbers = iter(range(len(graph.nodes)))
    places: list[int] = []

    def visit(rewriter: Rewriter, node: Node) -> int:
        match = found.get(next(numbers))
        if match is not None:
            inputs = tuple(places[i] for i in match.inputs)
            node = msgspec.structs.replace(
                node, op="attention", inputs=inputs, attrs={"causal": False, "scale": match.scale}
            )
        places.append(rewriter.add(node))
        return places[-1]

    return rewrite(graph, visit)


@dataclass(frozen=True, slots=True)
class _Match:
    inputs: tuple[int, ...]
    """Queries, keys, values, and a mask if there is one."""
    scale: float


@dataclass(frozen=True, slots=True)
class _Pattern:
    graph: Graph
    alone: Callable[[int], bool]
    """Whether one node alone reads a node."""

    def match(self, product: Node) -> _Match | None:
        """The attention that a product is the last step of."""
        weights, v = product.inputs
        softmax = self.graph.nodes[weights]
        rank = len(product.shape)
        if softmax.op != "softmax" or not self.alone(weights) or rank < 3 or product.dtype not in _TAKEN:
            return None
        if softmax.attrs["axis"] != rank - 1 or softmax.dtype != product.dtype:
            return None
        for scores, masks in self._masked(softmax.inputs[0]):
            scaled = self._scaled(scores)
            heads = None if scaled is None else self._heads(scaled[0], v)
            if scaled is not None and heads is not None:
                return self._whole(product, _Match((*heads, v, *masks), scaled[1]))
        return None

    def _whole(self, product: Node, match: _Match) -> _Match | None:
        shapes = [self.graph.nodes[i].shape for i in match.inputs]
        node = msgspec.structs.replace(product, op="attention", inputs=match.inputs)
        same = all(shape[:-2] == product.shape[:-2] for shape in shapes[:3])
        dtypes = {self.graph.nodes[i].dtype for i in match.inputs}
        return match if same and dtypes == {product.dtype} and attention_tile(self.graph, node) else None

    def _masked(self, index: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Scores and the mask added to them, in every way that a node can be read."""
        yield index, ()
        node = self.graph.nodes[index]
        if node.op == "add" and self.alone(index):
            for scores, mask in (node.inputs, node.inputs[::-1]):
                if self.graph.nodes[scores].shape == node.shape and self.graph.nodes[mask].shape:
                    yield scores, (mask,)

    def _scaled(self, index: int) -> tuple[int, float] | None:
        """The product behind scores, and what it is multiplied by."""
        node = self.graph.nodes[index]
        if not self.alone(index):
            return None
        if node.op == "matmul":
            return index, 1.0
        if node.op not in ("mul", "div"):
            return None
        for position in (1,) if node.op == "div" else (0, 1):
            number, other = self.graph.nodes[node.inputs[position]], node.inputs[1 - position]
            if number.op == "scalar" and self.graph.nodes[other].op == "matmul" and self.alone(other):
                value = float(str(number.attrs["value"]))
                if node.op == "mul" or value != 0:
                    return other, value if node.op == "mul" else 1 / value
        return None

    def _heads(self, index: int, v: int) -> tuple[int, int] | None:
        """Queries and keys of a product of queries and turned keys."""
        product = self.graph.nodes[index]
        q, turned = product.inputs
        node, rank = self.graph.nodes[turned], len(product.shape)
        if node.op != "transpose" or attr_ints(node, "perm") != (*range(rank - 2), rank - 1, rank - 2):
            return None
        k = node.inputs[0]
        return (q, k) if self.graph.nodes[k].shape[:-1] == self.graph.nodes[v].shape[:-1] else None
