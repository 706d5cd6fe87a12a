"""`x[i, :, j]` with several tensors of positions, as NumPy has it: broadcast, they go along together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tessera.language.builder import GraphBuilder
from tessera.language.rules.operand import Operand, index_operand
from tessera.language.rules.slicing import OPERAND, cut, filled, kept, sliced, taken
from tessera.language.rules.value import Value, joined
from tessera.language.shapes import Shape
from tessera.program.dim import Dim, product


def getitem_several(builder: GraphBuilder, operands: Sequence[Operand], key: tuple[Any, ...]) -> int:
    """The rule of `x[key]` with `OPERAND` in `key` where the operands behind the first belong, in order."""
    x, *positions = operands
    entries = filled(x, key)
    named = [entry for entry in entries if entry is not None]
    gathered = [axis for axis, entry in enumerate(named) if entry is OPERAND]
    for axis, position in zip(gathered, positions, strict=True):
        if position.number is not None:
            kept(x, x.shape[axis], int(position.number))
    cuts = [
        cut(size, slice(None) if entry is OPERAND else entry)
        for size, entry in zip(x.shape, named, strict=True)
    ]
    value = sliced(Value(builder, x.node(builder, x.dtype)), cuts)
    rest = [axis for axis in range(len(named)) if axis not in gathered]
    # Apart from each other, their axes come first in the result; else where they stand.
    apart = _apart(entries)
    first = 0 if apart else gathered[0]
    order = [*rest[:first], *gathered, *rest[first:]]
    value = value.transpose(*order)
    sizes = tuple(named_size for named_size in (value.shape[first + i] for i in range(len(gathered))))
    indices = [Value(builder, index_operand("getitem", p, builder)) for p in positions]
    shape: Shape = ()
    for index in indices:
        shape = joined("getitem", shape, index.shape)
    before, behind = value.shape[:first], value.shape[first + len(gathered) :]
    flat = value.reshape(*before, product(sizes), *behind)
    result = taken(flat, _together(indices, sizes, shape), first)
    return result.reshape(*_new_axes(entries, shape, before, behind, apart=apart)).index


def _apart(entries: Sequence[Any]) -> bool:
    """Whether something stands between tensors of positions."""
    places = [i for i, entry in enumerate(entries) if entry is OPERAND]
    return places != list(range(places[0], places[-1] + 1))


def _together(indices: Sequence[Value], sizes: Shape, shape: Shape) -> Value:
    """One position in the axes seen as one, each brought inside its own axis first."""
    total: Value | None = None
    for index, size in zip(indices, sizes, strict=True):
        length = index.size(size, index.dtype)
        held = index.compare("lt", 0).where(index + length, index)
        held = held.binary("maximum", 0).binary("minimum", length - 1)
        total = held if total is None else total * length + held
    assert total is not None  # noqa: S101 - there are several
    return total.expand(*shape)


def _new_axes(
    entries: Sequence[Any], shape: Shape, before: Shape, behind: Shape, *, apart: bool
) -> list[Dim]:
    """The result's shape, with an axis of one element for every None."""
    sliced_sizes = [*before, *behind]
    found: list[Dim] = list(shape) if apart else []
    done = apart
    for entry in entries:
        if entry is None:
            found.append(1)
        elif entry is not OPERAND:
            found.append(sliced_sizes.pop(0))
        elif not done:
            found += shape
            done = True
    return found
