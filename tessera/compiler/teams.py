"""Who folds a row: a loop, a warp, a block, or eight threads of a block of columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.geometry import THREADS, WARP, Geometry
from tessera.compiler.tiling import Values, whole
from tessera.compiler.writer import ZERO, Name
from tessera.program.dim import Dim, ceildiv

_WARPS = THREADS // WARP
WARP_TEAM, BLOCK_TEAM = "warp", "block"
"""Teams that may be tuned, for rows whose elements lie side by side."""
_SHORT_ROW = 512
"""Up to here a warp folds a row faster than a block, which must meet at barriers."""


class Team(ABC):
    """Writes the loops of the threads that fold one row together."""

    parallel = True
    """Whether several threads share a row."""
    outer: Name
    """Position of the row in the outer axes."""
    inner: Name = ZERO
    """Position of the row in the inner axes."""
    before: Name = ZERO
    """Place in the folded axes before the last ones, where a loop of its own goes over them."""

    again = False
    """Whether the row is read again, and for a sum: its elements are near, and few in flight are enough."""
    part: Name = ZERO
    """Which of its parts of the row the team folds."""

    def __init__(self, body: Body, outer: Dim, length: Dim, inner: Dim, *, threads: int = THREADS) -> None:
        self.body = body
        self.threads = threads
        self.sizes = (outer, length, inner)
        self.parts: Dim = 1
        """Parts that a row is cut into, a team for each."""

    @property
    @abstractmethod
    def geometry(self) -> Geometry:
        """The launch."""

    @abstractmethod
    def rows(self) -> AbstractContextManager[None]:
        """Open the block of one row; sets `outer` and `inner`."""

    @abstractmethod
    def elements(self) -> AbstractContextManager[Name]:
        """Open the loop over this thread's elements of the row; gives their number."""

    @abstractmethod
    def share(self, op: str, total: Name, kind: str) -> None:
        """Fold every thread's `total` into one that all threads of the team have."""

    @abstractmethod
    def leader(self) -> AbstractContextManager[None]:
        """Open the block that one thread of the team runs."""

    @contextmanager
    def _strided(self, first: str, step: int) -> Iterator[Name]:
        writer = self.body.writer
        end = writer.size(self.sizes[1])
        if self.parts != 1:
            each = writer.size(ceildiv(self.sizes[1], self.parts))
            end = writer.let("stop", f"min(({self.part} + 1) * {each}, {end})")
            first = f"{self.part} * {each} + {first}"
        r = writer.let("r", first)
        more = f"{r} < {end}"
        with writer.block(f"while {f'rolled({more})' if self.again else more}"):
            yield Name(r, writer.depth)
            writer.line(f"{r} += {step}")

    def _row_of_block(self) -> Name:
        """The block's row, or its part of one."""
        writer = self.body.writer
        writer.line("item = int64(cuda.blockIdx.x)")
        if self.parts == 1:
            return Name("item")
        parts = writer.size(self.parts)
        self.part = writer.mod(Name("item"), parts)
        return writer.div(Name("item"), parts)

    def _shuffle(self, op: str, total: Name, kind: str) -> None:
        lanes = WARP // 2
        while lanes:
            other = self.body.writer.let("t", f"cuda.shfl_xor_sync(0xffffffff, {total}, {lanes})")
            self.body.writer.line(f"{total} = {scalar_math.combine(op, total, other, kind)}")
            lanes //= 2


class Loop(Team):
    """A CPU thread, row by row."""

    parallel = False

    @property
    def geometry(self) -> Geometry:
        """One work item a row."""
        return Geometry((self.sizes[0] * self.sizes[2], 1, 1))

    @contextmanager
    def rows(self) -> Iterator[None]:
        """All rows of the call's work items."""
        writer = self.body.writer
        with writer.block("for item in range(begin, end)"):
            item, inner = Name("item", writer.depth), writer.size(self.sizes[2])
            self.outer, self.inner = writer.div(item, inner), writer.mod(item, inner)
            yield

    @contextmanager
    def elements(self) -> Iterator[Name]:
        """All of them."""
        writer = self.body.writer
        r = writer.fresh("r")
        with writer.block(f"for {r} in range({writer.size(self.sizes[1])})"):
            yield Name(r, writer.depth)

    def share(self, op: str, total: Name, kind: str) -> None:
        """Nothing to share."""

    @contextmanager
    def leader(self) -> Iterator[None]:
        """The only thread."""
        yield


