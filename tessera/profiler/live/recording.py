"""Reads recordings: opened by their frames alone, decoded where one looks."""

from __future__ import annotations

import mmap
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from tessera.profiler.live.figures import (
    Device,
    Figures,
    Machine,
    Mark,
    MigInstance,
    Process,
    Reading,
    Sample,
)
from tessera.profiler.live.recording_format import (
    LONGEST_BODY,
    MAGIC,
    PREFIX,
    VERSION,
    ChangesBody,
    HeaderBody,
    Kind,
    StateBody,
    WholeBody,
    is_intact,
)
from tessera.program.errors import RecordingError

T = TypeVar("T")

DEMO = "demo"
"""Name of the recording that comes with Tessera."""


def demo_path() -> Path:
    """The recording that comes with Tessera."""
    return Path(__file__).with_name("recordings") / "h200.tslive"


class Recording:
    """A recording that is open for reading. It may still be written by another process.

    Args:
        path: The file; `demo` is the one that comes with Tessera.

    Raises:
        RecordingError: It is not a recording, or one of a later version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = demo_path() if str(path) == DEMO else Path(path)
        self._data = _read(self.path)
        self._starts = array("Q")
        self._times = array("Q")
        self._lengths = array("L")
        self._whole = array("L")
        self.marks: tuple[Mark, ...] = ()
        """Everything that was said about moments."""
        self.complete = False
        """Whether the recorder was closed, not killed."""
        self.damage: str | None = None
        """What is wrong with the file's end, in words; everything before it is read."""
        header = self._scan()
        self.label = header.label
        """Where it was recorded."""
        self.started_unix_s = header.started_unix_s
        """When sampling started, seconds since 1970."""
        self.interval_s = header.interval_s
        """Between two samples, as asked for."""
        self.machine = Machine(
            header.driver,
            header.cuda_version,
            tuple(msgspec.convert(d, Device, from_attributes=True) for d in header.devices),
        )
        """The machine that was recorded."""
        fields = {name: place for place, name in enumerate(Figures._fields)}
        self._order = [fields.get(name) for name in header.figures]
        self._whole_samples = frozenset(self._whole)
        self._cursor: tuple[int, list[Reading]] | None = None

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._times)

    @property
    def duration_s(self) -> float:
        """From when sampling started to the last sample."""
        return self._times[-1] / 1e9 if self._times else 0.0

    def index_at(self, seconds: float) -> int:
        """The last sample at or before a moment; the first for earlier moments, -1 if there is none."""
        if not self._times:
            return -1
        return max(bisect_right(self._times, max(int(seconds * 1e9), 0)) - 1, 0)

    def sample(self, index: int) -> Sample:
        """One sample.

        Raises:
            IndexError: There are not so many.
            RecordingError: The frame is not what it should be.
        """
        return next(self.samples(index, index + 1))

    def samples(self, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
        """Samples `start` to `stop` (not included), in order."""
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self):
            if start == stop:
                return
            raise IndexError(f"samples {start} to {stop} of {len(self)}")
        known = self._cursor
        first = self._whole[bisect_right(self._whole, start) - 1]
        if known is not None and first <= known[0] < start:
            first, readings = known[0] + 1, list(known[1])
        else:
            readings = []
        for index in range(first, stop):
            readings, launches = self._decode(index, readings)
            self._cursor = (index, readings)
            if index >= start:
                yield Sample(self._times[index], tuple(readings), launches)

    def _scan(self) -> HeaderBody:
        """Find the frames; stop at the first that is not whole."""
        data, position, end = self._data, len(MAGIC), len(self._data)
        view = memoryview(data)
        header: HeaderBody | None = None
        marks = []
        while position < end:
            if position + PREFIX.size > end:
                self._end_early(position, "the last frame is cut off")
                break
            length, crc, kind, time_ns = PREFIX.unpack_from(data, position)
            body = position + PREFIX.size
            if length > LONGEST_BODY or body + length > end:
                self._end_early(position, "the last frame is cut off")
                break
            part = view[body : body + length]
            if not is_intact(crc, kind, time_ns, part):
                self._end_early(position, "a frame is damaged")
                break
            if header is None:
                header = _header(self.path, kind, part)
            elif kind in (Kind.WHOLE, Kind.CHANGES):
                if kind == Kind.WHOLE:
                    self._whole.append(len(self._times))
                if self._whole:
                    self._times.append(time_ns)
                    self._starts.append(body)
                    self._lengths.append(length)
            elif kind == Kind.MARK:
                marks.append(Mark(time_ns, _decoded(self.path, part, str)))
            elif kind == Kind.END:
                self.complete = True
            position = body + length
        if header is None:
            raise RecordingError(f"{self.path} has no whole header", hint="record it again")
        self.marks = tuple(marks)
        return header

    def _end_early(self, position: int, what: str) -> None:
        left = len(self._data) - position
        self.damage = f"{what} at byte {position:,}: {left:,} bytes are not read"

    def _decode(self, index: int, before: list[Reading]) -> tuple[list[Reading], tuple[tuple[str, int], ...]]:
        start = self._starts[index]
        part = memoryview(self._data)[start : start + self._lengths[index]]
        if index in self._whole_samples:
            whole = _decoded(self.path, part, WholeBody)
            if len(whole.gpus) != len(self.machine.devices):
                raise RecordingError(
                    f"{self.path}: sample {index} is of {len(whole.gpus)} GPUs, not as many as it has"
                )
            return [self._reading(g.figures, g.state) for g in whole.gpus], tuple(whole.launches)
        changes = _decoded(self.path, part, ChangesBody)
        readings = list(before)
        for change in changes.gpus:
            if not 0 <= change.gpu < len(readings):
                raise RecordingError(
                    f"{self.path}: sample {index} names GPU {change.gpu}, which is not there"
                )
            old = readings[change.gpu]
            figures = list(old.figures)
            for place, value in zip(change.figures[::2], change.figures[1::2], strict=False):
                target = self._place(place)
                if target is not None:
                    figures[target] = value
            readings[change.gpu] = _with_state(Figures(*figures), old, change.state)
        return readings, tuple(changes.launches)

    def _place(self, place: int | None) -> int | None:
        """Where one of the header's figures stands in ours; None for one that is newer than we."""
        return None if place is None or not 0 <= place < len(self._order) else self._order[place]

    def _reading(self, given: list[int | None], state: StateBody) -> Reading:
        figures: list[int | None] = [None] * len(Figures._fields)
        for target, value in zip(self._order, given, strict=False):
            if target is not None:
                figures[target] = value
        return _with_state(Figures(*figures), None, state)


