"""The circuit breaker: when it opens, what it lets through, and how it guards a function."""

import asyncio
import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.deploy import CircuitBreaker
from tessera.program.errors import ConfigError, DeviceError, InputError, OverloadedError
from tessera.serve.balancing.breaker import BreakerState


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(**settings: Any) -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    return CircuitBreaker(clock=clock, **settings), clock


def fail(breaker: CircuitBreaker, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        clock.now += 0.001
        breaker.failed()


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    breaker, clock = make(failures_in_a_row=3)
    for _ in range(10):
        fail(breaker, clock, 2)
        breaker.succeeded()
        breaker.succeeded()
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, clock, 3)
    assert (breaker.state, breaker.allow(), breaker.opened) == (BreakerState.OPEN, False, 1)


def test_failure_rate_opens_it_once_there_are_enough_calls_in_the_window() -> None:
    breaker, clock = make(failures_in_a_row=100, failure_rate=0.5, min_calls=10, window_s=5.0)
    for _ in range(4):
        fail(breaker, clock)
        breaker.succeeded()
    clock.now += 6.0
    for _ in range(4):
        fail(breaker, clock)
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED, "the first eight calls are out of the window"
    breaker.succeeded()
    fail(breaker, clock)
    assert breaker.state is BreakerState.OPEN


def test_trial_decides_and_the_time_between_trials_doubles() -> None:
    breaker, clock = make(failures_in_a_row=1, open_s=1.0, max_open_s=3.0)
    fail(breaker, clock)
    opened_s = clock.now
    for open_s in (1.0, 2.0, 3.0, 3.0):
        clock.now = opened_s + open_s - 0.01
        assert not breaker.allow()
        assert breaker.retry_after_s == pytest.approx(0.01)
        clock.now = opened_s + open_s
        assert breaker.state is BreakerState.HALF_OPEN
        assert breaker.allow()
        assert not breaker.allow(), "one trial at a time"
        opened_s = clock.now
        breaker.failed()
    clock.now += 3.0
    assert breaker.allow()
    breaker.succeeded()
    assert (breaker.state, breaker.retry_after_s) == (BreakerState.CLOSED, 0.0)
    fail(breaker, clock)
    assert breaker.retry_after_s == 1.0, "it begins with the shortest time again"


def test_trial_that_is_never_heard_of_is_over_after_a_while() -> None:
    breaker, clock = make(failures_in_a_row=1, open_s=2.0)
    fail(breaker, clock)
    clock.now += 2.0
    assert breaker.allow()
    clock.now += 1.9
    assert not breaker.allow()
    clock.now += 0.2
    assert breaker.allow()


def test_calls_that_were_under_way_count_once() -> None:
    breaker, clock = make(failures_in_a_row=2)
    began_s = clock.now
    clock.now = 1.0
    for _ in range(32):
        breaker.failed(began_s)
        clock.now += 0.001
    assert breaker.state is BreakerState.CLOSED
    breaker.failed(clock.now)
    assert breaker.state is BreakerState.OPEN
    clock.now += 1.0
    assert breaker.allow()
    breaker.failed(began_s)
    assert breaker.state is BreakerState.HALF_OPEN, "an old call says nothing of the trial"


def test_late_success_does_not_close_it() -> None:
    breaker, clock = make(failures_in_a_row=1)
    fail(breaker, clock)
    breaker.succeeded()
    assert breaker.state is BreakerState.OPEN


@given(st.integers(0, 10**6))
def test_whatever_happens_at_most_one_trial_runs_and_it_never_stays_open(seed: int) -> None:
    draw = random.Random(seed)
    breaker, clock = make(failures_in_a_row=2, min_calls=4, open_s=1.0, max_open_s=4.0)
    for _ in range(200):
        clock.now += draw.choice([0.0, 0.01, 0.5, 2.0])
        if breaker.allow():
            trial = breaker.state is not BreakerState.CLOSED
            assert not (trial and breaker.allow())
            (breaker.failed if draw.random() < 0.5 else breaker.succeeded)()
        else:
            assert 0 < breaker.retry_after_s < 4.001
    clock.now += 4.001
    assert breaker.allow()


async def test_protect_stops_calling_async_functions_that_fail() -> None:
    breaker, clock = make(failures_in_a_row=2, open_s=7.0)
    calls: list[int] = []

    @breaker.protect
    async def predict(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0)
        if number == 0:
            raise InputError("0")
        if number < 0:
            raise DeviceError("away")
        return number

    assert await predict(1) == 1
    for number in (0, 0, 0):
        with pytest.raises(InputError):
            await predict(number)
    for number in (-1, -2):
        clock.now += 1.0
        with pytest.raises(DeviceError):
            await predict(number)
    with pytest.raises(OverloadedError, match="predict keeps failing") as caught:
        await predict(5)
    assert (caught.value.retry_after_s, calls) == (7, [1, 0, 0, 0, -1, -2])
    clock.now += 7.0
    assert await predict(6) == 6
    assert breaker.state is BreakerState.CLOSED


def test_protect_counts_what_it_is_told_to_count() -> None:
    breaker, _ = make(failures_in_a_row=1, counts=lambda error: isinstance(error, TimeoutError))

    @breaker.protect
    def slow(error: Exception) -> None:
        raise error

    with pytest.raises(DeviceError):
        slow(DeviceError("away"))
    with pytest.raises(TimeoutError):
        slow(TimeoutError())
    with pytest.raises(OverloadedError):
        slow(TimeoutError())


def test_threads_may_share_it() -> None:
    breaker = CircuitBreaker(failures_in_a_row=10**6, min_calls=10**6)

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(500):
            if breaker.allow():
                (breaker.failed if draw.random() < 0.5 else breaker.succeeded)()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    "setting",
    [
        {"failures_in_a_row": 0},
        {"failure_rate": 1.5},
        {"min_calls": True},
        {"open_s": 0},
        {"window_s": float("nan")},
    ],
)
def test_settings_that_cannot_be_are_named(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        CircuitBreaker(**setting)
