"""Dynamic batching in virtual time: what runs together, and how long anything waits."""

import asyncio
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tessera.program.errors import DeviceError, InputError, OverloadedError, ServeError, TesseraError
from tessera.serve.batcher import RequestBatcher, Ticket


class Machine:
    """A device that takes `seconds` for every batch, in virtual time."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.started: list[tuple[float, list[int]]] = []
        self.errors: dict[int, Exception] = {}

    async def run(self, batch: Sequence[Ticket]) -> list[dict[str, Any]]:
        numbers = [int(t.inputs["x"][0]) for t in batch]
        self.started.append((asyncio.get_running_loop().time(), numbers))
        await asyncio.sleep(self.seconds)
        for number in numbers:
            if number in self.errors:
                raise self.errors[number]
        return [{"y": t.inputs["x"] * 10} for t in batch]

    def batcher(self, **settings: Any) -> RequestBatcher:
        defaults = {"max_batch_size": 4, "max_queue": 100}
        return RequestBatcher(self.run, clock=asyncio.get_running_loop().time, **{**defaults, **settings})


class Log:
    """Remembers what the batcher reports."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.sizes: list[tuple[int, int]] = []
        self.rejected: list[str] = []
        self.finished: list[tuple[int, int, list[str]]] = []

    def batch_started(self, requests: int, rows: int, waits_s: Sequence[float]) -> None:
        self.sizes.append((requests, rows))
        self.waits.extend(waits_s)

    def batch_finished(
        self, seconds: float, rows: int, waits_s: Sequence[float], failed: Sequence[str]
    ) -> None:
        self.finished.append((rows, len(waits_s), list(failed)))

    def request_rejected(self, reason: str) -> None:
        self.rejected.append(reason)


async def ask(batcher: RequestBatcher, number: int, **more: Any) -> int:
    outputs = await batcher.submit({"x": np.array([number])}, **{"key": "k", **more})
    return int(outputs["y"][0])


async def later(delay_s: float, batcher: RequestBatcher, number: int, **more: Any) -> int:
    await asyncio.sleep(delay_s)
    return await ask(batcher, number, **more)


