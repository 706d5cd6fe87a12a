"""The guide's `DynamicBatcher`: requests of different lengths, collected by hand into padded batches.

A request's rank is its deadline, or the end of its patience if that comes first; lower
ranks go first. No request that comes after this one's patience has ended can have a
lower rank, so whatever others send, none waits for ever.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Generator, Hashable, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.errors import ConfigError, InputError, OverloadedError, ServeError, TesseraError
from tessera.serve.padding import PADDING, Array, Value, kind_of, length_of, pad, read_request, split
from tessera.serve.ranked_queue import RankedQueue

logger = logging.getLogger("tessera.serve")

PRIORITIES = range(-10, 11)
"""What a request's priority may be; each step halves its patience."""

_NUMBERS = itertools.count()


class Answer(Future[Value]):
    """A result to come. `await` it in a coroutine, or call `result()` in a thread."""

    def __await__(self) -> Generator[Any, None, Value]:
        return asyncio.wrap_future(self).__await__()


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Batch:
    """Requests that run together."""

    inputs: Value
    """Stacked along axis 0, padded along axis 1; by name if the requests are."""
    lengths: tuple[int | None, ...]
    """Each request's own length; None for scalars."""
    number: int
    """Which batch it is."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The only input, so that a batch goes wherever an array goes."""
        if isinstance(self.inputs, dict):
            raise InputError("the batch has inputs by name", hint="use batch.inputs, a dict of arrays")
        return np.array(self.inputs, dtype) if copy else np.asarray(self.inputs, dtype)

    @property
    def mask(self) -> Array:
        """(requests, padded length) bool: true where an element is a request's own, false for padding."""
        own = np.array([n or 0 for n in self.lengths])
        return np.arange(own.max(initial=0)) < own[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class _Ticket:
    value: Value
    length: int | None
    key: Hashable
    order: tuple[float, int]
    enqueued_s: float
    deadline_s: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Running:
    tickets: Sequence[_Ticket]
    started_s: float


class DynamicBatcher:
    """Collects requests into padded batches. Any number of threads and event loops may use it at once.

        future = batcher.add_request(x)
        if batcher.should_process():
            batch = batcher.get_batch()
            batcher.return_results(model.batch_inference(batch))
        y = await future

    Used like this, where nobody comes back for what is left, a batch is whatever has arrived. With a
    loop of its own (`wait_ready`, `process`), requests are held up to `max_latency_ms` for company.

    Args:
        max_batch_size: Most requests of a batch.
        max_latency_ms: Longest that a request is held back for company, in a loop.
        padding_strategy: `zero`; `replicate` repeats the last element; `efficient` is `zero`, and only
            requests whose lengths are within a factor of 2 go together, so less than half is padding.
        enable_sorting: Sort each batch by length, longest first.
        max_queue: Most requests that wait.
        patience_ms: A request without a deadline is treated as if it had one this far away.
        cut_results: Cut outputs whose axis 1 has the padded length back to each request's own length.
        clock: Seconds from anywhere.

    Raises:
        ConfigError: A setting that cannot be.
    """

    def __init__(
        self,
        max_batch_size: int = 32,
        max_latency_ms: float = 10.0,
        padding_strategy: str = "efficient",
        enable_sorting: bool = False,
        *,
        max_queue: int = 1024,
        patience_ms: float = 1000.0,
        cut_results: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if padding_strategy not in PADDING:
            raise ConfigError(
                f"padding_strategy is {padding_strategy!r}",
                hint=f"one of: {', '.join(PADDING)}",
                key="padding_strategy",
            )
        self._max_latency_s = _milliseconds("max_latency_ms", max_latency_ms) / 1e3
        self._patience_s = _milliseconds("patience_ms", patience_ms) / 1e3
        self._queue: RankedQueue[_Ticket] = RankedQueue(_count("max_batch_size", max_batch_size))
        self._max_queue = _count("max_queue", max_queue)
        self._strategy, self._sorting, self._cut = padding_strategy, enable_sorting, cut_results
        self._clock = clock
        # Reentrant: a batch that is garbage-collected comes back in whatever thread, wherever it stands.
        self._changed = threading.Condition(threading.RLock())
        self._running: dict[int, _Running] = {}
        # The batch that this task or thread took last; held here alone, it ends with its task.
        self._mine: ContextVar[Batch | None] = ContextVar("tessera_batch", default=None)
        self._looped = False
        self._closed = False
        self._batch_s = 0.0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Batches that were taken and have no results yet."""
        return len(self._running)

    def add_request(self, request: object, *, priority: int = 0, deadline_ms: float | None = None) -> Answer:
        """Put a request in the queue.

        Args:
            request: One example, (length, …): an array, nested lists, or a mapping of those by name.
            priority: Larger goes first: each step halves the patience, from -10 to 10.
            deadline_ms: From now. A request that still waits then is never run: `TimeoutError`.

        Raises:
            InputError: It is not made of numbers; the priority or deadline is none.
            OverloadedError: `max_queue` requests wait, or the batcher is closed.
        """
        value = read_request(request)
        if isinstance(priority, bool) or priority not in PRIORITIES:
            raise InputError(f"priority is {priority!r}", hint="a whole number from -10 to 10")
        if deadline_ms is not None and not 0 <= deadline_ms < math.inf:
            raise InputError(f"deadline_ms is {deadline_ms!r}", hint="milliseconds from now")
        length = length_of(value)
        # Lengths of as many bits are within a factor of 2.
        bits = length.bit_length() if length is not None and self._strategy == "efficient" else None
        key = (kind_of(value), bits)
        with self._changed:
            now_s = self._clock()
            self._admit(now_s)
            deadline_s = math.inf if deadline_ms is None else now_s + deadline_ms / 1e3
            rank_s = min(deadline_s, now_s + self._patience_s * 2.0**-priority)
            ticket = _Ticket(value, length, key, (rank_s, next(_NUMBERS)), now_s, deadline_s, Answer())
            self._queue.push(ticket)
            self._changed.notify()
        return ticket.answer

    def should_process(self) -> bool:
        """Whether a batch should run now.

        In a loop: when a batch is full, a request has waited `max_latency_ms`, or a deadline is as near
        as a batch is long. Otherwise, as soon as anything waits: nobody would come back for it.
        """
        with self._changed:
            now_s = self._clock()
            self._drop(now_s)
            return self._due_s(now_s) <= now_s

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until a batch should run; false after `timeout_s`, or once the batcher is closed.

        From the first call on, requests are held for company: the caller says that it comes back.
        """
        ends_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            self._looped = True
            while not self._closed:
                if self.should_process():
                    return True
                left_s = min(ends_s - time.monotonic(), self._due_s(now_s := self._clock()) - now_s)
                if time.monotonic() >= ends_s:
                    return False
                self._changed.wait(None if left_s == math.inf else max(left_s, 1e-4))
            return False

    def get_batch(self) -> Batch:
        """The next batch. Its results go to `return_results`, in the same task or thread.

        If the task ends without results, because the model raised, or takes another batch and lets go of
        this one, its requests are answered with an error.

        Raises:
            ServeError: Nothing waits.
        """
        batch = self._take()
        if batch is None:
            raise ServeError(
                "no request waits",
                hint="ask should_process() first; with several threads, call process(model.batch_inference)",
            )
        return batch

    def return_results(self, outputs: object, batch: Batch | None = None) -> None:
        """Answer the requests of a batch.

        Args:
            outputs: An array whose axis 0 counts requests, arrays by name, or a list of results.
            batch: Whose results; None: the last one that this task or thread took.

        Raises:
            ServeError: There are not as many results as requests; these get the error, too. No such batch.
        """
        running = self._finish(batch)
        try:
            results = split(outputs, [t.length for t in running.tickets], cut=self._cut)
        except Exception as error:
            _refuse(running.tickets, error)
            raise
        for ticket, result in zip(running.tickets, results, strict=True):
            ticket.answer.set_result(result)

    def return_error(self, error: Exception, batch: Batch | None = None) -> None:
        """Answer the requests of a batch with an error; `batch` as for `return_results`."""
        _refuse(self._finish(batch).tickets, error)

    def process(self, run: Callable[[Batch], object]) -> int:
        """Run one batch, if any waits, and answer its requests; how many they were.

        An error of `run` goes to the requests, and is not raised here.
        """
        batch = self._take()
        if batch is None:
            return 0
        try:
            self.return_results(run(batch), batch)
        except Exception as error:
            # It belongs to those who wait. If the results do not fit, they have been told so.
            if self._mine.get() is batch:
                self.return_error(error, batch)
            else:
                logger.exception("the results of a batch of %d requests do not fit", len(batch))
        except BaseException:
            self.return_error(ServeError("the batch was interrupted", hint="send the request again"), batch)
            raise
        return len(batch)

    def close(self) -> None:
        """Take no more requests, and answer those that still wait with `OverloadedError`."""
        with self._changed:
            self._closed = True
            gone = self._queue.sift(lambda _: True)
            self._changed.notify_all()
        _refuse([t for t in gone if t.answer.set_running_or_notify_cancel()], _closed())

    def _admit(self, now_s: float) -> None:
        if self._closed:
            raise _closed()
        if len(self._queue) >= self._max_queue:
            self._drop(now_s)
        if len(self._queue) >= self._max_queue:
            raise OverloadedError(
                f"{len(self._queue)} requests are waiting, the most that max_queue allows",
                hint="try again later; if this lasts, add replicas or raise max_queue",
                retry_after_s=1,
            )

    def _due_s(self, now_s: float) -> float:
        """When the next batch should run; inf if nothing waits."""
        if not self._queue:
            return math.inf
        if not self._looped or self._queue.is_full():
            return now_s
        return min(
            min(t.enqueued_s + self._max_latency_s, t.deadline_s - self._batch_s)
            for t in self._queue.waiting()
        )

    def _drop(self, now_s: float) -> None:
        """Take out what was cancelled, and what is out of time."""
        gone = self._queue.sift(lambda t: t.deadline_s <= now_s or t.answer.cancelled())
        for ticket in gone:
            if ticket.answer.set_running_or_notify_cancel():
                waited_ms = (now_s - ticket.enqueued_s) * 1e3
                ticket.answer.set_exception(
                    TimeoutError(f"the deadline passed in the queue, after {waited_ms:.3g} ms")
                )

    def _take(self) -> Batch | None:
        with self._changed:
            now_s = self._clock()
            self._drop(now_s)
            tickets: list[_Ticket] = []
            while not tickets and self._queue:
                tickets = [t for t in self._queue.take() if t.answer.set_running_or_notify_cancel()]
            if not tickets:
                return None
            if self._sorting:
                tickets.sort(key=lambda t: -(t.length or 0))
            number = next(_NUMBERS)
            self._running[number] = _Running(tickets, now_s)
            if self._queue:
                self._changed.notify()
        lengths = tuple(t.length for t in tickets)
        try:
            batch = Batch(pad([t.value for t in tickets], self._strategy), lengths, number)
        except BaseException:
            self._abandon(number)
            raise
        weakref.finalize(batch, self._abandon, number).atexit = False
        self._mine.set(batch)
        if (task := _current_task()) is not None:
            task.add_done_callback(lambda task: self._task_ended(task, number))
        return batch

    def _finish(self, batch: Batch | None) -> _Running:
        mine = self._mine.get()
        batch = mine if batch is None else batch
        if batch is mine:
            self._mine.set(None)
        with self._changed:
            running = self._running.pop(batch.number, None) if batch is not None else None
            if running is None:
                raise ServeError(
                    "this task or thread has no batch that waits for results",
                    hint="return results once; those of another's batch by return_results(outputs, batch)",
                )
            # The longest of late decides: a deadline that is met by luck is not met.
            self._batch_s = max(self._clock() - running.started_s, 0.9 * self._batch_s)
            return running

    def _task_ended(self, task: asyncio.Task[Any], number: int) -> None:
        # A failed task's frames, and the batch in them, may live on until the next garbage collection.
        if number in self._running and (task.cancelled() or task.exception() is not None):
            self._abandon(number)

    def _abandon(self, number: int) -> None:
        with self._changed:
            running = self._running.pop(number, None)
        if running is not None:
            _refuse(
                running.tickets,
                ServeError("the batch was dropped without results", hint="see the model's error"),
            )


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _refuse(tickets: Sequence[_Ticket], error: Exception) -> None:
    for ticket in tickets:
        # Each waiter gets an exception of its own: raising one object in many tasks mixes their tracebacks.
        if isinstance(error, TesseraError):
            own: Exception = copy.copy(error)
        else:
            own = ServeError(
                f"inference failed: {type(error).__name__}: {error}", hint="see the model's error"
            )
        own.__cause__ = error
        ticket.answer.set_exception(own)


def _closed() -> OverloadedError:
    return OverloadedError("the batcher is closed", hint="send the request again", retry_after_s=1)


def _count(key: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{key} is {value!r}, no number of requests", hint=f"{key}=32", key=key)
    return value


def _milliseconds(key: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{key} is {value!r}, no time in milliseconds", hint=f"{key}=10", key=key)
    return value
