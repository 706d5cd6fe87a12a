"""Random workloads for the server's batcher alone, in virtual time: kinds, sizes, impatient callers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tessera.serve.batcher import RequestBatcher, Ticket

TIE_S = 2.0**-16
"""A batch ends this much after the requests that come at the same time: so they are in the next one."""


@dataclass
class Ask:
    """One request and what became of it."""

    number: int
    arrival_s: float
    rows: int
    key: str | None
    timeout_s: float | None
    cancel_s: float | None
    answers: list[Any] = field(default_factory=list)


@dataclass
class Run:
    """One batch."""

    at_s: float
    end_s: float
    numbers: list[int]


def draw_asks(draw: random.Random) -> list[Ask]:
    keys = draw.choice([["a"], ["a", "b"], ["a", "b", None]])
    leaves = draw.random() < 0.5
    return [
        Ask(
            number,
            draw.randint(0, draw.choice([0, 8, 40])) / 8,
            draw.randint(1, 6),
            draw.choice(keys),
            draw.randint(1, 40) / 8 if leaves and draw.random() < 0.4 else None,
            draw.randint(1, 24) / 8 if leaves and draw.random() < 0.3 else None,
        )
        for number in range(draw.randint(1, 24))
    ]


async def play_asks(
    asks: Sequence[Ask], size: int, workers: int, seconds: float, each_s: float = 0.0
) -> list[Run]:
    """Run them; the batches in the order they began."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    runs: list[Run] = []

    def now() -> float:
        return round(loop.time() - began_s, 6)

    async def run(batch: Sequence[Ticket]) -> list[dict[str, Any]]:
        numbers = [int(ticket.inputs["n"]) for ticket in batch]
        runs.append(Run(now(), now() + seconds + each_s * len(batch), numbers))
        await asyncio.sleep(seconds + each_s * len(batch))
        return [{"n": ticket.inputs["n"]} for ticket in batch]

    batcher = RequestBatcher(run, max_batch_size=size, max_queue=1000, workers=workers, clock=loop.time)

    async def one(ask: Ask) -> None:
        await asyncio.sleep(began_s + ask.arrival_s - loop.time())

        async def wait() -> None:
            try:
                inputs = {"n": np.array(ask.number)}
                more = {"rows": ask.rows, "key": ask.key, "timeout_s": ask.timeout_s}
                ask.answers.append(int((await batcher.submit(inputs, **more))["n"]))
            except (asyncio.CancelledError, TimeoutError) as error:
                ask.answers.append(type(error).__name__)

        task = asyncio.create_task(wait())
        await asyncio.wait([task], timeout=ask.cancel_s)
        task.cancel()
        await asyncio.wait([task])

    await asyncio.gather(*(one(ask) for ask in asks))
    await batcher.drain()
    assert batcher.waiting == batcher.running == 0
    return runs


def check_asks(asks: Sequence[Ask], runs: Sequence[Run], size: int, workers: int) -> None:
    """Everybody is answered once, batches are of one kind and fit, nobody is overtaken, nobody idles."""
    begun = {number: run.at_s for run in runs for number in run.numbers}
    assert len(begun) == sum(len(run.numbers) for run in runs), "no request runs twice"
    for ask in asks:
        assert len(ask.answers) == 1
        (answer,) = ask.answers
        left_s = min(ask.arrival_s + (t or 1e9) for t in (ask.timeout_s, ask.cancel_s))
        if isinstance(answer, int):
            assert answer == ask.number
        else:
            assert ask.cancel_s if answer == "CancelledError" else ask.timeout_s
            assert begun.get(ask.number, 0.0) <= left_s, f"request {ask.number} ran for nobody"
    for run in runs:
        members = [asks[number] for number in run.numbers]
        assert len({ask.key for ask in members}) == 1
        assert len(members) == 1 or (members[0].key is not None and sum(a.rows for a in members) <= size)
        # The oldest of all that wait is in the next batch, and the batch is of the oldest of its kind.
        waiting = [a for a in asks if a.arrival_s < run.at_s and run.at_s < begun.get(a.number, -1.0)]
        assert all(a.arrival_s >= members[0].arrival_s for a in waiting)
        alike = [a for a in waiting if a.key is not None and a.key == members[0].key]
        assert all(a.arrival_s >= m.arrival_s for a in alike for m in members)
    for ask in asks:
        if ask.number in begun:
            for at_s in {ask.arrival_s, *(r.end_s for r in runs)}:
                if ask.arrival_s <= at_s < begun[ask.number]:
                    running = sum(r.at_s <= at_s < r.end_s for r in runs)
                    assert running == workers, f"a worker idled at {at_s} while {ask.number} waited"


def run_batcher_workload(runner: asyncio.Runner, seed: int) -> None:
    """Draw, run and check one."""
    draw = random.Random(seed)
    asks = draw_asks(draw)
    size, workers = draw.choice([1, 4, 8]), draw.randint(1, 3)
    seconds, each_s = draw.randint(1, 8) / 8, draw.randint(0, 2) / 8
    runs = runner.run(play_asks(asks, size, workers, seconds, each_s))
    check_asks(asks, runs, size, workers)


def run_batcher_deadlines(runner: asyncio.Runner, seed: int) -> bool:
    """Requests of equal patience and batches of one second: kept where any schedule keeps them.

    With equal patience the order of arrival is that of the deadlines, in which unit jobs meet every
    deadline if they can be met at all. Says whether they can.
    """
    draw = random.Random(seed)
    size, workers, patience = draw.randint(1, 4), draw.randint(1, 2), draw.randint(1, 4)
    arrivals = [draw.randint(0, 5) for _ in range(draw.randint(1, 16))]
    asks = [Ask(n, float(t), 1, "a", patience + 0.5, None) for n, t in enumerate(arrivals)]
    runs = runner.run(play_asks(asks, size, workers, 1.0 + TIE_S))
    feasible = fits([(t, t + patience) for t in arrivals], size * workers)
    late = [ask.number for ask in asks if not isinstance(ask.answers[0], int)]
    assert not (feasible and late), f"{late} were late though all could have been in time"
    assert runs
    return feasible


def fits(windows: Sequence[tuple[int, int]], capacity: int) -> bool:
    """Whether unit jobs with whole release times and deadlines fit: no window holds more than it can.

    Source: P. Hall's theorem for the bipartite graph of jobs and places; exact for whole numbers.
    """
    return all(
        sum(r <= a and d <= e for a, d in windows) <= capacity * (e - r)
        for r in {a for a, _ in windows}
        for e in {d for _, d in windows}
        if e > r
    )
