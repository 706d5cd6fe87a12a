"""Kernels that go along lines in order: running sums, and sorting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.geometry import THREADS, Geometry
from tessera.compiler.index import Index
from tessera.compiler.lower_scatter import scatter_cpu
from tessera.compiler.writer import ZERO, Name
from tessera.program.dim import Dim, ceildiv, product
from tessera.program.graph import Node


@dataclass(frozen=True, slots=True)
class Lines:
    """A core seen as outer × length × inner, in order along the middle."""

    body: Body
    root: int
    core: int

    @property
    def node(self) -> Node:
        """The core."""
        return self.body.graph.nodes[self.core]

    @property
    def source(self) -> Node:
        """Its operand."""
        return self.body.graph.nodes[self.node.inputs[0]]

    @property
    def axis(self) -> int:
        """Along which the lines go."""
        return int(str(self.node.attrs["axis"]))

    @property
    def length(self) -> Dim:
        """Elements of a line."""
        return self.source.shape[self.axis]

    @property
    def inner(self) -> Dim:
        """Lines side by side."""
        return product(self.source.shape[self.axis + 1 :])

    @property
    def outer(self) -> Dim:
        """Lines one after the other."""
        return product(self.source.shape[: self.axis])

    def at(self, shape: tuple[Dim, ...], outer: Name, r: Name, inner: Name) -> Index:
        """Element `r` of a line of the source, or of the result."""
        parts = ((self.axis, outer), (1, r), (len(shape) - self.axis - 1, inner))
        return Index(self.body.writer, shape, parts)

    def value(self, outer: Name, r: Name, inner: Name) -> Name:
        """Element `r` of a line."""
        return self.body.value(self.node.inputs[0], self.at(self.source.shape, outer, r, inner))

    def store(self, result: str, outer: Name, r: Name, inner: Name) -> None:
        """Write element `r` of the result's line."""
        self.body.results[self.core] = Name(result)
        self.body.store(self.root, self.at(self.node.shape, outer, r, inner))

    def split(self, line: Name) -> tuple[Name, Name]:
        """A line's place in the outer and in the inner axes."""
        inner = self.body.writer.size(self.inner)
        return self.body.writer.div(line, inner), self.body.writer.mod(line, inner)


def cumsum_cpu(body: Body, root: int, core: int) -> Geometry:
    """A work item a line; sums in float64, which costs a chain of additions little and loses nothing."""
    lines, writer = Lines(body, root, core), body.writer
    kind = scalar_math.compute_type(lines.node.dtype)
    wide = "int64" if kind == "int64" else "float64"
    with writer.block("for item in range(begin, end)"):
        outer, inner = lines.split(Name("item", writer.depth))
        total = writer.let("total", f"{wide}(0)")
        with writer.block(f"for r in range({writer.size(lines.length)})"):
            r = Name("r", writer.depth)
            writer.line(f"{total} += {lines.value(outer, r, inner)}")
            _store_sum(lines, scalar_math.convert(total, wide, kind), outer, r, inner)
    return Geometry((lines.outer * lines.inner, 1, 1))


def _store_sum(lines: Lines, total: str, outer: Name, r: Name, inner: Name) -> None:
    from tessera.program.dtype import i64

    dtype = lines.node.dtype
    text = total if dtype.is_float else scalar_math.cast(total, i64, dtype)
    lines.store(lines.body.writer.let("y", text), outer, r, inner)


def cumsum_cuda(body: Body, root: int, core: int) -> Geometry:
    """A block a row, 256 elements at a time; of lines along inner axes a thread each, side by side."""
    lines = Lines(body, root, core)
    return _scan_rows(lines) if lines.inner == 1 else _scan_columns(lines)


def _scan_columns(lines: Lines) -> Geometry:
    writer, kind = lines.body.writer, scalar_math.compute_type(lines.node.dtype)
    count = lines.outer * lines.inner
    writer.line(f"item = int64(cuda.blockIdx.x) * {THREADS} + cuda.threadIdx.x")
    with writer.block(f"if item < {writer.size(count)}"):
        outer, inner = lines.split(Name("item", writer.depth))
        total = writer.let("total", f"{kind}(0)")
        with writer.block(f"for r in range({writer.size(lines.length)})"):
            r = Name("r", writer.depth)
            writer.line(f"{total} += {lines.value(outer, r, inner)}")
            _store_sum(lines, total, outer, r, inner)
    return Geometry((ceildiv(count, THREADS), 1, 1), THREADS)


