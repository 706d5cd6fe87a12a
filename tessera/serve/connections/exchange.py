"""One request and its answer, as the connection sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.serve.answer import Answer, answer_for, error_answer
from tessera.serve.connections.head import Head, Refusal
from tessera.serve.connections.wire import CONTINUE, first_lines, header_lines

if TYPE_CHECKING:
    from tessera.serve.connections.connection import Connection

Scope = dict[str, object]

NO_BODY = frozenset({204, 304})
"""Statuses whose answers have no body."""


class Exchange:
    """One request and its answer.

    The connection calls `opened` when it is its turn, `body` and `ended` as the request comes, and
    `lost` if there will be no more of it. It calls `connection.finished` once when all of its answer
    is written.

    Args:
        connection: Where it came from.
        head: Its line and headers; None if there is none that could be understood.
    """

    __slots__ = ("complete", "connection", "head", "is_open", "keep_alive", "started")

    def __init__(self, connection: Connection, head: Head | None) -> None:
        self.connection = connection
        self.head = head
        self.keep_alive = head is not None and head.keep_alive
        """Whether the connection may live on after it."""
        self.complete = False
        """Whether all of the request is there."""
        self.is_open = False
        """Whether it is its turn."""
        self.started = False
        """Whether a part of its answer is written."""

    def opened(self) -> None:
        """It is its turn to be answered."""
        self.is_open = True

    def body(self, chunk: bytes) -> None:
        """A part of the request's body came."""

    def ended(self) -> None:
        """The request is all there."""
        self.complete = True

    def lost(self) -> None:
        """The client is gone."""

    def drained(self) -> None:
        """The client takes more of the answer."""

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body."""
        if self.head is not None and self.head.expects_continue and not (self.started or self.complete):
            self.head.expects_continue = False
            self.connection.transport.write(CONTINUE)

    def send(self, answer: Answer) -> None:
        """Write `answer`, which is the whole of it."""
        try:
            self._send_whole(answer)
        except ValueError as error:
            if self.started:
                raise
            what = f"{self.head.method} {self.head.target.path}" if self.head else "a request"
            self._send_whole(answer_for(error, what))

    def _send_whole(self, answer: Answer) -> None:
        host = self.connection.host
        more = b""
        if answer.headers:
            headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers.items()]
            if (b"connection", b"close") in headers:
                headers.remove((b"connection", b"close"))
                self.keep_alive = False
            more = header_lines(headers)
        if self.keep_alive and not self.connection.may_live_on(self):
            self.keep_alive = False
        length = b"content-length: %d\r\n" % answer.size_bytes
        ending = self.connection_line()
        start = b"".join((first_lines(answer.status, answer.media_type), host.date, length, more, ending))
        is_head = self.head is not None and self.head.method == "HEAD"
        self.started = True
        self.connection.write([start] if is_head else [start, *answer.parts])
        self.connection.finished(self)

    def connection_line(self) -> bytes:
        """The header Connection, where it says something, and the end of the headers."""
        if not self.keep_alive:
            return b"connection: close\r\n\r\n"
        if self.head is not None and self.head.version == "1.0":
            return b"connection: keep-alive\r\n\r\n"
        return b"\r\n"


class RefusedExchange(Exchange):
    """What could not be understood; the connection ends with it."""

    __slots__ = ("_refusal",)

    def __init__(self, connection: Connection, refusal: Refusal) -> None:
        super().__init__(connection, None)
        self._refusal = refusal

    def opened(self) -> None:
        """Say why."""
        super().opened()
        refusal = self._refusal
        headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
        self.send(error_answer(refusal.status, refusal.message, refusal.hint, headers))
