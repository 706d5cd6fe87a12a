"""Folds on a CPU: rows in chunks that are added up in vectors, and strips of columns side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.geometry import Geometry
from tessera.compiler.index import Index
from tessera.compiler.teams import Loop
from tessera.compiler.writer import ZERO, Name
from tessera.program.dim import Dim, ceildiv
from tessera.program.dtype import DType

CHUNK = 512
"""Elements added in their own type; sums of chunks are added in float64. Lanes of a vector then add some
dozens of numbers each, which loses no more than adding in pairs."""
_SEARCHED = 256
"""Elements among which an extreme is searched for one by one."""
_STRIP = 64
"""As `cpu_folds.STRIP`, which imports numba."""


def fold_text(op: str, total: str, term: str, kind: str) -> str:
    """Fold `term` into `total` in a loop over a row, which may run in vectors."""
    if kind == "int64":
        return scalar_math.combine(op, total, term, kind)
    function = {"sum": "add", "prod": "mul"}.get(op, op)
    return f"{function}_{'f64' if kind == 'float64' else 'f32'}({total}, {term})"


Term = Callable[[Name, Name], str]
"""What is folded: of an element's place in the folded axes before the last ones, and in the last ones."""


def fold_row(body: Body, sizes: tuple[Dim, Dim], op: str, dtype: DType, term: Term) -> Name:
    """The fold of every element of a row, in the compute type of `dtype`.

    Args:
        body: Where it is written.
        sizes: Elements of the folded axes before the last neighbours (1: there are none), and of those.
        op: The reduction, `sum` for a mean.
        dtype: What is folded.
        term: The text of an element's term.
    """
    writer, kind = body.writer, scalar_math.compute_type(dtype)
    before, length = sizes
    wide = (
        op == "sum" and kind != "int64" and not (before == 1 and isinstance(length, int) and length <= CHUNK)
    )
    total = writer.let("acc", "float64(0)" if wide else scalar_math.start(op, dtype, kind))
    if before == 1:
        _fold_neighbours(body, length, op, kind, total, lambda r: term(ZERO, r), wide=wide)
    else:
        b = writer.fresh("b")
        with writer.block(f"for {b} in range({writer.size(before)})"):
            place = Name(b, writer.depth)
            _fold_neighbours(body, length, op, kind, total, lambda r: term(place, r), wide=wide)
    return writer.let("total", scalar_math.convert(total, "float64", kind)) if wide else total


def _fold_neighbours(
    body: Body, length: Dim, op: str, kind: str, total: Name, term: Callable[[Name], str], *, wide: bool
) -> None:
    writer, size = body.writer, body.writer.size(length)
    if not wide:
        _fold_range(body, op, kind, total, "0", size, term)
        return
    with chunks(body, size, CHUNK) as (first, last):
        part = writer.let("part", f"{kind}(0)")
        _fold_range(body, op, kind, part, first, last, term)
        writer.line(f"{total} += float64({part})")


@contextmanager
def chunks(body: Body, size: str, width: int) -> Iterator[tuple[str, str]]:
    """A loop over ranges of at most `width` elements; gives where each begins and ends."""
    writer = body.writer
    first = writer.fresh("first")
    with writer.block(f"for {first} in range(0, {size}, {width})"):
        yield first, writer.let("last", f"min({first} + {width}, {size})")


def position_row(body: Body, length: Dim, op: str, dtype: DType, x: Callable[[Name], Name]) -> Name:
    """Where a row's extreme is first: the best chunk is found in vectors, and then its element."""
    writer, kind, size = body.writer, scalar_math.compute_type(dtype), body.writer.size(length)
    fold, sign = ("max", ">") if op == "argmax" else ("min", "<")
    best = writer.let("best", scalar_math.start(fold, dtype, kind))
    place = writer.let("place", "int64(0)")
    with chunks(body, size, _SEARCHED) as (first, last):
        part = writer.let("part", scalar_math.start(fold, dtype, kind))
        _fold_range(body, fold, kind, part, first, last, x)
        # Only NaN is not itself: where there is one, it is the extreme.
        nan = f" or ({part} != {part} and {best} == {best})" if dtype.is_float else ""
        with writer.block(f"if {part} {sign} {best}{nan}"):
            writer.line(f"{best} = {part}")
            writer.line(f"{place} = {first}")
    r = writer.fresh("r")
    with writer.block(f"for {r} in range({place}, min({place} + {_SEARCHED}, {size}))"):
        value = x(Name(r, writer.depth))
        nan = f" or {value} != {value}" if dtype.is_float else ""
        with writer.block(f"if {value} == {best}{nan}"):
            writer.line(f"{place} = {r}")
            writer.line("break")
    return place


