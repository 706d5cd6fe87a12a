"""A balancer's dispatcher in simulated time without an event loop, and the ideal that it is held against."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tessera.serve.balancing.dispatcher import Bunch, Dispatcher, Outcome
from tessera.serve.balancing.line import Job
from tessera.serve.balancing.seat import Seat
from tessera.serve.balancing.strategies import strategy_of


@dataclass(frozen=True)
class Load:
    """Requests of one row, each alone in its batch, for devices of given speeds."""

    arrivals: Sequence[float]
    works: Sequence[float]
    """Seconds on a device of speed 1."""
    speeds: Sequence[float]


def draw_load(seed: int, count: int, *, same: bool | None = None) -> Load:
    """Poisson arrivals, or bursts, at 30 to 95 % of what the devices can do."""
    draw = random.Random(seed)
    speeds = [1.0] * draw.randint(1, 8)
    if not (draw.random() < 0.5 if same is None else same):
        speeds = [draw.choice([0.5, 1.0, 2.0]) for _ in speeds]
    law = draw.choice(["equal", "exponential", "mixed"])
    rate = draw.uniform(0.3, 0.95) * sum(speeds)
    burst = draw.choice([1, 1, 4])
    now, arrivals, works = 0.0, [], []
    for n in range(count):
        if n % burst == 0:
            now += burst * draw.expovariate(rate)
        arrivals.append(now)
        works.append(_work(draw, law))
    return Load(arrivals, works, speeds)


def _work(draw: random.Random, law: str) -> float:
    if law == "equal":
        return 1.0
    if law == "exponential":
        return draw.expovariate(1.0)
    return 5.5 if draw.random() < 0.1 else 0.5


def ideal_mean_s(load: Load) -> float:
    """Mean response time of one queue for all devices, first come first served, the fastest idle one first.

    Source: the recursion of J. Kiefer and J. Wolfowitz (1955), with speeds.
    """
    free_at = [0.0] * len(load.speeds)
    total = 0.0
    for arrival, work in zip(load.arrivals, load.works, strict=True):
        start = max(arrival, min(free_at))
        at = max((n for n, t in enumerate(free_at) if t <= start), key=lambda n: load.speeds[n])
        free_at[at] = start + work / load.speeds[at]
        total += free_at[at] - arrival
    return total / len(load.arrivals)


def balanced_mean_s(load: Load, strategy: str = "least_loaded") -> float:
    """Mean response time with the dispatcher, which has to find the devices' speeds out."""
    now = 0.0
    dispatcher = Dispatcher(strategy_of(strategy), clock=lambda: now, max_queue=10**9, patience_s=1e9)
    seats = [Seat(n, f"r{n}", up=True, max_jobs=10**9) for n in range(len(load.speeds))]
    dispatcher.seats.extend(seats)
    queues: list[list[tuple[Job, Bunch]]] = [[] for _ in seats]
    events: list[tuple[float, int, int]] = [(t, 1, n) for n, t in enumerate(load.arrivals)]
    heapq.heapify(events)
    total = 0.0

    def start(at: int) -> None:
        job, _ = queues[at][0]
        heapq.heappush(events, (now + load.works[job.number] / load.speeds[at], 0, at))

    while events:
        now, kind, number = heapq.heappop(events)
        if kind:
            dispatcher.enqueue(Job(number, 1, None, now))
        else:
            job, bunch = queues[number].pop(0)
            total += now - job.enqueued_s
            dispatcher.finish(bunch, job, Outcome.WELL)
            if queues[number]:
                start(number)
        if not events or events[0][0] > now:
            for job, bunch in dispatcher.assign().assigned:
                at = bunch.seat.number
                queues[at].append((job, bunch))
                if len(queues[at]) == 1:
                    start(at)
    assert not len(dispatcher)
    assert all(seat.jobs == seat.bunches == seat.rows == 0 for seat in seats)
    return total / len(load.arrivals)


def excess(loads: Sequence[Load], strategy: str = "least_loaded") -> float:
    """By how much the mean response time over `loads` is above the ideal's, 0.05 is 5 %."""
    ideal = math.fsum(ideal_mean_s(load) for load in loads)
    return math.fsum(balanced_mean_s(load, strategy) for load in loads) / ideal - 1.0
