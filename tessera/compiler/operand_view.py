"""How an operand lies in memory: the strides by which a kernel can copy it without computing anything."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler.index import aligned_axes
from tessera.compiler.views import slice_start
from tessera.program.dim import Dim, product
from tessera.program.graph import Graph, Node, attr_ints


@dataclass(frozen=True, slots=True)
class Strided:
    """A tensor that is a view of memory."""

    node: int
    """The node in memory."""
    strides: tuple[Dim, ...]
    """Elements from one position to the next, by axis; 0 where an axis repeats."""
    offset: Dim = 0
    """Elements in memory before the first."""


def strided_view(
    graph: Graph, node: int, computes: Callable[[int], bool], *, parts: bool = False
) -> Strided | None:
    """The strides of an operand, or None where its elements are computed or lie without a pattern.

    Args:
        graph: The graph.
        node: The operand.
        computes: Whether a node is computed in the kernel, rather than in memory.
        parts: Whether the operand may be a part of a tensor: a slice, which has an offset.
    """
    it = graph.nodes[node]
    if not computes(node):
        return None if it.op == "scalar" else Strided(node, contiguous(it.shape))
    if it.op not in ("transpose", "expand", "reshape", *(("slice",) if parts else ())):
        return None
    source = strided_view(graph, it.inputs[0], computes, parts=parts)
    if source is None:
        return None
    inner = graph.nodes[it.inputs[0]].shape
    if it.op == "transpose":
        strides = tuple(source.strides[axis] for axis in attr_ints(it, "perm"))
        return Strided(source.node, strides, source.offset)
    if it.op == "expand":
        return Strided(source.node, broadcast_strides(source.strides, inner, it.shape), source.offset)
    if it.op == "slice":
        return _sliced(source, it, inner)
    if source.strides == contiguous(inner):
        return Strided(source.node, contiguous(it.shape), source.offset)
    # Taken apart and put together, only elements in order keep a pattern; matrices are read so or whole.
    found = reshaped_strides(source.strides, inner, it.shape) if parts else None
    return None if found is None else Strided(source.node, found, source.offset)


def _sliced(source: Strided, node: Node, inner: tuple[Dim, ...]) -> Strided:
    starts, steps = attr_ints(node, "starts"), attr_ints(node, "steps")
    offset: Dim = source.offset
    for start, step, size, stride in zip(starts, steps, inner, source.strides, strict=True):
        if (start, step) != (0, 1):
            offset = offset + slice_start(start, step, size) * stride
    strides = tuple(step * stride for step, stride in zip(steps, source.strides, strict=True))
    return Strided(source.node, strides, offset)


def reshaped_strides(
    strides: tuple[Dim, ...], shape: tuple[Dim, ...], wanted: tuple[Dim, ...]
) -> tuple[Dim, ...] | None:
    """Strides of a reshape to `wanted`; None where axes come together that do not lie in order."""
    if not shape or not wanted:
        return None
    found: list[Dim] = []
    for start, stop, begin, end in aligned_axes(shape, wanted):
        # An axis of one element may have any stride.
        axes = [axis for axis in range(start, stop) if shape[axis] != 1]
        last: Dim = strides[axes[-1]] if axes else 0
        if any(strides[a] != strides[b] * shape[b] for a, b in itertools.pairwise(axes)):
            return None
        found += [last * product(wanted[axis + 1 : end]) for axis in range(begin, end)]
    return tuple(found)


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
