"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.rules.operand import Operand, Rule, common_dtype, refuse_bool
from tessera.language.rules.value import Value
from tessera.language.shapes import Shape, Side
from tessera.program.dim import format_dim
from tessera.program.errors import ShapeError


def _matmul(builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    left, right = operands
    for role, operand in (("left operand", left), ("right operand", right)):
        if not operand.shape:
            raise ShapeError(
                f"matmul: {operand.side(role)} is a number, not a matrix",
                hint="use * for a product by a number",
            )
    dtype = common_dtype(operands)
    refuse_bool("matmul", dtype)
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


def _linear(builder: GraphBuilder, operands: Sequence[Operand]) -> int:
    x, weight, *rest = operands
    if not x.shape or len(weight.shape) != 2 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: {weight.side('weight')} does not fit {x.side()}: "
            f"it must be (out, in), with in the last axis of x",
            hint=(len(weight.shape) == 2 and x.shape and shapes.equal_hint(x.shape[-1], weight.shape[1]))
            or (f"weight of shape (out, {format_dim(x.shape[-1])})" if x.shape else "x of shape (..., in)"),
        )
    for bias in rest:
        if bias.shape != weight.shape[:1]:
            raise ShapeError(
                f"linear: {bias.side('bias')} does not fit {weight.side('weight')}",
                hint=f"bias of shape ({format_dim(weight.shape[0])})",
            )
    dtype = common_dtype(operands)
    refuse_bool("linear", dtype)
    value, matrix, *biases = (Value(builder, operand.node(builder, dtype)) for operand in operands)
    rows = value if len(x.shape) > 1 else value.reshape(1, *x.shape)
    result = rows.matmul(matrix.transpose(1, 0))
    for added in biases:
        result = result + added
    return result.reshape(*x.shape[:-1], weight.shape[0]).index


PRODUCTS: dict[str, Rule] = {"matmul": _matmul, "linear": _linear}
"""Rules by operator."""
