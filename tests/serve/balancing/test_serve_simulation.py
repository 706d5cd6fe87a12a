"""Balancer and batchers in virtual time: ten thousand random workloads, and what must hold of each.

A share runs every time; the whole is slow. That the checks find what they should is checked by
breaking the code under them.
"""

import asyncio
import logging
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from batcher_workloads import TIE_S, fits, run_batcher_deadlines, run_batcher_workload
from queue_model import draw_load, excess
from virtual_replica import VirtualReplica
from virtual_time_loop import VirtualTimeLoop
from workloads import Call, Workload, play, run_workload

from tessera.serve.balancing.balanced import BalancedService
from tessera.serve.balancing.dispatcher import Dispatcher
from tessera.serve.balancing.line import Job, Line
from tessera.serve.balancing.seat import MeanTime, Seat
from tessera.serve.batcher import RequestBatcher
from tessera.serve.queue import RequestQueue


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run_deadlines(runner: asyncio.Runner, seed: int) -> bool:
    """Unit batches, whole times: all deadlines are kept if a schedule keeps them. Says whether one does."""
    draw = random.Random(seed)
    count, size = draw.randint(1, 3), draw.randint(1, 3)
    calls, windows = [], []
    for number in range(draw.randint(1, 16)):
        arrival = draw.randint(0, 4)
        patience = draw.randint(1, 4) if draw.random() < 0.8 else None
        calls.append(Call(number, float(arrival), None if patience is None else patience + 0.5))
        if patience is not None:
            windows.append((arrival, arrival + patience))
    replicas = [VirtualReplica(f"r{n}", lambda _: 1.0 + TIE_S, max_batch_size=size) for n in range(count)]
    workload = Workload(calls, replicas, [], {"patience_s": 1e6})

    async def main() -> None:
        (await play(workload)).abort()

    runner.run(main())
    feasible = fits(windows, count * size)
    late = [call.number for call in calls if not isinstance(call.answers[0], int)]
    assert not (feasible and late), (seed, late)
    return feasible


def test_random_workloads_are_answered_once_in_order_and_without_idle_replicas(
    virtual_time: asyncio.Runner,
) -> None:
    seen = [run_workload(virtual_time, seed) for seed in range(400)]
    answers = [call.answers[0] for workload in seen for call in workload.calls]
    assert sum(workload.is_calm for workload in seen) > 80
    assert sum(isinstance(a, int) for a in answers) > 2000
    assert {type(a).__name__ for a in answers} >= {"int", "str", "TimeoutError", "DeviceError"}


def test_deadlines_are_kept_where_a_schedule_keeps_them(virtual_time: asyncio.Runner) -> None:
    feasible = sum(run_deadlines(virtual_time, seed) for seed in range(300))
    assert 75 < feasible < 290


def test_random_requests_are_batched_in_order_and_run_for_nobody_who_left(
    virtual_time: asyncio.Runner,
) -> None:
    for seed in range(300):
        run_batcher_workload(virtual_time, seed)
    feasible = sum(run_batcher_deadlines(virtual_time, seed) for seed in range(200))
    assert 50 < feasible < 180


def test_least_loaded_is_within_a_twentieth_of_one_queue_for_all() -> None:
    alike = [draw_load(seed, 60, same=True) for seed in range(150)]
    different = [draw_load(seed, 60, same=False) for seed in range(150)]
    assert abs(excess(alike)) < 1e-9
    assert excess(different) < 0.05
    # The others are not, which is why it is the default.
    assert excess(alike, "round_robin") > 0.05
    assert excess(alike, "latency_aware") > 0.05


@pytest.mark.slow
def test_10000_random_workloads_are_answered_once_in_order_and_without_idle_replicas(
    virtual_time: asyncio.Runner,
) -> None:
    for seed in range(10_000, 20_000):
        run_workload(virtual_time, seed)


