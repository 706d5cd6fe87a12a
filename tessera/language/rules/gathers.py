"""Operators that read or write at positions which tensors hold, and operators on order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.promotion import total_of
from tessera.language.rules.operand import (
    Operand,
    Rule,
    checked_count,
    common_dtype,
    index_operand,
    refuse_bool,
)
from tessera.language.rules.slicing import taken
from tessera.language.rules.value import Value
from tessera.program.dim import Dim, Expr, format_dim
from tessera.program.dtype import DType, f32, i64
from tessera.program.errors import ShapeError, TraceError


def _refuse_empty(op: str, x: Operand, axis: int) -> None:
    if isinstance(x.shape[axis], int) and x.shape[axis] == 0:
        raise ShapeError(f"{op}: {x.side()} has no element along axis {axis}", hint="name another axis")


def _take(builder: GraphBuilder, operands: Sequence[Operand], *, axis: int) -> int:
    x, index = operands
    at = shapes.normalize_axis("take", axis, x.side())
    _refuse_empty("take", x, at)
    positions = Value(builder, index_operand("take", index, builder))
    return taken(Value(builder, x.node(builder, x.dtype)), positions, at).index


def _embedding(builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    ids, table = operands
    if len(table.shape) != 2:
        raise ShapeError(
            f"embedding: {table.side('table')} does not have rows of features", hint="(words, features)"
        )
    _refuse_empty("embedding", table, 0)
    positions = Value(builder, index_operand("embedding", ids, builder))
    return taken(Value(builder, table.node(builder, table.dtype)), positions, 0).index


def _beside(op: str, x: Operand, other: Operand, role: str, axis: int) -> None:
    """See that two shapes differ in one axis at most."""
    same = len(x.shape) == len(other.shape) and all(
        a == b for i, (a, b) in enumerate(zip(x.shape, other.shape, strict=True)) if i != axis
    )
    if not same:
        raise ShapeError(
            f"{op}: {other.side(role)} does not fit {x.side()} along axis {axis}",
            hint="both have the same axes, and the same sizes but along that axis",
        )


def _take_along_axis(op: str, builder: GraphBuilder, operands: Sequence[Operand], *, axis: int) -> int:
    x, index = operands
    at = shapes.normalize_axis(op, axis, x.side())
    _refuse_empty(op, x, at)
    _beside(op, x, index, "index", at)
    positions = Value(builder, index_operand(op, index, builder))
    return taken_along(Value(builder, x.node(builder, x.dtype)), positions, at).index


def taken_along(value: Value, index: Value, axis: int) -> Value:
    """For every position in `index`, the element of the same line along `axis`."""
    return value.make("take_along", (index,), index.shape, axis=axis)


def _scatter(op: str, builder: GraphBuilder, operands: Sequence[Operand], *, axis: int) -> int:
    x, index, updates = operands
    at = shapes.normalize_axis(op, axis, x.side())
    _beside(op, x, index, "index", at)
    if updates.number is None and updates.shape != index.shape:
        raise ShapeError(
            f"{op}: {updates.side('updates')} does not fit {index.side('index')}",
            hint="one update for every position",
        )
    dtype = common_dtype((x, updates))
    if op == "scatter_add":
        refuse_bool(op, dtype)
    positions = index_operand(op, index, builder)
    value = Value(builder, x.node(builder, dtype))
    new = Value(builder, updates.node(builder, dtype)).expand(*index.shape)
    return value.make(op, (Value(builder, positions), new), x.shape, axis=at).index


def _one_hot(builder: GraphBuilder, operands: Sequence[Operand], *, classes: int, dtype: DType) -> int:
    (x,) = operands
    count = checked_count("one_hot", "classes", classes)
    ids = Value(builder, index_operand("one_hot", x, builder))
    shape: tuple[Dim, ...] = (*x.shape, count)
    return ids.reshape(*x.shape, 1).compare("eq", ids.iota(shape, len(x.shape))).cast(dtype).index


def _triangle(op: str, builder: GraphBuilder, operands: Sequence[Operand], *, diagonal: int) -> int:
    (x,) = operands
    if len(x.shape) < 2:
        raise ShapeError(f"{op}: {x.side()} is no matrix", hint="it needs two axes at least")
    if isinstance(diagonal, bool) or not hasattr(diagonal, "__index__"):
        raise TraceError(f"{op}: diagonal={diagonal!r} is not an integer", hint="diagonal=0")
    value = Value(builder, x.node(builder, x.dtype))
    square = x.shape[-2:]
    row, column = value.iota(square, 0), value.iota(square, 1)
    kept = (column - row).compare("ge" if op == "triu" else "le", int(diagonal.__index__()))
    return kept.where(value, 0).index


def _arange(
    builder: GraphBuilder,
    operands: Sequence[Operand],
    *,
    count: Dim,
    start: float,
    step: float,
    dtype: DType,
) -> int:
    del operands
    count_up = Value(builder, builder.add("iota", (), (count,), i64, axis=0))
    if dtype.is_float:
        wide = count_up.cast(f32 if dtype.bits < 64 else dtype)
        return (wide * step + start).cast(dtype).index
    return (count_up * int(step) + int(start)).cast(dtype).index


def _cumsum(builder: GraphBuilder, operands: Sequence[Operand], *, axis: int) -> int:
    (x,) = operands
    at = shapes.normalize_axis("cumsum", axis, x.side())
    dtype = total_of(x.dtype)
    return builder.add("cumsum", (x.node(builder, dtype),), x.shape, dtype, axis=at)


def _order(
    op: str,
    builder: GraphBuilder,
    operands: Sequence[Operand],
    *,
    axis: int,
    descending: bool,
    count: int | None = None,
    positions: bool = False,
) -> int:
    (x,) = operands
    at = shapes.normalize_axis(op, axis, x.side())
    size: Dim = x.shape[at]
    if count is not None:
        wanted = checked_count(op, "k", count)
        if isinstance(size, Expr) or size < wanted:
            raise ShapeError(
                f"{op}: k={wanted} of {format_dim(size)} elements along axis {at} of {x.side()}",
                hint="give the TensorSpec a fixed size of k or more there",
            )
        size = wanted
    value = Value(builder, x.node(builder, x.dtype))
    shape = tuple(size if a == at else s for a, s in enumerate(x.shape))
    order = value.make("argsort", (), shape, i64, axis=at, descending=bool(descending))
    return (order if positions else taken_along(value, order, at)).index


GATHERS: dict[str, Rule] = {
    "take": _take,
    "take_along_axis": partial(_take_along_axis, "take_along_axis"),
    "gather": partial(_take_along_axis, "gather"),
    "embedding": _embedding,
    **{op: partial(_scatter, op) for op in ("scatter", "scatter_add")},
    "one_hot": _one_hot,
    **{op: partial(_triangle, op) for op in ("triu", "tril")},
    "arange": _arange,
    "cumsum": _cumsum,
    **{op: partial(_order, op) for op in ("sort", "topk")},
    "argsort": partial(_order, "argsort", positions=True),
}
"""Rules by operator."""
