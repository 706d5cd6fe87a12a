"""Random workloads for a balancer and its batchers in virtual time, and what must hold of each.

Times are multiples of 1/8 s; what is read from the clock is rounded to a microsecond.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from virtual_replica import VirtualReplica, request

from tessera.program.errors import DeviceError, OverloadedError
from tessera.serve.balancing.balanced import BalancedService
from tessera.serve.balancing.settings import BalancerSettings


@dataclass
class Call:
    """One request and what became of it."""

    number: int
    arrival_s: float
    timeout_s: float | None = None
    cancel_s: float | None = None
    """After its arrival."""
    answers: list[Any] = field(default_factory=list)
    done_s: float = 0.0


@dataclass
class Fault:
    """A time in which a replica fails or hangs."""

    replica: int
    at_s: float
    for_s: float
    hangs: bool


@dataclass
class Workload:
    """Calls, replicas and their faults."""

    calls: list[Call]
    replicas: list[VirtualReplica]
    faults: list[Fault]
    settings: dict[str, Any]
    began_s: float = 0.0

    @property
    def is_calm(self) -> bool:
        """Whether no replica fails, no caller leaves and no deadline passes."""
        return not self.faults and not any(c.timeout_s or c.cancel_s for c in self.calls)


def eighths(draw: random.Random, low: int, high: int) -> float:
    return draw.randint(low, high) / 8


def draw_workload(seed: int) -> Workload:
    """One of every kind: calm ones, ones with deadlines and impatient callers, ones whose replicas fail."""
    draw = random.Random(seed)
    kind = draw.choice(["calm", "deadlines", "faults", "all"])
    count, most = draw.randint(2, 16), draw.choice([0, 8, 40])
    calls = [Call(n, eighths(draw, 0, most)) for n in range(count)]
    if kind in ("deadlines", "all"):
        for call in calls:
            if draw.random() < 0.5:
                call.timeout_s = eighths(draw, 2, 40)
            if draw.random() < 0.2:
                call.cancel_s = eighths(draw, 1, 24)
    replicas = [draw_replica(draw, n) for n in range(draw.randint(1, 4))]
    faults = []
    if kind in ("faults", "all"):
        for _ in range(draw.randint(1, 3)):
            at_s, for_s = eighths(draw, 0, 32), eighths(draw, 1, 80)
            faults.append(Fault(draw.randrange(len(replicas)), at_s, for_s, draw.random() < 0.3))
    settings = {
        "strategy": draw.choice(["least_loaded", "least_loaded", "round_robin", "latency_aware"]),
        "patience_s": draw.choice([0.5, 2.0, 1e6]),
        "max_tries": draw.choice([2, 4]),
        "slow_start_s": draw.choice([0.0, 2.0]),
        "stall_timeout_s": 16.0,
        "probe_timeout_s": 8.0,
        "breaker": {"failures_in_a_row": draw.choice([1, 3]), "open_s": 1.0, "max_open_s": 4.0},
    }
    return Workload(calls, replicas, faults, settings)


def draw_replica(draw: random.Random, number: int) -> VirtualReplica:
    base, each = eighths(draw, 1, 8), eighths(draw, 0, 2)
    size = draw.choice([1, 1, 2, 4])
    workers = draw.choice([1, 1, 2])
    return VirtualReplica(f"r{number}", lambda n: base + n * each, workers=workers, max_batch_size=size)


async def play(workload: Workload) -> BalancedService:
    """Run it. Every call's answers are noted."""
    loop = asyncio.get_running_loop()
    names = {replica.name: replica for replica in workload.replicas}
    service = BalancedService(names, BalancerSettings(**workload.settings), clock=loop.time)
    await service.load()
    for replica in workload.replicas:
        replica.started.clear()
    workload.began_s = loop.time()
    faults = [asyncio.create_task(fail(workload, fault)) for fault in workload.faults]
    asked = [asyncio.create_task(one(service, workload, call)) for call in workload.calls]
    _, lost = await asyncio.wait(asked, timeout=500)
    assert not lost, f"{len(lost)} requests were never answered"
    await asyncio.gather(*asked)
    await asyncio.gather(*faults)
    await asyncio.wait_for(service.drain(), 20)
    return service


