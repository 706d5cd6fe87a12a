"""Shapes of results, with symbolic sizes, and the errors when shapes do not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessera.program.dim import Dim, Expr, as_symbol, format_dim, format_shape, product
from tessera.program.errors import ShapeError

Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One operand, as messages call it."""

    role: str
    """`left operand`, `weight`…"""
    label: str
    """The user's name for it, or what made it."""
    shape: Shape

    def __str__(self) -> str:
        name = f" {self.label}" if self.label else ""
        return f"the {self.role}{name} of shape {format_shape(self.shape)}"


def broadcast(op: str, left: Side, right: Side) -> Shape:
    """The shape of an elementwise operator, by NumPy's broadcasting.

    Raises:
        ShapeError: The shapes do not broadcast, or it is not known whether they do.
    """
    return _broadcast(op, left, right, left.shape, right.shape)


def _broadcast(op: str, left: Side, right: Side, a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    padded_a: Shape = (1,) * (rank - len(a)) + a
    padded_b: Shape = (1,) * (rank - len(b)) + b
    result: list[Dim] = []
    for x, y in zip(padded_a, padded_b, strict=True):
        if x == y or _is_one(y):
            result.append(x)
        elif _is_one(x):
            result.append(y)
        else:
            raise ShapeError(
                f"{op}: {left} and {right} do not broadcast: {format_dim(x)} is not {format_dim(y)}",
                hint=equal_hint(x, y) or "sizes must be equal or 1, counted from the last axis",
                left=format_shape(left.shape),
                right=format_shape(right.shape),
            )
    return tuple(result)


def _is_one(size: Dim) -> bool:
    return isinstance(size, int) and size == 1


def equal_hint(a: Dim, b: Dim) -> str | None:
    """How to say in a TensorSpec that two sizes are equal, if one of them is symbolic."""
    symbols = [name for name in (as_symbol(a), as_symbol(b)) if name is not None]
    if len(symbols) == 2:
        name = next((s for s in symbols if not s[-1].isdigit()), "batch")
        return f"if they are always equal, give both axes one name, such as {name!r}"
    if symbols:
        fixed = b if as_symbol(a) else a
        if isinstance(fixed, int):
            return (
                f"if {symbols[0]} is always {fixed}, put {fixed} in the TensorSpec instead of {symbols[0]!r}"
            )
    if isinstance(a, Expr) or isinstance(b, Expr):
        return "give the TensorSpec fixed sizes, or one name for axes that are always equal"
    return None


def matmul(left: Side, right: Side) -> Shape:
    """The shape of a matrix product of operands of rank 2 or more.

    Raises:
        ShapeError: The inner sizes differ, or the batch axes do not broadcast.
    """
    a, b = left.shape, right.shape
    if a[-1] != b[-2]:
        raise ShapeError(
            f"matmul: {left} and {right} do not fit: the last axis of the left is {format_dim(a[-1])}, "
            f"the last but one of the right is {format_dim(b[-2])}",
            hint=_transpose_hint(left, right)
            or equal_hint(a[-1], b[-2])
            or "(m, k) @ (k, n): the inner sizes must be equal",
            left=format_shape(a),
            right=format_shape(b),
        )
    return (*_broadcast("matmul", left, right, a[:-2], b[:-2]), a[-2], b[-1])


def _transpose_hint(left: Side, right: Side) -> str | None:
    if left.shape[-1] == right.shape[-1]:
        return "transpose the right operand: ts.matmul(a, ts.transpose(b))"
    if left.shape[-2] == right.shape[-2]:
        return "transpose the left operand: ts.matmul(ts.transpose(a), b)"
    return None


def normalize_axis(op: str, axis: int, side: Side) -> int:
    """`axis` counted from the front.

    Raises:
        ShapeError: There is no such axis.
    """
    rank = len(side.shape)
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise ShapeError(f"{op}: axis {axis!r} is not an integer", hint="axis=-1 is the last axis")
    if not -rank <= axis < rank:
        allowed = f"{-rank} to {rank - 1}" if rank else "none: it has no axes"
        raise ShapeError(f"{op}: {side} has no axis {axis}", hint=f"axes: {allowed}")
    return int(axis.__index__()) % rank


def normalize_axes(op: str, axis: int | Sequence[int] | None, side: Side) -> tuple[int, ...]:
    """Every axis for None, else the axes counted from the front, sorted.

    Raises:
        ShapeError: An axis does not exist or is named twice.
    """
    if axis is None:
        return tuple(range(len(side.shape)))
    given: Sequence[int] = axis if isinstance(axis, Sequence) else [axis]
    axes = [normalize_axis(op, a, side) for a in given]
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: axis {axis} of {side} is named twice", hint="name every axis once")
    return tuple(sorted(axes))


def reduced(shape: Shape, axes: tuple[int, ...], *, keepdims: bool) -> Shape:
    """`shape` without `axes`, or with 1 in their place."""
    if keepdims:
        return tuple(1 if i in axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def reshaped(side: Side, target: Sequence[Dim]) -> Shape:
    """The shape after a reshape, with a -1 replaced by what is left.

    Raises:
        ShapeError: The element counts differ, or it is not known whether they are equal.
    """
    open_axes = [i for i, size in enumerate(target) if isinstance(size, int) and size == -1]
    if len(open_axes) > 1 or any(isinstance(s, int) and s < -1 for s in target):
        raise ShapeError(
            f"reshape: {format_shape(target)} is not a shape", hint="one size may be -1, no size below that"
        )
    total = product(side.shape)
    if open_axes:
        known = product(size for i, size in enumerate(target) if i != open_axes[0])
        missing = exact_quotient(total, known)
        if missing is not None:
            return tuple(missing if i == open_axes[0] else size for i, size in enumerate(target))
    elif product(target) == total:
        return tuple(target)
    symbolic = isinstance(total, Expr) or any(isinstance(size, Expr) for size in target)
    raise ShapeError(
        f"reshape: {side} has {format_dim(total)} elements, which {format_shape(target)} "
        + ("is not known to hold" if symbolic else "does not hold"),
        hint="write symbolic sizes as x.shape[0], and give the TensorSpec fixed sizes where they must divide"
        if symbolic
        else "the product of the sizes must stay the same",
    )


def exact_quotient(total: Dim, divisor: Dim) -> Dim | None:
    """`total / divisor` if that is known to come out even. `divisor`: an int or one product."""
    if isinstance(divisor, int):
        if divisor == 0:
            return None
        if isinstance(total, int):
            return total // divisor if total % divisor == 0 else None
        even = all(coefficient % divisor == 0 for _, coefficient in total.terms)
        return total // divisor if even and divisor > 0 else None
    if len(divisor.terms) != 1 or isinstance(total, int):
        return 0 if isinstance(total, int) and total == 0 else None
    (factors, scale), quotient = divisor.terms[0], 0
    result: Dim = quotient
    for monomial, coefficient in total.terms:
        left = list(monomial)
        for factor in factors:
            if factor not in left:
                return None
            left.remove(factor)
        if coefficient % scale:
            return None
        result = result + product([Expr((((atom,), 1),)) for atom in left]) * (coefficient // scale)
    return result


def permuted(side: Side, axes: Sequence[int] | None) -> tuple[Shape, tuple[int, ...]]:
    """Shape and permutation of a transpose; all axes reversed for None.

    Raises:
        ShapeError: `axes` does not name every axis once.
    """
    rank = len(side.shape)
    if axes is None:
        perm = tuple(reversed(range(rank)))
    else:
        perm = tuple(normalize_axis("transpose", axis, side) for axis in axes)
        if sorted(perm) != list(range(rank)):
            example = (*range(rank - 2), rank - 1, rank - 2) if rank > 1 else tuple(range(rank))
            raise ShapeError(
                f"transpose: axes {tuple(axes)} do not name every axis of {side} once",
                hint=f"for example axes={example}",
            )
    return tuple(side.shape[axis] for axis in perm), perm
