"""Kernels that fold along axes: reductions and normalizations.

The tensor is seen as outer × length × inner, folded along the middle. A team
works on each row: on a CPU a loop, on a GPU a warp (short rows), a block (long
rows), or eight threads side by side with their neighbours' (inner axes, so that
loads stay together).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.cpu_rows import Strip, fold_row, position_row, position_strip, softmax_strip, strips
from tessera.compiler.geometry import Geometry
from tessera.compiler.index import Index
from tessera.compiler.kept_rows import KeepingTeam, keeping_team
from tessera.compiler.operators import GATHERS, POSITIONS, REDUCTIONS
from tessera.compiler.teams import Loop, Team, choose_team
from tessera.compiler.tiling import Values
from tessera.compiler.writer import ZERO, Name
from tessera.program.dim import Dim, ceildiv, product
from tessera.program.dtype import DType
from tessera.program.graph import Node, attr_ints


@dataclass(frozen=True, slots=True)
class Fold:
    """A shape seen as outer × length × inner."""

    shape: tuple[Dim, ...]
    axes: tuple[int, ...]
    """The folded axes, ascending."""

    @property
    def adjacent(self) -> bool:
        """Whether the folded axes are neighbours, so that inner axes may stay apart from outer ones."""
        return self.axes == tuple(range(self.axes[0], self.axes[-1] + 1)) if self.axes else False

    @property
    def bounds(self) -> tuple[int, int]:
        """Where the folded axes begin and end."""
        return self.axes[0], self.axes[-1] + 1

    @property
    def outer(self) -> Dim:
        """Elements of the axes before (of all kept axes, where the folded ones are not neighbours)."""
        return product(self.shape[: self.bounds[0]]) if self.adjacent else product(self._kept)

    @property
    def length(self) -> Dim:
        """Elements that one result is folded from."""
        return product(self.shape[axis] for axis in self.axes)

    @property
    def inner(self) -> Dim:
        """Elements of the axes behind."""
        return product(self.shape[self.bounds[1] :]) if self.adjacent else 1

    @property
    def runs(self) -> tuple[Dim, Dim]:
        """Elements of the folded axes before the last neighbours among them, and of those."""
        before, last = self._split
        return product(self.shape[axis] for axis in before), product(self.shape[axis] for axis in last)

    @property
    def _split(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        first = len(self.axes)
        while first > 0 and self.axes[first - 1] == self.axes[-1] - (len(self.axes) - first):
            first -= 1
        return self.axes[:first], self.axes[first:]

    @property
    def _kept(self) -> tuple[Dim, ...]:
        return tuple(size for axis, size in enumerate(self.shape) if axis not in self.axes)

    def element(self, body: Body, team: Team, r: Name) -> Index:
        """The position of element `r` of the team's row."""
        if self.adjacent:
            start, stop = self.bounds
            parts = ((start, team.outer), (stop - start, r), (len(self.shape) - stop, team.inner))
            return Index(body.writer, self.shape, parts)
        kept = Index.flat(body.writer, self._kept, team.outer)
        sizes = tuple(self.shape[axis] for axis in self.axes)
        if team.parallel:
            folded = Index.flat(body.writer, sizes, r)
        else:
            before, last = self._split
            folded = Index(body.writer, sizes, ((len(before), team.before), (len(last), r)))
        coordinates = [ZERO] * len(self.shape)
        for position, axis in enumerate(a for a in range(len(self.shape)) if a not in self.axes):
            coordinates[axis] = kept.axis(position)
        for position, axis in enumerate(self.axes):
            coordinates[axis] = folded.axis(position)
        return Index.of_axes(body.writer, self.shape, tuple(coordinates))

    def result(self, body: Body, team: Team, shape: tuple[Dim, ...]) -> Index:
        """The position of the row's result in the folded tensor."""
        if not self.adjacent:
            return Index.flat(body.writer, shape, team.outer)
        start, stop = self.bounds
        inner = len(self.shape) - stop
        parts = ((start, team.outer), (len(shape) - start - inner, ZERO), (inner, team.inner))
        return Index(body.writer, shape, parts)


def fold_of(node: Node, shape: tuple[Dim, ...]) -> Fold:
    """How `node` folds its operand of `shape`."""
    if node.op in ("layernorm", "rmsnorm"):
        return Fold(shape, (len(shape) - 1,))
    if node.op in ("softmax", "log_softmax"):
        axis = node.attrs["axis"]
        return Fold(shape, (int(axis),) if isinstance(axis, int) else ())
    return Fold(shape, tuple(sorted(attr_ints(node, "axes"))))


