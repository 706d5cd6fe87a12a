"""Operators that read at an index that is looked up, or only where there is something to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tessera.compiler import scalar_math
from tessera.compiler.index import Index
from tessera.compiler.writer import ZERO, Name, Writer
from tessera.program import dim as dims
from tessera.program.dim import Dim
from tessera.program.graph import Graph, Node, attr_ints


class Values(Protocol):
    """What writes the value of a node: the body of a kernel."""

    @property
    def graph(self) -> Graph:
        """The graph."""

    @property
    def writer(self) -> Writer:
        """The text."""

    @property
    def bounds(self) -> dict[Name, tuple[int, int]]:
        """Coordinates that lie between two numbers, the second excluded, wherever text is written now."""

    def value(self, node: int, index: Index, *, rounded: bool = True) -> Name:
        """The number that a node has at an index."""


Gather = Callable[[Values, Node, Index], Name]
"""The value of a node at an index."""


def _axis(node: Node) -> int:
    return int(str(node.attrs["axis"]))


def _when(body: Values, node: Node, condition: str, read: Callable[[], Name]) -> Name:
    """What `read` gives where a condition holds, and 0 elsewhere, where nothing is read."""
    found = body.writer.let("g", scalar_math.literal(0, node.dtype))
    with body.writer.block(f"if {condition}"):
        body.writer.line(f"{found} = {read()}")
    return found


def _known(body: Values, at: Name, low: Dim, high: Dim) -> bool | None:
    """Whether a coordinate lies between two sizes; None where that is not known here."""
    if at not in body.bounds or not isinstance(low, int) or not isinstance(high, int):
        return None
    least, end = body.bounds[at]
    if low <= least and end <= high:
        return True
    return False if end <= low or high <= least else None


def _concat(body: Values, node: Node, index: Index) -> Name:
    writer, axis = body.writer, _axis(node)
    at = index.axis(axis)
    found: Name | None = None
    begin: Dim = 0
    for position, operand in enumerate(node.inputs):
        shape = body.graph.nodes[operand].shape
        low, high = writer.size(begin), writer.size(begin + shape[axis])

        def place(_: Writer, a: int, i: Name, __: Dim, low: Name = low) -> Name:
            return i if a != axis or low == "0" else writer.integer("z", f"{i} - {low}", i, low)

        known = _known(body, at, begin, begin + shape[axis])
        if known:
            return body.value(operand, index.mapped(("concat", axis, position), shape, place))
        if known is None:
            found = found or writer.let("g", scalar_math.literal(0, node.dtype))
            with writer.block(f"if {low} <= {at} < {high}"):
                value = body.value(operand, index.mapped(("concat", axis, position), shape, place))
                writer.line(f"{found} = {value}")
        begin = begin + shape[axis]
    return found or writer.let("g", scalar_math.literal(0, node.dtype))


def _pad(body: Values, node: Node, index: Index) -> Name:
    operand, fill = node.inputs
    before, mode = attr_ints(node, "before"), str(node.attrs["mode"])
    shape, writer = body.graph.nodes[operand].shape, body.writer
    padded = [axis for axis, size in enumerate(shape) if node.shape[axis] != size]

    def place(_: Writer, axis: int, i: Name, size: Dim) -> Name:
        return _PLACES[mode](writer, i, before[axis], size) if axis in padded else i

    inside = index.mapped(("pad", before, mode, node.shape), shape, place)
    if mode == "constant":
        outside = body.value(fill, Index.flat(writer, (), ZERO))
        asked = {
            axis: _known(body, index.axis(axis), before[axis], before[axis] + shape[axis]) for axis in padded
        }
        if False in asked.values():
            return outside
        # An axis of one element has only coordinate 0 in the operand: the place in the result tells more.
        conditions = [
            f"{index.axis(axis)} == {before[axis]}"
            if shape[axis] == 1
            else f"0 <= {inside.axis(axis)} < {writer.size(shape[axis])}"
            for axis in padded
            if not asked[axis]
        ]
    else:
        outside = Name(scalar_math.literal(0, node.dtype))
        conditions = [
            f"0 < {writer.size(shape[axis])}" for axis in padded if not isinstance(shape[axis], int)
        ]
    if not conditions:
        return body.value(operand, inside)
    found = writer.let("g", outside)
    with writer.block(f"if {' and '.join(conditions)}"):
        writer.line(f"{found} = {body.value(operand, inside)}")
    return found


def _shifted(writer: Writer, i: Name, before: int, size: Dim) -> Name:  # noqa: ARG001
    return writer.integer("z", f"{i} - {before}", i)


def _edge(writer: Writer, i: Name, before: int, size: Dim) -> Name:
    last = writer.size(size - 1)
    return writer.integer("z", f"min(max({i} - {before}, 0), {last})", i, last)


def _reflected(writer: Writer, i: Name, before: int, size: Dim) -> Name:
    """There and back again with a period of two rows less their ends, as often as it takes."""
    period = dims.maximum(size * 2 - 2, 1)
    shifted = writer.add(i, writer.size((0 - before) % period))
    turn = writer.mod(shifted, writer.size(period))
    whole, back = writer.size(size), writer.size(period)
    return writer.integer("z", f"{turn} if {turn} < {whole} else {back} - {turn}", turn, whole)


_PLACES: dict[str, Callable[[Writer, Name, int, Dim], Name]] = {
    "constant": _shifted,
    "edge": _edge,
    "reflect": _reflected,
}
"""By the mode of a pad, where in the operand an element is."""


def looked_up(body: Values, positions: int, index: Index, size: Dim) -> Name:
    """The position that a tensor holds: counted from the end if negative, and brought back inside."""
    writer = body.writer
    held, whole = body.value(positions, index), writer.size(size)
    from_start = writer.let("z", f"{held} + {whole} if {held} < 0 else {held}")
    return writer.let("z", f"min(max({from_start}, 0), {writer.size(size - 1)})")


def _guarded(body: Values, node: Node, size: Dim, read: Callable[[], Name]) -> Name:
    """`read`, but 0 where an axis of unknown size has no elements."""
    if isinstance(size, int):
        return read()
    return _when(body, node, f"0 < {body.writer.size(size)}", read)


def _take(body: Values, node: Node, index: Index) -> Name:
    source, positions = node.inputs
    axis, shape = _axis(node), body.graph.nodes[source].shape
    places = body.graph.nodes[positions].shape
    end, rest = axis + len(places), len(shape) - axis - 1

    def read() -> Name:
        writer = body.writer
        where = Index(writer, places, ((len(places), index.span(axis, end)),))
        at = looked_up(body, positions, where, shape[axis])
        parts = ((axis, index.span(0, axis)), (1, at), (rest, index.span(end, end + rest)))
        return body.value(source, Index(writer, shape, parts))

    return _guarded(body, node, shape[axis], read)


def _take_along(body: Values, node: Node, index: Index) -> Name:
    source, positions = node.inputs
    axis, shape = _axis(node), body.graph.nodes[source].shape

    def read() -> Name:
        at = looked_up(body, positions, index, shape[axis])
        axes = tuple(at if a == axis else index.axis(a) for a in range(len(shape)))
        return body.value(source, Index.of_axes(body.writer, shape, axes))

    return _guarded(body, node, shape[axis], read)


def _scatter(body: Values, node: Node, index: Index) -> Name:
    """The element, then every update for it in order: no other thread writes it, so results never vary."""
    source, positions, updates = node.inputs
    writer, axis = body.writer, _axis(node)
    places = body.graph.nodes[positions].shape
    value = body.value(source, index)
    found, here = writer.let("g", value), index.axis(axis)
    r = writer.fresh("r")
    with writer.block(f"for {r} in range({writer.size(places[axis])})"):
        step = Name(r, writer.depth)
        axes = tuple(step if a == axis else index.axis(a) for a in range(len(places)))
        where = Index.of_axes(writer, places, axes)
        at = looked_up(body, positions, where, node.shape[axis])
        with writer.block(f"if {at} == {here}"):
            update = body.value(updates, where)
            if node.op == "scatter_add":
                update = Name(scalar_math.binary("add", found, update, node.dtype, str))
            writer.line(f"{found} = {update}")
    return found


def _fold_segments(body: Values, node: Node, index: Index) -> Name:
    """The element, then the updates for it in order: the first is found by bisection."""
    source, positions, order, updates = node.inputs
    writer, axis = body.writer, _axis(node)
    places = body.graph.nodes[positions].shape
    found, here = writer.let("g", body.value(source, index)), index.axis(axis)

    def at(step: Name) -> Index:
        axes = tuple(step if a == axis else index.axis(a) for a in range(len(places)))
        return Index.of_axes(writer, places, axes)

    count = writer.size(places[axis])
    low, high = writer.let("low", "int64(0)"), writer.let("high", f"int64({count})")
    with writer.block(f"while {low} < {high}"):
        middle = writer.let("middle", f"({low} + {high}) >> 1")
        before = writer.let("before", f"1 if {body.value(positions, at(middle))} < {here} else 0")
        writer.line(f"{low} = {middle} + 1 if {before} == 1 else {low}")
        writer.line(f"{high} = {high} if {before} == 1 else {middle}")
    with writer.block(f"while {low} < {count}"):
        step = writer.let("step", low)
        with writer.block(f"if {body.value(positions, at(step))} != {here}"):
            writer.line("break")
        update = body.value(updates, at(writer.let("place", body.value(order, at(step)))))
        if node.attrs["add"]:
            update = Name(scalar_math.binary("add", found, update, node.dtype, str))
        writer.line(f"{found} = {update}")
        writer.line(f"{low} = {step} + 1")
    return found


def _windows(body: Values, node: Node, index: Index) -> Name:
    operand, fill = node.inputs
    shape, writer = body.graph.nodes[operand].shape, body.writer
    settings = [attr_ints(node, name) for name in ("strides", "dilations", "before", "spread")]
    rank = len(settings[0])
    lead = len(shape) - rank
    conditions: list[str] = []
    axes: list[tuple[int, Name]] = [(lead, index.span(0, lead))]
    for axis, step in enumerate(zip(*settings, strict=True)):
        stride, dilation, before, spread = step
        place = writer.mul(index.axis(lead + rank + axis), Name(str(stride)))
        within = writer.mul(index.axis(lead + axis), Name(str(dilation)))
        moved = writer.add(place, within)
        at = writer.integer("z", f"{moved} - {before}", moved) if before else moved
        size = shape[lead + axis]
        if spread > 1:
            conditions.append(f"0 <= {at} < {writer.size(size)} * {spread} and ({at}) % {spread} == 0")
            at = writer.integer("z", f"({at}) // {spread}", at)
        elif not _stays_inside(node.shape[lead + axis], node.shape[lead + rank + axis], size, step):
            conditions.append(f"0 <= {at} < {writer.size(size)}")
        axes.append((1, at))
    if not conditions:
        return body.value(operand, Index(writer, shape, tuple(axes)))
    found = writer.let("g", body.value(fill, Index.flat(writer, (), ZERO)))
    with writer.block(f"if {' and '.join(conditions)}"):
        writer.line(f"{found} = {body.value(operand, Index(writer, shape, tuple(axes)))}")
    return found


def _stays_inside(window: Dim, places: Dim, size: Dim, step: tuple[int, ...]) -> bool:
    """Whether no place of a window reaches beyond an axis, as far as that is known."""
    stride, dilation, before, _ = step
    if not (isinstance(window, int) and isinstance(places, int) and isinstance(size, int)) or before:
        return False
    return (places - 1) * stride + (window - 1) * dilation < size


GATHERS: dict[str, Gather] = {
    "windows": _windows,
    "concat": _concat,
    "pad": _pad,
    "take": _take,
    "take_along": _take_along,
    "scatter": _scatter,
    "scatter_add": _scatter,
    "fold_segments": _fold_segments,
}
"""By operator."""
