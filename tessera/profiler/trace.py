"""Timelines as Chrome traces, which Perfetto and chrome://tracing open.

Source: Google, "Trace Event Format": complete events (`X`), counters (`C`), metadata (`M`); times in µs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.profiler.phases import Phase
    from tessera.runtime import Span

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of work on one thread of one process of the trace."""

    process: int
    thread: int
    name: str
    category: str
    start_ns: int
    duration_ns: int
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def end_ns(self) -> int:
        """When it was over."""
        return self.start_ns + self.duration_ns


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of a counter from one time on."""

    process: int
    name: str
    time_ns: int
    values: Mapping[str, float]


class Trace:
    """Processes with threads, each with pieces of work that lie one after or within the other."""

    def __init__(self, about: Mapping[str, Value] | None = None) -> None:
        self._about = dict(about or {})
        self._processes: list[str] = []
        self._threads: dict[tuple[int, int], str] = {}
        self._slices: list[Slice] = []
        self._samples: list[Sample] = []

    def process(self, name: str) -> int:
        """A group of threads; its name says where its times come from."""
        self._processes.append(name)
        return len(self._processes)

    def thread(self, process: int, name: str) -> int:
        """A row of the trace."""
        number = 1 + sum(1 for key in self._threads if key[0] == process)
        self._threads[process, number] = name
        return number

    def add(self, *slices: Slice) -> None:
        """Pieces of work."""
        self._slices += slices

    def count(self, *samples: Sample) -> None:
        """Values of counters."""
        self._samples += samples

    def data(self) -> dict[str, Any]:
        """The trace as JSON's objects; the first time is 0."""
        first = min([*(s.start_ns for s in self._slices), *(s.time_ns for s in self._samples)], default=0)
        nested = [s for row in self._threads for s in _nested([s for s in self._slices if _row(s) == row])]
        events = [(s.start_ns, -s.duration_ns, _complete(s, first)) for s in nested]
        events += [(s.time_ns, 0, _counter(s, first)) for s in self._samples]
        events.sort(key=lambda event: event[:2])
        return {
            "traceEvents": [*self._names(), *(event for _, _, event in events)],
            "displayTimeUnit": "ns",
            "otherData": self._about,
        }

    def write(self, path: Path) -> None:
        """Write it as a file that appears whole or not at all.

        Raises:
            PackageError: It cannot be written.
        """
        from tessera.package.atomic import atomic_file

        text = json.dumps(self.data(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        with atomic_file(path) as file:
            file.write(text.encode())

    def _names(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for process, name in enumerate(self._processes, 1):
            found.append(_metadata("process_name", process, 0, name=name))
            found.append(_metadata("process_sort_index", process, 0, sort_index=process))
        found += [_metadata("thread_name", *row, name=name) for row, name in self._threads.items()]
        return found


def _row(piece: Slice) -> tuple[int, int]:
    return piece.process, piece.thread


def _nested(slices: Iterable[Slice]) -> list[Slice]:
    """The slices of one thread, so that each ends within the one it began in.

    Clocks are read one after the other: what reaches a little over its surroundings is cut.
    """
    found: list[Slice] = []
    open_ends: list[int] = []
    for piece in sorted(slices, key=lambda s: (s.start_ns, -s.duration_ns)):
        while open_ends and open_ends[-1] <= piece.start_ns:
            open_ends.pop()
        end = min(piece.end_ns, open_ends[-1]) if open_ends else piece.end_ns
        found.append(replace(piece, duration_ns=end - piece.start_ns))
        open_ends.append(end)
    return found


def _complete(piece: Slice, first: int) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": piece.name or piece.category,
        "cat": piece.category,
        "pid": piece.process,
        "tid": piece.thread,
        "ts": (piece.start_ns - first) / 1000,
        "dur": piece.duration_ns / 1000,
        "args": {key: value for key, value in piece.args.items() if value is not None},
    }


def _counter(sample: Sample, first: int) -> dict[str, Any]:
    ts = (sample.time_ns - first) / 1000
    values = dict(sample.values)
    return {"ph": "C", "name": sample.name, "pid": sample.process, "tid": 0, "ts": ts, "args": values}


def _metadata(what: str, process: int, thread: int, **args: Value) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "ts": 0, "args": args}


# -- from timelines -------------------------------------------------------------------------------


def host_slices(process: int, thread: int, spans: Iterable[Span]) -> list[Slice]:
    """The host's pieces of a timeline."""
    return [_slice(process, thread, s, _HOST_NAMES.get(s.kind, s.kind)) for s in spans if s.track == "host"]


def device_slices(process: int, thread: int, spans: Iterable[Span]) -> list[Slice]:
    """The GPU's pieces, one after the other: an execution's start is known by the host's clock alone."""
    found: list[Slice] = []
    end = 0
    for span in spans:
        if span.track != "device" or span.kind == "empty":
            continue
        own = _slice(process, thread, span, span.kind)
        found.append(replace(own, start_ns=max(own.start_ns, end)))
        end = found[-1].end_ns
    return found


_HOST_NAMES = {"execution": "execute", "kernel": "run", "wait": "wait"}


def _slice(process: int, thread: int, span: Span, verb: str) -> Slice:
    name = span.name if span.kind == "kernel" and span.track == "device" else f"{verb} {span.name}".strip()
    args = {"execution": span.execution, "step": span.step, "bytes": span.size_bytes}
    return Slice(process, thread, name, span.kind, span.start_ns, span.duration_ns, args)


def phase_slices(process: int, thread: int, phases: Iterable[Phase]) -> list[Slice]:
    """Phases; the parts of each stand in it one after the other, where they fit."""
    found: list[Slice] = []
    for phase in phases:
        args = {**phase.said, **{f"{name} (s)": seconds for name, seconds in phase.parts.items()}}
        found.append(Slice(process, thread, phase.name, "phase", phase.start_ns, phase.duration_ns, args))
        parts = {name: int(seconds * 1e9) for name, seconds in phase.parts.items() if seconds > 0}
        # Stages of several kernels overlap; then the times alone are said.
        if sum(parts.values()) > phase.duration_ns:
            continue
        start = phase.start_ns + phase.duration_ns - sum(parts.values())
        for name, duration in parts.items():
            said = {"start": "not kept: stages stand in their order, at the end of the phase"}
            found.append(Slice(process, thread, name, "stage", start, duration, said))
            start += duration
    return found
