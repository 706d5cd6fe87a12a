"""Nodes with the signs of arithmetic, for operators that are made of others.

Such a rule checks its operands and then writes what it is made of; that the
shapes broadcast is known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.promotion import Number
from tessera.language.rules.operand import as_literal
from tessera.language.shapes import Shape, Side
from tessera.program.dim import Dim
from tessera.program.dtype import DType, bool_, f32, f64, i64, tf32
from tessera.program.graph import Attr


def work_dtype(dtype: DType) -> DType:
    """The dtype that operators made of others work in: float32 for narrower floats."""
    return dtype if not dtype.is_float or dtype in (f64, tf32) else f32


@dataclass(frozen=True, slots=True)
class Value:
    """A node of the graph in the making."""

    builder: GraphBuilder
    index: int

    @property
    def shape(self) -> Shape:
        """Sizes by axis."""
        return self.builder.nodes[self.index].shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.builder.nodes[self.index].dtype

    def make(
        self, op: str, others: Sequence[Value], shape: Shape, dtype: DType | None = None, **attrs: Attr
    ) -> Value:
        """A node of this one and others."""
        inputs = (self.index, *(other.index for other in others))
        return Value(self.builder, self.builder.add(op, inputs, shape, dtype or self.dtype, **attrs))

    def number(self, value: Number) -> Value:
        """A literal of this dtype."""
        return Value(self.builder, self.builder.scalar(as_literal(value, self.dtype), self.dtype))

    def unary(self, op: str) -> Value:
        """An elementwise operator."""
        return self.make(op, (), self.shape)

    def binary(self, op: str, other: Value | Number, dtype: DType | None = None) -> Value:
        """An elementwise operator of two operands of one dtype, broadcast."""
        right = other if isinstance(other, Value) else self.number(other)
        return self.make(op, (right,), joined(op, self.shape, right.shape), dtype)

    def compare(self, op: str, other: Value | Number) -> Value:
        """A comparison, bool."""
        return self.binary(op, other, bool_)

    def where(self, yes: Value | Number, no: Value | Number) -> Value:
        """`yes` where this (bool) is True, else `no`; one of them is no number."""
        like = yes if isinstance(yes, Value) else no
        assert isinstance(like, Value)  # noqa: S101 - a rule's own mistake
        a, b = (v if isinstance(v, Value) else like.number(v) for v in (yes, no))
        shape = joined("where", joined("where", self.shape, a.shape), b.shape)
        return self.make("where", (a, b), shape, a.dtype)

    def cast(self, dtype: DType) -> Value:
        """In another dtype."""
        return Value(self.builder, self.builder.cast(self.index, dtype))

    def wide(self) -> Value:
        """In the dtype to work in."""
        return self.cast(work_dtype(self.dtype))

    def reshape(self, *shape: Dim) -> Value:
        """The same elements in another shape."""
        return self if self.shape == shape else self.make("reshape", (), shape)

    def expand(self, *shape: Dim) -> Value:
        """Broadcast to a shape."""
        return self if self.shape == shape else self.make("expand", (), shape)

    def transpose(self, *perm: int) -> Value:
        """The axes in another order."""
        if perm == tuple(range(len(perm))):
            return self
        return self.make("transpose", (), tuple(self.shape[a] for a in perm), perm=list(perm))

    def reduce(self, op: str, axes: Sequence[int], *, keepdims: bool = False) -> Value:
        """A reduction over axes counted from the front."""
        kept = tuple(sorted(axes))
        shape = shapes.reduced(self.shape, kept, keepdims=keepdims)
        return self.make(op, (), shape, axes=list(kept), keepdims=keepdims)

    def matmul(self, other: Value) -> Value:
        """The matrix product; both have rank 2 at least."""
        batch = joined("matmul", self.shape[:-2], other.shape[:-2])
        return self.make("matmul", (other,), (*batch, self.shape[-2], other.shape[-1]))

    def iota(self, shape: Shape, axis: int, dtype: DType = i64) -> Value:
        """Every element's coordinate along an axis of a new tensor."""
        return Value(self.builder, iota(self.builder, shape, axis, dtype))

    def size(self, dim: Dim, dtype: DType) -> Value:
        """A size as a number of rank 0."""
        return Value(self.builder, size_node(self.builder, dim, dtype))

    def __neg__(self) -> Value:
        return self.unary("neg")

    def __add__(self, other: Value | Number) -> Value:
        return self.binary("add", other)

    def __sub__(self, other: Value | Number) -> Value:
        return self.binary("sub", other)

    def __rsub__(self, other: Number) -> Value:
        return self.number(other) - self

    def __mul__(self, other: Value | Number) -> Value:
        return self.binary("mul", other)

    def __truediv__(self, other: Value | Number) -> Value:
        return self.binary("div", other)

    __radd__ = __add__
    __rmul__ = __mul__


def joined(op: str, a: Shape, b: Shape) -> Shape:
    """The shape that two shapes broadcast to."""
    return shapes.broadcast(op, Side("left operand", "", a), Side("right operand", "", b))


def iota(builder: GraphBuilder, shape: Shape, axis: int, dtype: DType = i64) -> int:
    """The node of a tensor that holds every element's coordinate along `axis`."""
    return builder.add("iota", (), shape, dtype, axis=axis)


def size_node(builder: GraphBuilder, dim: Dim, dtype: DType) -> int:
    """The node of a size as a number: a literal, or the extent of a tensor that is as long."""
    if isinstance(dim, int):
        return builder.scalar(as_literal(dim, dtype), dtype)
    extent = builder.add("extent", (iota(builder, (dim,), 0),), (), i64, axis=0)
    return builder.cast(extent, dtype)
