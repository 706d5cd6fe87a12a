"""Operands of matrix products as tensor maps: how bulk tensor copies bring their tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from tessera.compiler.index import Index
from tessera.compiler.writer import ZERO, Name
from tessera.program.dim import Dim
from tessera.program.dtype import DType, bf16, f16, tf32
from tessera.program.program import BoxMap, Pointer
from tessera.program.tensor_map import ElementName

if TYPE_CHECKING:
    from tessera.compiler.body import Body
    from tessera.compiler.matmul_operand import Matrices

MOST_DIMENSIONS = 5
"""Of a tensor map. Source: CUDA Driver API, `cuTensorMapEncodeTiled`."""
MOST_IN_BOX = 256
"""Elements of a box along one dimension."""
_ELEMENTS: dict[DType, ElementName] = {f16: "f16", bf16: "bf16", tf32: "tf32"}
"""What copies move; 8-bit elements as bytes. `tf32` is rounded on the way."""


@dataclass(frozen=True, slots=True)
class OperandMap:
    """A tensor map in terms of a graph's nodes."""

    node: int
    """The tensor in memory."""
    element: ElementName
    sizes: tuple[Dim, ...]
    """Innermost first."""
    strides_bytes: tuple[Dim, ...]
    """Of all dimensions but the first."""
    box: tuple[int, ...]
    swizzle: int
    batch_axes: tuple[int, ...]
    """Axes of the operand behind the dimensions from the third on."""
    offset_bytes: Dim = 0
    """Bytes of the tensor before the first element."""

    def argument(self, tensor: Pointer) -> BoxMap:
        """What a launch hands over, `tensor` being where the node lies."""
        return BoxMap(
            tensor=msgspec.structs.replace(tensor, offset_bytes=tensor.offset_bytes + self.offset_bytes),
            element=self.element,
            sizes=self.sizes,
            strides_bytes=self.strides_bytes,
            box=self.box,
            swizzle=self.swizzle,  # type: ignore[arg-type] # a number of the table there
            l2_promotion=256,
        )


def operand_map(
    body_shape: Sequence[Dim], matrices: Matrices, position: int, row: int, lines: int
) -> OperandMap | None:
    """The map of an operand that is copied as it lies; None where it has too many dimensions.

    Args:
        body_shape: Shape of the operand.
        matrices: The product.
        position: 0 for A, 1 for B.
        row: Bytes of a swizzled row: the box's first dimension.
        lines: Lines of the operand in a box whose rows run along the depth; others hold a row of lines.
    """
    view = matrices.views[position]
    if view is None:
        return None
    along, size = matrices.along_depth[position], matrices.product.dtype.itemsize
    depth_axis = -1 if position == 0 else -2
    inner, outer = (depth_axis, -3 - depth_axis) if along else (-3 - depth_axis, depth_axis)
    rank = len(body_shape)
    kept = tuple(
        axis for axis in reversed(range(rank - 2)) if view.strides[axis] != 0 and body_shape[axis] != 1
    )
    if len(kept) + 2 > MOST_DIMENSIONS or lines > MOST_IN_BOX:
        return None
    each = row // size
    return OperandMap(
        view.node,
        _ELEMENTS.get(matrices.product.dtype, "u8"),
        (body_shape[inner], body_shape[outer], *(body_shape[axis] for axis in kept)),
        tuple(view.strides[axis] * size for axis in (outer, *kept)),
        (each, lines if along else each, *(1 for _ in kept)),
        row,
        kept,
    )


def batch_places(body: Body, matrices: Matrices, position: int, found: OperandMap, batch: Name) -> list[Name]:
    """Coordinates of the block's matrix along the map's dimensions from the third on."""
    whole = body.graph.nodes[matrices.core].shape[:-2]
    shape = body.graph.nodes[matrices.operands[position]].shape[:-2]
    if not whole:
        return [ZERO for _ in found.batch_axes]
    index = Index(body.writer, whole, ((len(whole), batch),)).broadcast(shape)
    return [index.axis(axis) for axis in found.batch_axes]