async def one(service: BalancedService, workload: Workload, call: Call) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(workload.began_s + call.arrival_s - loop.time())

    async def ask() -> None:
        try:
            output = await service.infer(request(call.number), timeout_s=call.timeout_s)
            call.answers.append(int(np.asarray(output)[0, 0]))
        except asyncio.CancelledError:
            call.answers.append("cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - looked at by the checks
            call.answers.append(error)

    task = asyncio.create_task(ask())
    await asyncio.wait([task], timeout=call.cancel_s)
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    call.done_s = round(loop.time() - workload.began_s, 6)


async def fail(workload: Workload, fault: Fault) -> None:
    replica = workload.replicas[fault.replica]
    await asyncio.sleep(fault.at_s)
    if fault.hangs:
        gate = replica.stuck = asyncio.Event()
        await asyncio.sleep(fault.for_s)
        gate.set()
        if replica.stuck is gate:
            replica.stuck = None
    else:
        error = replica.error = DeviceError("away")
        await asyncio.sleep(fault.for_s)
        if replica.error is error:
            replica.error = None


def check(workload: Workload, service: BalancedService) -> None:
    """Everything that must hold, whatever the workload."""
    check_answers(workload)
    check_nothing_is_left(workload, service)
    if workload.settings["strategy"] == "least_loaded":
        if not workload.faults:
            check_order(workload)
        if workload.is_calm:
            check_nobody_idles(workload)


def starts(workload: Workload) -> dict[int, float]:
    """When each request first ran, after the beginning."""
    found: dict[int, float] = {}
    for replica in workload.replicas:
        for at_s, numbers in replica.started:
            for number in numbers:
                found[number] = min(found.get(number, 1e9), round(at_s - workload.began_s, 6))
    return found


def check_answers(workload: Workload) -> None:
    """Each request is answered once: well, or with an error that it may have; and never runs too late."""
    begun = starts(workload)
    faulty = {fault.replica for fault in workload.faults}
    # A request may be tried `max_tries` times: with as many sound replicas as that it must be answered.
    safe = len(faulty) < workload.settings["max_tries"] and len(faulty) < len(workload.replicas)
    for call in workload.calls:
        assert len(call.answers) == 1, f"request {call.number} has {len(call.answers)} answers"
        (answer,) = call.answers
        late = call.timeout_s is not None and call.done_s >= call.arrival_s + call.timeout_s
        if isinstance(answer, int):
            assert answer == call.number * 10, f"request {call.number} got another's answer"
            assert not late or call.done_s == call.arrival_s + (call.timeout_s or 0)
        elif answer == "cancelled":
            assert call.cancel_s is not None
        elif isinstance(answer, TimeoutError):
            assert late, f"request {call.number} timed out early"
        else:
            assert isinstance(answer, DeviceError | OverloadedError), repr(answer)
            assert not safe, f"request {call.number} failed though a replica was well: {answer!r}"
        if call.number in begun and call.timeout_s is not None:
            assert begun[call.number] < call.arrival_s + call.timeout_s, f"request {call.number} ran expired"
        if answer == "cancelled" and call.number in begun:
            assert begun[call.number] <= call.arrival_s + (call.cancel_s or 0.0)


def check_nothing_is_left(workload: Workload, service: BalancedService) -> None:
    """No queue, task or account holds anything of a request that is answered."""
    assert service.waiting == 0
    for row in service.replicas:
        assert row.requests == 0, row
    if not workload.faults:
        assert all(row.opened == 0 for row in service.replicas)
    sizes = [len(numbers) for replica in workload.replicas for _, numbers in replica.started]
    assert all(n <= max(r.max_batch_size for r in workload.replicas) for n in sizes)


def check_order(workload: Workload) -> None:
    """Requests start in the order of their ranks, so nobody waits for one that came after their patience."""
    begun = starts(workload)
    patience_s = workload.settings["patience_s"]
    rank = {c.number: c.arrival_s + min(patience_s, c.timeout_s or 1e9) for c in workload.calls}
    by_number = {call.number: call for call in workload.calls}
    for late, late_s in begun.items():
        for early, early_s in begun.items():
            overtakes = by_number[late].arrival_s < early_s < late_s
            assert not overtakes or rank[early] <= rank[late], f"request {early} overtook {late}"


def check_nobody_idles(workload: Workload) -> None:
    """While a request waits, every replica runs as many batches as it may."""
    begun = starts(workload)
    for call in workload.calls:
        waits_from, waits_to = call.arrival_s, begun[call.number]
        for replica in workload.replicas:
            begins = [(round(at_s - workload.began_s, 6), len(numbers)) for at_s, numbers in replica.started]
            spans = [(begin, begin + replica.seconds(count)) for begin, count in begins]
            for at_s in {waits_from, *(end for _, end in spans)}:
                if waits_from <= at_s < waits_to:
                    running = sum(begin <= at_s < end for begin, end in spans)
                    assert running == replica.workers, (
                        f"{replica.name} idled at {at_s} while request {call.number} waited"
                    )


def run_workload(runner: asyncio.Runner, seed: int) -> Workload:
    """Draw, run and check one."""
    workload = draw_workload(seed)

    async def main() -> None:
        service = await play(workload)
        check(workload, service)
        service.abort()
        await asyncio.sleep(0)

    runner.run(main())
    return workload
