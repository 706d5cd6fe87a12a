"""`x[…]` as NumPy has it: which axes are sliced, dropped, made and gathered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tessera.language.builder import GraphBuilder
from tessera.language.rules.operand import Operand, index_operand
from tessera.language.rules.value import Value
from tessera.program import dim as dims
from tessera.program.dim import Dim, Expr, format_dim
from tessera.program.dtype import i64
from tessera.program.errors import ShapeError, TraceError

OPERAND = object()
"""Stands in a key for an operand that holds positions."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What is kept of an axis: `length` elements, `step` apart, from `start`."""

    start: int
    """From the front, or if negative from the end, both without going beyond it."""
    step: int
    length: Dim


def cut(size: Dim, key: slice) -> Cut:
    """What `key` keeps of an axis of `size`.

    Raises:
        TraceError: A bound is no integer.
    """
    step = 1 if key.step is None else _bound(key.step, "step")
    if step == 0 or isinstance(step, Expr):
        raise TraceError(f"getitem: a slice cannot have step {step}", hint="x[::2]")
    start = None if key.start is None else _bound(key.start, "start")
    stop = None if key.stop is None else _bound(key.stop, "stop")
    if isinstance(start, Expr):
        raise TraceError(
            f"getitem: a slice cannot start at {start}, which is known only when it runs",
            hint="start at a number, or reshape so that the part begins an axis",
        )
    if isinstance(size, int) and not isinstance(stop, Expr):
        first, last, step = slice(start, stop, step).indices(size)
        return Cut(first, step, len(range(first, last, step)))
    length = _forward(size, start or 0, stop) if step > 0 else _backward(size, start, stop)
    first = (0 if step > 0 else -1) if start is None else start
    return Cut(first, step, dims.ceildiv(length, abs(step)))


def _bound(value: object, what: str) -> int | Expr:
    if isinstance(value, Expr):
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TraceError(f"getitem: the {what} {value!r} of a slice is not an integer", hint="x[1:5:2]")
    return int(value.__index__())


def _forward(size: Dim, start: int, stop: int | Expr | None) -> Dim:
    """How many elements lie between; sizes below 0 are 0."""
    if start < 0:
        kept = dims.minimum(size, -start)
        if stop is None:
            return kept
        if isinstance(stop, int) and stop < 0:
            return dims.maximum(kept + stop, 0)
        low = dims.maximum(size + start, 0)
        return dims.maximum(dims.minimum(stop, size) - low, 0)
    if stop is None:
        return size if start == 0 else dims.maximum(size - start, 0)
    if isinstance(stop, int) and stop < 0:
        return dims.maximum(size + stop - start, 0)
    high = dims.minimum(stop, size)
    return high if start == 0 else dims.maximum(high - start, 0)


def _backward(size: Dim, start: int | None, stop: int | Expr | None) -> Dim:
    if start is None and stop is None:
        return size
    if start is None or start < 0:
        first = dims.maximum(size + (-1 if start is None else start), -1)
    else:
        first = dims.minimum(start, size - 1)
    if stop is None:
        return first + 1
    last = dims.maximum(size + stop, -1) if isinstance(stop, int) and stop < 0 else stop
    return dims.maximum(first - last, 0)


def sliced(value: Value, cuts: Sequence[Cut]) -> Value:
    """The part of `value` that the cuts keep, axis by axis."""
    shape = tuple(c.length for c in cuts)
    if shape == value.shape and all((c.start, c.step) == (0, 1) for c in cuts):
        return value
    starts, steps = [c.start for c in cuts], [c.step for c in cuts]
    return value.make("slice", (), shape, starts=starts, steps=steps)


def whole(size: Dim) -> Cut:
    """All of an axis."""
    return Cut(0, 1, size)


def part(value: Value, axis: int, key: slice) -> Value:
    """A slice of one axis."""
    cuts = [cut(size, key) if a == axis else whole(size) for a, size in enumerate(value.shape)]
    return sliced(value, cuts)


def getitem(builder: GraphBuilder, operands: Sequence[Operand], *, key: tuple[Any, ...]) -> int:
    """The rule of `x[key]`, with `OPERAND` in `key` where the second operand belongs."""
    if len(operands) > 2:
        from tessera.language.rules.several_indices import getitem_several

        return getitem_several(builder, operands, key)
    x = operands[0]
    value = Value(builder, x.node(builder, x.dtype))
    entries = filled(x, key)
    cuts: list[Cut] = []
    for size, entry in zip(x.shape, (e for e in entries if e is not None), strict=True):
        cuts.append(kept(x, size, entry))
    value = sliced(value, cuts)
    # From the last axis on, so that the numbers of those before stay.
    axis = len(x.shape)
    shape: list[Dim] = []
    for entry in reversed(entries):
        if entry is None:
            shape.insert(0, 1)
            continue
        axis -= 1
        if isinstance(entry, slice):
            shape.insert(0, cuts[axis].length)
        elif entry is OPERAND:
            index = Value(builder, index_operand("getitem", operands[1], builder))
            value = taken(value, index, axis)
            shape[:0] = index.shape
        elif isinstance(x.shape[axis], Expr):
            # The size may turn out too small: a gather stays inside, where a slice would not.
            value = taken(value, Value(builder, builder.scalar(entry, i64)), axis)
    return value.reshape(*shape).index


def filled(x: Operand, key: tuple[Any, ...]) -> list[Any]:
    """`key` with one entry for every axis, and None for every new one."""
    named = sum(entry is not None and entry is not ... for entry in key)
    if named > len(x.shape) or sum(entry is ... for entry in key) > 1:
        raise ShapeError(
            f"getitem: {named} indices for {x.side()}, which has {len(x.shape)} axes",
            hint="one index for each axis, and at most one ...",
        )
    rest = [slice(None)] * (len(x.shape) - named)
    entries: list[Any] = []
    for entry in key:
        entries += rest if entry is ... else [entry]
    return entries if any(entry is ... for entry in key) else entries + rest


def kept(x: Operand, size: Dim, entry: Any) -> Cut:
    """What a slice, a number or a tensor of positions leaves of an axis to be cut.

    Raises:
        ShapeError: A number is outside of an axis of fixed size.
    """
    if isinstance(entry, slice):
        return cut(size, entry)
    if entry is OPERAND or isinstance(size, Expr):
        return whole(size)
    if not -size <= entry < size:
        raise ShapeError(
            f"getitem: index {entry} is outside of an axis of {format_dim(size)} of {x.side()}",
            hint=f"{-size} to {size - 1}" if size else "the axis has no elements",
        )
    return Cut(entry % size, 1, 1)


def taken(value: Value, index: Value, axis: int) -> Value:
    """The elements of `axis` at the positions that `index` holds, in its shape."""
    shape = (*value.shape[:axis], *index.shape, *value.shape[axis + 1 :])
    return value.make("take", (index,), shape, axis=axis)
