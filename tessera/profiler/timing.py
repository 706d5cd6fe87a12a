"""Times of repeated calls, and what they tell about the median."""

from __future__ import annotations

import gc
import itertools
import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MIN_REPETITIONS = 11
MAX_REPETITIONS = 100_000
BLOCKS = 20
"""Stretches of a measurement whose medians are kept."""
INTERVAL = "95 % interval of the median from order statistics (David and Nagaraja, Order Statistics, 7.1)"
"""How `ci_low_ms` and `ci_high_ms` are found, for those who read the figures."""
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Timing:
    """Summary of the measured times of one call."""

    name: str
    """What was called."""
    repetitions: int
    median_ms: float
    p5_ms: float
    p95_ms: float
    ci_low_ms: float | None
    """Lower end of the 95 % confidence interval of the median; None for fewer than 6 times."""
    ci_high_ms: float | None
    """Upper end of it."""
    minimum_ms: float
    outliers: int = 0
    """Times beyond Tukey's fences. They count in median and percentiles, not in `mean_ms`."""
    mean_ms: float | None = None
    """Mean of the times within the fences."""
    blocks_ms: tuple[float, ...] = ()
    """Medians of up to 20 stretches of the measurement, in the order of time: what runs are compared by,
    as neighbouring times resemble each other more than times at random."""


def summarize(name: str, times_ns: Sequence[int]) -> Timing:
    """Median, percentiles and confidence interval of measured times.

    Args:
        name: What was called.
        times_ns: At least one time, in nanoseconds, in the order in which they were taken.
    """
    ordered = sorted(times_ns)
    low, high = median_interval(len(ordered))
    kept = within_fences(ordered)
    return Timing(
        name=name,
        repetitions=len(ordered),
        median_ms=quantile(ordered, 0.5) / 1e6,
        p5_ms=quantile(ordered, 0.05) / 1e6,
        p95_ms=quantile(ordered, 0.95) / 1e6,
        ci_low_ms=None if low is None else ordered[low] / 1e6,
        ci_high_ms=None if high is None else ordered[high] / 1e6,
        minimum_ms=ordered[0] / 1e6,
        outliers=len(ordered) - len(kept),
        mean_ms=sum(kept) / len(kept) / 1e6,
        blocks_ms=tuple(median / 1e6 for median in block_medians(times_ns)),
    )


def within_fences(ordered: Sequence[float]) -> Sequence[float]:
    """Those of sorted values that are no outliers: 1.5 interquartile ranges beyond the quartiles at most.

    Source: Tukey, Exploratory Data Analysis, 1977, section 2D.
    """
    lower, upper = quantile(ordered, 0.25), quantile(ordered, 0.75)
    reach = 1.5 * (upper - lower)
    return ordered[bisect_left(ordered, lower - reach) : bisect_right(ordered, upper + reach)]


def block_medians(values: Sequence[float], most: int = BLOCKS) -> list[float]:
    """Medians of `most` stretches of a series, or of fewer where it is shorter."""
    count = min(most, len(values))
    edges = [len(values) * k // count for k in range(count + 1)]
    return [quantile(sorted(values[a:b]), 0.5) for a, b in itertools.pairwise(edges)]


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """The quantile of sorted values, linear between neighbours (NumPy's default)."""
    place = fraction * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median_interval(count: int) -> tuple[int | None, int | None]:
    """Indices into `count` sorted samples between which the median lies with ≥ 95 % confidence.

    No assumption about the distribution: the number of samples below the true
    median is binomial. (None, None) where `count` is too small for 95 %.

    Source: David and Nagaraja, Order Statistics, 3rd edition, section 7.1.
    """
    if count < 6:
        return None, None
    if count > 1000:
        # The normal approximation, widened by one rank; 0.5**count would underflow.
        rank = math.floor(count / 2 - _Z95 * math.sqrt(count) / 2) - 1
        return rank, count - 1 - rank
    tail, rank = 0.5**count, 0
    while True:
        following = tail + math.comb(count, rank + 1) * 0.5**count
        if following > 0.025:
            return rank, count - 1 - rank
        tail, rank = following, rank + 1


def measure(
    calls: Mapping[str, Callable[[], object]], *, seconds: float, warmup_seconds: float = 0.2
) -> dict[str, Timing]:
    """Time calls against each other, interleaved, so that drift of the machine hits all alike.

    Each round calls every contender; a fast one several times, so that each
    gets about the same time. The garbage collector rests meanwhile.

    Args:
        calls: Contenders by name; each call does the whole work and returns when it is done.
        seconds: Time to spend on measuring, all contenders together. At least
            11 repetitions of each are taken, even if that takes longer.
        warmup_seconds: Time to spend on calls that do not count, for each contender.
    """
    estimates = {name: _warm_up(call, warmup_seconds) for name, call in calls.items()}
    slowest = max(estimates.values())
    shares = {name: max(1, min(50, round(slowest / max(t, 1)))) for name, t in estimates.items()}
    times: dict[str, list[int]] = {name: [] for name in calls}
    clock = time.perf_counter_ns
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        end = clock() + int(seconds * 1e9)
        while _unfinished(times, before_end=clock() < end):
            for name, call in calls.items():
                taken = times[name]
                for _ in range(shares[name]):
                    start = clock()
                    call()
                    taken.append(clock() - start)
    finally:
        if was_enabled:
            gc.enable()
    return {name: summarize(name, taken) for name, taken in times.items()}


def _unfinished(times: Mapping[str, Sequence[int]], *, before_end: bool) -> bool:
    fewest, most = min(map(len, times.values())), max(map(len, times.values()))
    return fewest < MIN_REPETITIONS or (before_end and most < MAX_REPETITIONS)


def _warm_up(call: Callable[[], object], seconds: float) -> int:
    """Call until the time is up, twice at least; the fastest time, in nanoseconds."""
    clock = time.perf_counter_ns
    end, best, count = clock() + int(seconds * 1e9), 0, 0
    while count < 2 or (clock() < end and count < MAX_REPETITIONS):
        start = clock()
        call()
        taken = clock() - start
        best = taken if not best else min(best, taken)
        count += 1
    return best
