"""A few threads that share the work items of large launches."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

THREADS_VARIABLE = "TESSERA_NUM_THREADS"
"""How many threads a launch may use; otherwise as many as this process has CPUs."""

CHUNKS_PER_THREAD = 4
"""Parts of a launch per thread: more even out what threads take, fewer cost less."""

Range = Callable[[int, int], None]


def thread_count() -> int:
    """Threads that one launch may use."""
    configured = os.environ.get(THREADS_VARIABLE, "")
    if configured.isdigit() and int(configured) > 0:
        return int(configured)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Job:
    """One launch, taken in chunks by whoever is free."""

    def __init__(self, run: Range, begin: int, end: int, chunks: int, helpers: int) -> None:
        self._run = run
        self._begin, self._length = begin, end - begin
        self._chunks = chunks
        # next() of a count is one step of the interpreter: a lock-free ticket.
        self._tickets = itertools.count()
        self._left = helpers
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._error: BaseException | None = None

    def take(self) -> None:
        """Run chunks until there are none."""
        while (ticket := next(self._tickets)) < self._chunks:
            self._run(
                self._begin + self._length * ticket // self._chunks,
                self._begin + self._length * (ticket + 1) // self._chunks,
            )

    def help(self) -> None:
        """`take`, and tell the launching thread. What is raised reaches that thread, not this one."""
        try:
            self.take()
        except BaseException as error:  # noqa: BLE001 - `wait` raises it again
            self._error = error
        finally:
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._done.set()

    def wait(self) -> None:
        """Until every helper is through."""
        self._done.wait()
        if self._error is not None:
            raise self._error


class Workers:
    """Threads of this process, started when first needed and again after a fork.

    Args:
        threads: Threads that share a launch, the calling one included.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        self._pid = 0

    def run(self, work: Range, begin: int, end: int) -> None:
        """Call `work` on parts of `[begin, end)` at the same time; return when all are done."""
        helpers = min(self.threads, end - begin) - 1
        if helpers < 1:
            work(begin, end)
            return
        if self._pid != os.getpid():
            self._start()
        job = _Job(work, begin, end, min(end - begin, self.threads * CHUNKS_PER_THREAD), helpers)
        for _ in range(helpers):
            self._queue.put(job)
        try:
            job.take()
        finally:
            job.wait()

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            # After a fork the parent's threads are gone and its queue may hold their jobs.
            self._queue = SimpleQueue()
            for index in range(self.threads - 1):
                name = f"tessera-cpu-{index}"
                threading.Thread(target=self._serve, args=(self._queue,), name=name, daemon=True).start()
            self._pid = os.getpid()

    @staticmethod
    def _serve(queue: SimpleQueue[_Job]) -> None:
        while True:
            job = queue.get()
            job.help()
            # Not to keep the last launch's arrays alive until the next one.
            del job


_shared: Workers | None = None
_shared_lock = threading.Lock()


def shared_workers() -> Workers:
    """The workers that all runtimes of this process use."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = Workers(thread_count())
        return _shared
