"""What nodes each operator adds to a graph: promotion, casts, shape and settings.

A rule takes the builder, the operands and the operator's settings and gives the
index of the result. `RULES` holds every operator that the language has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.promotion import (
    Number,
    average_of,
    float_of,
    number_dtype,
    promote,
    promote_weak,
    total_of,
)
from tessera.language.shapes import Shape, Side
from tessera.program.dim import Dim, format_shape
from tessera.program.dtype import DType, bool_
from tessera.program.errors import ShapeError, TraceError


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand: a node, or a Python number that takes the dtype of what it meets."""

    index: int | None
    """Node, or None for a Python number."""
    dtype: DType
    shape: Shape
    label: str
    number: Number | None = None

    def node(self, builder: GraphBuilder, dtype: DType) -> int:
        """The node of this operand in `dtype`."""
        if self.index is not None:
            return builder.cast(self.index, dtype)
        return builder.scalar(_as_literal(self.number, dtype), dtype)

    def side(self, role: str = "operand") -> Side:
        """This operand, as messages call it."""
        return Side(role, self.label, self.shape)


def _as_literal(number: Number | None, dtype: DType) -> Number:
    assert number is not None  # noqa: S101 - an operand is a node or a number
    return float(number) if dtype.is_float else bool(number) if dtype == bool_ else int(number)


Rule = Callable[..., int]
"""`rule(builder, operands, **settings)`: adds one operator and gives the index of its result."""


def _common_dtype(operands: Sequence[Operand]) -> DType:
    nodes = [x for x in operands if x.number is None]
    numbers = [x.number for x in operands if x.number is not None]
    if not nodes:
        dtype = number_dtype(numbers[0])
        rest = numbers[1:]
    else:
        dtype = nodes[0].dtype
        for operand in nodes[1:]:
            dtype = promote(dtype, operand.dtype)
        rest = numbers
    for number in rest:
        dtype = promote_weak(dtype, number)
    return dtype


def _refuse_bool(op: str, dtype: DType) -> None:
    if dtype == bool_:
        raise TraceError(f"{op} has no meaning for bool", hint="cast first: ts.cast(x, ts.i32)")


def _unary(
    op: str, builder: GraphBuilder, operands: Sequence[Operand], *, floats: bool, **settings: Any
) -> int:
    (x,) = operands
    if op in ("neg", "relu"):
        _refuse_bool(op, x.dtype)
    dtype = float_of(x.dtype) if floats else x.dtype
    return builder.add(op, (x.node(builder, dtype),), x.shape, dtype, **settings)