@pytest.mark.slow
def test_10000_workloads_with_deadlines_and_of_the_batcher_keep_their_promises(
    virtual_time: asyncio.Runner,
) -> None:
    for seed in range(10_000, 20_000):
        run_deadlines(virtual_time, seed)
        run_batcher_workload(virtual_time, seed)
        run_batcher_deadlines(virtual_time, seed)


@pytest.mark.slow
def test_10000_loads_have_least_loaded_within_a_twentieth_of_one_queue_for_all() -> None:
    assert excess([draw_load(seed, 40) for seed in range(10_000, 20_000)]) < 0.05


def last_first(self: Job) -> tuple[float, int]:
    return (-self.rank_s, -self.number)


def first_seat_only(self: Dispatcher, now_s: float, made: Any) -> None:
    seat = self.seats[0]
    if seat.is_free:
        self._give(self._line.take(seat.number, 1, 1), seat, now_s, made)


def never_given_back(self: Dispatcher, bunch: Any, job: Any, outcome: Any) -> None:
    return None


def one_place_too_many(self: Any) -> int:
    return int(self.workers - self.bunches - self.lingering + 1)


def nobody_lingers(self: Any, running: int, now_s: float, most: int) -> None:
    self.lingering = 0


def no_second_try(self: BalancedService, job: Any, failures: Any) -> None:
    return None


def same_replica_again(self: Dispatcher, job: Any, seat: Any) -> Any:
    self._line.push(job)
    return job


def removes_nothing(self: Line, job: Any) -> bool:
    return False


def removes_what_is_taken(self: RequestQueue[Any], request: Any, remove: Any = RequestQueue.remove) -> bool:
    return sys._getframe(1).f_code.co_name == "take" and bool(remove(self, request))


def newest_alone(self: RequestQueue[Any]) -> list[Any]:
    newest = next(reversed(self._arrivals.values()), None)
    if newest is None:
        return []
    self.remove(newest)
    return [newest]


def waits_while_another_runs(self: RequestBatcher, now_s: float) -> float:
    return 0.125 if self._running else 0.0


def is_noticed(*runs: Callable[[asyncio.Runner, int], object]) -> bool:
    """Whether one of `runs` fails within 400 workloads."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        try:
            for seed in range(400):
                for run in runs:
                    run(runner, seed)
        except (AssertionError, TimeoutError):
            return True
    return False


WORKLOAD_MUTATIONS: dict[str, tuple[type, str, Any]] = {
    "last come, first served": (Job, "order", property(last_first)),
    "replicas stay busy for ever": (Dispatcher, "finish", never_given_back),
    "a place too many": (Seat, "places", property(one_place_too_many)),
    "abandoned work is forgotten": (Seat, "count_lingering", nobody_lingers),
    "no second try": (BalancedService, "_again", no_second_try),
    "the same replica is tried again": (Dispatcher, "again", same_replica_again),
    "cancelled requests run": (Line, "remove", removes_nothing),
    "the first replica gets everything": (Dispatcher, "_assign_late", first_seat_only),
}


@pytest.mark.parametrize("name", WORKLOAD_MUTATIONS)
def test_simulation_notices_a_broken_balancer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home, attribute, broken = WORKLOAD_MUTATIONS[name]
    monkeypatch.setattr(home, attribute, broken)
    assert is_noticed(run_workload)


BATCHER_MUTATIONS: dict[str, tuple[type, str, Any]] = {
    "cancelled requests run": (RequestQueue, "remove", removes_what_is_taken),
    "batches of one": (RequestQueue, "take", newest_alone),
    "one batch at a time": (RequestBatcher, "_hold_s", waits_while_another_runs),
}


@pytest.mark.parametrize("name", BATCHER_MUTATIONS)
def test_simulation_notices_a_broken_batcher(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home, attribute, broken = BATCHER_MUTATIONS[name]
    monkeypatch.setattr(home, attribute, broken)
    assert is_noticed(run_batcher_workload, run_batcher_deadlines)


def test_simulation_notices_a_balancer_that_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MeanTime, "expected_s", lambda *_: 1.0)
    assert excess([draw_load(seed, 60, same=False) for seed in range(150)]) > 0.05