def _scan_rows(lines: Lines) -> Geometry:
    """Hillis and Steele's scan of each 256 elements, on top of the sum of those before.

    Source: Hillis and Steele, "Data Parallel Algorithms", 1986.
    """
    writer, kind = lines.body.writer, scalar_math.compute_type(lines.node.dtype)
    shared, size = lines.body.shared((THREADS,), kind), writer.size(lines.length)
    writer.line("item = int64(cuda.blockIdx.x)")
    writer.line(f"thread = int64(cuda.threadIdx.x & {THREADS - 1})")
    writer.line(f"before = {kind}(0)")
    writer.line("first = int64(0)")
    outer = Name("item")
    with writer.block(f"while first < {size}"):
        writer.line("r = first + thread")
        r = Name("r", writer.depth)
        writer.line(f"mine = {kind}(0)")
        with writer.block(f"if r < {size}"):
            writer.line(f"mine = {lines.value(outer, r, ZERO)}")
        writer.line(f"{shared}[thread] = mine")
        writer.line("cuda.syncthreads()")
        reach = 1
        while reach < THREADS:
            writer.line(f"other = {kind}(0)")
            with writer.block(f"if thread >= {reach}"):
                writer.line(f"other = {shared}[thread - {reach}]")
            writer.line("cuda.syncthreads()")
            writer.line("mine += other")
            writer.line(f"{shared}[thread] = mine")
            writer.line("cuda.syncthreads()")
            reach *= 2
        with writer.block(f"if r < {size}"):
            _store_sum(lines, "before + mine", outer, r, ZERO)
        writer.line(f"before += {shared}[{THREADS - 1}]")
        # Nobody may begin the next part while the sum of this one is read.
        writer.line("cuda.syncthreads()")
        writer.line(f"first += {THREADS}")
    return Geometry((lines.outer, 1, 1), THREADS)


def precedes(lines: Lines, a: str, i: str, b: str, j: str) -> str:
    """Whether element `a` at `i` comes before `b` at `j`; NaN counts as the largest, equals stay in order."""
    descending = bool(lines.node.attrs["descending"])
    sign = ">" if descending else "<"
    same = f"{a} == {b}"
    if not lines.source.dtype.is_float:
        return f"{a} {sign} {b} or ({same} and {i} < {j})"
    # Only NaN is not itself.
    first, last = (a, b) if descending else (b, a)
    beyond = f"({first} != {first} and {last} == {last})"
    return f"{a} {sign} {b} or {beyond} or (({same} or ({a} != {a} and {b} != {b})) and {i} < {j})"


def argsort_cuda(body: Body, root: int, core: int) -> Geometry:
    """A thread an element: it counts those that come before, which is its own place."""
    lines, writer = Lines(body, root, core), body.writer
    total, kept = product(lines.source.shape), lines.node.shape[lines.axis]
    writer.line(f"item = int64(cuda.blockIdx.x) * {THREADS} + cuda.threadIdx.x")
    with writer.block(f"if item < {writer.size(total)}"):
        index = Index.flat(writer, lines.source.shape, Name("item", writer.depth))
        outer, inner = index.span(0, lines.axis), index.span(lines.axis + 1, len(lines.source.shape))
        here = writer.let("here", index.axis(lines.axis))
        mine = lines.value(outer, here, inner)
        rank = writer.let("rank", "int64(0)")
        with writer.block(f"for r in range({writer.size(lines.length)})"):
            other = lines.value(outer, Name("r", writer.depth), inner)
            with writer.block(f"if {precedes(lines, other, 'r', mine, here)}"):
                writer.line(f"{rank} += 1")
        with writer.block(f"if {rank} < {writer.size(kept)}"):
            lines.store(here, outer, rank, inner)
    return Geometry((ceildiv(total, THREADS), 1, 1), THREADS)


