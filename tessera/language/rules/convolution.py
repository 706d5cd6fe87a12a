"""Convolutions and what else slides a window: all made of `windows`, which is read in place.

`windows` has an element for every place of a window and every element in it, so a convolution is a matrix
product, and a pool a reduction. A GPU reads windows where the product reads its operand; a CPU writes
them out for its BLAS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.promotion import average_of, float_of
from tessera.language.rules.operand import Operand, Rule, checked_count, common_dtype, refuse_bool
from tessera.language.rules.slicing import Cut, sliced, taken, whole
from tessera.language.rules.value import Value
from tessera.language.shapes import Shape
from tessera.program import dim as dims
from tessera.program.dim import Dim, Expr, format_dim, format_shape, product
from tessera.program.dtype import DType, i64
from tessera.program.errors import ShapeError, TraceError

Sizes = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Sliding:
    """How a window moves over the last axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    spread: tuple[int, ...] = ()
    """How far apart the elements are put first, with nothing between; 1 by default."""

    def places(self, op: str, x: Operand) -> Shape:
        """How many places the window has along each axis.

        Raises:
            ShapeError: It is longer than the axis.
        """
        found: list[Dim] = []
        sizes = x.shape[-len(self.kernel) :]
        rows = zip(sizes, self.kernel, self.strides, self.dilations, self.pads, strict=True)
        for axis, (size, kernel, stride, dilation, (before, after)) in enumerate(rows):
            reach = dilation * (kernel - 1) + 1
            room = size + before + after - reach
            if isinstance(room, int) and room < 0:
                raise ShapeError(
                    f"{op}: a window of {reach} does not fit axis {axis - len(sizes)} of {x.side()}, "
                    f"which is {format_dim(size + before + after)} with its padding",
                    hint="pad more, or take a smaller kernel",
                )
            count = room // stride + 1
            least = 0 if isinstance(room, int) else min(c if m else 0 for m, c in room.terms)
            rest = room if isinstance(room, int) else sum(c for m, c in room.terms if not m)
            sure = least >= 0 and rest >= -stride
            found.append(count if sure else dims.maximum(count, 0))
        return tuple(found)

    def windows(self, value: Value, places: Shape, fill: float) -> Value:
        """(…, axes) as (…, kernel, places)."""
        lead = value.shape[: len(value.shape) - len(self.kernel)]
        return value.make(
            "windows",
            (value.number(fill) if value.dtype.is_float else value.number(int(fill)),),
            (*lead, *self.kernel, *places),
            strides=list(self.strides),
            dilations=list(self.dilations),
            before=[before for before, _ in self.pads],
            spread=list(self.spread or (1,) * len(self.kernel)),
        )


def _each(op: str, name: str, value: object, rank: int, *, least: int = 1) -> tuple[int, ...]:
    given = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * rank
    if len(given) != rank:
        raise TraceError(
            f"{op}: {name}={value!r} has {len(given)} numbers for {rank} axes",
            hint=f"{name}=1, or one for each",
        )
    return tuple(checked_count(op, name, v, least=least) for v in given)


def _pads(
    op: str, padding: Padding, kernel: Sequence[int], dilations: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    rank = len(kernel)
    if padding == "same":
        if any(stride != 1 for stride in strides):
            raise TraceError(f"{op}: padding='same' is for a stride of 1", hint="padding=1")
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str):
        raise TraceError(f"{op}: padding={padding!r} is unknown", hint="padding='same' or numbers")
    if isinstance(padding, Sequence) and any(isinstance(p, Sequence) for p in padding):
        pairs = [_each(op, "padding", p, 2, least=0) for p in padding]
        if len(pairs) != rank:
            raise TraceError(
                f"{op}: padding={padding!r} has {len(pairs)} pairs for {rank} axes", hint="padding=1"
            )
        return tuple((a, b) for a, b in pairs)
    return tuple((p, p) for p in _each(op, "padding", padding, rank, least=0))


def _check_ranks(op: str, x: Operand, weight: Operand, rank: int, channels: str) -> tuple[int, ...]:
    """The kernel's sizes."""
    if len(x.shape) != rank + 2 or len(weight.shape) != rank + 2:
        axes = ", ".join(("length",) if rank == 1 else ("height", "width"))
        raise ShapeError(
            f"{op}: {x.side()} and {weight.side('weight')} must have {rank + 2} axes each",
            hint=f"x is (batch, channels, {axes}), the weight is ({channels}, kernel sizes)",
        )
    kernel = weight.shape[2:]
    fixed = tuple(size for size in weight.shape if isinstance(size, int) and size > 0)
    if len(fixed) != len(weight.shape):
        raise ShapeError(
            f"{op}: {weight.side('weight')} must have fixed sizes of 1 or more",
            hint="put numbers in its TensorSpec",
        )
    return tuple(int(str(size)) for size in kernel)


