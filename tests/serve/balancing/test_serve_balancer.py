"""A balancer in virtual time: who gets what, and what becomes of requests whose replica fails."""

import asyncio
from typing import Any

import numpy as np
import pytest
from virtual_replica import VirtualReplica, request

from tessera.program.errors import (
    ConfigError,
    DeviceError,
    InputError,
    OutOfMemoryError,
    OverloadedError,
    ServeError,
)
from tessera.serve.balancing.balanced import BalancedService
from tessera.serve.balancing.member import ReplicaState
from tessera.serve.balancing.settings import BalancerSettings


async def balanced(*replicas: VirtualReplica, **settings: Any) -> BalancedService:
    clock = asyncio.get_running_loop().time
    names = {replica.name: replica for replica in replicas}
    service = BalancedService(names, BalancerSettings(**settings), clock=clock)
    await service.load()
    return service


async def ask(service: BalancedService, number: int, **more: Any) -> int:
    output = await service.infer(request(number), **more)
    return int(np.asarray(output)[0, 0])


def numbers(replica: VirtualReplica) -> list[int]:
    return [n for _, batch in replica.started for n in batch]


def states(service: BalancedService) -> list[str]:
    return [row.state.value for row in service.replicas]


def test_least_loaded_runs_two_requests_side_by_side_and_the_third_where_it_is_free_first(
    virtual_time: asyncio.Runner,
) -> None:
    async def main() -> None:
        slow, fast = VirtualReplica("slow", lambda n: 3.0), VirtualReplica("fast", lambda n: 1.0)
        service = await balanced(slow, fast)
        began_s = asyncio.get_running_loop().time()
        assert await asyncio.gather(*(ask(service, n) for n in range(4))) == [0, 10, 20, 30]
        assert asyncio.get_running_loop().time() == began_s + 3.0
        assert len(numbers(slow)) == 1
        # Now that both are measured, a lone request goes to the fast one.
        for n in range(4, 8):
            await ask(service, n)
        assert len(numbers(slow)) == 1

    virtual_time.run(main())


