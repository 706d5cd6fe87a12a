"""The server's batching: what has arrived while the device was busy runs together.

Nothing waits for a timer while the device is idle. A batch is whatever compatible
requests are there when a worker becomes free. With several workers, `max_wait_s`
bounds how long a free worker may hold back a batch that is not full, as long as
another batch is running.

Everything here runs on one event loop; only `run` leaves it.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import time
import traceback
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tessera.program.errors import (
    DeviceError,
    InputError,
    OutOfMemoryError,
    OverloadedError,
    ServeError,
    TesseraError,
)
from tessera.serve.inputs import Arrays
from tessera.serve.observe.context import CURRENT
from tessera.serve.observe.trace import InferenceTrace, batch_started
from tessera.serve.queue import RequestQueue
from tessera.serve.refusals import server_stopping

logger = logging.getLogger("tessera.serve")


class Promise(Protocol):
    """What gets a request's outputs or its error. A future is one."""

    def done(self) -> bool:
        """Whether it has either, or nobody waits any more."""

    def cancelled(self) -> bool:
        """Whether nobody waits any more."""

    def exception(self) -> BaseException | None:
        """Why there are no outputs, once it is done."""

    def set_result(self, result: Arrays, /) -> None:
        """The outputs by name."""

    def set_exception(self, exception: Exception, /) -> None:
        """Why there are none."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request on its way through the batcher."""

    inputs: Arrays
    """Checked inputs by name."""
    rows: int
    """Rows along axis 0; 1 for a program that is not stacked."""
    key: Hashable
    """Equal keys may be stacked; None: alone."""
    enqueued_s: float
    """When it came, by the batcher's clock."""
    answer: Promise
    """Gets the outputs by name."""
    trace: InferenceTrace | None = None
    """Its course, if its request is traced."""


Run = Callable[[Sequence[Ticket]], Awaitable[list[Arrays]]]
"""Runs a batch somewhere off the event loop; outputs in the order of the requests."""


class Observer(Protocol):
    """Is told what the batcher does."""

    def batch_started(self, requests: int, rows: int, waits_s: Sequence[float]) -> None:
        """A batch left the queue; how long each of its requests waited."""

    def batch_finished(
        self, seconds: float, rows: int, waits_s: Sequence[float], failed: Sequence[str]
    ) -> None:
        """A batch is done, well or not.

        Args:
            seconds: How long it ran.
            rows: Its rows.
            waits_s: How long each of the requests had waited that were answered well.
            failed: Why the others were not: `backend`, `invalid`, `cancelled`.
        """

    def request_rejected(self, reason: str) -> None:
        """A request left without an answer: `overloaded`, `draining`, `timeout`, `cancelled`."""


