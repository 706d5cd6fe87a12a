"""What a profile does besides executing: compiling, loading, drawing inputs, each with its time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Phase:
    """One of them."""

    name: str
    start_ns: int
    """By `time.perf_counter_ns`."""
    duration_ns: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of what it consists of, by name, in order: where each began was not kept."""
    said: dict[str, str] = field(default_factory=dict)
    """What else is known of it."""


@dataclass(slots=True)
class Phases:
    """Collects phases in the order in which they begin; a phase may be within another."""

    found: list[Phase] = field(default_factory=list)

    @contextmanager
    def span(self, name: str, said: Mapping[str, str] | None = None) -> Iterator[Phase]:
        """Time the block."""
        phase = Phase(name, time.perf_counter_ns(), said=dict(said or {}))
        self.found.append(phase)
        try:
            yield phase
        finally:
            phase.duration_ns = time.perf_counter_ns() - phase.start_ns
