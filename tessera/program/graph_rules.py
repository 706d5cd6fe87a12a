"""Whether every node of a graph is what `docs/operators.md` says: operands, attributes, shape and dtype.

Traced graphs are so by construction. A graph that was read from a file is checked here before anything is
compiled from it, since kernels take its shapes at their word. Sizes that are open are compared as they are
written; what only a run could tell is let pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from tessera.program.dim import Dim, as_symbol, format_dim, format_shape, product, symbols_of
from tessera.program.dtype import KERNEL_DTYPES, DType, bool_, i64
from tessera.program.errors import ProgramError
from tessera.program.graph import Attr, Graph, Node, attr_ints

Shape = tuple[Dim, ...]


class _MisfitError(Exception):
    """What is wrong with a node, in words."""


def _no(text: str) -> NoReturn:
    raise _MisfitError(text)


def check_nodes(graph: Graph) -> None:
    """See that every node has the operands, attributes, shape and dtype that its operator asks for.

    Args:
        graph: Operands come before their users, as `validate` sees to.

    Raises:
        ProgramError: One has not; the message names the node.
    """
    bound = {as_symbol(size) for node in graph.nodes if node.op == "input" for size in node.shape}
    for index, node in enumerate(graph.nodes):
        where = f"graph.nodes[{index}]"
        try:
            _check(node, [graph.nodes[i] for i in node.inputs])
            if unknown := symbols_of(*node.shape) - bound:
                _no(f"no input gives the size {sorted(unknown)[0]!r} a value")
        except _MisfitError as misfit:
            raise ProgramError(
                f"{where}: {node.op}: {misfit}", path=where, location=node.location, operator=node.op
            ) from None


def _check(node: Node, operands: Sequence[Node]) -> None:
    rule = RULES.get(node.op)
    if rule is None:
        _no("no operator is called so")
    least, most = rule.operands
    if not least <= len(operands) <= most:
        _no(f"{len(operands)} operands, not {least}" + (f" to {most}" if most > least else ""))
    if node.dtype in KERNEL_DTYPES:
        _no(f"there are no operators on {node.dtype}")
    for size in node.shape:
        if isinstance(size, int) and size < 0:
            _no(f"a size of {size}")
    if odd := set(node.attrs) ^ set(rule.attrs):
        name = sorted(odd)[0]
        _no(f"it lacks {name!r}" if name in rule.attrs else f"it has no {name!r}")
    for name, fits in rule.attrs.items():
        if not fits(node.attrs[name]):
            _no(f"{name} cannot be {node.attrs[name]!r}")
    rule.check(node, operands)


# -- attributes -----------------------------------------------------------------------------------


def _is_int(value: Attr) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_flag(value: Attr) -> bool:
    return isinstance(value, bool)


def _is_name(value: Attr) -> bool:
    return isinstance(value, str) and value != ""


def _is_number(value: Attr) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: Attr) -> bool:
    return isinstance(value, list)


def _one_of(*words: str) -> Callable[[Attr], bool]:
    return lambda value: value in words


# -- shapes ---------------------------------------------------------------------------------------


def _same(what: str, found: Dim, wanted: Dim) -> None:
    if found != wanted:
        _no(f"{what} is {format_dim(found)}, not {format_dim(wanted)}")


def _shape(node: Node, wanted: Shape) -> None:
    if node.shape != wanted:
        _no(f"its shape is {format_shape(node.shape)}, not {format_shape(wanted)}")


def _dtype(found: DType, wanted: DType, what: str = "it") -> None:
    if found != wanted:
        _no(f"{what} is {found}, not {wanted}")


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes), default=0)
    result: list[Dim] = []
    for axis in range(-rank, 0):
        sizes = [shape[axis] for shape in shapes if len(shape) >= -axis]
        wide = [size for size in sizes if size != 1]
        if any(size != wide[0] for size in wide):
            _no(f"{' and '.join(map(format_shape, shapes))} do not broadcast")
        result.append(wide[0] if wide else 1)
    return tuple(result)


def _spreads(shape: Shape, to: Shape, what: str) -> None:
    try:
        fits = len(shape) <= len(to) and _broadcast([shape, to]) == to
    except _MisfitError:
        fits = False
    if not fits:
        _no(f"{what} {format_shape(shape)} does not broadcast to {format_shape(to)}")


def _axis(node: Node, rank: int) -> int:
    axis = node.attrs["axis"]
    if not isinstance(axis, int) or not 0 <= axis < rank:
        _no(f"there is no axis {axis} among {rank}")
    return axis


def _ints(node: Node, name: str, count: int, least: int | None = None) -> tuple[int, ...]:
    values = attr_ints(node, name)
    if len(values) != count:
        _no(f"{name} has {len(values)} numbers, not {count}")
    if least is not None and any(value < least for value in values):
        _no(f"{name} is {list(values)}, and none may be below {least}")
    return values


def _beside(a: Shape, b: Shape, axis: int, what: str) -> None:
    if len(a) != len(b) or any(x != y for i, (x, y) in enumerate(zip(a, b, strict=True)) if i != axis):
        _no(f"{what} {format_shape(b)} does not fit {format_shape(a)} along axis {axis}")


# -- operators ------------------------------------------------------------------------------------


def _leaf(node: Node, operands: Sequence[Node]) -> None:
    del operands
    if node.op == "constant" and not all(isinstance(size, int) for size in node.shape):
        _no(f"a weight has fixed sizes, not {format_shape(node.shape)}")


def _scalar(node: Node, operands: Sequence[Node]) -> None:
    del operands
    _shape(node, ())
    value = node.attrs["value"]
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        _no(f"value cannot be {value!r}")


def _like(node: Node, operands: Sequence[Node]) -> None:
    _shape(node, operands[0].shape)
    _dtype(operands[0].dtype, node.dtype, "its operand")


def _test(node: Node, operands: Sequence[Node]) -> None:
    _shape(node, operands[0].shape)
    _dtype(node.dtype, bool_)


def _cast(node: Node, operands: Sequence[Node]) -> None:
    _shape(node, operands[0].shape)


def _binary(node: Node, operands: Sequence[Node]) -> None:
    _shape(node, _broadcast([x.shape for x in operands]))
    for operand in operands:
        _dtype(operand.dtype, node.dtype, "an operand")


def _compare(node: Node, operands: Sequence[Node]) -> None:
    a, b = operands
    _shape(node, _broadcast([a.shape, b.shape]))
    _dtype(node.dtype, bool_)
    _dtype(b.dtype, a.dtype, "the second operand")


def _where(node: Node, operands: Sequence[Node]) -> None:
    _dtype(operands[0].dtype, bool_, "its condition")
    _shape(node, _broadcast([x.shape for x in operands]))
    for operand in operands[1:]:
        _dtype(operand.dtype, node.dtype, "an operand")


def _reduce(node: Node, operands: Sequence[Node]) -> None:
    (x,) = operands
    axes = attr_ints(node, "axes")
    if list(axes) != sorted(set(axes)) or any(not 0 <= a < len(x.shape) for a in axes):
        _no(f"axes {list(axes)} are no sorted axes of {format_shape(x.shape)}")
    kept = node.attrs["keepdims"]
    sizes = [(1 if a in axes else size) for a, size in enumerate(x.shape) if kept or a not in axes]
    _shape(node, tuple(sizes))
    if node.op in ("argmax", "argmin"):
        _dtype(node.dtype, i64)
        if len(axes) != 1:
            _no(f"one axis, not {len(axes)}")
    else:
        _dtype(x.dtype, node.dtype, "its operand")


def _along(node: Node, operands: Sequence[Node]) -> None:
    _like(node, operands)
    _axis(node, len(node.shape))


def _normalize(node: Node, operands: Sequence[Node]) -> None:
    _like(node, operands)
    if not node.shape:
        _no("it has no axis to normalize over")
    for weight in operands[1:]:
        _dtype(weight.dtype, node.dtype, "its weight")
        if weight.shape != node.shape[-1:]:
            _no(f"a weight of shape {format_shape(weight.shape)}, not {format_shape(node.shape[-1:])}")


def _matmul(node: Node, operands: Sequence[Node]) -> None:
    a, b = operands
    if len(a.shape) < 2 or len(b.shape) < 2:
        _no("its operands have two axes at least")
    _same("the depth of the right operand", b.shape[-2], a.shape[-1])
    _shape(node, (*_broadcast([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1]))
    for operand in operands:
        _dtype(operand.dtype, node.dtype, "an operand")


def _moved(node: Node, x: Node) -> None:
    _dtype(x.dtype, node.dtype, "its operand")


def _reshape(node: Node, operands: Sequence[Node]) -> None:
    _moved(node, operands[0])
    shapes = (operands[0].shape, node.shape)
    if all(isinstance(size, int) for shape in shapes for size in shape):
        before, after = map(product, shapes)
        _same("the number of elements", after, before)


def _transpose(node: Node, operands: Sequence[Node]) -> None:
    (x,) = operands
    _moved(node, x)
    perm = _ints(node, "perm", len(x.shape))
    if sorted(perm) != list(range(len(perm))):
        _no(f"perm {list(perm)} does not name every axis once")
    _shape(node, tuple(x.shape[axis] for axis in perm))


def _expand(node: Node, operands: Sequence[Node]) -> None:
    _moved(node, operands[0])
    _spreads(operands[0].shape, node.shape, "its operand")


def _slice(node: Node, operands: Sequence[Node]) -> None:
    (x,) = operands
    _moved(node, x)
    rank = len(x.shape)
    starts, steps = _ints(node, "starts", rank), _ints(node, "steps", rank)
    if len(node.shape) != rank:
        _no(f"its shape {format_shape(node.shape)} has not the {rank} axes of its operand")
    for size, count, start, step in zip(x.shape, node.shape, starts, steps, strict=True):
        if step == 0:
            _no("a step of 0")
        if not isinstance(size, int) or not isinstance(count, int) or count == 0:
            continue
        first = start if start >= 0 else size + start
        first = max(first, 0) if step > 0 else min(first, size - 1)
        if not (0 <= first < size and 0 <= first + (count - 1) * step < size):
            _no(f"{count} elements from {start} on by {step} are not within {size}")


def _roll(node: Node, operands: Sequence[Node]) -> None:
    _like(node, operands)
    _ints(node, "shifts", len(node.shape))


def _concat(node: Node, operands: Sequence[Node]) -> None:
    axis = _axis(node, len(node.shape))
    total: Dim = 0
    for operand in operands:
        _moved(node, operand)
        _beside(node.shape, operand.shape, axis, "an operand of shape")
        total = total + operand.shape[axis]
    _same("its size", node.shape[axis], total)


def _pad(node: Node, operands: Sequence[Node]) -> None:
    x, fill = operands
    _moved(node, x)
    _moved(node, fill)
    if fill.shape != () or len(node.shape) != len(x.shape):
        _no(f"it pads {format_shape(x.shape)} to {format_shape(node.shape)} with {format_shape(fill.shape)}")
    for size, wanted, before in zip(x.shape, node.shape, _ints(node, "before", len(x.shape), 0), strict=True):
        if isinstance(size, int) and isinstance(wanted, int) and wanted - size < before:
            _no(f"{before} elements ahead of {size} are no {wanted}")


def _take(node: Node, operands: Sequence[Node]) -> None:
    x, index = operands
    _moved(node, x)
    _dtype(index.dtype, i64, "its index")
    axis = _axis(node, len(x.shape))
    _shape(node, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _take_along(node: Node, operands: Sequence[Node]) -> None:
    x, index = operands
    _moved(node, x)
    _dtype(index.dtype, i64, "its index")
    _beside(x.shape, index.shape, _axis(node, len(x.shape)), "an index of shape")
    _shape(node, index.shape)


def _scatter(node: Node, operands: Sequence[Node]) -> None:
    x, index, updates = operands
    _like(node, [x])
    _moved(node, updates)
    _dtype(index.dtype, i64, "its index")
    _beside(x.shape, index.shape, _axis(node, len(x.shape)), "an index of shape")
    if updates.shape != index.shape:
        _no(f"updates of shape {format_shape(updates.shape)} for an index of {format_shape(index.shape)}")


def _argsort(node: Node, operands: Sequence[Node]) -> None:
    (x,) = operands
    _dtype(node.dtype, i64)
    axis = _axis(node, len(x.shape))
    _beside(x.shape, node.shape, axis, "its shape")
    size, kept = x.shape[axis], node.shape[axis]
    if size != kept and (not isinstance(size, int) or not isinstance(kept, int) or kept > size):
        _no(f"{format_dim(kept)} positions of {format_dim(size)} elements")


def _iota(node: Node, operands: Sequence[Node]) -> None:
    del operands
    _axis(node, len(node.shape))


def _extent(node: Node, operands: Sequence[Node]) -> None:
    _shape(node, ())
    _dtype(node.dtype, i64)
    _axis(node, len(operands[0].shape))


def _windows(node: Node, operands: Sequence[Node]) -> None:
    x, fill = operands
    _moved(node, x)
    _moved(node, fill)
    rank = len(attr_ints(node, "strides"))
    for name in ("strides", "dilations", "spread"):
        _ints(node, name, rank, 1)
    _ints(node, "before", rank)
    lead = len(x.shape) - rank
    if fill.shape != () or rank < 1 or lead < 0 or len(node.shape) != len(x.shape) + rank:
        _no(f"windows of {rank} axes of {format_shape(x.shape)} cannot be {format_shape(node.shape)}")
    if node.shape[:lead] != x.shape[:lead]:
        _no(f"its shape {format_shape(node.shape)} does not begin as {format_shape(x.shape)}")


def _attention(node: Node, operands: Sequence[Node]) -> None:
    q, k, v = operands[:3]
    for operand in (q, k, v):
        _dtype(operand.dtype, node.dtype, "an operand")
    if len({len(q.shape), len(k.shape), len(v.shape)}) != 1 or len(q.shape) < 3:
        _no("queries, keys and values have as many axes, three at least")
    _same("the width of the keys", k.shape[-1], q.shape[-1])
    if k.shape[:-1] != v.shape[:-1] or k.shape[:-3] != q.shape[:-3]:
        _no(f"keys {format_shape(k.shape)} and values {format_shape(v.shape)} do not fit together")
    heads, few = q.shape[-3], k.shape[-3]
    shared = isinstance(heads, int) and isinstance(few, int) and few > 0 and heads % few == 0
    if heads != few and not shared:
        _no(f"{format_dim(heads)} heads cannot share {format_dim(few)}")
    _shape(node, (*q.shape[:-1], v.shape[-1]))
    for mask in operands[3:]:
        if mask.dtype not in (bool_, node.dtype):
            _no(f"a mask of {mask.dtype}")
        _spreads(mask.shape, (*q.shape[:-1], k.shape[-2]), "a mask of")


@dataclass(frozen=True, slots=True)
class _Rule:
    operands: tuple[int, int]
    """How many, at least and at most."""
    check: Callable[[Node, Sequence[Node]], None]
    attrs: Mapping[str, Callable[[Attr], bool]] = field(default_factory=dict)
    """What each attribute may be; it has these and no others."""


_AXIS = {"axis": _is_int}
_MOST = 1 << 16
"""Operands of what takes any number."""
RULES: Mapping[str, _Rule] = {
    "input": _Rule((0, 0), _leaf, {"name": _is_name}),
    "constant": _Rule((0, 0), _leaf, {"name": _is_name}),
    "scalar": _Rule((0, 0), _scalar, {"value": lambda _: True}),
    **dict.fromkeys(
        ("exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "silu", "exp2", "expm1", "log2", "log1p",
         "sin", "cos", "floor", "ceil", "round", "trunc", "neg", "abs", "relu", "sign"),
        _Rule((1, 1), _like),
    ),
    "gelu": _Rule((1, 1), _like, {"approximate": _one_of("none", "tanh")}),
    **dict.fromkeys(("isnan", "isinf"), _Rule((1, 1), _test)),
    "cast": _Rule((1, 1), _cast),
    **dict.fromkeys(
        ("add", "sub", "mul", "div", "maximum", "minimum", "floordiv", "mod", "pow"), _Rule((2, 2), _binary)
    ),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _Rule((2, 2), _compare)),
    "where": _Rule((3, 3), _where),
    **dict.fromkeys(
        ("sum", "prod", "mean", "max", "min", "argmax", "argmin"),
        _Rule((1, 1), _reduce, {"axes": _is_list, "keepdims": _is_flag}),
    ),
    **dict.fromkeys(("softmax", "log_softmax", "cumsum"), _Rule((1, 1), _along, _AXIS)),
    "layernorm": _Rule((1, 3), _normalize, {"eps": _is_number}),
    "rmsnorm": _Rule((1, 2), _normalize, {"eps": _is_number}),
    "matmul": _Rule((2, 2), _matmul),
    "reshape": _Rule((1, 1), _reshape),
    "transpose": _Rule((1, 1), _transpose, {"perm": _is_list}),
    "expand": _Rule((1, 1), _expand),
    "slice": _Rule((1, 1), _slice, {"starts": _is_list, "steps": _is_list}),
    "roll": _Rule((1, 1), _roll, {"shifts": _is_list}),
    "concat": _Rule((1, _MOST), _concat, _AXIS),
    "pad": _Rule((2, 2), _pad, {"before": _is_list, "mode": _one_of("constant", "edge", "reflect")}),
    "take": _Rule((2, 2), _take, _AXIS),
    "take_along": _Rule((2, 2), _take_along, _AXIS),
    **dict.fromkeys(("scatter", "scatter_add"), _Rule((3, 3), _scatter, _AXIS)),
    "argsort": _Rule((1, 1), _argsort, {"axis": _is_int, "descending": _is_flag}),
    "iota": _Rule((0, 0), _iota, _AXIS),
    "extent": _Rule((1, 1), _extent, _AXIS),
    "windows": _Rule(
        (2, 2), _windows, dict.fromkeys(("strides", "dilations", "before", "spread"), _is_list)
    ),
    "attention": _Rule((3, 4), _attention, {"causal": _is_flag, "scale": _is_number}),
}  # fmt: skip
"""What each operator asks for."""
