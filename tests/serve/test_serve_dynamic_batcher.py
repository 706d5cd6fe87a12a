"""The guide's batcher: padding, holding back, errors, and its promises in simulated time."""

import asyncio
import contextvars
import gc
import random
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.errors import ConfigError, DeviceError, InputError, OverloadedError, ServeError
from tessera.serve import DynamicBatcher


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(**settings: Any) -> tuple[DynamicBatcher, Clock]:
    clock = Clock()
    return DynamicBatcher(clock=clock, **{"max_batch_size": 4, "padding_strategy": "zero", **settings}), clock


def values(rng: np.random.Generator, *lengths: int) -> list[np.ndarray[Any, Any]]:
    return [rng.standard_normal((n, 3)).astype(np.float32) for n in lengths]


@pytest.mark.parametrize("strategy", ["zero", "replicate", "efficient"])
def test_get_batch_pads_to_the_longest_and_results_are_cut_back(
    strategy: str, rng: np.random.Generator
) -> None:
    batcher, _ = make(padding_strategy=strategy)
    arrays = values(rng, 5, 7, 4)
    answers = [batcher.add_request(x) for x in arrays]
    assert batcher.should_process()
    batch = batcher.get_batch()
    assert (len(batch), batch.lengths, np.asarray(batch).shape) == (3, (5, 7, 4), (3, 7, 3))
    for row, own, x in zip(np.asarray(batch), batch.mask, arrays, strict=True):
        np.testing.assert_array_equal(row[own], x)
        fill = np.broadcast_to(x[-1] if strategy == "replicate" else 0, row[~own].shape)
        np.testing.assert_array_equal(row[~own], fill)
    batcher.return_results(np.asarray(batch) * 2)
    for answer, x in zip(answers, arrays, strict=True):
        np.testing.assert_array_equal(answer.result(0), x * 2)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.booleans())
def test_efficient_padding_is_less_than_half_whatever_the_lengths(lengths: list[int], sort: bool) -> None:
    batcher, _ = make(padding_strategy="efficient", enable_sorting=sort, max_batch_size=8)
    arrays = [np.full(n, i + 1.5) for i, n in enumerate(lengths)]
    answers = [batcher.add_request(x) for x in arrays]
    while batcher.should_process():
        batch = batcher.get_batch()
        assert batch.mask.size == 0 or batch.mask.mean() > 0.5
        if sort:
            assert list(batch.lengths) == sorted(batch.lengths, reverse=True)
        batcher.return_results({"y": -np.asarray(batch), "n": batch.mask.sum(axis=1)})
    for answer, x in zip(answers, arrays, strict=True):
        np.testing.assert_array_equal(answer.result(0)["y"], -x)
        assert answer.result(0)["n"] == len(x)


def test_get_batch_mappings_scalars_and_kinds_do_not_mix(rng: np.random.Generator) -> None:
    batcher, _ = make()
    x, y = values(rng, 2, 3)
    named = [batcher.add_request({"x": v, "scale": 0.5 + i}) for i, v in enumerate((x, y))]
    other = batcher.add_request(x.astype(np.float64))
    single = batcher.add_request(1.5)
    sizes = []
    while batcher.should_process():
        batch = batcher.get_batch()
        sizes.append(len(batch))
        inputs = batch.inputs
        if isinstance(inputs, dict):
            batcher.return_results(inputs["x"] * inputs["scale"][:, None, None])
        else:
            batcher.return_results(inputs)
    assert sizes == [2, 1, 1]
    np.testing.assert_allclose(named[1].result(0), y * 1.5)
    assert other.result(0).dtype == np.float64
    assert single.result(0) == 1.5


@pytest.mark.parametrize(
    ("request_", "more", "message"),
    [
        ([[1, 2], [3]], {}, "cannot be made an array"),
        ("text", {}, "type <U4"),
        ({}, {}, "no inputs"),
        ({"a": [1, 2], "b": [1]}, {}, r"different lengths.*a: 2, b: 1"),
        ([1], {"priority": 11}, "priority is 11"),
        ([1], {"deadline_ms": float("nan")}, "deadline_ms is nan"),
    ],
)
def test_add_request_refuses_what_cannot_be(request_: Any, more: Any, message: str) -> None:
    batcher, _ = make()
    with pytest.raises(InputError, match=message):
        batcher.add_request(request_, **more)
    assert batcher.waiting == 0


