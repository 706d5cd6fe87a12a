"""The course of one request, as points in time. Nothing here knows OpenTelemetry.

Times are those of `time.perf_counter`, which all processes of a machine share on Linux; spans are made
of them later, in another thread.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tessera.serve.observe.context import RequestContext, accepted_id

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
_MOST_LINKS = 32
"""Other requests of a batch that its span points to."""

Headers = Iterable[tuple[bytes, bytes]]


class Parent(NamedTuple):
    """Who called, by its `traceparent`."""

    trace_id: int
    span_id: int
    is_sampled: bool


def parse_traceparent(value: bytes) -> Parent | None:
    """What the header says; None if it is not one.

    Source: W3C Trace Context, level 1, section 3.2.
    """
    found = _TRACEPARENT.match(value.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1))


class InferenceTrace:
    """One inference within a request."""

    __slots__ = (
        "batch_id",
        "begun_s",
        "ended_s",
        "enqueued_s",
        "inferred_s",
        "model",
        "others",
        "requests",
        "rows",
        "span_id",
        "stacked_s",
        "started_s",
        "trace",
        "version",
    )

    def __init__(self, trace: RequestTrace, enqueued_s: float) -> None:
        self.trace = trace
        self.enqueued_s = enqueued_s
        self.started_s: float | None = None
        """When its batch left the queue; None: it never did."""
        self.begun_s: float | None = None
        """When a worker took the batch up."""
        self.stacked_s: float | None = None
        self.inferred_s: float | None = None
        self.ended_s: float | None = None
        self.model = ""
        self.version = ""
        self.rows = 0
        """Of the batch."""
        self.requests = 0
        """Of the batch."""
        self.batch_id = 0
        self.others: list[RequestTrace] = []
        """Other requests of the batch that are traced."""


class RequestTrace:
    """A request that is traced.

    Args:
        parent: Who called; None: nobody who traces.
        tracestate: What the caller's vendors want passed on, as it came.
        started_s: When the request's headers were there.
    """

    __slots__ = (
        "answered_s",
        "attributes",
        "body_s",
        "inferences",
        "name",
        "parent",
        "sent_s",
        "span_id",
        "started_s",
        "started_unix_ns",
        "status",
        "trace_id",
        "tracestate",
    )

    def __init__(self, parent: Parent | None, tracestate: str, started_s: float) -> None:
        self.parent = parent
        self.tracestate = tracestate
        self.trace_id = parent.trace_id if parent else random.getrandbits(128) or 1
        self.span_id = random.getrandbits(64) or 1
        self.started_s = started_s
        self.started_unix_ns = time.time_ns() - int((time.perf_counter() - started_s) * 1e9)
        self.body_s: float | None = None
        """When the body was there; None: it was not read."""
        self.answered_s: float | None = None
        """When the answer was made."""
        self.sent_s: float | None = None
        self.status = 0
        self.name = ""
        self.attributes: dict[str, str | int] = {}
        self.inferences: list[InferenceTrace] = []

    def unix_ns(self, seconds: float) -> int:
        """A point in time in nanoseconds since 1970."""
        return self.started_unix_ns + int((seconds - self.started_s) * 1e9)

    @property
    def traceparent(self) -> str:
        """The request's own span, for whoever is called on its behalf."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"

    def infer(self, enqueued_s: float) -> InferenceTrace:
        """An inference begins."""
        made = InferenceTrace(self, enqueued_s)
        self.inferences.append(made)
        return made


def batch_started(traces: list[InferenceTrace], started_s: float, requests: int, rows: int) -> None:
    """A batch with `traces` in it left the queue."""
    batch_id = random.getrandbits(64)
    for each in traces:
        each.started_s, each.requests, each.rows, each.batch_id = started_s, requests, rows, batch_id
        each.others = [other.trace for other in traces if other is not each][:_MOST_LINKS]


def computed(
    trace: InferenceTrace, model: str, version: str, times_s: tuple[float, float, float, float]
) -> None:
    """A batch was computed: when it was begun, stacked, run and done."""
    trace.model, trace.version = model, version
    trace.begun_s, trace.stacked_s, trace.inferred_s, trace.ended_s = times_s


class Sampler:
    """Decides which requests are traced.

    Args:
        ratio: Share of those that come without a decision of their caller's, 0 to 1.
        draw: A number from 0 to 1.
    """

    def __init__(self, ratio: float, draw: Callable[[], float] = random.random) -> None:
        self._ratio = ratio
        self._draw = draw

    def context(self, headers: Headers, started_s: float) -> RequestContext:
        """The context of a request with these headers; traced, or not."""
        request_id = traceparent = None
        for name, value in headers:
            if name == b"x-request-id":
                request_id = accepted_id(value)
            elif name == b"traceparent":
                traceparent = value
        context = RequestContext(request_id)
        parent = parse_traceparent(traceparent) if traceparent is not None else None
        if parent.is_sampled if parent is not None else self._draw() < self._ratio:
            state = b",".join(v for k, v in headers if k == b"tracestate") if parent else b""
            context.trace = RequestTrace(parent, state.decode("latin-1")[:512], started_s)
        elif parent is not None:
            context.unsampled = parent
        return context
