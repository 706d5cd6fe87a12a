"""Operands that bulk copies cannot take as they lie, written once more so that they can.

Rows that are no multiple of 16 bytes get a pitch that is; 8-bit elements and `tf32` get a contiguous depth,
which `wgmma` wants of them; what is computed on the way in is computed once. Of large products this takes a
few hundredths of the time, and the rest runs at full speed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tessera.compiler import scalar_math
from tessera.compiler.body import SECOND_WORKSPACE, WORKSPACE, Body
from tessera.compiler.geometry import Geometry
from tessera.compiler.index import Index
from tessera.compiler.matmul_operand import CHUNK_BYTES, Matrices
from tessera.compiler.operand_view import Strided
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, align, ceildiv, minimum, product
from tessera.program.graph import Graph
from tessera.program.program import Compare

LEAST_LINES = 512
"""Rows and columns of a product from which on the copy is worth its time."""
LEAST_DEPTH = 64
_TILE = 64
"""Rows and columns that a block copies."""
_THREADS = 256
_PASSES = _TILE * _TILE // _THREADS
_PLACES = (WORKSPACE, SECOND_WORKSPACE)
"""Where A and B are written."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A product some of whose operands are written once more."""

    matrices: Matrices
    """As it is read afterwards."""
    positions: tuple[int, ...]
    """Which operands: 0 for A, 1 for B."""
    guard: tuple[Compare, ...]
    """What must hold of the others."""
    bytes: tuple[Dim, Dim]
    """Memory for A and B; nothing for sizes that need none."""


def packings(graph: Graph, matrices: Matrices) -> Iterator[Packed]:
    """Ways to pack operands, those that pack fewer first.

    Args:
        graph: The graph.
        matrices: The product as its operands lie.
    """
    conditions = [_conditions(matrices, position) for position in (0, 1)]
    for positions in ((1,), (0,), (0, 1)):
        kept = [conditions[i] for i in (0, 1) if i not in positions]
        # An operand that always can be copied as it lies is not packed, and one that never can is.
        if any(conditions[i] == () for i in positions) or None in kept:
            continue
        changed = matrices
        sizes: list[Dim] = [0, 0]
        for position in positions:
            changed, sizes[position] = _pack(graph, changed, position, conditions[position])
        guard = tuple(itertools.chain.from_iterable(c for c in kept if c is not None))
        yield Packed(changed, positions, guard, (sizes[0], sizes[1]))


def _conditions(matrices: Matrices, position: int) -> tuple[Compare, ...] | None:
    """What must hold for bulk copies of one operand; None where nothing helps, nothing where all is well."""
    view, itemsize = matrices.views[position], matrices.product.dtype.itemsize
    along = matrices.along_depth[position]
    if view is None or not (along or itemsize == 2):
        return None
    unit = _axis(position, depth=along)
    if view.strides[unit] != 1:
        return None
    each = CHUNK_BYTES // itemsize
    others = [s for axis, s in enumerate(view.strides, -len(view.strides)) if axis != unit and s != 0]
    open_ones = [s for s in others if not isinstance(s, int) or s % each]
    return tuple(Compare(lhs=each, op="divides", rhs=s) for s in dict.fromkeys(open_ones))


def _axis(position: int, *, depth: bool) -> int:
    """The axis of an operand that is its depth, or the other."""
    return -1 if depth == (position == 0) else -2


