"""A request that an ASGI application answers.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html, version 2.4 of the HTTP specification.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from tessera.serve.answer import error_answer
from tessera.serve.connections.exchange import NO_BODY, Exchange
from tessera.serve.connections.head import Head
from tessera.serve.connections.wire import header_lines, status_line

if TYPE_CHECKING:
    from tessera.serve.connections.connection import Connection

logger = logging.getLogger("tessera.serve")

Message = MutableMapping[str, Any]

_ASGI = {"version": "3.0", "spec_version": "2.4"}


def scope_of(connection: Connection, head: Head) -> dict[str, Any]:
    """The ASGI scope of a request."""
    target = head.target
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": head.version,
        "server": connection.server,
        "client": connection.client,
        "scheme": connection.host.scheme,
        "method": head.method,
        "root_path": "",
        "path": target.path,
        "raw_path": target.raw_path,
        "query_string": target.query,
        "headers": head.headers,
    }


class AsgiExchange(Exchange):
    """A request that the host's application answers in a task of its own.

    Args:
        connection: Where it came from.
        head: Its line and headers.
    """

    __slots__ = (
        "_buffered_bytes",
        "_chunks",
        "_has_body",
        "_is_chunked",
        "_is_done",
        "_is_gone",
        "_left_bytes",
        "_start",
        "_task",
        "_told_end",
        "_waiters",
    )

    head: Head

    def __init__(self, connection: Connection, head: Head) -> None:
        super().__init__(connection, head)
        self._chunks: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._is_gone = False
        self._is_done = False
        self._start: Message | None = None
        self._is_chunked = False
        self._has_body = True
        self._told_end = False
        self._left_bytes: int | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    # What the connection calls.

    def opened(self) -> None:
        """Let the application answer."""
        super().opened()
        host = self.connection.host
        self._task = host.loop.create_task(self._run())
        host.tasks.add(self._task)
        self._task.add_done_callback(host.tasks.discard)

    def body(self, chunk: bytes) -> None:
        """A part of the request's body came."""
        if self._is_done:
            return
        self._chunks.append(chunk)
        self._buffered_bytes += len(chunk)
        if self._buffered_bytes > self.connection.host.limits.body_buffer_bytes:
            self.connection.hold_body()
        self._wake()

    def ended(self) -> None:
        """The request is all there."""
        super().ended()
        self._wake()

    def lost(self) -> None:
        """The client is gone: the application hears of it, and what it sends goes nowhere."""
        self._is_gone = True
        self._wake()

    def drained(self) -> None:
        """The client takes more of the answer."""
        self._wake()

    # What the application calls.

    async def _receive(self) -> Message:
        self.send_continue()
        while not (self._chunks or self._is_gone or self._is_done or self._has_end_to_tell):
            await self._wait()
        if self._is_gone or (self._is_done and not self._chunks):
            return {"type": "http.disconnect"}
        chunk = b"".join(self._chunks) if len(self._chunks) != 1 else self._chunks[0]
        self._chunks.clear()
        self._buffered_bytes = 0
        self.connection.release_body()
        if self.complete:
            self._told_end = True
        return {"type": "http.request", "body": chunk, "more_body": not self.complete}

    async def _send(self, message: Message) -> None:
        if self._is_gone or self._is_done:
            return
        if self._start is None:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"the application sent {message['type']!r} before http.response.start")
            self._start = message
            return
        if message["type"] != "http.response.body":
            raise RuntimeError(f"the application sent {message['type']!r} within its answer")
        self._write(self._start, message.get("body", b""), is_last=not message.get("more_body", False))
        while not (self.connection.writable or self._is_gone or self._is_done):
            await self._wait()

    async def _run(self) -> None:
        try:
            await self.connection.host.app(scope_of(self.connection, self.head), self._receive, self._send)
        except asyncio.CancelledError:
            if not self._is_done:
                self._break_off()
            raise
        except Exception:
            logger.exception("the application failed on %s %s", self.head.method, self.head.target.path)
        if not self._is_done:
            self._break_off()

    # The answer.

    def _write(self, start: Message, body: bytes, *, is_last: bool) -> None:
        parts: list[bytes | memoryview] = []
        if not self.started:
            parts.append(self._head_bytes(start, body, is_last=is_last))
            self.started = True
        if self._has_body and body:
            if self._is_chunked:
                parts += [b"%x\r\n" % len(body), body, b"\r\n"]
            else:
                self._take(len(body))
                parts.append(body)
        if is_last:
            if self._is_chunked:
                parts.append(b"0\r\n\r\n")
            elif self._has_body and self._left_bytes:
                # The client would wait for the rest.
                self.keep_alive = False
            self._is_done = True
        if parts:
            self.connection.write(parts)
        if is_last:
            self._wake()
            self.connection.finished(self)

    def _take(self, size: int) -> None:
        if self._left_bytes is None:
            return
        if size > self._left_bytes:
            raise RuntimeError("the application's answer is longer than its Content-Length")
        self._left_bytes -= size

    def _head_bytes(self, start: Message, body: bytes, *, is_last: bool) -> bytes:
        status = int(start["status"])
        headers: list[tuple[bytes, bytes]] = []
        names: set[bytes] = set()
        for name, value in start.get("headers", ()):
            lower = bytes(name).lower()
            if lower == b"connection":
                self._heed_connection(value)
                continue
            names.add(lower)
            headers.append((lower, bytes(value)))
            if lower == b"content-length":
                self._left_bytes = int(value)
        self._has_body = self.head.method != "HEAD" and status not in NO_BODY and status >= 200
        if self._left_bytes is None and self._has_body:
            self._frame(headers, names, len(body) if is_last else None)
        if self.keep_alive and not self.connection.may_live_on(self):
            self.keep_alive = False
        date = b"" if b"date" in names else self.connection.host.date
        return b"".join([status_line(status), date, header_lines(headers), self.connection_line()])

    def _heed_connection(self, value: bytes) -> None:
        """The application wants the connection to end; while the server stops, after those behind it."""
        if b"close" in value.lower() and not (self.connection.host.app.closing and self.connection.has_more):
            self.keep_alive = False

    def _frame(self, headers: list[tuple[bytes, bytes]], names: set[bytes], size: int | None) -> None:
        """Say where an answer ends that does not say so itself."""
        if b"transfer-encoding" in names:
            self._is_chunked = True
        elif size is not None:
            headers.append((b"content-length", str(size).encode()))
        elif self.head.version == "1.1":
            self._is_chunked = True
            headers.append((b"transfer-encoding", b"chunked"))
        else:
            self.keep_alive = False

    def _break_off(self) -> None:
        """The application did not finish its answer."""
        self._is_done = True
        if self._is_gone:
            return
        self.keep_alive = False
        if self.started:
            # The client must not take what it has for the whole.
            self.connection.transport.abort()
        else:
            self.send(error_answer(500, "internal error", "the server's log explains it"))

    # Waiting for the client.

    @property
    def _has_end_to_tell(self) -> bool:
        return self.complete and not self._told_end

    async def _wait(self) -> None:
        waiter = self.connection.host.loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