def rows_kernel(
    body: Body, root: int, core: int, target: Literal["cuda", "cpu"], tiling: Values | None = None
) -> Geometry:
    """A team folds each row; then one result a row is written, or the whole row again."""
    node = body.graph.nodes[core]
    fold = fold_of(node, body.graph.nodes[node.inputs[0]].shape)
    if target == "cpu" and node.op in REDUCTIONS - POSITIONS and fold.inner != 1:
        return _reduce_columns_cpu(body, root, core, fold)
    if target == "cpu" and fold.inner != 1:
        return _rewrite_columns_cpu(body, root, core, fold)
    kept = keeping_team(body, fold, _read_as(body, core), tiling) if target == "cuda" else None
    team = kept or choose_team(target, body, fold.outer, fold.length, fold.inner, tiling)
    row = Row(body, root, core, fold, team)
    with team.rows():
        if isinstance(team, KeepingTeam):
            team.keep(row.x, row.kind)
        if node.op in POSITIONS:
            row.position()
        elif node.op in REDUCTIONS:
            row.reduction()
        else:
            row.normalization()
    return team.geometry


def _read_as(body: Body, core: int) -> DType:
    """The type in memory of what a core folds, as far as that is one tensor's."""
    nodes = body.graph.nodes
    (at, *_) = nodes[core].inputs
    while nodes[at].op == "cast" and body.computes(at):
        (at,) = nodes[at].inputs
    return nodes[at].dtype


_STRIP = 16
"""Columns that a CPU folds side by side: one cache line of float32, so that each is fetched once."""
_LOOKUP_STRIP = 2
"""The same where elements are looked up: their text is long, and is written once for each column."""


def _reduce_columns_cpu(body: Body, root: int, core: int, fold: Fold) -> Geometry:
    """Fold down columns: a work item is a strip of neighbouring columns, a sum in a register for each."""
    writer = body.writer
    looks_up = any(body.computes(i) and n.op in GATHERS for i, n in enumerate(body.graph.nodes))
    width = _LOOKUP_STRIP if looks_up else _STRIP
    strips, columns = ceildiv(fold.inner, width), writer.size(fold.inner)
    with writer.block("for item in range(begin, end)"):
        item = Name("item", writer.depth)
        outer = writer.div(item, writer.size(strips))
        writer.line(f"first = {writer.mod(item, writer.size(strips))} * {width}")
        depth = writer.depth
        with writer.block(f"if first + {width} <= {columns}"):
            strip = [Name(f"first + {i}", depth) for i in range(width)]
            _fold_columns(body, root, core, fold, outer, strip)
        with (
            writer.block(f"if first + {width} > {columns}"),
            writer.block(f"for column in range(first, {columns})"),
        ):
            _fold_columns(body, root, core, fold, outer, [Name("column", writer.depth)])
    return Geometry((fold.outer * strips, 1, 1))


def _fold_columns(body: Body, root: int, core: int, fold: Fold, outer: Name, columns: list[Name]) -> None:
    teams = [Loop(body, fold.outer, fold.length, fold.inner) for _ in columns]
    rows = [Row(body, root, core, fold, team) for team in teams]
    for team, column in zip(teams, columns, strict=True):
        team.outer, team.inner = outer, column
    op = "sum" if rows[0].node.op == "mean" else rows[0].node.op
    totals = [row.begin(op) for row in rows]
    with teams[0].elements() as r:
        for row, total in zip(rows, totals, strict=True):
            row.fold_in(op, total, row.x(r)[0])
    for row, total in zip(rows, totals, strict=True):
        row.finish(row.narrowed(op, total))


def _rewrite_columns_cpu(body: Body, root: int, core: int, fold: Fold) -> Geometry:
    """Softmax and positions of extremes down columns, a strip of neighbouring ones to a work item."""
    node = body.graph.nodes[core]

    def write(strip: Strip) -> None:
        row = Row(body, root, core, fold, strip.team)
        if node.op in POSITIONS:
            places = position_strip(strip, row.x, row.dtype, node.op)
            with strip.columns() as c:
                row.finish(body.writer.let("found", f"{places}[{c}]"))
            return

        def store(text: str, index: Index) -> None:
            body.results[core] = body.writer.let("y", text)
            body.store(root, index)

        log = node.op == "log_softmax"
        softmax_strip(strip, row.x, row.dtype, log=log, store=store)

    return strips(body, fold.outer, fold.length, fold.inner, write)


