"""What follows from two samples: rates from counters."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.profiler.live.figures import Sample


def per_second(samples: Sequence[Sample], gpu: int, field: str, *, over_s: float) -> float | None:
    """Growth of a counter per second over the last `over_s`; None where it is unknown.

    Counters are read every 1 to 5 s and stand in the samples between: over less time than that they
    would seem to rest. So `over_s` is a multiple of that time, and a shorter history has no rate. Nor
    has a counter that went backwards: the driver was loaded again.
    """
    if not samples:
        return None
    last = samples[-1]
    first = next((s for s in reversed(samples) if last.time_ns - s.time_ns >= over_s * 1e9), None)
    return None if first is None else rate_between(first, last, gpu, field)


def rate_between(first: Sample, last: Sample, gpu: int, field: str) -> float | None:
    """Growth of a counter per second from one sample to a later one; None where it is unknown."""
    begin: int | None = getattr(first.readings[gpu].figures, field)
    end: int | None = getattr(last.readings[gpu].figures, field)
    elapsed_ns = last.time_ns - first.time_ns
    if begin is None or end is None or end < begin or elapsed_ns <= 0:
        return None
    return (end - begin) * 1e9 / elapsed_ns
