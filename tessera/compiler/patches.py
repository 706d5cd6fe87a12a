"""Windows over a tensor whose channels are neighbours in memory, as an operand that is gathered.

Position by position of the window, the depth of the product goes through the channels, so that 16 bytes of
depth are 16 bytes of memory. A place of the window is a line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler.operand_view import strided_view
from tessera.program.dim import Dim, product
from tessera.program.graph import Graph, Node, attr_ints
from tessera.program.program import Compare

_NARROW = 1 << 28
"""Coordinates up to here are computed in 32 bits: their products with a window's sizes fit."""


@dataclass(frozen=True, slots=True)
class Patches:
    """Windows as a matrix: (batch, window · channels, places)."""

    node: int
    """What is in memory."""
    channels: int
    batch_stride: Dim
    """Elements from one tensor of the batch to the next."""
    sizes: tuple[Dim, ...]
    """Of the axes that windows slide over."""
    strides: tuple[Dim, ...]
    """Elements from one position along such an axis to the next."""
    window: tuple[int, ...]
    places: tuple[Dim, ...]
    """How many places the window has, by axis."""
    moves: tuple[int, ...]
    """Positions from one place to the next."""
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    """Positions of padding."""
    spread: tuple[int, ...]
    """How far apart the elements are put first."""

    def conditions(self, each: int) -> tuple[Compare, ...]:
        """What must hold for copies of `each` elements."""
        sizes = (self.channels, self.batch_stride, *self.strides)
        return tuple(Compare(lhs=each, op="divides", rhs=size) for size in sizes)

    @property
    def narrow(self) -> bool:
        """Whether coordinates are known to fit in 32 bits."""
        reaches = zip(self.sizes, self.places, self.moves, self.window, self.dilations, strict=True)
        return all(
            isinstance(size, int)
            and isinstance(places, int)
            and max(size, places * move, window * dilation) * max(self.spread) < _NARROW
            for size, places, move, window, dilation in reaches
        )


def find_patches(
    graph: Graph, operand: int, computes: Callable[[int], bool], *, left: bool
) -> Patches | None:
    """The windows that an operand is, or None where it is something else.

    Args:
        graph: The graph.
        operand: A product's operand.
        computes: Whether a node is computed in the kernel, rather than in memory.
        left: Whether it is the left one, with places as rows.
    """
    chain = _chain(graph, operand, computes)
    if chain is None:
        return None
    turned, windows = chain
    fill = graph.nodes[windows.inputs[1]]
    moves = attr_ints(windows, "strides")
    rank = len(moves)
    deep, across = (*range(2, rank + 2), 1), tuple(range(rank + 2, 2 * rank + 2))
    order = (0, *across, *deep) if left else (0, *deep, *across)
    if len(windows.shape) != 2 * rank + 2 or attr_ints(turned, "perm") != order:
        return None
    _, channels, *rest = windows.shape
    window, places = rest[:rank], tuple(rest[rank:])
    sizes = (product(window) * channels, product(places))
    if graph.nodes[operand].shape[1:] != (sizes[::-1] if left else sizes):
        return None
    view = strided_view(graph, windows.inputs[0], computes)
    fixed = tuple(size for size in (channels, *window) if isinstance(size, int))
    if view is None or view.strides[1] != 1 or len(fixed) != rank + 1:
        return None
    if fill.op != "scalar" or fill.attrs["value"] != 0:
        return None
    return Patches(
        node=view.node,
        channels=fixed[0],
        batch_stride=view.strides[0],
        sizes=graph.nodes[windows.inputs[0]].shape[2:],
        strides=view.strides[2:],
        window=fixed[1:],
        places=places,
        moves=moves,
        dilations=attr_ints(windows, "dilations"),
        before=attr_ints(windows, "before"),
        spread=attr_ints(windows, "spread"),
    )


def _chain(graph: Graph, operand: int, computes: Callable[[int], bool]) -> tuple[Node, Node] | None:
    """The transpose and the windows behind a reshape, all computed in the kernel."""
    found: list[Node] = []
    for op in ("reshape", "transpose", "windows"):
        node = graph.nodes[operand]
        if node.op != op or not computes(operand):
            return None
        found.append(node)
        operand = node.inputs[0]
    return found[1], found[2]