def test_submit_lone_request_starts_at_once_whatever_the_timeout(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine = Machine(0.5)
        batcher = machine.batcher(max_wait_s=10.0, workers=4)
        assert await ask(batcher, 7) == 70
        assert machine.started == [(0.0, [7])]
        assert asyncio.get_running_loop().time() == 0.5

    virtual_time.run(main())


def test_submit_what_arrives_while_the_device_is_busy_runs_together(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine = Machine(1.0)
        batcher = machine.batcher()
        answers = await asyncio.gather(*(later(0.1 * i, batcher, i) for i in range(8)))
        assert answers == [10 * i for i in range(8)]
        assert machine.started == [(0.0, [0]), (1.0, [1, 2, 3, 4]), (2.0, [5, 6, 7])]

    virtual_time.run(main())


def test_submit_requests_of_one_moment_go_together(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine = Machine()
        batcher = machine.batcher()
        await asyncio.gather(*(ask(batcher, i) for i in range(3)))
        assert machine.started == [(0.0, [0, 1, 2])]

    virtual_time.run(main())


def test_submit_different_keys_never_share_a_batch(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine = Machine()
        batcher = machine.batcher()
        keys: list[Any] = ["a", "b", "a", None, None]
        await asyncio.gather(*(ask(batcher, i, key=key) for i, key in enumerate(keys)))
        assert [numbers for _, numbers in machine.started] == [[0, 2], [1], [3], [4]]

    virtual_time.run(main())


def test_submit_free_worker_starts_another_batch_without_a_timeout(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine = Machine(1.0)
        batcher = machine.batcher(workers=2)
        await asyncio.gather(*(later(0.1 * i, batcher, i) for i in range(3)))
        assert machine.started == [(0.0, [0]), (pytest.approx(0.1), [1]), (1.0, [2])]

    virtual_time.run(main())


def test_submit_timeout_holds_a_batch_back_while_another_runs(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine = Machine(1.0)
        batcher = machine.batcher(workers=2, max_wait_s=0.25)
        await asyncio.gather(*(later(0.1 * i, batcher, i) for i in range(4)))
        # 1 came at 0.1 and waits until 0.35 for company; 2 and 3 came meanwhile.
        assert machine.started == [(0.0, [0]), (pytest.approx(0.35), [1, 2, 3])]

    virtual_time.run(main())


def test_submit_timeout_ends_early_when_the_batch_is_full_or_the_device_idle(
    virtual_time: asyncio.Runner,
) -> None:
    async def main() -> None:
        machine = Machine(1.0)
        batcher = machine.batcher(workers=2, max_wait_s=30.0, max_batch_size=2)
        await asyncio.gather(*(later(0.1 * i, batcher, i) for i in range(4)))
        assert machine.started == [(0.0, [0]), (pytest.approx(0.2), [1, 2]), (pytest.approx(1.2), [3])]

    virtual_time.run(main())


def test_submit_full_queue_is_refused_with_the_time_to_come_back(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine, log = Machine(2.0), Log()
        batcher = machine.batcher(max_queue=2, max_batch_size=1, observer=log)
        running = [asyncio.create_task(later(0.1 * i, batcher, i)) for i in range(3)]
        await asyncio.sleep(0.5)
        with pytest.raises(OverloadedError) as caught:
            await ask(batcher, 9)
        assert caught.value.fields["retry_after_s"] >= 1
        assert log.rejected == ["overloaded"]
        assert await asyncio.gather(*running) == [0, 10, 20]
        assert 9 not in [n for _, numbers in machine.started for n in numbers]

    virtual_time.run(main())


def test_submit_burst_larger_than_the_queue_uses_free_workers_first(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        batcher = Machine().batcher(max_queue=1, max_batch_size=1, workers=2)
        answers = await asyncio.gather(*(ask(batcher, i) for i in range(3)))
        assert answers == [0, 10, 20]

    virtual_time.run(main())


def test_submit_deadline_in_the_queue_is_kept_and_the_request_never_runs(
    virtual_time: asyncio.Runner,
) -> None:
    async def main() -> None:
        machine, log = Machine(5.0), Log()
        batcher = machine.batcher(observer=log)
        first = asyncio.create_task(ask(batcher, 1))
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            await ask(batcher, 2, timeout_s=0.5)
        assert asyncio.get_running_loop().time() == pytest.approx(0.6)
        assert batcher.waiting == 0
        assert await first == 10
        assert machine.started == [(0.0, [1])]
        assert log.rejected == ["timeout"]

    virtual_time.run(main())


def test_submit_cancelled_request_leaves_the_queue(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine, log = Machine(1.0), Log()
        batcher = machine.batcher(observer=log)
        tasks = [asyncio.create_task(later(0.1 * i, batcher, i)) for i in range(4)]
        await asyncio.sleep(0.5)
        tasks[2].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [done[0], done[1], done[3]] == [0, 10, 30]
        assert machine.started == [(0.0, [0]), (1.0, [1, 3])]
        assert log.rejected == ["cancelled"]

    virtual_time.run(main())


def test_submit_cancelled_in_execution_does_not_disturb_its_neighbours(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        batcher = Machine(1.0).batcher()
        tasks = [asyncio.create_task(ask(batcher, i)) for i in range(3)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [done[0], done[2]] == [0, 20]

    virtual_time.run(main())


def test_submit_input_error_of_one_fails_only_that_one(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine = Machine()
        machine.errors[1] = InputError("input 'x' is unlucky", input="x")
        batcher = machine.batcher()
        done = await asyncio.gather(*(ask(batcher, i) for i in range(3)), return_exceptions=True)
        assert [done[0], done[2]] == [0, 20]
        assert isinstance(done[1], InputError)

    virtual_time.run(main())


def test_submit_foreign_error_of_one_fails_only_that_one(
    virtual_time: asyncio.Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        machine = Machine()
        machine.errors[1] = ValueError("not this one")
        batcher = machine.batcher()
        done = await asyncio.gather(*(ask(batcher, i) for i in range(3)), return_exceptions=True)
        assert [done[0], done[2]] == [0, 20]
        assert isinstance(done[1], ServeError)

    virtual_time.run(main())
    assert [record.message for record in caplog.records] == ["a batch of 1 requests failed"]


@pytest.mark.parametrize("kind", [ValueError, DeviceError])
def test_failed_batch_keeps_no_inputs_in_reference_cycles(
    virtual_time: asyncio.Runner, kind: type[Exception]
) -> None:
    async def run(batch: Sequence[Ticket]) -> list[Any]:
        raise kind(f"{len(batch)} failed")

    async def main() -> list[weakref.ref[Any]]:
        batcher = RequestBatcher(run, max_batch_size=4, max_queue=100)
        answers = [asyncio.get_running_loop().create_future() for _ in range(3)]
        arrays = [np.arange(i, i + 4.0) for i in range(3)]
        for array, answer in zip(arrays, answers, strict=True):
            batcher.enqueue({"x": array}, 1, "k", answer)
        await asyncio.wait(answers)
        assert all(isinstance(answer.exception(), TesseraError) for answer in answers)
        return [weakref.ref(x) for x in arrays]

    gc.collect()
    gc.disable()
    try:
        assert all(array() is None for array in virtual_time.run(main()))
    finally:
        gc.enable()


def test_submit_device_failure_reaches_everyone_with_an_error_of_their_own(
    virtual_time: asyncio.Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        machine = Machine()
        machine.errors[1] = DeviceError("the device is gone")
        batcher = machine.batcher()
        done = await asyncio.gather(*(ask(batcher, i) for i in range(3)), return_exceptions=True)
        assert [type(e) for e in done] == [DeviceError] * 3
        assert len({id(e) for e in done}) == 3
        machine.errors.clear()
        assert await ask(batcher, 5) == 50

    virtual_time.run(main())
    assert "the device is gone" in caplog.text


def test_submit_foreign_error_does_not_carry_its_text_to_clients(
    virtual_time: asyncio.Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        machine = Machine()
        machine.errors[1] = ValueError("/secret/path")
        with pytest.raises(ServeError) as caught:
            await ask(machine.batcher(), 1)
        assert "/secret/path" not in str(caught.value)

    virtual_time.run(main())
    assert "/secret/path" in caplog.text


def test_drain_waits_for_everything_and_close_refuses_the_rest(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        machine = Machine(1.0)
        batcher = machine.batcher(max_batch_size=1)
        tasks = [asyncio.create_task(ask(batcher, i)) for i in range(3)]
        await asyncio.sleep(0)
        await batcher.drain()
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)
        assert await asyncio.gather(*tasks) == [0, 10, 20]
        batcher.close()
        with pytest.raises(OverloadedError, match="stopping"):
            await ask(batcher, 4)

    virtual_time.run(main())


def test_close_answers_those_that_wait(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        batcher = Machine(1.0).batcher(max_batch_size=1)
        tasks = [asyncio.create_task(ask(batcher, i)) for i in range(3)]
        await asyncio.sleep(0.5)
        batcher.close()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert done[0] == 0
        assert [type(e) for e in done[1:]] == [OverloadedError] * 2

    virtual_time.run(main())


def test_observer_sees_rows_and_waits(virtual_time: asyncio.Runner) -> None:
    async def main() -> None:
        log = Log()
        batcher = Machine(1.0).batcher(max_batch_size=8, observer=log)
        await asyncio.gather(*(later(0.25 * i, batcher, i, rows=i + 1) for i in range(3)))
        assert log.sizes == [(1, 1), (2, 5)]
        assert log.waits == [0.0, pytest.approx(0.75), pytest.approx(0.5)]

    virtual_time.run(main())