def _pack(
    graph: Graph, matrices: Matrices, position: int, conditions: tuple[Compare, ...] | None
) -> tuple[Matrices, Dim]:
    """The product with one operand written once more, and the memory for that."""
    shape, itemsize = graph.nodes[matrices.operands[position]].shape, matrices.product.dtype.itemsize
    along = matrices.along_depth[position] or itemsize != 2
    inner, outer = _axis(position, depth=along), _axis(position, depth=not along)
    pitch = align(shape[inner], CHUNK_BYTES // itemsize)
    strides: list[Dim] = [0] * len(shape)
    strides[inner], strides[outer] = 1, pitch
    whole = pitch * shape[outer]
    for axis in reversed(range(len(shape) - 2)):
        strides[axis] = whole
        whole = whole * shape[axis]
    views, flags = list(matrices.views), list(matrices.along_depth)
    views[position], flags[position] = Strided(_PLACES[position], tuple(strides)), along
    used: Dim = 1
    for axis in (-2, -1):
        # Products that are too small for it, and operands that can be copied as they lie, take no memory.
        used = used * minimum(graph.nodes[matrices.core].shape[axis] // LEAST_LINES, 1)
    if conditions is not None:
        rests: Dim = 0
        for compare in conditions:
            rests = rests + compare.rhs % compare.lhs
        used = used * minimum(rests, 1)
    changed = replace(matrices, views=(views[0], views[1]), along_depth=(flags[0], flags[1]))
    return changed, whole * itemsize * used


def pack_kernel(body: Body, before: Matrices, after: Matrices, position: int) -> Geometry:
    """A kernel that writes one operand to where its bulk copies read it.

    Args:
        body: Takes the text.
        before: The product as the operand lies.
        after: The product as it is read afterwards.
        position: 0 for A, 1 for B.
    """
    writer, node = body.writer, before.operands[position]
    shape, view = body.graph.nodes[node].shape, after.views[position]
    assert view is not None  # noqa: S101 - it has just been made
    near_axis = _axis(position, depth=before.along_depth[position])
    far_axis = -3 - near_axis
    near_tiles, far_tiles = ceildiv(shape[near_axis], _TILE), ceildiv(shape[far_axis], _TILE)
    writer.line("tile = int64(cuda.blockIdx.x)")
    above = writer.div(Name("tile"), writer.size(near_tiles))
    writer.line(f"near = {writer.mod(Name('tile'), writer.size(near_tiles))} * {_TILE}")
    writer.line(f"far = {writer.mod(above, writer.size(far_tiles))} * {_TILE}")
    batch = writer.div(above, writer.size(far_tiles))
    writer.line("thread = int64(cuda.threadIdx.x)")
    writer.line(f"low = thread & {_TILE - 1}")
    writer.line(f"high = thread >> {_TILE.bit_length() - 1}")
    pack = _Pack(body, before, position, batch, view)
    if before.along_depth[position] == after.along_depth[position]:
        pack.straight(near_axis, far_axis)
    else:
        pack.turned(near_axis, far_axis)
    return Geometry((product(shape[:-2]) * near_tiles * far_tiles, 1, 1), _THREADS)


@dataclass(frozen=True, slots=True)
class _Pack:
    body: Body
    matrices: Matrices
    position: int
    batch: Name
    view: Strided

    @property
    def node(self) -> int:
        """The operand."""
        return self.matrices.operands[self.position]

    def straight(self, near_axis: int, far_axis: int) -> None:
        """Neighbours stay neighbours."""
        writer = self.body.writer
        with writer.block(f"for step in range({_PASSES})"):
            places = self._places("low", f"high + step * {_THREADS // _TILE}")
            with self.inside(places, near_axis, far_axis):
                self.write(self.value(places, near_axis), places, near_axis)

    def turned(self, near_axis: int, far_axis: int) -> None:
        """Neighbours come from lines of memory, through shared memory, to lines across."""
        body, writer = self.body, self.body.writer
        # One more column keeps what is read across in different banks.
        kind = scalar_math.compute_type(self.matrices.product.dtype)
        shared = body.shared((_TILE, _TILE + 1), kind)
        with writer.block(f"for step in range({_PASSES})"):
            row = writer.let("row", f"high + step * {_THREADS // _TILE}")
            places = self._places("low", row)
            with self.inside(places, near_axis, far_axis):
                writer.line(f"{shared}[{row}, low] = {self.value(places, near_axis)}")
        writer.line("cuda.syncthreads()")
        with writer.block(f"for step in range({_PASSES})"):
            row = writer.let("row", f"high + step * {_THREADS // _TILE}")
            places = self._places(row, "low")
            with self.inside(places, near_axis, far_axis):
                self.write(f"{shared}[low, {row}]", places, near_axis)

    def _places(self, near: str, far: str) -> tuple[Name, Name]:
        writer = self.body.writer
        return writer.let("x", f"near + {near}"), writer.let("y", f"far + {far}")

    def inside(
        self, places: tuple[Name, Name], near_axis: int, far_axis: int
    ) -> AbstractContextManager[None]:
        """A block for what lies in the operand."""
        writer, shape = self.body.writer, self.body.graph.nodes[self.node].shape
        limits = writer.size(shape[near_axis]), writer.size(shape[far_axis])
        return writer.block(f"if {places[0]} < {limits[0]} and {places[1]} < {limits[1]}")

    def value(self, places: tuple[Name, Name], near_axis: int) -> str:
        """The operand's element there."""
        shape = self.body.graph.nodes[self.node].shape
        last_two = places if near_axis == -2 else (places[1], places[0])
        parts = ((len(shape) - 2, self.batch), *((1, place) for place in last_two))
        return self.body.value(self.node, Index(self.body.writer, shape, parts))

    def write(self, value: str, places: tuple[Name, Name], near_axis: int) -> None:
        """An element to where it belongs."""
        writer, shape = self.body.writer, self.body.graph.nodes[self.node].shape
        far_axis = -3 - near_axis
        near, far = (writer.size(self.view.strides[axis]) for axis in (near_axis, far_axis))
        each = writer.size(_matrix_elements(self.view, shape))
        at = f"{self.batch} * {each} + {places[0]} * {near} + {places[1]} * {far}"
        writer.line(f"out[{at}] = {scalar_math.store(value, self.matrices.product.dtype)}")


def _matrix_elements(view: Strided, shape: tuple[Dim, ...]) -> Dim:
    """Elements of memory of one packed matrix."""
    across = -1 if view.strides[-2] == 1 else -2
    return view.strides[across] * shape[across]