def _binary(op: str, builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    left, right = operands
    dtype = _common_dtype(operands)
    if op == "div":
        dtype = average_of(dtype)
    elif op not in ("maximum", "minimum"):
        _refuse_bool(op, dtype)
    shape = shapes.broadcast(op, left.side("left operand"), right.side("right operand"))
    return builder.add(op, (left.node(builder, dtype), right.node(builder, dtype)), shape, dtype)


def _same_dtype(dtype: DType) -> DType:
    return dtype


def _reduction(
    op: str,
    builder: GraphBuilder,
    operands: Sequence[Operand],
    *,
    result: Callable[[DType], DType],
    axis: int | Sequence[int] | None,
    keepdims: bool,
) -> int:
    (x,) = operands
    axes = shapes.normalize_axes(op, axis, x.side())
    if op in ("max", "min") and any(isinstance(x.shape[a], int) and x.shape[a] == 0 for a in axes):
        raise ShapeError(f"{op}: {x.side()} has no element along axis {axis}", hint="reduce another axis")
    dtype = result(x.dtype)
    return builder.add(
        op,
        (x.node(builder, dtype),),
        shapes.reduced(x.shape, axes, keepdims=keepdims),
        dtype,
        axes=list(axes),
        keepdims=bool(keepdims),
    )


def _softmax(builder: GraphBuilder, operands: Sequence[Operand], *, axis: int) -> int:
    (x,) = operands
    dtype = float_of(x.dtype)
    position = shapes.normalize_axis("softmax", axis, x.side())
    return builder.add("softmax", (x.node(builder, dtype),), x.shape, dtype, axis=position)


def _layernorm(builder: GraphBuilder, operands: Sequence[Operand], *, eps: float) -> int:
    x = operands[0]
    if not x.shape:
        raise ShapeError(
            f"layernorm: {x.side()} has no axis to normalize over", hint="give it one: x.reshape(1)"
        )
    if not isinstance(eps, (int, float)) or isinstance(eps, bool) or eps < 0:
        raise TraceError(f"layernorm: eps={eps!r} is not a number of 0 or more", hint="eps=1e-5")
    for role, operand in zip(("weight", "bias"), operands[1:], strict=False):
        if operand.shape != x.shape[-1:]:
            raise ShapeError(
                f"layernorm: {operand.side(role)} does not fit {x.side()}: "
                f"it must have one axis, as long as the last of x",
                hint=(operand.shape and shapes.equal_hint(operand.shape[-1], x.shape[-1]))
                or f"{role} of shape {format_shape(x.shape[-1:])}",
            )
    dtype = float_of(_common_dtype(operands))
    nodes = tuple(operand.node(builder, dtype) for operand in operands)
    return builder.add("layernorm", nodes, x.shape, dtype, eps=float(eps))


def _matmul(builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    left, right = operands
    for role, operand in (("left operand", left), ("right operand", right)):
        if not operand.shape:
            raise ShapeError(
                f"matmul: {operand.side(role)} is a number, not a matrix",
                hint="use * for a product by a number",
            )
    dtype = _common_dtype(operands)
    _refuse_bool("matmul", dtype)
    a, b = left.node(builder, dtype), right.node(builder, dtype)
    # Vectors become matrices of one row or column, and the axis goes away again afterwards.
    row, column = len(left.shape) == 1, len(right.shape) == 1
    a_shape: Shape = (1, *left.shape) if row else left.shape
    b_shape: Shape = (*right.shape, 1) if column else right.shape
    shape = shapes.matmul(
        Side("left operand", left.label, a_shape), Side("right operand", right.label, b_shape)
    )
    a = builder.add("reshape", (a,), a_shape, dtype) if row else a
    b = builder.add("reshape", (b,), b_shape, dtype) if column else b
    product = builder.add("matmul", (a, b), shape, dtype)
    if not (row or column):
        return product
    squeezed = (*shape[:-2], *(() if row else shape[-2:-1]), *(() if column else shape[-1:]))
    return builder.add("reshape", (product,), squeezed, dtype)


def _cast(builder: GraphBuilder, operands: Sequence[Operand], *, dtype: DType) -> int:
    (x,) = operands
    return builder.cast(x.node(builder, x.dtype), dtype)


def _reshape(builder: GraphBuilder, operands: Sequence[Operand], *, shape: Sequence[Dim]) -> int:
    (x,) = operands
    index = x.node(builder, x.dtype)
    return builder.add("reshape", (index,), shapes.reshaped(x.side(), shape), x.dtype)


def _transpose(builder: GraphBuilder, operands: Sequence[Operand], *, axes: Sequence[int] | None) -> int:
    (x,) = operands
    shape, perm = shapes.permuted(x.side(), axes)
    return builder.add("transpose", (x.node(builder, x.dtype),), shape, x.dtype, perm=list(perm))


_FLOAT_UNARY = ("exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "gelu", "silu")
_ANY_UNARY = ("neg", "abs", "relu")
_BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
_REDUCTIONS = {"sum": total_of, "mean": average_of, "max": _same_dtype, "min": _same_dtype}

RULES: dict[str, Rule] = {
    **{op: partial(_unary, op, floats=True) for op in _FLOAT_UNARY},
    **{op: partial(_unary, op, floats=False) for op in _ANY_UNARY},
    **{op: partial(_binary, op) for op in _BINARY},
    **{op: partial(_reduction, op, result=result) for op, result in _REDUCTIONS.items()},
    "softmax": _softmax,
    "layernorm": _layernorm,
    "matmul": _matmul,
    "cast": _cast,
    "reshape": _reshape,
    "transpose": _transpose,
}
"""Every operator of the language."""