def test_requests_of_one_moment_share_batches_evenly(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        replicas = [VirtualReplica(f"r{n}", max_batch_size=4) for n in range(2)]
        service = await balanced(*replicas)
        await asyncio.gather(*(ask(service, n) for n in range(14)))
        sizes = [[len(batch) for _, batch in replica.started] for replica in replicas]
        assert sizes == [[4, 3], [4, 3]]

    virtual_time.run(main())


def test_request_with_many_rows_counts_as_many(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        replicas = [VirtualReplica(f"r{n}", max_batch_size=4) for n in range(2)]
        service = await balanced(*replicas)
        await asyncio.gather(*(service.infer(request(n, rows=3)) for n in range(4)))
        assert [len(replica.started) for replica in replicas] == [2, 2]

    virtual_time.run(main())


def test_round_robin_takes_turns_and_latency_aware_avoids_the_slow(virtual_time: asyncio.Runner) -> None:
    async def main(strategy: str) -> list[int]:
        replicas = [VirtualReplica(f"r{n}", lambda _, s=1.0 + 8 * (n == 0): s) for n in range(3)]
        service = await balanced(*replicas, strategy=strategy)
        for n in range(12):
            await asyncio.gather(ask(service, 2 * n), ask(service, 2 * n + 1))
        return [len(numbers(replica)) for replica in replicas]

    assert virtual_time.run(main("round_robin")) == [8, 8, 8]
    slow, *fast = virtual_time.run(main("latency_aware"))
    assert slow <= 3
    assert sum(fast) == 24 - slow


def test_strategy_changes_while_requests_run_and_unknown_ones_are_refused(
    virtual_time: asyncio.Runner,
) -> None:
    async def main() -> None:
        service = await balanced(VirtualReplica("a"), VirtualReplica("b"))
        first = [asyncio.create_task(ask(service, n)) for n in range(5)]
        await asyncio.sleep(0.5)
        service.set_strategy("round_robin")
        assert await asyncio.gather(*first) == [0, 10, 20, 30, 40]
        with pytest.raises(ConfigError, match="no strategy 'random'") as caught:
            service.set_strategy("random")
        assert "least_loaded" in str(caught.value)

    virtual_time.run(main())


@pytest.mark.parametrize("strategy", ["least_loaded", "round_robin", "latency_aware"])
@pytest.mark.parametrize("error", [DeviceError("the GPU has fallen off the bus"), ServeError("no")])
def test_request_that_a_replica_fails_is_answered_by_another(
    virtual_time: asyncio.Runner, strategy: str, error: Exception
) -> None:
    async def main() -> None:
        bad, good = VirtualReplica("bad"), VirtualReplica("good")
        service = await balanced(bad, good, strategy=strategy)
        bad.error = error
        assert await asyncio.gather(*(ask(service, n) for n in range(6))) == [10 * n for n in range(6)]
        assert sorted(good.finished) == list(range(6))
        assert numbers(bad)

    virtual_time.run(main())


def test_wrong_input_is_refused_at_once_and_counts_against_nobody(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        replica = VirtualReplica("a")
        service = await balanced(replica, breaker={"failures_in_a_row": 1})
        with pytest.raises(InputError, match="'x'"):
            await service.infer([["text"]])
        assert not replica.started
        replica.error = InputError("input 'x' is out of range")
        with pytest.raises(InputError):
            await ask(service, 1)
        assert (len(replica.started), states(service)) == (1, ["ready"])

    virtual_time.run(main())


def test_broken_replica_is_left_alone_tried_and_taken_back_slowly(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bad = VirtualReplica("bad", lambda n: 0.1, max_batch_size=20)
        good = VirtualReplica("good", lambda n: 0.1, max_batch_size=20)
        service = await balanced(bad, good, breaker={"failures_in_a_row": 3, "open_s": 2.0})
        bad.error = DeviceError("the GPU has fallen off the bus")
        for n in range(20):
            await asyncio.gather(ask(service, n), ask(service, n))
        (row, _) = service.replicas
        assert (row.state, row.reason, row.opened) == (
            ReplicaState.BROKEN,
            "the GPU has fallen off the bus",
            1,
        )
        asked, probes = len(bad.started), bad.probes
        await asyncio.sleep(2.0)
        assert (len(bad.started), bad.probes) == (asked, probes + 1)
        bad.error = None
        # The first trial failed: the next comes after twice the time.
        await asyncio.sleep(4.5)
        assert states(service) == ["ready", "ready"]
        back_s = loop.time()
        for begins_s in (0.0, 4.0, 12.0):
            await asyncio.sleep(max(0.0, back_s + begins_s - loop.time()))
            await asyncio.gather(*(ask(service, n) for n in range(40)))
        largest = [max(len(b) for at, b in bad.started if -0.1 < at - back_s - lo < 3) for lo in (0, 4, 12)]
        assert largest[0] <= 5 < largest[1] < largest[2] == 20

    virtual_time.run(main())


def test_all_replicas_broken_is_503_with_the_time_of_the_next_trial(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        replicas = [VirtualReplica(f"cuda:{n}") for n in range(2)]
        service = await balanced(*replicas, breaker={"failures_in_a_row": 1, "open_s": 5.0})
        for replica in replicas:
            replica.error = DeviceError("away")
        waiting = [asyncio.create_task(ask(service, n)) for n in range(6)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(r) for r in results} <= {DeviceError, OverloadedError}
        with pytest.raises(OverloadedError, match="cuda:0 is broken, cuda:1 is broken") as caught:
            await ask(service, 7)
        assert 4 <= caught.value.retry_after_s <= 5
        for replica in replicas:
            replica.error = None
        await asyncio.sleep(7)
        assert await ask(service, 8) == 80

    virtual_time.run(main())


def test_request_that_every_replica_fails_takes_none_out_of_service(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        replicas = [VirtualReplica(f"r{n}") for n in range(3)]
        service = await balanced(*replicas, breaker={"failures_in_a_row": 1})
        for error in (ServeError("inference failed: ValueError"), OutOfMemoryError("1 TB")):
            for replica in replicas:
                replica.error = error
            with pytest.raises(type(error)):
                await ask(service, 1)
        assert states(service) == ["ready"] * 3
        assert [len(r.started) for r in replicas] == [2, 2, 2]

    virtual_time.run(main())


def test_stuck_replica_loses_its_requests_to_others_and_is_loaded_anew(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        stuck, good = VirtualReplica("stuck"), VirtualReplica("good")
        service = await balanced(stuck, good, stall_timeout_s=10.0)
        stuck.stuck = asyncio.Event()
        assert await asyncio.gather(*(ask(service, n) for n in range(6))) == [10 * n for n in range(6)]
        assert sorted(good.finished) == list(range(6))
        assert states(service) == ["broken", "ready"]
        stuck.stuck.set()
        await asyncio.sleep(10)
        assert (states(service), stuck.loads) == (["ready", "ready"], 2)

    virtual_time.run(main())


def test_caller_that_gave_up_leaves_its_replica_busy_until_that_has_ended(
    virtual_time: asyncio.Runner,
) -> None:
    async def main() -> None:
        replica = VirtualReplica("a", lambda n: 5.0)
        service = await balanced(replica)
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await ask(service, 1, timeout_s=1.0)
        with pytest.raises(TimeoutError):
            await ask(service, 2, timeout_s=1.0)
        assert await ask(service, 3) == 30
        starts = [at - began_s for at, _ in replica.started]
        assert numbers(replica) == [1, 3]
        assert starts == [0.0, pytest.approx(5.0, abs=0.02)]
        await service.drain()
        assert service.waiting == service.running == 0

    virtual_time.run(main())


def test_cancelled_requests_leave_the_line(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        replica = VirtualReplica("a")
        service = await balanced(replica)
        tasks = [asyncio.create_task(ask(service, n)) for n in range(4)]
        await asyncio.sleep(0.5)
        tasks[2].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [r for r in results if isinstance(r, int)] == [0, 10, 30]
        assert numbers(replica) == [0, 1, 3]

    virtual_time.run(main())


def test_line_is_bounded(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        service = await balanced(VirtualReplica("a"), max_queue=3)
        tasks = [asyncio.create_task(ask(service, 0))]
        await asyncio.sleep(0.5)
        tasks += [asyncio.create_task(ask(service, n)) for n in range(1, 6)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[:4] == [0, 10, 20, 30]
        assert all(isinstance(r, OverloadedError) and r.retry_after_s >= 1 for r in results[4:])

    virtual_time.run(main())


def test_nearest_deadline_goes_first_and_patience_bounds_the_others(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        replica = VirtualReplica("a")
        service = await balanced(replica, patience_s=4.0)
        tasks = [asyncio.create_task(ask(service, 0))]
        await asyncio.sleep(0.5)
        for n, timeout_s in ((1, None), (2, 9.0), (3, 2.0), (4, 3.0)):
            tasks.append(asyncio.create_task(ask(service, n, timeout_s=timeout_s)))
        await asyncio.gather(*tasks)
        assert numbers(replica) == [0, 3, 4, 1, 2]

    virtual_time.run(main())


def test_replicas_are_added_and_removed_while_requests_run(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        first, second = VirtualReplica("first", lambda n: 2.0), VirtualReplica("second", lambda n: 2.0)
        service = await balanced(first)
        tasks = [asyncio.create_task(ask(service, n)) for n in range(4)]
        await asyncio.sleep(0.5)
        service.add(second, "second")
        assert states(service) == ["ready", "loading"]
        await asyncio.sleep(2.1)
        assert states(service) == ["ready", "ready"]
        assert await service.remove("first", 30.0)
        assert [row.name for row in service.replicas] == ["second"]
        assert await asyncio.gather(*tasks) == [0, 10, 20, 30]
        assert numbers(second)
        with pytest.raises(ConfigError, match="no replica 'first'"):
            await service.remove("first", 1.0)

    virtual_time.run(main())


def test_removed_replica_that_does_not_finish_hands_its_requests_on(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        slow, other = VirtualReplica("slow", lambda n: 100.0), VirtualReplica("other")
        service = await balanced(slow, other)
        tasks = [asyncio.create_task(ask(service, n)) for n in range(2)]
        await asyncio.sleep(0.5)
        assert not await service.remove("slow", 3.0)
        assert await asyncio.gather(*tasks) == [0, 10]
        assert sorted(other.finished) == [0, 1]

    virtual_time.run(main())


def test_load_goes_on_without_a_replica_whose_device_fails(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        bad, good = VirtualReplica("bad"), VirtualReplica("good")
        bad.error = DeviceError("busy")
        service = await balanced(bad, good, breaker={"open_s": 3.0})
        assert states(service) == ["broken", "ready"]
        bad.error = None
        await asyncio.sleep(5.0)
        assert states(service) == ["ready", "ready"]
        alone = VirtualReplica("alone")
        alone.error = DeviceError("busy")
        with pytest.raises(DeviceError, match="busy"):
            await balanced(alone)
        with pytest.raises(ServeError, match="no replica"):
            await balanced()

    virtual_time.run(main())


def test_stop_answers_everything(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        service = await balanced(VirtualReplica("a"))
        tasks = [asyncio.create_task(ask(service, n)) for n in range(3)]
        await asyncio.sleep(0.5)
        service.abort()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(r, OverloadedError) for r in results)
        with pytest.raises(OverloadedError, match="stopping"):
            await ask(service, 4)

    virtual_time.run(main())