def argsort_cpu(body: Body, root: int, core: int) -> Geometry:
    """A work item a line: a heap of the first elements so far, its last on top; then the heap is sorted.

    Source: Floyd, "Algorithm 245: Treesort 3", 1964.
    """
    lines, writer = Lines(body, root, core), body.writer
    kept = writer.size(lines.node.shape[lines.axis])
    with writer.block("for item in range(begin, end)"):
        heap = _Heap(lines, *lines.split(Name("item", writer.depth)))
        with writer.block(f"for r in range({writer.size(lines.length)})"):
            mine = heap.value("r")
            writer.line(f"full = min(r, {kept})")
            with writer.block(f"if full < {kept}"):
                heap.rise("r", mine, "full")
            with writer.block(f"if full == {kept} and full > 0"):
                top = writer.let("top", heap.held("0"))
                value = heap.value(top)
                with writer.block(f"if {precedes(lines, mine, 'r', value, top)}"):
                    heap.sink("r", mine, kept)
        writer.line(f"left = {kept}")
        with writer.block("while left > 1"):
            writer.line("left -= 1")
            last = writer.let("last", heap.held("left"))
            heap.put("left", heap.held("0"))
            value = heap.value(last)
            heap.sink(last, value, "left")
    return Geometry((lines.outer * lines.inner, 1, 1))


@dataclass(frozen=True, slots=True)
class _Heap:
    """Positions in the result's line, none of which precedes those below it."""

    lines: Lines
    outer: Name
    inner: Name

    def _address(self, place: str) -> str:
        lines, writer = self.lines, self.lines.body.writer
        return str(lines.at(lines.node.shape, self.outer, Name(place, writer.depth), self.inner).position)

    def held(self, place: str) -> str:
        """The position at a place of the heap."""
        return f"out[{self._address(place)}]"

    def put(self, place: str, position: str) -> None:
        """Write a position to a place."""
        self.lines.body.writer.line(f"out[{self._address(place)}] = {position}")

    def value(self, position: str) -> Name:
        """The element at a position of the line."""
        return self.lines.value(self.outer, Name(position, self.lines.body.writer.depth), self.inner)

    def rise(self, position: str, value: Name, place: str) -> None:
        """Put a position at the end, and let it rise past those that precede it."""
        writer = self.lines.body.writer
        at = writer.let("at", place)
        with writer.block(f"while {at} > 0"):
            above = writer.let("above", f"({at} - 1) >> 1")
            held = writer.let("held", self.held(above))
            other = self.value(held)
            with writer.block(f"if not ({precedes(self.lines, other, held, value, position)})"):
                writer.line("break")
            self.put(at, held)
            writer.line(f"{at} = {above}")
        self.put(at, position)

    def sink(self, position: str, value: Name, count: str) -> None:
        """Put a position on top, and let it sink below those that it precedes."""
        lines, writer = self.lines, self.lines.body.writer
        at = writer.let("at", "int64(0)")
        with writer.block(f"while 2 * {at} + 1 < {count}"):
            below = writer.let("below", f"2 * {at} + 1")
            held = writer.let("held", self.held(below))
            with writer.block(f"if {below} + 1 < {count}"):
                right = writer.let("held", self.held(f"({below} + 1)"))
                a, b = self.value(held), self.value(right)
                with writer.block(f"if {precedes(lines, a, held, b, right)}"):
                    writer.line(f"{held} = {right}")
                    writer.line(f"{below} = {below} + 1")
            other = self.value(held)
            with writer.block(f"if not ({precedes(lines, value, position, other, held)})"):
                writer.line("break")
            self.put(at, held)
            writer.line(f"{at} = {below}")
        self.put(at, position)


Template = Callable[[Body, int, int], Geometry]

LINES: dict[tuple[str, Literal["cuda", "cpu"]], Template] = {
    ("cumsum", "cuda"): cumsum_cuda,
    ("cumsum", "cpu"): cumsum_cpu,
    ("argsort", "cuda"): argsort_cuda,
    ("argsort", "cpu"): argsort_cpu,
    ("scatter", "cpu"): scatter_cpu,
    ("scatter_add", "cpu"): scatter_cpu,
}
"""Templates by operator and kind of target."""
