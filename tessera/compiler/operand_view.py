"""How an operand lies in memory: the strides by which a kernel can copy it without computing anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessera.program.dim import Dim, product
from tessera.program.graph import Graph, attr_ints


@dataclass(frozen=True, slots=True)
class Strided:
    """A tensor that is a view of memory."""

    node: int
    """The node in memory."""
    strides: tuple[Dim, ...]
    """Elements from one position to the next, by axis; 0 where an axis repeats."""


def strided_view(graph: Graph, node: int, computes: Callable[[int], bool]) -> Strided | None:
    """The strides of an operand, or None where its elements are computed or lie without a pattern.

    Args:
        graph: The graph.
        node: The operand.
        computes: Whether a node is computed in the kernel, rather than in memory.
    """
    it = graph.nodes[node]
    if not computes(node):
        return None if it.op == "scalar" else Strided(node, contiguous(it.shape))
    if it.op not in ("transpose", "expand", "reshape"):
        return None
    source = strided_view(graph, it.inputs[0], computes)
    if source is None:
        return None
    inner = graph.nodes[it.inputs[0]].shape
    if it.op == "transpose":
        return Strided(source.node, tuple(source.strides[axis] for axis in attr_ints(it, "perm")))
    if it.op == "expand":
        return Strided(source.node, broadcast_strides(source.strides, inner, it.shape))
    # Taken apart and put together, only elements in order keep a pattern.
    if source.strides != contiguous(inner):
        return None
    return Strided(source.node, contiguous(it.shape))


def contiguous(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Strides of elements in order."""
    return tuple(product(shape[axis + 1 :]) for axis in range(len(shape)))


def broadcast_strides(
    strides: tuple[Dim, ...], shape: tuple[Dim, ...], whole: tuple[Dim, ...]
) -> tuple[Dim, ...]:
    """Strides of a tensor of `shape` broadcast to `whole`."""
    missing = len(whole) - len(shape)
    kept = (s if size == w else 0 for s, size, w in zip(strides, shape, whole[missing:], strict=True))
    return (*(0,) * missing, *kept)
