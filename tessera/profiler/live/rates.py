"""What follows from two samples: rates from counters."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.profiler.live.figures import Sample


def per_second(samples: Sequence[Sample], gpu: int, field: str, *, over_s: float = 1.0) -> float | None:
    """Growth of a counter per second over the last `over_s`; None where it is unknown.

    A counter that went backwards (the driver was loaded again, or it wrapped around) has no rate.
    """
    if len(samples) < 2:
        return None
    last = samples[-1]
    first = next((s for s in reversed(samples[:-1]) if last.time_ns - s.time_ns >= over_s * 1e9), samples[0])
    return rate_between(first, last, gpu, field)


def rate_between(first: Sample, last: Sample, gpu: int, field: str) -> float | None:
    """Growth of a counter per second from one sample to a later one; None where it is unknown."""
    begin: int | None = getattr(first.readings[gpu].figures, field)
    end: int | None = getattr(last.readings[gpu].figures, field)
    elapsed_ns = last.time_ns - first.time_ns
    if begin is None or end is None or end < begin or elapsed_ns <= 0:
        return None
    return (end - begin) * 1e9 / elapsed_ns


def energy_j(samples: Sequence[Sample], gpu: int) -> float | None:
    """Energy drawn from the first sample to the last, joules."""
    known = [s.readings[gpu].figures.energy_mj for s in (samples[0], samples[-1])] if samples else []
    if len(known) < 2 or known[0] is None or known[1] is None or known[1] < known[0]:
        return None
    return (known[1] - known[0]) / 1000