def _with_state(figures: Figures, old: Reading | None, state: StateBody | None) -> Reading:
    if state is None:
        assert old is not None  # noqa: S101 - only a whole sample has no sample before it
        return Reading(figures, old.processes, old.instances, old.missing, old.fault)
    processes = None if state.processes is None else tuple(Process(*p) for p in state.processes)
    instances = tuple(MigInstance(*i) for i in state.instances)
    return Reading(figures, processes, instances, state.missing, state.fault)


def _read(path: Path) -> bytes | mmap.mmap:
    """The file's bytes, mapped: an hour of eight GPUs is not copied to look at its start."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise RecordingError(
                    f"{path} is not a recording of GPUs", hint="tessera top --record FILE makes one"
                )
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RecordingError(
            f"{path}: {error.strerror or error}", hint="tessera top --replay demo plays Tessera's own"
        ) from error


def _header(path: Path, kind: int, body: memoryview) -> HeaderBody:
    if kind != Kind.HEADER:
        raise RecordingError(f"{path}: the first frame is not a header", hint="record it again")
    version = _decoded(path, body, _VersionBody).version
    if version != VERSION:
        raise RecordingError(
            f"{path} is of version {version}; this Tessera reads version {VERSION}",
            hint="pip install --upgrade tessera",
        )
    return _decoded(path, body, HeaderBody)


class _VersionBody(msgspec.Struct):
    version: int


def _decoded(path: Path, body: memoryview, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RecordingError(f"{path}: a frame holds something else than it says: {error}") from error