Rewrite = Callable[[Name, Index], str]
"""The new value of an element, from the old one and its position."""


@dataclass(frozen=True, slots=True)
class Row:
    """A team's row: what is folded from it, and what is written."""

    body: Body
    root: int
    core: int
    fold: Fold
    team: Team

    @property
    def node(self) -> Node:
        """The reduction or normalization."""
        return self.body.graph.nodes[self.core]

    @property
    def dtype(self) -> DType:
        """What is folded: the core's own dtype, but for a position that of what is compared."""
        return (
            self.body.graph.nodes[self.node.inputs[0]].dtype if self.node.op in POSITIONS else self.node.dtype
        )

    @property
    def kind(self) -> str:
        """The compute type."""
        return scalar_math.compute_type(self.dtype)

    def x(self, r: Name) -> tuple[Name, Index]:
        """Element `r` of the row in the core's compute type, and its position."""
        if isinstance(self.team, KeepingTeam) and r in self.team.kept:
            return self.team.kept[r]
        index = self.fold.element(self.body, self.team, r)
        source = self.node.inputs[0]
        value = self.body.value(source, index)
        text = scalar_math.cast(value, self.body.graph.nodes[source].dtype, self.dtype, rounded=False)
        return (value if text == value else self.body.writer.let("v", text)), index

    def at(self, before: Name, r: Name) -> Name:
        """Element `r` of the last folded axes, at a place in those before them."""
        self.team.before = before
        return self.x(r)[0]

    def sum_kind(self, op: str) -> str:
        """Type to fold in; a CPU adds in one long chain: in float64 that costs little and loses nothing."""
        wide = not self.team.parallel and op == "sum" and self.kind != "int64"
        return "float64" if wide else self.kind

    def begin(self, op: str) -> Name:
        """A total to fold into."""
        return self.body.writer.let("acc", scalar_math.start(op, self.dtype, self.sum_kind(op)))

    def fold_in(self, op: str, total: Name, term: str) -> None:
        """Fold one more term into `total`."""
        kind = self.sum_kind(op)
        named = _named(self.body, scalar_math.convert(term, self.kind, kind))
        self.body.writer.line(f"{total} = {scalar_math.combine(op, total, named, kind)}")

    def narrowed(self, op: str, total: Name) -> Name:
        """The total in the core's own type."""
        text = scalar_math.convert(total, self.sum_kind(op), self.kind)
        return total if text == total else self.body.writer.let("total", text)

    def folded(self, op: str, term: Callable[[Name], str], *, again: bool = False) -> Name:
        """Fold `term` of every element of the row, which may have been read before."""
        if not self.team.parallel:
            return fold_row(self.body, self.fold.runs, op, self.dtype, lambda b, r: term(self.at(b, r)))
        total = self.begin(op)
        self.team.again = again
        self.each(lambda r: self.fold_in(op, total, term(self.x(r)[0])))
        self.team.again = False
        self.team.share(op, total, self.sum_kind(op))
        return self.narrowed(op, total)

    def each(self, act: Callable[[Name], None]) -> None:
        """Write `act` for every element of the team's row, by its number."""
        if isinstance(self.team, KeepingTeam):
            self.team.each(act)
        else:
            with self.team.elements() as r:
                act(r)

    def reduction(self) -> None:
        """Write one result."""
        total = self.folded("sum" if self.node.op == "mean" else self.node.op, str)
        with self.team.leader():
            self.finish(total)

    def position(self) -> None:
        """Write where the row's extreme is first: once it is known, the least of its places."""
        writer = self.body.writer
        if not self.team.parallel:
            op, dtype = self.node.op, self.dtype
            self.finish(position_row(self.body, self.fold.length, op, dtype, lambda r: self.x(r)[0]))
            return
        top = self.folded("max" if self.node.op == "argmax" else "min", str)
        length = writer.size(self.fold.length)
        found = writer.let("found", f"int64({length})")

        def compare(r: Name) -> None:
            value, _ = self.x(r)
            # Only NaN is not itself: where there is one, it is the extreme.
            with writer.block(f"if {value} == {top} or {value} != {value}"):
                writer.line(f"{found} = min({found}, {r})")

        self.each(compare)
        self.team.share("min", found, "int64")
        with self.team.leader():
            self.finish(writer.let("found", f"{found} if {found} < {length} else 0"))

    def finish(self, total: Name) -> None:
        """Write the row's result, its total known."""
        self.body.results[self.core] = self.mean_of(total) if self.node.op == "mean" else total
        self.body.store(self.root, self.fold.result(self.body, self.team, self.node.shape))

    def mean_of(self, total: Name) -> Name:
        """A sum over the length of the row."""
        length = f"{self.kind}({self.body.writer.size(self.fold.length)})"
        return self.body.writer.let("mean", scalar_math.divide(total, length, self.kind))

    def normalization(self) -> None:
        """Write the row again."""
        result = _NORMALIZATIONS[self.node.op](self)

        def write(r: Name) -> None:
            value, index = self.x(r)
            self.body.results[self.core] = self.body.writer.let("y", result(value, index))
            self.body.store(self.root, index)

        self.each(write)

    def _peak(self) -> Name:
        return self.folded(scalar_math.PEAK if self.team.parallel else "max", str)

    def _sum_below(self, top: Name) -> Name:
        return self.folded("sum", lambda x: scalar_math.exponential(f"{x} - {top}", self.kind), again=True)

    def softmax(self) -> Rewrite:
        """`exp(x - max)` over its sum."""
        top = self._peak()
        if isinstance(self.team, KeepingTeam):
            return self._scaled_powers(self.team, top)
        total = self._sum_below(top)
        scale = self.body.writer.let("scale", scalar_math.divide(f"{self.kind}(1.0)", total, self.kind))
        return lambda x, _: f"{scalar_math.exponential(f'{x} - {top}', self.kind)} * {scale}"

    def _scaled_powers(self, team: KeepingTeam, top: Name) -> Rewrite:
        """Softmax that takes each exponential once, and keeps it."""
        total = self.begin("sum")
        narrow = self.kind == "float32" and self.body.graph.nodes[self.root].dtype.itemsize < 4
        # Within 2**-22, where results have 11 bits or fewer.
        exponential = _FAST_POWER if narrow else scalar_math.exponential("{x}", self.kind)

        def power(r: Name) -> None:
            value = self.body.writer.let("t", exponential.format(x=f"{self.x(r)[0]} - {top}"))
            self.fold_in("sum", total, value)
            team.replace(r, value)

        self.each(power)
        team.share("sum", total, self.kind)
        scale = self.body.writer.let("scale", scalar_math.divide(f"{self.kind}(1.0)", total, self.kind))
        return lambda x, _: f"{x} * {scale}"

    def log_softmax(self) -> Rewrite:
        """`x - max` less the logarithm of the sum of `exp(x - max)`."""
        top = self._peak()
        total = self._sum_below(top)
        less = self.body.writer.let("less", scalar_math.logarithm(total, self.kind))
        return lambda x, _: f"{x} - {top} - {less}"

    def layernorm(self) -> Rewrite:
        """The distance from the mean, over its root mean square."""
        mean = self.mean_of(self.folded("sum", str))
        squares = self.folded("sum", lambda x: f"({x} - {mean}) * ({x} - {mean})", again=True)
        spread = self.mean_of(squares)
        return self._scaled(f"({{x}} - {mean})", spread)

    def rmsnorm(self) -> Rewrite:
        """The element over the row's root mean square."""
        return self._scaled("{x}", self.mean_of(self.folded("sum", lambda x: f"{x} * {x}")))

    def _scaled(self, centred: str, spread: Name) -> Rewrite:
        eps = scalar_math.literal(float(str(self.node.attrs["eps"])), self.node.dtype)
        root = f"math.sqrt({spread} + {eps})"
        scale = self.body.writer.let("scale", scalar_math.divide(f"{self.kind}(1.0)", root, self.kind))

        def result(x: Name, index: Index) -> str:
            text = f"{centred.format(x=x)} * {scale}"
            for operand, sign in zip(self.node.inputs[1:], "*+", strict=False):
                text = f"{text} {sign} {self._weight(operand, index)}"
            return text

        return result

    def _weight(self, node: int, index: Index) -> str:
        weight = self.body.graph.nodes[node]
        value = self.body.value(node, index.broadcast(weight.shape))
        return scalar_math.cast(value, weight.dtype, self.node.dtype, rounded=False)


_NORMALIZATIONS: dict[str, Callable[[Row], Rewrite]] = {
    "softmax": Row.softmax,
    "log_softmax": Row.log_softmax,
    "layernorm": Row.layernorm,
    "rmsnorm": Row.rmsnorm,
}


_FAST_POWER = "gpu.exp2_approx(({x}) * float32(1.4426950408889634))"


def _named(body: Body, text: str) -> str:
    # Maximum and minimum repeat their operands, which must not repeat their work.
    return text if text.isidentifier() else body.writer.let("t", text)