def _fold_range(
    body: Body, op: str, kind: str, total: Name, first: str, last: str, term: Callable[[Name], str]
) -> None:
    writer = body.writer
    r = writer.fresh("r")
    with writer.block(f"for {r} in range({first}, {last})"):
        text = term(Name(r, writer.depth))
        named = text if text.isidentifier() else writer.let("t", text)
        writer.line(f"{total} = {fold_text(op, total, named, kind)}")


Element = Callable[[Name], tuple[Name, Index]]
"""Element `r` of the column in hand, and its position."""


@dataclass(slots=True)
class Strip:
    """A strip of neighbouring columns: what is kept for each lies in an array."""

    body: Body
    team: Loop
    length: Dim

    @contextmanager
    def columns(self) -> Iterator[Name]:
        """A loop over the strip's columns; gives the number within the strip."""
        writer = self.body.writer
        c = writer.fresh("c")
        with writer.block(f"for {c} in range(width)"):
            self.team.inner = Name(f"(first + {c})", writer.depth)
            yield Name(c, writer.depth)

    @contextmanager
    def elements(self) -> Iterator[tuple[Name, Name]]:
        """Loops over rows and columns; gives the row and the number of the column."""
        writer = self.body.writer
        r = writer.fresh("r")
        with writer.block(f"for {r} in range({writer.size(self.length)})"):
            row = Name(r, writer.depth)
            with self.columns() as c:
                yield row, c

    def array(self, kind: str, start: str) -> Name:
        """An array of a compute type, `start` in every column's place."""
        array = self.body.writer.let("strip", f"strip_{kind}()")
        with self.columns() as c:
            self.body.writer.line(f"{array}[{c}] = {start}")
        return array


def strips(body: Body, outer: Dim, length: Dim, inner: Dim, write: Callable[[Strip], None]) -> Geometry:
    """A work item for each strip of columns; `write` writes what is done with it."""
    writer = body.writer
    count, columns = ceildiv(inner, _STRIP), writer.size(inner)
    with writer.block("for item in range(begin, end)"):
        item = Name("item", writer.depth)
        team = Loop(body, outer, length, inner)
        team.outer = writer.div(item, writer.size(count))
        writer.line(f"first = {writer.mod(item, writer.size(count))} * {_STRIP}")
        writer.line(f"width = min({_STRIP}, {columns} - first)")
        write(Strip(body, team, length))
    return Geometry((outer * count, 1, 1))


def softmax_strip(
    strip: Strip, x: Element, dtype: DType, *, log: bool, store: Callable[[str, Index], None]
) -> None:
    """`exp(x - max)` over its sum down each column, or its logarithm."""
    writer, kind = strip.body.writer, scalar_math.compute_type(dtype)
    top = strip.array(kind, scalar_math.start("max", dtype, kind))
    with strip.elements() as (r, c):
        value, _ = x(r)
        writer.line(f"{top}[{c}] = {fold_text('max', f'{top}[{c}]', value, kind)}")
    total = strip.array("float64", "float64(0)")
    with strip.elements() as (r, c):
        value, _ = x(r)
        odds = scalar_math.exponential(f"{value} - {top}[{c}]", kind)
        writer.line(f"{total}[{c}] += {odds}")
    one = "math.log({})" if log else "1.0 / {}"
    scale = strip.array(kind, "0")
    with strip.columns() as c:
        writer.line(f"{scale}[{c}] = {one.format(f'{total}[{c}]')}")
    with strip.elements() as (r, c):
        value, index = x(r)
        less = f"{value} - {top}[{c}]"
        store(
            f"{less} - {scale}[{c}]" if log else f"{scalar_math.exponential(less, kind)} * {scale}[{c}]",
            index,
        )


def position_strip(strip: Strip, x: Element, dtype: DType, op: str) -> Name:
    """Where each column's extreme is first, as an array of int64; NaN is the extreme where there is one."""
    writer, kind = strip.body.writer, scalar_math.compute_type(dtype)
    best = strip.array(kind, scalar_math.start("max" if op == "argmax" else "min", dtype, kind))
    place = strip.array("int64", "0")
    sign = ">" if op == "argmax" else "<"
    with strip.elements() as (r, c):
        value, _ = x(r)
        old = writer.let("old", f"{best}[{c}]")
        better = f"{value} {sign} {old}"
        if dtype.is_float:
            better = f"{better} or ({value} != {value} and {old} == {old})"
        taken = writer.let("taken", better)
        writer.line(f"{best}[{c}] = {value} if {taken} else {old}")
        writer.line(f"{place}[{c}] = {r} if {taken} else {place}[{c}]")
    return place
