"""Teams that read a row once, 16 bytes at a time, and keep it in registers while they fold and rewrite it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol

from tessera.compiler.body import Body
from tessera.compiler.geometry import THREADS, WARP
from tessera.compiler.index import Index
from tessera.compiler.lanes import COUNTS, WIDEST_BYTES, Lanes
from tessera.compiler.teams import Block, Warp
from tessera.compiler.writer import Name
from tessera.program.dim import Dim
from tessera.program.dtype import DType

KEPT_BYTES = 128
"""Most that a thread keeps, as computed with: 32 numbers of float32, so that enough warps are resident."""
_GOOD_BYTES = 64
"""What a thread is given, where the row allows: four loads under way."""
_GOOD_THREADS = 256
"""Of a block, where they suffice: barriers of more leave too much idle."""


class _Folded(Protocol):
    @property
    def outer(self) -> Dim: ...
    @property
    def length(self) -> Dim: ...
    @property
    def inner(self) -> Dim: ...
    @property
    def adjacent(self) -> bool: ...


class _Kept:
    """What a warp and a block that keep rows have in common."""

    body: Body
    threads: int
    sizes: tuple[Dim, Dim, Dim]
    lanes = 1
    """Elements that lie together."""
    strides = 1
    """How often a thread takes as many."""
    width = WARP
    """Threads of the team."""

    kept: dict[Name, tuple[Name, Index]]
    """The thread's elements, by number."""
    _groups: list[Lanes]

    def keep(self, read: Callable[[Name], tuple[Name, Index]], kind: str) -> None:
        """Read the thread's elements of the row, which is open."""
        writer = self.body.writer
        self.kept, self._groups = {}, []
        for stride in range(self.strides):
            first = writer.let("r", f"(lane + {stride * self.width}) * {self.lanes}")
            others = [writer.let("r", f"{first} + {i}") for i in range(1, self.lanes)]
            self._groups.append(Lanes((first, *others)))
        for stride, group in enumerate(self._groups):
            whole = self._is_whole(stride)
            values = [writer.let("k", f"{kind}(0)") for _ in group.names] if not whole else []
            with self._within(stride):
                for number, name in enumerate(group.names):
                    value, index = read(name)
                    if not whole:
                        writer.line(f"{values[number]} = {value}")
                        value = values[number]
                    self.kept[name] = value, index

    def replace(self, r: Name, value: Name) -> None:
        """Keep another value for an element, whose neighbours text is written for."""
        before, index = self.kept[r]
        if value.depth:
            self.body.writer.line(f"{before} = {value}")
            value = before
        self.kept[r] = value, index

    def each(self, act: Callable[[Name], None]) -> None:
        """Write `act` for each of the thread's elements."""
        for stride, group in enumerate(self._groups):
            with self._within(stride):
                for name in group.names:
                    act(name)

    def _is_whole(self, stride: int) -> bool:
        length = self.sizes[1]
        assert isinstance(length, int)  # noqa: S101 - `keeping_team` looked
        return (stride + 1) * self.width * self.lanes <= length

    @contextmanager
    def _within(self, stride: int) -> Iterator[None]:
        """Write for the neighbours of a stride, if the row has them."""
        group = self._groups[stride]
        inside = nullcontext()
        block = self.body.writer.block(f"if {group.names[0]} < {self.sizes[1]}")
        with inside if self._is_whole(stride) else block:
            self.body.lanes = group
            yield
            self.body.lanes = None


class KeptWarp(_Kept, Warp):
    """A warp a row."""


class KeptBlock(_Kept, Block):
    """A block a row."""


KeepingTeam = KeptWarp | KeptBlock


def keeping_team(body: Body, fold: _Folded, dtype: DType, tiling: object) -> KeepingTeam | None:
    """Who keeps rows of this length; None where they are too long, of open length, or begin anywhere.

    Args:
        body: Takes the text.
        fold: The rows.
        dtype: Of their elements in memory.
        tiling: What was tuned; then it is not for here to choose.
    """
    lanes = WIDEST_BYTES // dtype.itemsize
    length = fold.length
    if tiling is not None or fold.inner != 1 or not fold.adjacent or not isinstance(length, int):
        return None
    if lanes not in COUNTS or length % lanes or length == 0:
        return None
    each = max(4, dtype.itemsize) * lanes
    vectors = length // lanes
    sizes = (fold.outer, length, fold.inner)
    if vectors <= WARP * (_GOOD_BYTES // each):
        team: KeepingTeam = KeptWarp(body, *sizes, threads=THREADS)
        team.width = WARP
    else:
        threads = _threads(vectors, each)
        if threads is None:
            return None
        team = KeptBlock(body, *sizes, threads=threads)
        team.width = threads
    team.lanes, team.strides = lanes, -(-vectors // team.width)
    return team


def _threads(vectors: int, each: int) -> int | None:
    """Threads of a block for a row of so many vectors of so many bytes in registers."""
    counts = [2**i for i in range(6, 11) if -(-vectors // 2**i) * each <= KEPT_BYTES]
    few = [n for n in counts if n <= _GOOD_THREADS]
    good = [n for n in few if -(-vectors // n) * each <= _GOOD_BYTES]
    whole = [n for n in good if vectors % n == 0 and vectors // n * each >= _GOOD_BYTES // 2]
    return next(iter(whole or good or few[::-1] or counts), None)
