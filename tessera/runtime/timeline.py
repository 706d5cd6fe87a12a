"""Every piece of work of the executions that a runtime measures, in order and on one clock."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from tessera.runtime.profile import Profile, Recorder

Kind = Literal["execution", "allocate", "upload", "copy", "launch", "kernel", "download", "wait", "empty"]
Track = Literal["host", "device"]

LIMIT = 200_000
"""Spans that one timeline keeps: some 40 MB; what comes later is counted as dropped."""


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work."""

    track: Track
    """Where the time passed: `device` by the GPU's own clock, `host` by this process's."""
    kind: Kind
    name: str
    """A kernel, an input or an output; a program for executions."""
    start_ns: int
    """On the clock of `time.perf_counter_ns`. Of a GPU: since the first mark of its execution."""
    duration_ns: int
    step: int | None = None
    """Place among the steps of the plan, for launches and kernels."""
    size_bytes: int | None = None
    """What was copied or allocated."""
    execution: int = 0
    """Which execution it belongs to, from 0."""
    thread: int = 0
    """Identity of the host's thread that the execution ran on."""

    @property
    def end_ns(self) -> int:
        """When it was over."""
        return self.start_ns + self.duration_ns


class Timeline(Recorder):
    """A recorder that keeps every single piece of work too; any number of threads may add to it at once.

    Give it to a runtime: `create_runtime(…, enable_profiling=Timeline())`.

    Args:
        limit: Most spans to keep.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self._limit = limit
        self._spans: list[Span] = []
        # Of every call, also of those whose spans are not kept: eight bytes each.
        self._times: dict[tuple[str, int, str], array[int]] = {}
        self._pending = threading.local()
        self._numbered = 0
        self._dropped = 0

    @property
    def spans(self) -> tuple[Span, ...]:
        """What was kept of executions that are over, one after the other."""
        with self._lock:
            return tuple(self._spans)

    @property
    def dropped(self) -> int:
        """Spans beyond the limit, which were not kept."""
        with self._lock:
            return self._dropped

    def add_span(self, span: Span) -> None:
        """A piece of the execution under way on this thread."""
        self._own().append(span)

    @contextmanager
    def host(
        self, kind: Kind, name: str, *, step: int | None = None, size_bytes: int | None = None
    ) -> Iterator[None]:
        """Time the block, as a piece of the host's work."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            elapsed = time.perf_counter_ns() - start
            self.add_span(Span("host", kind, name, start, elapsed, step, size_bytes))

    def add_step(self, program: str, index: int, name: str, ns: int) -> None:
        """One call of a step took `ns`, and ends now."""
        self._add_time(program, index, name, ns)
        self.add_span(Span("host", "kernel", name, time.perf_counter_ns() - ns, ns, index))

    def add_device_step(self, program: str, span: Span) -> None:
        """One call of a step on a GPU, by its clock."""
        self._add_time(program, span.step or 0, span.name, span.duration_ns)
        self.add_span(span)

    def add_execution(self, ns: int, program: str = "", start_ns: int | None = None) -> None:
        """One execution took `ns`: all that this thread added since the last is of it."""
        super().add_execution(ns, program, start_ns)
        start = time.perf_counter_ns() - ns if start_ns is None else start_ns
        whole = Span("host", "execution", program, start, ns)
        own, thread = [whole, *self._own()], threading.get_ident()
        self._own().clear()
        with self._lock:
            number, self._numbered = self._numbered, self._numbered + 1
            room = max(self._limit - len(self._spans), 0)
            self._dropped += max(len(own) - room, 0)
            self._spans += [replace(span, execution=number, thread=thread) for span in own[:room]]

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._own().clear()
        with self._lock:
            self._spans.clear()
            self._times.clear()
            self._numbered = self._dropped = 0

    def snapshot(self, device: str) -> Profile:
        """What was collected so far, with the median of each step."""
        found = super().snapshot(device)
        with self._lock:
            middles = {key: median(times) / 1e6 for key, times in self._times.items()}
        return replace(
            found,
            steps=tuple(
                replace(step, median_ms=middles.get((step.program, step.index, step.name)))
                for step in found.steps
            ),
        )

    def _add_time(self, program: str, index: int, name: str, ns: int) -> None:
        super().add_step(program, index, name, ns)
        with self._lock:
            self._times.setdefault((program, index, name), array("q")).append(ns)

    def _own(self) -> list[Span]:
        if not hasattr(self._pending, "spans"):
            self._pending.spans = []
        own: list[Span] = self._pending.spans
        return own
