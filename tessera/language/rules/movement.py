"""Operators that only rearrange: views, which cost nothing where another operator reads them."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.rules.operand import Operand, Rule, checked_count, common_dtype
from tessera.language.rules.slicing import Cut, cut, getitem, part, sliced, whole
from tessera.language.rules.value import Value
from tessera.language.shapes import Shape
from tessera.program.dim import Dim, format_dim, format_shape, product
from tessera.program.errors import ShapeError, TraceError


def _given(builder: GraphBuilder, operand: Operand) -> Value:
    return Value(builder, operand.node(builder, operand.dtype))


def _reshape(builder: GraphBuilder, operands: Sequence[Operand], *, shape: Sequence[Dim]) -> int:
    (x,) = operands
    index = x.node(builder, x.dtype)
    return builder.add("reshape", (index,), shapes.reshaped(x.side(), shape), x.dtype)


def _transpose(builder: GraphBuilder, operands: Sequence[Operand], *, axes: Sequence[int] | None) -> int:
    (x,) = operands
    shape, perm = shapes.permuted(x.side(), axes)
    return builder.add("transpose", (x.node(builder, x.dtype),), shape, x.dtype, perm=list(perm))


def _squeeze(builder: GraphBuilder, operands: Sequence[Operand], *, axis: int | Sequence[int] | None) -> int:
    (x,) = operands
    ones = [a for a, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    axes = ones if axis is None else shapes.normalize_axes("squeeze", axis, x.side())
    for a in axes:
        if a not in ones:
            raise ShapeError(
                f"squeeze: axis {a} of {x.side()} is {format_dim(x.shape[a])}, not 1",
                hint="name only axes of size 1",
            )
    shape = shapes.reduced(x.shape, tuple(axes), keepdims=False)
    return _given(builder, x).reshape(*shape).index


def _unsqueeze(builder: GraphBuilder, operands: Sequence[Operand], *, axis: int | Sequence[int]) -> int:
    (x,) = operands
    wanted = list(axis) if isinstance(axis, Sequence) else [axis]
    rank = len(x.shape) + len(wanted)
    after = shapes.Side("result", "", (1,) * rank)
    new = {shapes.normalize_axis("unsqueeze", a, after) for a in wanted}
    if len(new) != len(wanted):
        raise ShapeError(f"unsqueeze: axis {axis} is named twice", hint="name every new axis once")
    sizes = iter(x.shape)
    return _given(builder, x).reshape(*(1 if a in new else next(sizes) for a in range(rank))).index


def _broadcast_to(builder: GraphBuilder, operands: Sequence[Operand], *, shape: Sequence[Dim]) -> int:
    (x,) = operands
    target: Shape = tuple(shape)
    missing = len(target) - len(x.shape)
    fits = missing >= 0 and all(
        size == wanted or (isinstance(size, int) and size == 1)
        for size, wanted in zip(x.shape, target[max(missing, 0) :], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"broadcast_to: {x.side()} does not broadcast to {format_shape(target)}",
            hint="sizes must be equal or 1, counted from the last axis",
        )
    return _given(builder, x).expand(*target).index


def _tile(builder: GraphBuilder, operands: Sequence[Operand], *, repeats: Sequence[int]) -> int:
    (x,) = operands
    counts = [checked_count("tile", "repeats", r, least=0) for r in repeats]
    rank = max(len(counts), len(x.shape))
    counts = [1] * (rank - len(counts)) + counts
    shape: Shape = (*(1,) * (rank - len(x.shape)), *x.shape)
    value = _given(builder, x).reshape(*(s for size in shape for s in (1, size)))
    value = value.expand(*(s for pair in zip(counts, shape, strict=True) for s in pair))
    return value.reshape(*(size * count for size, count in zip(shape, counts, strict=True))).index


def _repeat(builder: GraphBuilder, operands: Sequence[Operand], *, repeats: int, axis: int) -> int:
    (x,) = operands
    at = shapes.normalize_axis("repeat", axis, x.side())
    count = checked_count("repeat", "repeats", repeats, least=0)
    before, after = x.shape[: at + 1], x.shape[at + 1 :]
    value = _given(builder, x).reshape(*before, 1, *after).expand(*before, count, *after)
    return value.reshape(*before[:-1], before[-1] * count, *after).index


def _flip(builder: GraphBuilder, operands: Sequence[Operand], *, axis: int | Sequence[int] | None) -> int:
    (x,) = operands
    axes = shapes.normalize_axes("flip", axis, x.side())
    back = slice(None, None, -1)
    cuts = [cut(size, back) if a in axes else whole(size) for a, size in enumerate(x.shape)]
    return sliced(_given(builder, x), cuts).index


def _roll(
    builder: GraphBuilder,
    operands: Sequence[Operand],
    *,
    shift: int | Sequence[int],
    axis: int | Sequence[int] | None,
) -> int:
    (x,) = operands
    value = _given(builder, x)
    shifts = list(shift) if isinstance(shift, Sequence) else [shift]
    if axis is None:
        flat = value.reshape(product(x.shape))
        return _rolled(flat, {0: sum(_shift(s) for s in shifts)}).reshape(*x.shape).index
    axes = list(axis) if isinstance(axis, Sequence) else [axis]
    if len(shifts) != len(axes):
        raise TraceError(f"roll: {len(shifts)} shifts for {len(axes)} axes", hint="shift=(1, 2), axis=(0, 1)")
    by_axis: dict[int, int] = {}
    for amount, a in zip(shifts, axes, strict=True):
        at = shapes.normalize_axis("roll", a, x.side())
        by_axis[at] = by_axis.get(at, 0) + _shift(amount)
    return _rolled(value, by_axis).index


def _shift(value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TraceError(f"roll: shift={value!r} is not an integer", hint="shift=1")
    return int(value.__index__())


def _rolled(value: Value, shifts: dict[int, int]) -> Value:
    return value.make("roll", (), value.shape, shifts=[shifts.get(a, 0) for a in range(len(value.shape))])


def _concat(builder: GraphBuilder, operands: Sequence[Operand], *, axis: int) -> int:
    first = operands[0]
    at = shapes.normalize_axis("concat", axis, first.side())
    for position, other in enumerate(operands[1:], 1):
        same = len(other.shape) == len(first.shape) and all(
            a == b for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True)) if i != at
        )
        if not same:
            raise ShapeError(
                f"concat: {other.side(f'operand {position}')} does not fit {first.side('operand 0')} "
                f"along axis {at}",
                hint="all sizes but that of the axis must be equal",
            )
    dtype = common_dtype(operands)
    parts = [Value(builder, operand.node(builder, dtype)) for operand in operands]
    return joined_along(parts, at).index


def joined_along(parts: Sequence[Value], axis: int) -> Value:
    """One after the other along an axis."""
    total: Dim = 0
    for value in parts:
        total = total + value.shape[axis]
    first = parts[0]
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])
    return first if len(parts) == 1 else first.make("concat", parts[1:], shape, axis=axis)


def _stack(builder: GraphBuilder, operands: Sequence[Operand], *, axis: int) -> int:
    first = operands[0]
    for position, other in enumerate(operands[1:], 1):
        if other.shape != first.shape:
            raise ShapeError(
                f"stack: {other.side(f'operand {position}')} does not fit {first.side('operand 0')}",
                hint="all operands must have one shape",
            )
    at = shapes.normalize_axis("stack", axis, shapes.Side("result", "", (*first.shape, 1)))
    dtype = common_dtype(operands)
    shape = (*first.shape[:at], 1, *first.shape[at:])
    return joined_along([Value(builder, o.node(builder, dtype)).reshape(*shape) for o in operands], at).index


def _split(
    builder: GraphBuilder, operands: Sequence[Operand], *, parts: int | Sequence[int], axis: int, which: int
) -> int:
    (x,) = operands
    at = shapes.normalize_axis("split", axis, x.side())
    size, value = x.shape[at], _given(builder, x)
    if isinstance(parts, Sequence):
        sizes = [checked_count("split", "parts", p, least=0) for p in parts]
        if sum(sizes) != size:
            raise ShapeError(
                f"split: parts of {sizes} do not make up axis {at} of {x.side()}",
                hint="their sum must be the size of the axis",
            )
        start = sum(sizes[:which])
        return part(value, at, slice(start, start + sizes[which])).index
    count = checked_count("split", "parts", parts)
    each = shapes.exact_quotient(size, count)
    if each is None:
        raise ShapeError(
            f"split: axis {at} of {x.side()} is {format_dim(size)}, which does not divide into {count} parts",
            hint="ts.chunk lets the last part be smaller" if isinstance(size, int) else "name the sizes",
        )
    # Split up, the parts begin at numbers, also where the size is a symbol.
    tall = value.reshape(*x.shape[:at], count, each, *x.shape[at + 1 :])
    cuts = [Cut(which, 1, 1) if a == at else whole(s) for a, s in enumerate(tall.shape)]
    return sliced(tall, cuts).reshape(*x.shape[:at], each, *x.shape[at + 1 :]).index


def _chunk(builder: GraphBuilder, operands: Sequence[Operand], *, each: int, axis: int, which: int) -> int:
    (x,) = operands
    return part(_given(builder, x), axis, slice(which * each, (which + 1) * each)).index


_MODES = ("constant", "edge", "reflect")


def _pad(
    builder: GraphBuilder, operands: Sequence[Operand], *, widths: Sequence[tuple[int, int]], mode: str
) -> int:
    x, fill = operands
    if mode not in _MODES:
        raise TraceError(f"pad: mode={mode!r} is unknown", hint=f"mode: {', '.join(_MODES)}")
    if len(widths) != len(x.shape):
        raise ShapeError(
            f"pad: {len(widths)} pairs of widths for {x.side()}", hint="one (before, after) for each axis"
        )
    for size, pair in zip(x.shape, widths, strict=True):
        for width in pair:
            checked_count("pad", "widths", width, least=0)
        if mode != "constant" and any(pair) and isinstance(size, int) and size == 0:
            raise ShapeError(
                f"pad: {x.side()} has no element to repeat", hint="mode='constant' pads what is empty"
            )
    value = _given(builder, x)
    return padded(value, widths, mode, Value(builder, fill.node(builder, x.dtype))).index


def padded(value: Value, widths: Sequence[tuple[int, int]], mode: str, fill: Value) -> Value:
    """`value` with elements before and after each axis."""
    shape = tuple(size + a + b for size, (a, b) in zip(value.shape, widths, strict=True))
    before = [a for a, _ in widths]
    return value if shape == value.shape else value.make("pad", (fill,), shape, before=before, mode=mode)


def _full(builder: GraphBuilder, operands: Sequence[Operand], *, shape: Sequence[Dim], dtype: object) -> int:
    from tessera.program.dtype import as_dtype

    (number,) = operands
    wanted = number.dtype if dtype is None else as_dtype(dtype, what="full")
    return Value(builder, builder.cast(number.node(builder, number.dtype), wanted)).expand(*shape).index


MOVEMENT: dict[str, Rule] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "broadcast_to": _broadcast_to,
    "tile": _tile,
    "repeat": _repeat,
    "flip": _flip,
    "roll": _roll,
    "concat": _concat,
    "stack": _stack,
    "split": _split,
    "chunk": _chunk,
    "pad": _pad,
    "full": _full,
    "getitem": getitem,
}
"""Rules by operator."""
