"""Threads that run inference, so that the event loop never blocks."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class WorkerPool:
    """A fixed number of threads.

    They are daemon threads: a kernel that never returns must not keep a process alive that was
    told to stop. `concurrent.futures` joins its threads at exit, without a limit.

    Args:
        threads: How many.
        name: Prefix of their names, for debuggers.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`, run by one of the threads. Cancelling does not stop a call that runs."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put((call, done, loop))
        return await done

    def close(self, timeout_s: float) -> bool:
        """Let the threads end after what is queued; says whether they did within `timeout_s`."""
        for _ in self._threads:
            self._jobs.put(None)
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, done, loop = job
            if done.cancelled():
                continue
            try:
                outcome: tuple[Any, BaseException | None] = (call(), None)
            except BaseException as error:  # noqa: BLE001 - handed to the waiter, whatever it is
                outcome = (None, error)
            try:
                loop.call_soon_threadsafe(_settle, done, *outcome)
            except RuntimeError:
                # The loop was closed while the call ran: nobody waits any more.
                return
            # A thread that waits for work must not keep the last request's arrays alive.
            del job, call, done, outcome


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    elif isinstance(error, StopIteration):
        # A future refuses this one, and the waiter would wait for ever.
        done.set_exception(RuntimeError("the call raised StopIteration"))
    else:
        done.set_exception(error)
