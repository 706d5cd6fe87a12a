"""The way of finished traces to whoever collects them, which never disturbs serving."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.serve.observe.trace import RequestTrace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger("tessera.serve")

INTERVAL_S = 1.0
"""How long traces are collected before they are sent together."""
_AT_ONCE = 128
"""Most traces that are sent together."""


@dataclass(slots=True)
class TraceCounts:
    """What became of traces."""

    exported: int = 0
    dropped: int = 0
    """Not taken: as many waited as may wait."""
    failed: int = 0
    """Sent, but not taken by the collector."""


class TraceExport:
    """Sends traces from a thread of its own.

    Args:
        spans: The spans of a trace.
        exporter: Sends them; it may fail and may take its time.
        max_pending: Most traces that may wait; more are dropped and counted.
    """

    def __init__(
        self,
        spans: Callable[[RequestTrace], list[ReadableSpan]],
        exporter: SpanExporter,
        *,
        max_pending: int = 4096,
    ) -> None:
        self._spans = spans
        self._exporter = exporter
        self._max_pending = max_pending
        self._pending: deque[RequestTrace] = deque()
        self._due = threading.Event()
        self._closing = False
        self._failing = False
        self.counts = TraceCounts()
        """What became of the traces so far."""
        self._thread = threading.Thread(target=self._work, name="tessera-traces", daemon=True)
        self._thread.start()

    def finished(self, trace: RequestTrace) -> None:
        """Take a trace that is whole; never blocks."""
        if len(self._pending) >= self._max_pending:
            self.counts.dropped += 1
            return
        self._pending.append(trace)

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what waits, for `timeout_s` at most."""
        self._closing = True
        self._due.set()
        self._thread.join(timeout_s)
        # A collector that does not answer is tried again with pauses; this ends them.
        self._exporter.shutdown()

    def _work(self) -> None:
        while not self._closing:
            self._due.wait(INTERVAL_S)
            while self._pending:
                taken = [self._pending.popleft() for _ in range(min(len(self._pending), _AT_ONCE))]
                self._send(taken)

    def _send(self, traces: Sequence[RequestTrace]) -> None:
        try:
            found = self._exporter.export([span for trace in traces for span in self._spans(trace)])
            problem = "" if found.value == 0 else "the collector did not take them"
        except Exception as error:  # noqa: BLE001 - whatever an exporter raises, serving goes on
            problem = f"{type(error).__name__}: {error}"
        if not problem:
            self.counts.exported += len(traces)
            if self._failing:
                logger.info("traces are collected again; %d were lost", self.counts.failed)
            self._failing = False
            return
        self.counts.failed += len(traces)
        if not self._failing:
            self._failing = True
            logger.warning("traces cannot be sent, they are being lost: %s", problem)
