"""The way from a logging call to a file, which never blocks and never fails the caller."""

from __future__ import annotations

import atexit
import copy
import logging
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tessera.serve.observe.context import log_fields

Line = Callable[[logging.LogRecord], bytes]

_AT_ONCE = 256
"""Most records that are written together."""

RETRY_S = 1.0
"""How long nothing is tried after a write failed. A full disk does not get better by the millisecond."""


class Sink(Protocol):
    """Where lines go."""

    def write(self, data: bytes) -> None:
        """Append `data`, or raise an OSError."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(slots=True)
class LogCounts:
    """What became of the records of one handler."""

    written: int = 0
    dropped: int = 0
    """Not taken: as many waited as may wait."""
    failed: int = 0
    """Taken, but not written: the disk is full, or the file cannot be opened."""


class QueuedHandler(logging.Handler):
    """Hands records to a thread of its own, which writes them.

    Args:
        sink: Where to.
        line: A record as bytes.
        max_pending: Most records that may wait; more are dropped and counted.
    """

    def __init__(self, sink: Sink, line: Line, *, max_pending: int = 8192) -> None:
        super().__init__()
        self._sink = sink
        self._line = line
        self._max_pending = max_pending
        self._resting_until_s = 0.0
        self._failing = False
        self._unsaid = 0
        self._closed = False
        self.counts = LogCounts()
        """What became of the records so far."""
        self._start()
        # A process that is forked gets the handler, but not its thread.
        handler = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _restart(handler))
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        """Take `record` in; never blocks."""
        if self._queue.qsize() >= self._max_pending or self._closed:
            self.counts.dropped += 1
            return
        # The arguments may change after the call, so they are put in now; the rest is the thread's work.
        try:
            # A copy: other handlers are given the same record.
            record = copy.copy(record)
            record.msg, record.args = record.getMessage(), None
            record.tessera_context = log_fields()
        except Exception:  # noqa: BLE001 - a wrong format string must not reach the caller
            self.handleError(record)
            return
        self._queue.put(record)

    def flush(self) -> None:
        """Wait until what was logged so far is written, 5 s at most."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            done = threading.Event()
            self._queue.put(done)
            done.wait(5.0)

    def close(self) -> None:
        """Write what waits, and let go of the sink."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join(5.0)
        self._sink.close()
        atexit.unregister(self.close)
        super().close()

    def _start(self) -> None:
        self._queue: queue.SimpleQueue[logging.LogRecord | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tessera-log", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while True:
            taken = [self._queue.get()]
            while len(taken) < _AT_ONCE and not self._queue.empty():
                taken.append(self._queue.get())
            self._write([r for r in taken if isinstance(r, logging.LogRecord)])
            for each in taken:
                if isinstance(each, threading.Event):
                    each.set()
            if None in taken:
                return

    def _write(self, records: list[logging.LogRecord]) -> None:
        if not records:
            return
        if self._failing and time.monotonic() < self._resting_until_s:
            self.counts.failed += len(records)
            return
        try:
            self._sink.write(b"".join([*self._said(), *map(self._safe_line, records)]))
        except OSError as error:
            self.counts.failed += len(records)
            self._resting_until_s = time.monotonic() + RETRY_S
            if not self._failing:
                self._failing = True
                _say(f"tessera: the log cannot be written, lines are being lost: {error}")
        else:
            self.counts.written += len(records)
            if self._failing:
                self._failing = False
                _say(f"tessera: the log is written again; {self.counts.failed} lines were lost")

    def _said(self) -> list[bytes]:
        """A line about those that were dropped since the last one."""
        missing = self.counts.dropped - self._unsaid
        if not missing:
            return []
        self._unsaid += missing
        text = f"{missing} log records were dropped: {self._max_pending} were waiting to be written"
        return [self._line(logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None))]

    def _safe_line(self, record: logging.LogRecord) -> bytes:
        try:
            return self._line(record)
        except Exception as error:  # noqa: BLE001 - some value's own __str__ raises
            text = f"a log record of {record.name} could not be written: {type(error).__name__}"
            return self._line(logging.LogRecord(__name__, logging.ERROR, "", 0, text, None, None))


def _restart(handler: weakref.ref[QueuedHandler]) -> None:
    found = handler()
    if found is not None and not found._closed:  # noqa: SLF001 - its own module
        found.counts = LogCounts()
        found._start()  # noqa: SLF001


def _say(text: str) -> None:
    # Not by logging: this is what could not be logged.
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Standard error is the very thing that is full or closed: the counts still say it.
        return