@pytest.mark.parametrize(
    "setting",
    [{"padding_strategy": "best"}, {"max_batch_size": 0}, {"max_latency_ms": -1}, {"max_queue": True}],
)
def test_settings_that_cannot_be_are_named(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        make(**setting)


def test_should_process_in_a_loop_holds_until_full_late_or_due() -> None:
    batcher, clock = make(max_batch_size=2, max_latency_ms=10)
    assert not batcher.wait_ready(0)
    batcher.add_request([1.0])
    clock.now = 0.009
    assert not batcher.should_process()
    batcher.add_request([2.0])
    assert batcher.should_process()
    batch = batcher.get_batch()
    clock.now += 0.020
    batcher.return_results(np.asarray(batch))
    batcher.add_request([3.0])
    clock.now += 0.011
    assert batcher.should_process()
    batcher.return_results(batcher.get_batch())
    # The last batches took up to 20 ms: a deadline in 25 ms presses after 5.
    batcher.add_request([4.0], deadline_ms=25)
    assert not batcher.should_process()
    clock.now += 0.0075
    assert batcher.should_process()


def test_deadline_that_passed_is_a_time_out_and_never_runs() -> None:
    batcher, clock = make()
    late = batcher.add_request([1.0], deadline_ms=5)
    clock.now = 0.006
    assert not batcher.should_process()
    with pytest.raises(TimeoutError, match="after 6 ms"):
        late.result(0)


def test_queue_is_bounded_and_cancelled_requests_leave_it() -> None:
    batcher, _ = make(max_queue=2)
    first, second = batcher.add_request([1.0]), batcher.add_request([2.0])
    with pytest.raises(OverloadedError, match="2 requests are waiting"):
        batcher.add_request([3.0])
    assert first.cancel()
    third = batcher.add_request([3.0])
    assert batcher.process(lambda batch: batch) == 2
    assert (second.result(0), third.result(0)) == ([2.0], [3.0])


def test_close_answers_those_that_wait() -> None:
    batcher, _ = make()
    answer = batcher.add_request([1.0])
    batcher.close()
    with pytest.raises(OverloadedError):
        answer.result(0)
    with pytest.raises(OverloadedError):
        batcher.add_request([1.0])
    assert not batcher.wait_ready()


def test_errors_reach_every_request_also_when_the_batch_is_dropped() -> None:
    batcher, _ = make()
    first, second = batcher.add_request([1.0]), batcher.add_request([2.0])

    def fail(batch: object) -> object:
        raise DeviceError("the device is gone", hint="plug it in")

    assert batcher.process(fail) == 2
    for answer in (first, second):
        with pytest.raises(DeviceError, match="the device is gone"):
            answer.result(0)
    assert first.exception() is not second.exception()
    dropped = batcher.add_request([3.0])
    contextvars.copy_context().run(batcher.get_batch)
    gc.collect()
    with pytest.raises(ServeError, match="dropped without results"):
        dropped.result(0)
    lost = batcher.add_request([4.0])
    batcher.get_batch()
    kept = batcher.add_request([5.0])
    batcher.return_results(np.asarray(batcher.get_batch()))
    assert kept.result(0) == [5.0]
    assert isinstance(lost.exception(0), ServeError)
    assert batcher.running == 0


def test_return_results_of_the_wrong_count_is_told_to_all() -> None:
    batcher, _ = make()
    answers = [batcher.add_request([1.0]) for _ in range(3)]
    batch = batcher.get_batch()
    with pytest.raises(ServeError, match="3 requests, but 2 results"):
        batcher.return_results(np.asarray(batch)[:2])
    for answer in answers:
        with pytest.raises(ServeError):
            answer.result(0)
    answer = batcher.add_request([1.0])
    assert batcher.process(lambda batch: [[1.0], [2.0]]) == 1
    with pytest.raises(ServeError, match="1 requests, but 2 results"):
        answer.result(0)
    assert batcher.running == 0
    with pytest.raises(ServeError, match="has no batch"):
        batcher.return_results([])
    with pytest.raises(ServeError, match="no request waits"):
        batcher.get_batch()


async def test_results_find_the_batch_of_their_own_task() -> None:
    batcher, _ = make()

    async def one(value: float, delay_s: float) -> Any:
        answer = batcher.add_request([value])
        batch = batcher.get_batch()
        await asyncio.sleep(delay_s)
        batcher.return_results(np.asarray(batch) * 10)
        return await answer

    assert await asyncio.gather(one(1.0, 0.02), one(2.0, 0.0)) == [[10.0], [20.0]]


async def test_task_that_fails_answers_its_batch_at_once() -> None:
    batcher, _ = make()
    answer = batcher.add_request([1.0])

    async def fail() -> None:
        held.append(batcher.get_batch())
        raise DeviceError("the device is gone")

    held: list[Any] = []
    with pytest.raises(DeviceError):
        await asyncio.create_task(fail())
    with pytest.raises(ServeError, match="dropped without results"):
        await asyncio.wait_for(answer, 10)
    assert batcher.running == 0


def test_threads_with_one_loop_all_get_their_own_answer() -> None:
    batcher = DynamicBatcher(max_batch_size=8, max_latency_ms=1, padding_strategy="efficient")
    sizes: list[int] = []

    def loop() -> None:
        while batcher.wait_ready():
            sizes.append(batcher.process(lambda batch: np.asarray(batch) * 3))

    def client(seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(25):
            x = draw.standard_normal(draw.integers(1, 20))
            np.testing.assert_array_equal(batcher.add_request(x).result(30), x * 3)
            done.append(seed)

    done: list[int] = []
    server = threading.Thread(target=loop)
    clients = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for thread in (server, *clients):
        thread.start()
    for thread in clients:
        thread.join()
    batcher.close()
    server.join(10)
    assert not server.is_alive()
    assert len(done) == sum(sizes) == 200


@dataclass(frozen=True)
class Job:
    arrival: int
    deadline: int | None
    priority: int = 0
    length: int = 1


def simulate(jobs: list[Job], **settings: Any) -> tuple[list[list[int]], dict[int, int], list[int]]:
    """Batches of job numbers, when each job started, and which timed out; a batch takes one second."""
    batcher, clock = make(**settings)
    answers: dict[int, Any] = {}
    batches: list[list[int]] = []
    started: dict[int, int] = {}
    pending = sorted(enumerate(jobs), key=lambda job: job[1].arrival)
    for now in range(1000):
        clock.now = float(now)
        while pending and pending[0][1].arrival <= now:
            number, job = pending.pop(0)
            due_ms = None if job.deadline is None else (job.deadline - job.arrival) * 1000.0
            answers[number] = batcher.add_request(
                np.full(job.length, number), priority=job.priority, deadline_ms=due_ms
            )
        if batcher.should_process():
            batch = batcher.get_batch()
            batches.append([int(row[0]) for row in np.asarray(batch)])
            started.update(dict.fromkeys(batches[-1], now))
            batcher.return_results(np.asarray(batch))
        if not pending and not batcher.waiting:
            break
    late = [n for n, a in answers.items() if a.exception(0) is not None]
    assert sorted([*started, *late]) == list(range(len(jobs))), "every request is answered once"
    assert all((answers[n].result(0) == n).all() for n in started)
    return batches, started, late


def is_feasible(jobs: list[Job], size: int) -> bool:
    """Hall's condition: no window of time holds more work than fits, for jobs of one second."""
    with_deadline = [(j.arrival, j.deadline) for j in jobs if j.deadline is not None]
    return all(
        sum(r <= a and d <= e for a, d in with_deadline) <= size * (e - r)
        for r in {a for a, _ in with_deadline}
        for e in {d for _, d in with_deadline}
        if e > r
    )


def check_deadlines(seed: int) -> bool:
    draw = random.Random(seed)
    size = draw.randint(1, 4)
    jobs = []
    for _ in range(draw.randint(1, 14)):
        arrival = draw.randint(0, 3)
        due = arrival + draw.randint(1, 4) if draw.random() < 0.8 else None
        jobs.append(Job(arrival, due, draw.randint(-2, 2)))
    feasible = is_feasible(jobs, size)
    _, started, late = simulate(jobs, max_batch_size=size, patience_ms=1e6)
    assert not (feasible and late), (seed, jobs, late)
    assert all(jobs[n].deadline is None or t < jobs[n].deadline for n, t in started.items())
    return feasible


def check_fairness(seed: int) -> None:
    draw = random.Random(seed)
    patience = draw.randint(1, 8)
    jobs = [
        Job(draw.randint(0, 12), None, draw.choice([0, 0, 0, 1, -1, 3]), draw.choice([1, 2, 4, 9]))
        for _ in range(draw.randint(2, 24))
    ]
    strategy = draw.choice(["zero", "efficient"])
    batches, started, late = simulate(
        jobs,
        max_batch_size=draw.randint(1, 4),
        patience_ms=patience * 1000.0,
        padding_strategy=strategy,
        enable_sorting=draw.random() < 0.5,
    )
    assert not late
    rank = [j.arrival + patience * 2.0**-j.priority for j in jobs]
    for batch in batches:
        # The lowest rank of all that wait goes, so nobody waits for one that came after their patience.
        now = started[batch[0]]
        waiting = [n for n in range(len(jobs)) if jobs[n].arrival <= now <= started[n]]
        assert min(rank[n] for n in batch) == min(rank[n] for n in waiting), (seed, batch)
    for a, b in ((a, b) for a in range(len(jobs)) for b in range(len(jobs))):
        alike = jobs[a].priority == jobs[b].priority and jobs[a].length == jobs[b].length
        if alike and jobs[a].arrival < jobs[b].arrival:
            assert started[a] <= started[b], (seed, a, b)
        if jobs[b].arrival > rank[a] and jobs[b].length == jobs[a].length:
            assert started[a] <= started[b], (seed, a, b)


def test_simulated_deadlines_are_kept_when_a_schedule_exists() -> None:
    feasible = sum(check_deadlines(seed) for seed in range(500))
    assert 100 < feasible < 450


def test_simulated_workloads_starve_nobody_and_keep_the_order() -> None:
    for seed in range(500):
        check_fairness(seed)


@pytest.mark.slow
def test_simulated_10000_workloads_keep_deadlines_order_and_everyone() -> None:
    for seed in range(1000, 11_000):
        check_deadlines(seed)
        check_fairness(seed)
