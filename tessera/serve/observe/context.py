"""Which request the running code belongs to, for whoever logs or traces on its behalf."""

from __future__ import annotations

import itertools
import os
import re
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.serve.observe.trace import Parent, RequestTrace

_ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}\Z")
_process: str | None = None
_counter = itertools.count(1)
_prefix = os.urandom(5).hex()


def _renew() -> None:
    global _prefix
    _prefix = os.urandom(5).hex()


# A forked process counts from where its parent was: the same identifiers would come twice.
os.register_at_fork(after_in_child=_renew)


class RequestContext:
    """One request, as its log lines name it.

    Args:
        request_id: The client's own; None: one is made when somebody asks.
    """

    __slots__ = ("_request_id", "trace", "unsampled")

    def __init__(self, request_id: str | None = None) -> None:
        self._request_id = request_id
        self.trace: RequestTrace | None = None
        """Its course, if it is traced."""
        self.unsampled: Parent | None = None
        """Who called, if the caller traces and has decided not to trace this request."""

    @property
    def request_id(self) -> str:
        """The identifier. Most requests are never asked for theirs, and then none is made."""
        if self._request_id is None:
            self._request_id = new_request_id()
        return self._request_id

    @property
    def known_id(self) -> str | None:
        """The identifier, if the client gave one or somebody asked for it."""
        return self._request_id


CURRENT: ContextVar[RequestContext | None] = ContextVar("tessera_request", default=None)
"""The request that the running task or thread answers."""


def new_request_id() -> str:
    """An identifier that no other request has: random per process, then counted."""
    return f"{_prefix}-{next(_counter):x}"


def accepted_id(value: bytes) -> str | None:
    """A client's `X-Request-Id`; None if it is too long, or holds what could forge a log line."""
    text = value.decode("latin-1").strip()
    return text if _ACCEPTED.match(text) else None


def name_process(name: str) -> None:
    """Let the log's lines of this process say which of a server's processes they are of."""
    global _process
    _process = name


def log_fields() -> dict[str, Any]:
    """What a log line says of the process, the request and the span that the caller belongs to."""
    fields: dict[str, Any] = {} if _process is None else {"process": _process}
    current = CURRENT.get()
    if current is not None:
        fields["request_id"] = current.request_id
        if current.trace is not None:
            fields["trace_id"] = f"{current.trace.trace_id:032x}"
            fields["span_id"] = f"{current.trace.span_id:016x}"
    # A program that traces by itself has imported this; nobody else pays for the import.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            fields["trace_id"] = f"{span.trace_id:032x}"
            fields["span_id"] = f"{span.span_id:016x}"
    return fields