def _check_channels(op: str, x: Operand, weight: Operand, groups: int, inputs: Dim, outputs: int) -> None:
    if x.shape[1] != inputs or outputs % groups:
        raise ShapeError(
            f"{op}: {weight.side('weight')} does not fit {x.side()} with groups={groups}: "
            f"it is for {format_dim(inputs)} channels",
            hint=shapes.equal_hint(x.shape[1], inputs)
            or "channels of x = groups times those of the weight, and groups divide the results' channels",
        )


def _check_bias(op: str, biases: Sequence[Operand], outputs: Dim) -> None:
    for bias in biases:
        if bias.shape != (outputs,):
            raise ShapeError(
                f"{op}: {bias.side('bias')} does not fit {format_dim(outputs)} channels",
                hint=f"bias of shape {format_shape((outputs,))}",
            )


def _conv(
    op: str, rank: int, builder: GraphBuilder, operands: Sequence[Operand], *,
    stride: Sizes, padding: Padding, dilation: Sizes, groups: int,
) -> int:  # fmt: skip
    x, weight, *biases = operands
    kernel = _check_ranks(op, x, weight, rank, "out, in / groups")
    strides, dilations = _each(op, "stride", stride, rank), _each(op, "dilation", dilation, rank)
    count, outputs = checked_count(op, "groups", groups), int(str(weight.shape[0]))
    _check_channels(op, x, weight, count, weight.shape[1] * count, outputs)
    _check_bias(op, biases, outputs)
    sliding = Sliding(kernel, strides, dilations, _pads(op, padding, kernel, dilations, strides))
    places = sliding.places(op, x)
    dtype = common_dtype(operands)
    refuse_bool(op, dtype)
    value, matrix, *added = (Value(builder, operand.node(builder, dtype)) for operand in operands)
    plain = set(kernel + strides) == {1} and not any(map(any, sliding.pads))
    columns = value if plain else sliding.windows(value, places, 0)
    return _product(columns, matrix, added, count, places).index


def _product(columns: Value, weight: Value, biases: Sequence[Value], groups: int, places: Shape) -> Value:
    """Windows times weights: columns of all windows, by group, against a row for each result's channel."""
    outputs, depth, area = weight.shape[0], product(weight.shape[1:]), product(places)
    batch, each = columns.shape[0], int(str(outputs)) // groups
    shape: tuple[int, ...]
    if groups > 1 and each == 1:
        # One row a group would leave a matrix product's tiles empty.
        tall = columns.wide().reshape(batch, groups, depth, area)
        total = (tall * weight.wide().reshape(groups, depth, 1)).reduce("sum", (2,))
        result, shape = total.cast(columns.dtype), (groups, 1)
    elif groups > 1:
        rows = weight.reshape(groups, each, depth)
        result, shape = rows.matmul(columns.reshape(batch, groups, depth, area)), (groups, each, 1)
    else:
        rows = weight.reshape(outputs, depth)
        result, shape = rows.matmul(columns.reshape(batch, depth, area)), (int(str(outputs)), 1)
    for bias in biases:
        result = result + bias.reshape(*shape)
    return result.reshape(batch, outputs, *places)


