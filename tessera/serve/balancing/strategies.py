"""How the replica is chosen that a request goes to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from tessera.program.errors import ConfigError
from tessera.serve.balancing.seat import Seat


class Strategy(Protocol):
    """A way to choose."""

    late: ClassVar[bool]
    """Whether requests wait in one line until a replica is free, rather than each at a replica."""

    def pick(self, seats: Sequence[Seat], now_s: float) -> Seat:
        """One of `seats`, of which there is one at least."""


class LeastLoaded:
    """Requests wait in one line; a free replica takes what is there, the fastest of several first.

    A replica that is chosen when a request comes may be the wrong one by the time it is done with what
    it had: measured against one line for all, choosing the shortest of four queues costs a tenth of
    the response time and more. So nothing is bound to a replica before that can start it.
    """

    late: ClassVar[bool] = True

    def pick(self, seats: Sequence[Seat], now_s: float) -> Seat:
        """The seat that should be done first, by its measured time and what it has."""
        known = [s.time.mean_s for s in seats if s.time.mean_s is not None]
        mean_s = sum(known) / len(known) if known else 0.0

        def cost(seat: Seat) -> tuple[float, int]:
            time_s = seat.time.expected_s(mean_s, now_s)
            return (time_s * (1 + seat.bunches / seat.workers) / seat.ramp(now_s), seat.used)

        return min(seats, key=cost)


class RoundRobin:
    """One after the other, whatever they have. A replica that has just come back is passed over at times.

    Source: nginx's smooth weighted round robin (ngx_http_upstream_round_robin.c).
    """

    late: ClassVar[bool] = False

    def pick(self, seats: Sequence[Seat], now_s: float) -> Seat:
        """The seat whose turn it is."""
        total = 0.0
        for seat in seats:
            weight = seat.ramp(now_s)
            seat.credit += weight
            total += weight
        best = max(seats, key=lambda s: (s.credit, -s.number))
        best.credit -= total
        return best


class LatencyAware:
    """Where latency times what waits there is least, with the latency's recent peaks.

    All replicas are compared. Comparing two at random (M. Mitzenmacher, The Power of Two Choices in
    Randomized Load Balancing, 2001) is for balancers that see only a part of the load; this one sees all.
    """

    late: ClassVar[bool] = False

    def pick(self, seats: Sequence[Seat], now_s: float) -> Seat:
        """The seat of the least cost."""

        def cost(seat: Seat) -> tuple[float, int]:
            latency_s = seat.latency.now(now_s)
            if latency_s == 0.0 and seat.jobs:
                # It has work and has never answered: only when all are like that.
                return (_UNKNOWN_S + seat.jobs, seat.used)
            return (latency_s * (seat.jobs + 1) / seat.ramp(now_s), seat.used)

        return min(seats, key=cost)


_UNKNOWN_S = 1e6

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "least_loaded": LeastLoaded,
    "round_robin": RoundRobin,
    "latency_aware": LatencyAware,
}
"""The names that `set_strategy` takes."""


def strategy_of(name: str) -> Strategy:
    """The strategy called `name`.

    Raises:
        ConfigError: There is none.
    """
    if name not in STRATEGIES:
        raise ConfigError(
            f"there is no strategy {name!r}", hint=f"one of: {', '.join(STRATEGIES)}", key="strategy"
        )
    return STRATEGIES[name]()