class RequestBatcher:
    """Collects requests into batches, and bounds how many wait and for how long.

    Args:
        run: Runs one batch.
        max_batch_size: Most rows of a batch.
        max_queue: Most requests that wait.
        workers: Batches that may run at the same time.
        max_wait_s: Longest that a request is held back for company while another batch runs.
        observer: Is told what happens.
        clock: Seconds from anywhere. An event loop's own may be a millisecond coarse.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_size: int,
        max_queue: int,
        workers: int = 1,
        max_wait_s: float = 0.0,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._run = run
        self._clock = clock
        self._queue: RequestQueue[Ticket] = RequestQueue(max_batch_size)
        self._max_queue = max_queue
        self._workers = workers
        self._max_wait_s = max_wait_s
        self._observer = observer
        self._running: dict[asyncio.Task[None], list[Ticket]] = {}
        self._pump_scheduled = False
        self._hold: asyncio.TimerHandle | None = None
        self._seconds_per_request = 0.01
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Batches in execution."""
        return len(self._running)

    async def submit(
        self, inputs: Arrays, *, rows: int = 1, key: Hashable = None, timeout_s: float | None = None
    ) -> Arrays:
        """Outputs by name. Cancelling the caller takes the request out of the queue.

        Args:
            inputs: Checked inputs by name.
            rows: Rows along axis 0.
            key: Equal keys may be stacked; None: alone.
            timeout_s: Longest to wait for the answer.

        Raises:
            OverloadedError: The queue is full, or the batcher is closed.
            TimeoutError: `timeout_s` is over. If the request still waited, it is never run.
        """
        answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        ticket = self.enqueue(inputs, rows, key, answer)
        try:
            if timeout_s is None:
                return await answer
            async with asyncio.timeout(timeout_s):
                return await answer
        except (asyncio.CancelledError, TimeoutError) as gone:
            self.withdraw(ticket, "timeout" if isinstance(gone, TimeoutError) else "cancelled")
            raise

    def enqueue(self, inputs: Arrays, rows: int, key: Hashable, answer: Promise) -> Ticket:
        """As `submit`, for callers that wait in their own way: `answer` gets the outputs.

        Raises:
            OverloadedError: The queue is full, or the batcher is closed.
        """
        self._admit()
        ticket = Ticket(inputs, rows, key, self._clock(), answer)
        context = CURRENT.get()
        if context is not None and context.trace is not None:
            ticket.trace = context.trace.infer(ticket.enqueued_s)
        self._queue.push(ticket)
        self._wake(asyncio.get_running_loop())
        return ticket

    def withdraw(self, ticket: Ticket, reason: str) -> bool:
        """Take `ticket` out of the queue, for `timeout` or `cancelled`; says whether it still waited."""
        if not self._queue.remove(ticket):
            return False
        self._rejected(reason)
        return True

    async def drain(self) -> None:
        """Return when nothing waits or runs. New requests are still taken until `close`."""
        while self._queue or self._running:
            if self._running:
                await asyncio.wait(set(self._running), return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0)

    def close(self) -> None:
        """Take no more requests, and answer those that still wait with `OverloadedError`."""
        self._closed = True
        while batch := self._queue.take():
            for ticket in batch:
                self._rejected("draining")
                _refuse(ticket, server_stopping())

    def abort(self) -> None:
        """As `close`; those whose batch runs are answered so, too, and what it gives is dropped."""
        self.close()
        for task, batch in list(self._running.items()):
            task.cancel()
            # A task that has not begun yet would never see that it was cancelled.
            for ticket in batch:
                _refuse(ticket, server_stopping())

    def retry_after_s(self) -> int:
        """Whole seconds after which the present queue should be done, from recent batches."""
        return min(60, max(1, math.ceil(len(self._queue) * self._seconds_per_request)))

    def _admit(self) -> None:
        if self._closed:
            self._rejected("draining")
            raise server_stopping()
        if len(self._queue) >= self._max_queue:
            self._pump()
        if len(self._queue) >= self._max_queue:
            self._rejected("overloaded")
            retry_after_s = self.retry_after_s()
            raise OverloadedError(
                f"{len(self._queue)} requests are waiting, the most that max_queue allows",
                hint=f"try again in {retry_after_s} s; if this lasts, add replicas or raise max_queue",
                retry_after_s=retry_after_s,
            )

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not at once: requests that arrived in the same turn of the loop then go together, for free.
        if not self._pump_scheduled:
            self._pump_scheduled = True
            loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Start every batch that should start now."""
        self._pump_scheduled = False
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        loop = asyncio.get_running_loop()
        while self._queue and len(self._running) < self._workers:
            hold_s = self._hold_s(self._clock())
            if hold_s > 0:
                self._hold = loop.call_later(hold_s, self._pump)
                return
            batch = self._queue.take()
            task = loop.create_task(self._execute(batch))
            self._running[task] = batch
            task.add_done_callback(self._finished)

    def _hold_s(self, now_s: float) -> float:
        """How much longer the next batch may be held back for company."""
        oldest_s = self._queue.oldest_s()
        if not self._running or self._max_wait_s <= 0 or oldest_s is None or self._queue.is_full():
            return 0.0
        return oldest_s + self._max_wait_s - now_s

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._pump()

    async def _execute(self, batch: list[Ticket]) -> None:
        started_s = self._clock()
        rows = sum(t.rows for t in batch)
        waits_s = [started_s - t.enqueued_s for t in batch]
        if self._observer is not None:
            self._observer.batch_started(len(batch), rows, waits_s)
        traces = [t.trace for t in batch if t.trace is not None]
        if traces:
            batch_started(traces, started_s, len(batch), rows)
        try:
            await self._answer(batch)
        finally:
            seconds = self._clock() - started_s
            # Smoothed over some ten batches, and counting parallel workers.
            per_request = seconds / (len(batch) * self._workers)
            self._seconds_per_request += 0.1 * (per_request - self._seconds_per_request)
            if self._observer is not None:
                well, failed = _outcome(batch, waits_s)
                self._observer.batch_finished(seconds, rows, well, failed)

    async def _answer(self, batch: list[Ticket]) -> None:
        try:
            outputs = await self._outputs(batch)
        except asyncio.CancelledError:
            for ticket in batch:
                _refuse(ticket, server_stopping())
            raise
        if isinstance(outputs, Exception):
            # A traceback holds its functions' variables: the batch and its tickets, which hold the error.
            # Arrays, and mapped memory of a process that is gone, would stay until cycles are collected.
            traceback.clear_frames(outputs.__traceback__)
            await self._failed(batch, outputs)
            return
        for ticket, result in zip(batch, outputs, strict=True):
            if not ticket.answer.done():
                ticket.answer.set_result(result)

    async def _outputs(self, batch: list[Ticket]) -> Sequence[Arrays] | Exception:
        """The outputs of a batch, or what the model raised."""
        try:
            return await self._run(batch)
        except Exception as error:  # noqa: BLE001 - whatever a model raises is answered
            return error

    async def _failed(self, batch: list[Ticket], error: Exception) -> None:
        """Answer a batch that failed.

        Any one request may have caused it, and inference has no effects that could come twice: run one
        by one, only that request fails. A device that failed is no request's fault, and is not asked again.
        """
        is_device = isinstance(error, DeviceError) and not isinstance(error, OutOfMemoryError)
        if len(batch) == 1 or is_device:
            if not isinstance(error, (InputError, OutOfMemoryError)):
                logger.error("a batch of %d requests failed", len(batch), exc_info=error)
            for ticket in batch:
                _refuse(ticket, error)
            return
        for ticket in batch:
            if not ticket.answer.done():
                await self._answer([ticket])

    def _rejected(self, reason: str) -> None:
        if self._observer is not None:
            self._observer.request_rejected(reason)


def _outcome(batch: Sequence[Ticket], waits_s: Sequence[float]) -> tuple[list[float], list[str]]:
    """How long those had waited that were answered well, and why the others were not."""
    well: list[float] = []
    failed: list[str] = []
    for ticket, wait_s in zip(batch, waits_s, strict=True):
        answer = ticket.answer
        if answer.cancelled():
            failed.append("cancelled")
        elif not answer.done() or (error := answer.exception()) is None:
            well.append(wait_s)
        else:
            failed.append("invalid" if isinstance(error, InputError) else "backend")
    return well, failed


def _refuse(ticket: Ticket, error: Exception) -> None:
    if ticket.answer.done():
        return
    # Each waiter gets an exception of its own: raising one object in many tasks mixes their tracebacks.
    if isinstance(error, TesseraError):
        own: Exception = copy.copy(error)
    else:
        own = ServeError(f"inference failed: {type(error).__name__}", hint="the server's log has the cause")
        own.__cause__ = error
    ticket.answer.set_exception(own)
