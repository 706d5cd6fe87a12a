"""Operators that only rearrange."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.language import shapes
from tessera.language.builder import GraphBuilder
from tessera.language.rules.operand import Operand, Rule
from tessera.program.dim import Dim


def _reshape(builder: GraphBuilder, operands: Sequence[Operand], *, shape: Sequence[Dim]) -> int:
    (x,) = operands
    index = x.node(builder, x.dtype)
    return builder.add("reshape", (index,), shapes.reshaped(x.side(), shape), x.dtype)


def _transpose(builder: GraphBuilder, operands: Sequence[Operand], *, axes: Sequence[int] | None) -> int:
    (x,) = operands
    shape, perm = shapes.permuted(x.side(), axes)
    return builder.add("transpose", (x.node(builder, x.dtype),), shape, x.dtype, perm=list(perm))


MOVEMENT: dict[str, Rule] = {"reshape": _reshape, "transpose": _transpose}
"""Rules by operator."""
