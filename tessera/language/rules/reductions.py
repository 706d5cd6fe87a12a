"""Operators that fold axes away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.promotion import average_of, total_of
from tessera.language.rules.operand import Operand, Rule, checked_count
from tessera.language.rules.value import Value
from tessera.program.dim import product
from tessera.program.dtype import DType, bool_, i64
from tessera.program.errors import ShapeError

Axes = int | Sequence[int] | None


def _same_dtype(dtype: DType) -> DType:
    return dtype


def _refuse_empty(op: str, x: Operand, axes: Sequence[int], axis: object) -> None:
    if any(isinstance(x.shape[a], int) and x.shape[a] == 0 for a in axes):
        raise ShapeError(f"{op}: {x.side()} has no element along axis {axis}", hint="reduce another axis")


def _reduction(
    op: str,
    builder: GraphBuilder,
    operands: Sequence[Operand],
    *,
    result: Callable[[DType], DType],
    axis: Axes,
    keepdims: bool,
) -> int:
    (x,) = operands
    axes = shapes.normalize_axes(op, axis, x.side())
    if op in ("max", "min"):
        _refuse_empty(op, x, axes, axis)
    value = Value(builder, x.node(builder, result(x.dtype)))
    return value.reduce(op, axes, keepdims=bool(keepdims)).index


def _truth(
    op: str, node: str, builder: GraphBuilder, operands: Sequence[Operand], *, axis: Axes, keepdims: bool
) -> int:
    (x,) = operands
    axes = shapes.normalize_axes(op, axis, x.side())
    value = Value(builder, x.node(builder, x.dtype)).cast(bool_)
    return value.reduce(node, axes, keepdims=bool(keepdims)).index


def _position(
    op: str, builder: GraphBuilder, operands: Sequence[Operand], *, axis: int | None, keepdims: bool
) -> int:
    (x,) = operands
    value = Value(builder, x.node(builder, x.dtype))
    axes = (0,) if axis is None else (shapes.normalize_axis(op, axis, x.side()),)
    _refuse_empty(op, x, range(len(x.shape)) if axis is None else axes, axis)
    flat = value.reshape(product(x.shape)) if axis is None else value
    shape = shapes.reduced(flat.shape, axes, keepdims=bool(keepdims) and axis is not None)
    found = flat.make(op, (), shape, i64, axes=list(axes), keepdims=bool(keepdims) and axis is not None)
    return found.reshape(*(1,) * len(x.shape)).index if keepdims and axis is None else found.index


def _spread(
    op: str,
    builder: GraphBuilder,
    operands: Sequence[Operand],
    *,
    axis: Axes,
    keepdims: bool,
    correction: int,
) -> int:
    (x,) = operands
    axes = shapes.normalize_axes(op, axis, x.side())
    less = checked_count(op, "correction", correction, least=0)
    dtype = average_of(x.dtype)
    value = Value(builder, x.node(builder, dtype)).wide()
    centred = value - value.reduce("mean", axes, keepdims=True)
    squares = centred * centred
    if less:
        count = squares.size(product(x.shape[a] for a in axes), squares.dtype)
        left = (count - less).binary("maximum", 0)
        variance = squares.reduce("sum", axes, keepdims=bool(keepdims)) / left
    else:
        variance = squares.reduce("mean", axes, keepdims=bool(keepdims))
    return (variance.unary("sqrt") if op == "std" else variance).cast(dtype).index


_REDUCTIONS = {
    "sum": total_of,
    "prod": total_of,
    "mean": average_of,
    "max": _same_dtype,
    "min": _same_dtype,
}

REDUCTIONS: dict[str, Rule] = {
    **{op: partial(_reduction, op, result=result) for op, result in _REDUCTIONS.items()},
    **{op: partial(_truth, op, node) for op, node in (("any", "max"), ("all", "min"))},
    **{op: partial(_position, op) for op in ("argmax", "argmin")},
    **{op: partial(_spread, op) for op in ("var", "std")},
}
"""Rules by operator."""
