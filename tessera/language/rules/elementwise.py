"""Operators that compute each element by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.promotion import average_of, float_of
from tessera.language.rules.operand import (
    Operand,
    Rule,
    checked_number,
    common_dtype,
    refuse_bool,
)
from tessera.language.rules.value import Value
from tessera.language.shapes import Shape, Side
from tessera.program.dtype import DType, bool_
from tessera.program.errors import TraceError

_ROLES = ("left operand", "right operand")


def broadcast_all(op: str, operands: Sequence[Operand], roles: Sequence[str] = _ROLES) -> Shape:
    """The shape that all operands broadcast to.

    Raises:
        ShapeError: They do not; the message names the two that do not fit.
    """
    shape = operands[0].shape
    left = operands[0].side(roles[0])
    for operand, role in zip(operands[1:], roles[1:], strict=True):
        right = operand.side(role)
        shape = shapes.broadcast(op, Side(left.role, left.label, shape), right)
        left = right if len(operand.shape) == len(shape) else left
    return shape


def _unary(
    op: str, builder: GraphBuilder, operands: Sequence[Operand], *, floats: bool, **settings: Any
) -> int:
    (x,) = operands
    if op in ("neg", "relu", "sign"):
        refuse_bool(op, x.dtype)
    dtype = float_of(x.dtype) if floats else x.dtype
    index = x.node(builder, dtype)
    if op == "abs" and dtype == bool_:
        return index
    return builder.add(op, (index,), x.shape, dtype, **settings)


def _rounding(op: str, builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    (x,) = operands
    index = x.node(builder, x.dtype)
    return builder.add(op, (index,), x.shape, x.dtype) if x.dtype.is_float else index


def _test(op: str, builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    (x,) = operands
    if not x.dtype.is_float:
        return builder.add("expand", (builder.scalar(value=False, dtype=bool_),), x.shape, bool_)
    return builder.add(op, (x.node(builder, x.dtype),), x.shape, bool_)


def _binary(op: str, builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    dtype = common_dtype(operands)
    if op == "div":
        dtype = average_of(dtype)
    elif op not in ("maximum", "minimum"):
        refuse_bool(op, dtype)
    shape = broadcast_all(op, operands)
    return builder.add(op, tuple(x.node(builder, dtype) for x in operands), shape, dtype)


def _comparison(op: str, builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    dtype = common_dtype(operands)
    shape = broadcast_all(op, operands)
    return builder.add(op, tuple(x.node(builder, dtype) for x in operands), shape, bool_)


def _logical(op: str, node: str, builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    shape = broadcast_all(op, operands)
    bools = tuple(builder.cast(x.node(builder, x.dtype), bool_) for x in operands)
    return builder.add(node, bools, shape, bool_)


def _logical_not(builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    (x,) = operands
    index = builder.cast(x.node(builder, x.dtype), bool_)
    return builder.add("eq", (index, builder.scalar(value=False, dtype=bool_)), x.shape, bool_)


def _where(builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    condition, yes, no = operands
    dtype = common_dtype((yes, no))
    shape = broadcast_all("where", operands, ("condition", "left operand", "right operand"))
    asked = builder.cast(condition.node(builder, condition.dtype), bool_)
    return builder.add("where", (asked, yes.node(builder, dtype), no.node(builder, dtype)), shape, dtype)


def _clip(builder: GraphBuilder, operands: Sequence[Operand], *, has_min: bool, has_max: bool) -> int:
    dtype = common_dtype(operands)
    roles = ["operand", *(["lower bound"] if has_min else []), *(["upper bound"] if has_max else [])]
    broadcast_all("clip", operands, roles)
    value, *bounds = (Value(builder, x.node(builder, dtype)) for x in operands)
    for op, bound in zip((["maximum"] if has_min else []) + ["minimum"], bounds, strict=False):
        value = value.binary(op, bound)
    return value.index


def _square(builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    (x,) = operands
    refuse_bool("square", x.dtype)
    value = Value(builder, x.node(builder, x.dtype))
    return (value * value).index


def _composed(
    op: str,
    make: Callable[..., Value],
    builder: GraphBuilder,
    operands: Sequence[Operand],
    **settings: object,
) -> int:
    (x,) = operands
    dtype = float_of(x.dtype)
    numbers = {name: checked_number(op, name, value) for name, value in settings.items()}
    return make(Value(builder, x.node(builder, dtype)).wide(), **numbers).cast(dtype).index


def _reciprocal(x: Value) -> Value:
    return x.number(1) / x


def _leaky_relu(x: Value, *, negative_slope: float) -> Value:
    return x.compare("ge", 0).where(x, x * negative_slope)


def _elu(x: Value, *, alpha: float) -> Value:
    # Where x is large, expm1 of it would be infinite: of the smaller it is not.
    return x.compare("gt", 0).where(x, x.binary("minimum", 0).unary("expm1") * alpha)


def _softplus(x: Value, *, beta: float) -> Value:
    scaled = x * beta
    total = scaled.binary("maximum", 0) + (-scaled.unary("abs")).unary("exp").unary("log1p")
    return total / beta


def _hardsigmoid(x: Value) -> Value:
    return (x / 6 + 0.5).binary("maximum", 0).binary("minimum", 1)


def _hardswish(x: Value) -> Value:
    return x * _hardsigmoid(x)


_EXPANDED_POWERS: dict[float, Callable[[Value], Value]] = {
    0.5: lambda x: x.unary("sqrt"),
    -0.5: lambda x: x.unary("rsqrt"),
    -1: _reciprocal,
    1: lambda x: x * 1,
    2: lambda x: x * x,
    3: lambda x: x * x * x,
    4: lambda x: (x * x) * (x * x),
}
"""Exponents for which something faster than a power gives the same."""


def _pow(builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    x, exponent = operands
    dtype = common_dtype(operands)
    refuse_bool("pow", dtype)
    number = exponent.number
    if number is not None and not dtype.is_float and number < 0:
        raise TraceError(
            f"pow: an integer to the power {number} is no integer",
            hint=f"ts.pow(ts.cast(x, ts.f32), {number})",
        )
    expanded = _EXPANDED_POWERS.get(number) if number is not None and x.number is None else None
    if expanded is not None:
        return expanded(Value(builder, x.node(builder, dtype)).wide()).cast(dtype).index
    shape = broadcast_all("pow", operands)
    return builder.add("pow", (x.node(builder, dtype), exponent.node(builder, dtype)), shape, dtype)


def _cast(builder: GraphBuilder, operands: Sequence[Operand], *, dtype: DType) -> int:
    (x,) = operands
    return builder.cast(x.node(builder, x.dtype), dtype)


_FLOAT_UNARY = (
    "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "gelu", "silu",
    "exp2", "expm1", "log2", "log1p", "sin", "cos",
)  # fmt: skip
_ANY_UNARY = ("neg", "abs", "relu", "sign")
_ROUNDINGS = ("floor", "ceil", "round", "trunc")
_BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "floordiv", "mod")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_LOGICAL = {"logical_and": "minimum", "logical_or": "maximum", "logical_xor": "ne"}
_COMPOSED: dict[str, Callable[..., Value]] = {
    "reciprocal": _reciprocal,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "softplus": _softplus,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
}

ELEMENTWISE: dict[str, Rule] = {
    **{op: partial(_unary, op, floats=True) for op in _FLOAT_UNARY},
    **{op: partial(_unary, op, floats=False) for op in _ANY_UNARY},
    **{op: partial(_rounding, op) for op in _ROUNDINGS},
    **{op: partial(_test, op) for op in ("isnan", "isinf")},
    **{op: partial(_binary, op) for op in _BINARY},
    **{op: partial(_comparison, op) for op in _COMPARISONS},
    **{op: partial(_logical, op, node) for op, node in _LOGICAL.items()},
    **{op: partial(_composed, op, make) for op, make in _COMPOSED.items()},
    "logical_not": _logical_not,
    "where": _where,
    "clip": _clip,
    "square": _square,
    "pow": _pow,
    "cast": _cast,
}
"""Rules by operator."""