def _conv_transpose(
    op: str, rank: int, builder: GraphBuilder, operands: Sequence[Operand], *,
    stride: Sizes, padding: Sizes, output_padding: Sizes, dilation: Sizes, groups: int,
) -> int:  # fmt: skip
    x, weight, *biases = operands
    kernel = _check_ranks(op, x, weight, rank, "in, out / groups")
    strides, dilations = _each(op, "stride", stride, rank), _each(op, "dilation", dilation, rank)
    pads, extra = (
        _each(op, n, v, rank, least=0) for n, v in (("padding", padding), ("output_padding", output_padding))
    )
    count, each = checked_count(op, "groups", groups), int(str(weight.shape[1]))
    inputs = int(str(weight.shape[0]))
    _check_channels(op, x, weight, count, inputs, inputs)
    _check_bias(op, biases, each * count)
    reaches = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    places: list[Dim] = []
    for size, s, p, reach, more in zip(x.shape[2:], strides, pads, reaches, extra, strict=True):
        length = (size - 1) * s + reach + more + 1 - 2 * p
        places.append(dims.maximum(length, 0) if isinstance(length, Expr) else length)
    if any(isinstance(size, int) and size < 1 for size in places):
        raise ShapeError(
            f"{op}: nothing is left of {x.side()} with padding={padding}",
            hint="padding takes from the result",
        )
    before = tuple((reach - p, 0) for reach, p in zip(reaches, pads, strict=True))
    sliding = Sliding(kernel, (1,) * rank, dilations, before, strides)
    dtype = common_dtype(operands)
    refuse_bool(op, dtype)
    value, matrix, *added = (Value(builder, operand.node(builder, dtype)) for operand in operands)
    rows = _turned(matrix, count)
    return _product(sliding.windows(value, tuple(places), 0), rows, added, count, tuple(places)).index


