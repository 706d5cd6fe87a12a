"""What is done at the beginning and the end of every request: its context, its trace, its log line."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from tessera.serve.observe.context import RequestContext, accepted_id
from tessera.serve.observe.trace import Headers, RequestTrace, Sampler

access = logging.getLogger("tessera.access")

_ERROR = 400

REQUEST_ID = b"x-request-id"
TRACE_RESPONSE = b"traceresponse"
"""Source: W3C Trace Context, level 2 (draft), section 4."""


class Observer(Protocol):
    """Is told about every answer."""

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered; `path` is the endpoint's."""


class AccessLog:
    """Writes answers to the logger `tessera.access`.

    Args:
        share: Of the answers that are no errors, 0 to 1; errors always are.
        draw: A number from 0 to 1.
    """

    def __init__(self, share: float, draw: Callable[[], float] = random.random) -> None:
        self._share = share
        self._draw = draw

    def answered(
        self,
        context: RequestContext,
        method: str,
        path: str,
        status: int,
        seconds: float,
        client: str | None,
    ) -> None:
        """Write a line, perhaps."""
        if status < _ERROR and self._draw() >= self._share:
            return
        more: dict[str, object] = {
            "request_id": context.request_id,
            "method": method,
            "path": path,
            "status": status,
            "duration_ms": round(seconds * 1e3, 3),
            "client": client,
        }
        if context.trace is not None:
            more["trace_id"] = f"{context.trace.trace_id:032x}"
        level = logging.INFO if status < _ERROR else logging.WARNING
        access.log(level, "%s %s %d", method, path, status, extra=more)


class Telemetry:
    """What a server does for every request beside answering it.

    Args:
        observer: Counts answers.
        sampler: Decides which are traced; None: none.
        traced: Takes traces that are whole.
        access_log: Writes answers down; None: nothing does.
    """

    def __init__(
        self,
        observer: Observer | None = None,
        *,
        sampler: Sampler | None = None,
        traced: Callable[[RequestTrace], None] | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self._observer = observer
        self._sampler = sampler
        self._traced = traced
        self._access = access_log

    def begin(self, headers: Headers, started_s: float) -> RequestContext:
        """The context of a request with these headers (names in lower case)."""
        if self._sampler is not None:
            return self._sampler.context(headers, started_s)
        for name, value in headers:
            if name == REQUEST_ID:
                return RequestContext(accepted_id(value))
        return RequestContext()

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do beside counting."""
        return self._sampler is not None or self._access is not None

    @property
    def is_tracing(self) -> bool:
        """Whether any request is traced."""
        return self._sampler is not None

    def headers(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        """What the answer says of the request's identity; empty if nobody asked for it."""
        found: list[tuple[bytes, bytes]] = []
        if (request_id := context.known_id) is not None:
            found.append((REQUEST_ID, request_id.encode("latin-1")))
        if context.trace is not None:
            found.append((TRACE_RESPONSE, context.trace.traceparent.encode()))
        return found

    def answered(
        self,
        context: RequestContext,
        method: str,
        route: str,
        path: str,
        status: int,
        times_s: tuple[float, float],
        client: str | None,
    ) -> None:
        """An answer was sent.

        Args:
            context: What `begin` gave.
            method: Of the request.
            route: The endpoint's path.
            path: The request's path.
            status: The answer's.
            times_s: When the request began, and when its answer was sent.
            client: Address that it came from.
        """
        seconds = times_s[1] - times_s[0]
        if self._observer is not None:
            self._observer.answered(method, route, status, seconds)
        if self._access is not None:
            self._access.answered(context, method, path, status, seconds, client)
        trace = context.trace
        if trace is not None and self._traced is not None:
            trace.sent_s, trace.status, trace.name = times_s[1], status, f"{method} {route}"
            trace.attributes = _attributes(context, method, route, path, status, client)
            self._traced(trace)


def _attributes(
    context: RequestContext, method: str, route: str, path: str, status: int, client: str | None
) -> dict[str, str | int]:
    """Source: OpenTelemetry, semantic conventions for HTTP spans, version 1.27."""
    found: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "url.path": path[:1024],
        "http.response.status_code": status,
    }
    if client is not None:
        found["client.address"] = client
    if (request_id := context.known_id) is not None:
        found["tessera.request_id"] = request_id
    return found


@contextmanager
def spans_of_users(context: RequestContext) -> Iterator[None]:
    """Let spans that an endpoint makes belong to its request, and its calls of others carry the trace on."""
    from opentelemetry import context as contexts
    from opentelemetry import trace

    from tessera.serve.observe.spans import current_context

    span = trace.NonRecordingSpan(current_context(context))
    token = contexts.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        contexts.detach(token)
