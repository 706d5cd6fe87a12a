"""What a balancer knows of a replica: how much it has, how fast it is, how long it has been back.

Pure: whoever calls says what time it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SLOWEST_RAMP = 0.1
"""Share of its work that a replica gets at the moment it comes back."""

_SAMPLES = 50
"""Bunches over which the time of one is averaged."""

_FORGET_S = 30.0
"""Seconds after which an old average counts a third."""

_LATENCY_TAU_S = 10.0
"""Seconds after which an old latency counts a third."""


@dataclass(slots=True)
class MeanTime:
    """Seconds that a bunch takes: the mean of some fifty."""

    mean_s: float | None = None
    """None: nothing was measured yet."""
    at_s: float = 0.0
    """When it was measured last."""
    _count: int = 0

    def observe(self, seconds: float, now_s: float) -> None:
        """A bunch took `seconds`."""
        self._count = min(self._count + 1, _SAMPLES)
        mean_s = self.mean_s or 0.0
        self.mean_s = mean_s + (seconds - mean_s) / self._count
        self.at_s = now_s

    def expected_s(self, others_s: float, now_s: float) -> float:
        """What is expected now: a measurement grows old, and then the replica is taken for an average one.

        Args:
            others_s: The mean of all replicas.
            now_s: The time.
        """
        if self.mean_s is None:
            # Unknown ones go first: that is how they become known.
            return 0.0
        return others_s + (self.mean_s - others_s) * math.exp((self.at_s - now_s) / _FORGET_S)


@dataclass(slots=True)
class PeakEwma:
    """A latency that jumps up with every peak and comes down slowly.

    Source: Finagle's load balancer "Peak EWMA" (twitter/finagle, loadbalancer/PeakEwma.scala).
    """

    latency_s: float = 0.0
    at_s: float = 0.0

    def observe(self, seconds: float, now_s: float) -> None:
        """An answer took `seconds`."""
        old = self.now(now_s)
        weight = math.exp((self.at_s - now_s) / _LATENCY_TAU_S)
        self.latency_s = seconds if seconds > old else self.latency_s * weight + seconds * (1 - weight)
        self.at_s = now_s

    def now(self, now_s: float) -> float:
        """The latency as if an answer had come at once: who is not asked is forgiven with time."""
        return self.latency_s * math.exp((self.at_s - now_s) / _LATENCY_TAU_S)


@dataclass(slots=True, eq=False)
class Seat:
    """A replica, as strategies see it."""

    number: int
    """No other has it."""
    name: str
    """What people call it."""
    workers: int = 1
    """Batches that it may run at the same time."""
    max_rows: int = 1
    """Most rows of a batch."""
    max_jobs: int = 1024
    """Most requests that it may have."""
    up: bool = False
    """Whether it takes requests."""
    lingering: int = 0
    """Batches that it still runs though nobody waits for them any more."""
    since_s: float = -math.inf
    """When it came back after a failure."""
    slow_start_s: float = 10.0
    """How long it then takes until it gets its whole share."""
    bunches: int = 0
    """Bunches that it has."""
    fresh: int = 0
    """Those of them that it got last, at one moment."""
    given_s: float = -math.inf
    """When that was."""
    jobs: int = 0
    """Requests that it has."""
    rows: int = 0
    """Rows of those."""
    progress_s: float = 0.0
    """When it last finished something, or got work while it had none."""
    used: int = 0
    """When it was chosen last, in choices."""
    credit: float = 0.0
    """What round robin owes it."""
    answered: int = 0
    """Requests that it answered well."""
    failed: int = 0
    """Requests that it failed."""
    time: MeanTime = field(default_factory=MeanTime)
    latency: PeakEwma = field(default_factory=PeakEwma)

    @property
    def is_free(self) -> bool:
        """Whether what it gets now would start at once."""
        return self.up and self.places > 0

    @property
    def places(self) -> int:
        """Batches that it could start at once."""
        return self.workers - self.bunches - self.lingering

    def count_lingering(self, running: int, now_s: float, most: int) -> None:
        """Find out how many batches it runs for nobody.

        Args:
            running: Batches that it runs in all.
            now_s: The time. What it got at this very moment may not run yet.
            most: More than these they cannot be.
        """
        fresh = self.fresh if self.given_s >= now_s else 0
        self.lingering = min(most, max(0, running - max(0, self.bunches - fresh)))

    def ramp(self, now_s: float) -> float:
        """The share of its work that it gets, 0.1 to 1."""
        if self.slow_start_s <= 0:
            return 1.0
        return min(1.0, max(SLOWEST_RAMP, (now_s - self.since_s) / self.slow_start_s))

    def rows_now(self, now_s: float) -> int:
        """Most rows of a batch that it gets now."""
        return max(1, int(self.max_rows * self.ramp(now_s)))