class Warp(Team):
    """A warp a row, eight rows a block where nothing else was tuned; no barrier."""

    @property
    def geometry(self) -> Geometry:
        """Rows over warps."""
        return Geometry((ceildiv(self.sizes[0], self.threads // WARP), 1, 1), self.threads)

    @contextmanager
    def rows(self) -> Iterator[None]:
        """The warp's row; every lane of a warp has the same, so shuffles inside see all lanes."""
        writer = self.body.writer
        writer.line(f"item = int64(cuda.blockIdx.x) * {self.threads // WARP} + (cuda.threadIdx.x >> 5)")
        writer.line("lane = int64(cuda.threadIdx.x & 31)")
        with writer.block(f"if item < {writer.size(self.sizes[0])}"):
            self.outer = Name("item", writer.depth)
            yield

    @contextmanager
    def elements(self) -> Iterator[Name]:
        """Every 32nd, neighbours by neighbouring lanes."""
        with self._strided("lane", WARP) as r:
            yield r

    def share(self, op: str, total: Name, kind: str) -> None:
        """By shuffles."""
        self._shuffle(op, total, kind)

    @contextmanager
    def leader(self) -> Iterator[None]:
        """Lane 0."""
        with self.body.writer.block("if lane == 0"):
            yield


class Block(Team):
    """A block a row."""

    @property
    def geometry(self) -> Geometry:
        """Rows over blocks."""
        return Geometry((self.sizes[0] * self.parts, 1, 1), self.threads)

    @contextmanager
    def rows(self) -> Iterator[None]:
        """The block's row."""
        row = self._row_of_block()
        self.body.writer.line(f"lane = int64(cuda.threadIdx.x & {self.threads - 1})")
        self.outer = row
        yield

    @contextmanager
    def elements(self) -> Iterator[Name]:
        """One of as many as there are threads, neighbours by neighbouring threads."""
        with self._strided("lane", self.threads) as r:
            yield r

    def share(self, op: str, total: Name, kind: str) -> None:
        """By shuffles, then through shared memory; all threads pass the barrier."""
        writer = self.body.writer
        self._shuffle(op, total, kind)
        # Each fold has an array of its own, so that no barrier is needed before the next.
        shared = self.body.shared((self.threads // WARP,), kind)
        with writer.block("if (lane & 31) == 0"):
            writer.line(f"{shared}[lane >> 5] = {total}")
        writer.line("cuda.syncthreads()")
        writer.line(f"{total} = {shared}[0]")
        for warp in range(1, self.threads // WARP):
            other = writer.let("t", f"{shared}[{warp}]")
            writer.line(f"{total} = {scalar_math.combine(op, total, other, kind)}")

    @contextmanager
    def leader(self) -> Iterator[None]:
        """Thread 0."""
        with self.body.writer.block("if lane == 0"):
            yield


class Columns(Team):
    """A block for 32 neighbouring rows of the inner axes, eight threads each."""

    @property
    def geometry(self) -> Geometry:
        """Tiles of 32 inner positions, for each outer position."""
        return Geometry((self.sizes[0] * ceildiv(self.sizes[2], WARP) * self.parts, 1, 1), THREADS)

    @contextmanager
    def rows(self) -> Iterator[None]:
        """The thread's row; past the last one it only goes along to the barriers."""
        writer = self.body.writer
        tiles = writer.size(ceildiv(self.sizes[2], WARP))
        block = self._row_of_block()
        self.outer = writer.div(block, tiles)
        tile = writer.mod(block, tiles)
        writer.line("thread = int64(cuda.threadIdx.x & 255)")
        writer.line(f"column = {writer.add(writer.mul(tile, Name(str(WARP))), Name('(thread & 31)'))}")
        writer.line(f"lane = thread >> {WARP.bit_length() - 1}")
        self.inner = Name("column")
        yield

    @contextmanager
    def elements(self) -> Iterator[Name]:
        """Every eighth."""
        writer = self.body.writer
        with writer.block(f"if column < {writer.size(self.sizes[2])}"), self._strided("lane", _WARPS) as r:
            yield r

    def share(self, op: str, total: Name, kind: str) -> None:
        """Through shared memory; all threads pass the barrier."""
        writer = self.body.writer
        shared = self.body.shared((THREADS,), kind)
        writer.line(f"{shared}[thread] = {total}")
        writer.line("cuda.syncthreads()")
        writer.line(f"{total} = {shared}[thread & 31]")
        for lane in range(1, _WARPS):
            other = writer.let("t", f"{shared}[(thread & 31) + {lane * WARP}]")
            writer.line(f"{total} = {scalar_math.combine(op, total, other, kind)}")

    @contextmanager
    def leader(self) -> Iterator[None]:
        """The first of the eight."""
        size = self.body.writer.size(self.sizes[2])
        with self.body.writer.block(f"if lane == 0 and column < {size}"):
            yield


def choose_team(
    target: Literal["cuda", "cpu"],
    body: Body,
    outer: Dim,
    length: Dim,
    inner: Dim,
    tiling: Values | None = None,
) -> Team:
    """Who folds rows of `length` elements, `inner` apart: as tuned, or as their length suggests."""
    if target == "cpu":
        return Loop(body, outer, length, inner)
    if inner != 1:
        return Columns(body, outer, length, inner)
    if tiling is not None:
        tuned = Warp if tiling["TEAM"] == WARP_TEAM else Block
        return tuned(body, outer, length, inner, threads=whole(tiling, "THREADS"))
    short = isinstance(length, int) and length <= _SHORT_ROW
    return (Warp if short else Block)(body, outer, length, inner)
