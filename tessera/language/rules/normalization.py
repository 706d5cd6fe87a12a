"""Operators that bring rows to a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.promotion import float_of
from tessera.language.rules.operand import Operand, Rule, checked_count, checked_number, common_dtype
from tessera.language.rules.value import Value, work_dtype
from tessera.program.dim import Dim, format_dim, format_shape, product
from tessera.program.errors import ShapeError


def _softmax(op: str, builder: GraphBuilder, operands: Sequence[Operand], *, axis: int) -> int:
    (x,) = operands
    dtype = float_of(x.dtype)
    position = shapes.normalize_axis(op, axis, x.side())
    return builder.add(op, (x.node(builder, dtype),), x.shape, dtype, axis=position)


def _last_axis(op: str, builder: GraphBuilder, operands: Sequence[Operand], *, eps: float) -> int:
    x = operands[0]
    if not x.shape:
        raise ShapeError(f"{op}: {x.side()} has no axis to normalize over", hint="give it one: x.reshape(1)")
    small = checked_number(op, "eps", eps, least=0)
    _check_affine(op, x, operands[1:], x.shape[-1], "as long as the last of x")
    dtype = float_of(common_dtype(operands))
    nodes = tuple(operand.node(builder, dtype) for operand in operands)
    return builder.add(op, nodes, x.shape, dtype, eps=small)


def _check_affine(
    op: str, x: Operand, operands: Sequence[Operand], size: Dim, what: str,
    roles: Sequence[str] = ("weight", "bias"),
) -> None:  # fmt: skip
    for role, operand in zip(roles, operands, strict=False):
        if operand.shape != (size,):
            raise ShapeError(
                f"{op}: {operand.side(role)} does not fit {x.side()}: it must have one axis, {what}",
                hint=(operand.shape and shapes.equal_hint(operand.shape[-1], size))
                or f"{role} of shape {format_shape((size,))}",
            )


def _channels(op: str, x: Operand) -> Dim:
    if len(x.shape) < 2:
        raise ShapeError(
            f"{op}: {x.side()} has no channels: its axes are (batch, channels, ...)",
            hint="x.reshape(1, -1) is one row of channels",
        )
    return x.shape[1]


def _groupnorm(builder: GraphBuilder, operands: Sequence[Operand], *, groups: int, eps: float) -> int:
    x = operands[0]
    channels = _channels("groupnorm", x)
    count = checked_count("groupnorm", "groups", groups)
    small = checked_number("groupnorm", "eps", eps, least=0)
    each = shapes.exact_quotient(channels, count)
    if each is None:
        raise ShapeError(
            f"groupnorm: the {format_dim(channels)} channels of {x.side()} do not divide into {count} groups",
            hint="groups must divide the size of axis 1",
        )
    _check_affine("groupnorm", x, operands[1:], channels, "as long as axis 1 of x")
    dtype = float_of(common_dtype(operands))
    value = Value(builder, x.node(builder, dtype)).wide()
    rows = value.reshape(x.shape[0], count, each * product(x.shape[2:]))
    normal = rows.make("layernorm", (), rows.shape, eps=small).reshape(*x.shape)
    return _affine(builder, normal, operands[1:]).cast(dtype).index


def _affine(builder: GraphBuilder, value: Value, operands: Sequence[Operand]) -> Value:
    """`value * weight + bias` along axis 1, as far as they are given."""
    for sign, operand in zip(("mul", "add"), operands, strict=False):
        value = value.binary(sign, _along_channels(builder, operand, value))
    return value


def _along_channels(builder: GraphBuilder, operand: Operand, like: Value) -> Value:
    value = Value(builder, operand.node(builder, work_dtype(operand.dtype))).cast(like.dtype)
    return value.reshape(*operand.shape, *(1,) * (len(like.shape) - 2))


def _batchnorm(builder: GraphBuilder, operands: Sequence[Operand], *, eps: float) -> int:
    x, mean, variance, *affine = operands
    channels = _channels("batchnorm", x)
    small = checked_number("batchnorm", "eps", eps, least=0)
    _check_affine(
        "batchnorm", x, operands[1:], channels, "as long as axis 1 of x", ("mean", "var", "weight", "bias")
    )
    dtype = float_of(common_dtype(operands))
    value = Value(builder, x.node(builder, dtype)).wide()
    # What depends on weights alone is computed once, when the program is loaded.
    spread = Value(builder, variance.node(builder, variance.dtype)).cast(value.dtype)
    scale = (spread + small).unary("rsqrt")
    if affine:
        scale = scale * Value(builder, affine[0].node(builder, affine[0].dtype)).cast(value.dtype)
    tail = (1,) * (len(x.shape) - 2)
    result = (value - _along_channels(builder, mean, value)) * scale.reshape(channels, *tail)
    if len(affine) > 1:
        result = result + _along_channels(builder, affine[1], value)
    return result.cast(dtype).index


NORMALIZATION: dict[str, Rule] = {
    **{op: partial(_softmax, op) for op in ("softmax", "log_softmax")},
    **{op: partial(_last_axis, op) for op in ("layernorm", "rmsnorm")},
    "groupnorm": _groupnorm,
    "batchnorm": _batchnorm,
}
"""Rules by operator."""