def _turned(weight: Value, groups: int) -> Value:
    """(in, out / groups, kernel) as (out, in / groups, kernel), upside down."""
    inputs, each, *kernel = (int(str(size)) for size in weight.shape)
    flipped = sliced(
        weight, [whole(inputs), whole(each), *(Cut(k - 1, -1, k) if k > 1 else whole(k) for k in kernel)]
    )
    parts = flipped.reshape(groups, inputs // groups, each, *kernel)
    turned = parts.transpose(0, 2, 1, *range(3, 3 + len(kernel)))
    return turned.reshape(groups * each, inputs // groups, *kernel)


def _check_spatial(op: str, x: Operand, rank: int) -> None:
    if len(x.shape) < rank:
        raise ShapeError(f"{op}: {x.side()} has fewer than {rank} axes", hint="(batch, channels, ...)")


def _pool(
    op: str, rank: int, builder: GraphBuilder, operands: Sequence[Operand], *,
    kernel: Sizes, stride: Sizes | None, padding: Padding, dilation: Sizes = 1,
    count_include_pad: bool = True,
) -> int:  # fmt: skip
    (x,) = operands
    _check_spatial(op, x, rank)
    sizes = _each(op, "kernel", kernel, rank)
    strides = sizes if stride is None else _each(op, "stride", stride, rank)
    dilations = _each(op, "dilation", dilation, rank)
    sliding = Sliding(sizes, strides, dilations, _pads(op, padding, sizes, dilations, strides))
    places = sliding.places(op, x)
    lead = len(x.shape) - rank
    axes = range(lead, lead + rank)
    if op.startswith("max"):
        value = Value(builder, x.node(builder, x.dtype))
        lowest = -math.inf if x.dtype.is_float else _lowest(x.dtype)
        return sliding.windows(value, places, lowest).reduce("max", axes).index
    dtype = average_of(x.dtype)
    value = Value(builder, x.node(builder, dtype)).wide()
    total = sliding.windows(value, places, 0).reduce("sum", axes)
    if count_include_pad or not any(map(any, sliding.pads)):
        return (total / math.prod(sizes)).cast(dtype).index
    ones = value.number(1).expand(*x.shape[lead:])
    counts = sliding.windows(ones, places, 0).reduce("sum", range(rank))
    return (total / counts).cast(dtype).index


def _lowest(dtype: DType) -> int:
    return -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0


def _adaptive(op: str, rank: int, builder: GraphBuilder, operands: Sequence[Operand], *, size: Sizes) -> int:
    (x,) = operands
    _check_spatial(op, x, rank)
    wanted = _each(op, "size", size, rank)
    dtype = average_of(x.dtype)
    value = Value(builder, x.node(builder, dtype)).wide()
    lead = len(x.shape) - rank
    if set(wanted) == {1}:
        return value.reduce("mean", range(lead, lead + rank), keepdims=True).cast(dtype).index
    for axis, count in enumerate(wanted, lead):
        value = _averaged(value, axis, count)
    return value.cast(dtype).index


def _averaged(value: Value, axis: int, count: int) -> Value:
    """`count` means along an axis, of the elements from `i * n // count` up to `(i + 1) * n / count`."""
    n = value.shape[axis]
    each = shapes.exact_quotient(n, count)
    if each is not None:
        parts = value.reshape(*value.shape[:axis], count, each, *value.shape[axis + 1 :])
        return parts.reduce("mean", (axis + 1,))
    # Where they do not divide, parts differ in length by one at most, and neighbours share elements.
    longest = dims.ceildiv(n, count) + 1
    size, place = value.size(n, i64), value.iota((count,), 0)
    first = (place * size).binary("floordiv", count)
    last = ((place + 1) * size + (count - 1)).binary("floordiv", count)
    index = first.reshape(count, 1) + value.iota((1, longest), 1)
    inside = index.compare("lt", last.reshape(count, 1))
    tail = (1,) * (len(value.shape) - axis - 1)
    found = taken(value, index, axis)
    kept = inside.reshape(count, longest, *tail).where(found, 0)
    lengths = (last - first).cast(value.dtype).reshape(count, *tail)
    return kept.reduce("sum", (axis + 1,)) / lengths


def _resize(
    builder: GraphBuilder, operands: Sequence[Operand], *, size: Sequence[Dim] | None,
    scale: int | Sequence[int] | None, mode: str, align_corners: bool,
) -> int:  # fmt: skip
    (x,) = operands
    if mode not in _RESIZES:
        raise TraceError(f"resize: mode={mode!r} is unknown", hint=f"mode: {', '.join(_RESIZES)}")
    rank = len(x.shape) - 2
    if rank < 1 or (size is None) == (scale is None):
        raise ShapeError(
            f"resize: {x.side()} is (batch, channels, ...), and either size or scale says how large it gets",
            hint="size=(32, 32) or scale=2",
        )
    if size is None:
        factors = _each("resize", "scale", scale, rank)
        target = tuple(n * factor for n, factor in zip(x.shape[2:], factors, strict=True))
    else:
        target = tuple(size)
    if len(target) != rank or any(isinstance(s, int) and s < 1 for s in target):
        raise ShapeError(
            f"resize: {format_shape(target)} is not a size for the {rank} last axes of {x.side()}",
            hint="one size of 1 or more for each",
        )
    dtype = x.dtype if mode == "nearest" else float_of(x.dtype)
    value = Value(builder, x.node(builder, dtype))
    value = value if mode == "nearest" else value.wide()
    for axis, count in enumerate(target, 2):
        if value.shape[axis] != count:
            value = _RESIZES[mode](value, axis, count, align_corners)
    return value.cast(dtype).index


def _nearest(value: Value, axis: int, count: Dim, align_corners: bool) -> Value:
    del align_corners
    place = value.iota((count,), 0)
    source = (place * value.size(value.shape[axis], i64)).binary("floordiv", value.size(count, i64))
    return taken(value, source, axis)


def _linear(value: Value, axis: int, count: Dim, align_corners: bool) -> Value:
    """Between the two elements that are nearest to where an element's centre (or corner) comes from."""
    kind = value.dtype
    n, m = value.size(value.shape[axis], kind), value.size(count, kind)
    place = value.iota((count,), 0).cast(kind)
    if align_corners:
        source = place * ((n - 1) / (m - 1).binary("maximum", 1))
    else:
        source = ((place + 0.5) * (n / m) - 0.5).binary("maximum", 0)
    low = source.unary("floor").binary("minimum", (n - 1).binary("maximum", 0))
    index = low.cast(i64)
    share = (source - low).reshape(count, *(1,) * (len(value.shape) - axis - 1))
    # A gather brings the place after the last back to the last.
    a, b = taken(value, index, axis), taken(value, index + 1, axis)
    return a + (b - a) * share


_RESIZES: dict[str, Callable[[Value, int, Dim, bool], Value]] = {"nearest": _nearest, "linear": _linear}


def _at_rank(rule: Callable[..., int], op: str, rank: int) -> Rule:
    def apply(builder: GraphBuilder, operands: Sequence[Operand], **settings: object) -> int:
        return rule(op, rank, builder, operands, **settings)

    return apply


CONVOLUTION: dict[str, Rule] = {
    **{f"conv{r}d": _at_rank(_conv, f"conv{r}d", r) for r in (1, 2)},
    **{f"conv_transpose{r}d": _at_rank(_conv_transpose, f"conv_transpose{r}d", r) for r in (1, 2)},
    **{f"{kind}_pool{r}d": _at_rank(_pool, f"{kind}_pool{r}d", r) for kind in ("max", "avg") for r in (1, 2)},
    **{f"adaptive_avg_pool{r}d": _at_rank(_adaptive, f"adaptive_avg_pool{r}d", r) for r in (1, 2)},
    "resize": _resize,
}
"""Rules by operator."""
