"""Algebra that changes no result: identities, casts that undo each other, views of views."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from tessera.compiler.passes.rewrite import Rewriter, rewrite
from tessera.program.dtype import DType, bf16, bool_, f16, f32, f64, i8, i16, i32, i64, tf32, u8
from tessera.program.graph import Graph, Node, attr_ints

Rule = Callable[[Rewriter, Node], int | None]
"""What stands for a node, or None where the rule has nothing to say."""

_HOLDS: dict[DType, frozenset[DType]] = {
    f64: frozenset({f32, tf32, f16, bf16, i32, i16, i8, u8, bool_}),
    f32: frozenset({tf32, f16, bf16, i16, i8, u8, bool_}),
    i64: frozenset({i32, i16, i8, u8, bool_}),
    i32: frozenset({i16, i8, u8, bool_}),
    i16: frozenset({i8, u8, bool_}),
}
"""For a dtype, those whose every value it holds exactly."""


def simplify(graph: Graph) -> Graph:
    """`graph` with simpler nodes for what they compute."""

    def visit(rewriter: Rewriter, node: Node) -> int:
        for rule in _RULES.get(node.op, ()):
            found = rule(rewriter, node)
            if found is not None:
                return found
        return rewriter.add(node)

    return rewrite(graph, visit)


def _cast_to_itself(rewriter: Rewriter, node: Node) -> int | None:
    return node.inputs[0] if rewriter.operand(node).dtype == node.dtype else None


def _cast_back(rewriter: Rewriter, node: Node) -> int | None:
    inner = rewriter.operand(node)
    if inner.op != "cast":
        return None
    source = rewriter.operand(inner)
    if source.dtype not in _HOLDS.get(inner.dtype, ()):
        return None
    # The inner cast loses nothing, so casting its operand gives the same.
    if source.dtype == node.dtype:
        return inner.inputs[0]
    return rewriter.add(msgspec.structs.replace(node, inputs=inner.inputs))


def _cast_number(rewriter: Rewriter, node: Node) -> int | None:
    number = rewriter.operand(node)
    if number.op != "scalar":
        return None
    value = round_number(number.attrs["value"], number.dtype, node.dtype)
    if value is None:
        return None
    return rewriter.add(msgspec.structs.replace(number, attrs={"value": value}, dtype=node.dtype))


def round_number(value: Any, source: DType, target: DType) -> Any:
    """`value` of one dtype as a Python number of another; None where that is undefined."""
    import numpy as np

    with np.errstate(all="ignore"):
        held = np.asarray(value).astype(source.numpy)
        if source.is_float and not target.is_float and not np.isfinite(held.astype(np.float64)):
            return None
        cast = held.astype(target.numpy)
    if target.is_float:
        return float(cast.astype(np.float64))
    return bool(cast) if target.kind == "bool" else int(cast)


def _same_shape(rewriter: Rewriter, node: Node) -> int | None:
    return node.inputs[0] if rewriter.operand(node).shape == node.shape else None


def _reshape_of_reshape(rewriter: Rewriter, node: Node) -> int | None:
    inner = rewriter.operand(node)
    if inner.op != "reshape":
        return None
    if rewriter.operand(inner).shape == node.shape:
        return inner.inputs[0]
    return rewriter.add(msgspec.structs.replace(node, inputs=inner.inputs))


def _transpose_in_order(_rewriter: Rewriter, node: Node) -> int | None:
    perm = attr_ints(node, "perm")
    return node.inputs[0] if perm == tuple(range(len(perm))) else None


def _transpose_of_transpose(rewriter: Rewriter, node: Node) -> int | None:
    inner = rewriter.operand(node)
    if inner.op != "transpose":
        return None
    first, second = attr_ints(inner, "perm"), attr_ints(node, "perm")
    perm = [first[axis] for axis in second]
    if perm == sorted(perm):
        return inner.inputs[0]
    return rewriter.add(msgspec.structs.replace(node, inputs=inner.inputs, attrs={"perm": perm}))


def _twice_is_none(rewriter: Rewriter, node: Node) -> int | None:
    inner = rewriter.operand(node)
    return inner.inputs[0] if inner.op == node.op else None


def _twice_is_once(rewriter: Rewriter, node: Node) -> int | None:
    return node.inputs[0] if rewriter.operand(node).op == node.op else None


def _neutral(*numbers: float, positions: tuple[int, ...], floats: bool = True) -> Rule:
    """The other operand, where one of `positions` holds one of `numbers` and the shape stays."""
    # Adding 0.0 turns -0.0 into 0.0, adding -0.0 changes nothing: repr tells them apart.
    wanted = {repr(number) for number in numbers}

    def rule(rewriter: Rewriter, node: Node) -> int | None:
        if node.dtype == bool_ or (node.dtype.is_float and not floats):
            return None
        for position in positions:
            operand, other = rewriter.operand(node, position), node.inputs[1 - position]
            is_number = operand.op == "scalar" and repr(operand.attrs["value"]) in wanted
            if is_number and rewriter.nodes[other].shape == node.shape:
                return other
        return None

    return rule


def _same_operands(first: int, second: int) -> Rule:
    """An operand, where two are one and the shape stays: the larger of x and x, x or else x."""

    def rule(rewriter: Rewriter, node: Node) -> int | None:
        index = node.inputs[first]
        same = index == node.inputs[second] and rewriter.nodes[index].shape == node.shape
        return index if same else None

    return rule


def _minus_one(rewriter: Rewriter, node: Node) -> int | None:
    for position in (0, 1):
        operand, other = rewriter.operand(node, position), node.inputs[1 - position]
        is_number = operand.op == "scalar" and operand.attrs["value"] == -1
        if is_number and node.dtype.kind in ("float", "int") and rewriter.nodes[other].shape == node.shape:
            return rewriter.add(msgspec.structs.replace(node, op="neg", inputs=(other,)))
    return None


def _by_power_of_two(rewriter: Rewriter, node: Node) -> int | None:
    """A product instead of a quotient, where the reciprocal is exact."""
    divisor = rewriter.operand(node, 1)
    if divisor.op != "scalar" or not node.dtype.is_float:
        return None
    value = float(str(divisor.attrs["value"]))
    # Exponents that every float but those of 8 bits has.
    power = abs(math.frexp(value)[0]) == 0.5 and 2**-13 <= abs(value) <= 2**13
    if node.dtype.bits < 16 or not power:
        return None
    number = rewriter.add(msgspec.structs.replace(divisor, attrs={"value": 1 / value}))
    return rewriter.add(msgspec.structs.replace(node, op="mul", inputs=(node.inputs[0], number)))


def _expand_of_expand(rewriter: Rewriter, node: Node) -> int | None:
    inner = rewriter.operand(node)
    if inner.op != "expand":
        return None
    return rewriter.add(msgspec.structs.replace(node, inputs=inner.inputs))


_RULES: dict[str, tuple[Rule, ...]] = {
    "cast": (_cast_to_itself, _cast_number, _cast_back),
    "reshape": (_same_shape, _reshape_of_reshape),
    "expand": (_same_shape, _expand_of_expand),
    "transpose": (_transpose_in_order, _transpose_of_transpose),
    "neg": (_twice_is_none,),
    "relu": (_twice_is_once,),
    "abs": (_twice_is_once,),
    "mul": (_neutral(1, 1.0, positions=(0, 1)), _minus_one),
    "div": (_neutral(1, 1.0, positions=(1,)), _by_power_of_two),
    "sub": (_neutral(0, 0.0, positions=(1,)),),
    "add": (_neutral(0, positions=(0, 1), floats=False), _neutral(-0.0, positions=(0, 1))),
    "maximum": (_same_operands(0, 1),),
    "minimum": (_same_operands(0, 1),),
    "where": (_same_operands(1, 2),),
}
