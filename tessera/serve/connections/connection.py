"""One client's connection: requests in, answers out in the same order, within limits."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, IntFlag
from math import inf
from typing import cast

import httptools

from tessera.serve.connections.asgi import AsgiExchange
from tessera.serve.connections.direct import DirectExchange
from tessera.serve.connections.exchange import Exchange, RefusedExchange
from tessera.serve.connections.head import (
    NOT_HTTP,
    Head,
    RawHeaders,
    Refusal,
    read_head,
    too_large,
    too_many_connections,
    too_many_headers,
    too_slow,
)
from tessera.serve.connections.host import Host


class State(Enum):
    """What a connection takes from its client."""

    OPEN = "open"
    """Requests."""
    LAST = "last"
    """Nothing any more; what was taken is answered. What comes is dropped."""
    ENDING = "ending"
    """Nothing, and all is answered; the client may still read."""


class Hold(IntFlag):
    """Why nothing is read from a client."""

    LINE = 1
    """Too many requests wait for their turn."""
    WRITING = 2
    """It does not take its answers."""
    BODY = 4
    """The application does not take the body."""


class _RefusedError(Exception):
    """Leaves the parser; `Connection._refusal` says why."""


class Connection(asyncio.Protocol):
    """One client's connection.

    Args:
        host: What it belongs to.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.transport: asyncio.Transport
        self.client: tuple[str, int] | None = None
        """Address and port of the client."""
        self.server: tuple[str, int | None] | None = None
        """Address and port that it reached."""
        self.deadline_s = inf
        """When the client must have sent something, by the loop's clock."""
        self.write_deadline_s = inf
        """When it must have taken something."""
        self.writable = True
        """Whether the client takes its answers."""
        self.state = State.OPEN
        self._limits = host.limits
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._refusal = NOT_HTTP
        self._url = b""
        self._headers: RawHeaders = []
        self._header_bytes = 0
        self._in_head = True
        self._requests = 0
        self._incoming: Exchange | None = None
        self._current: Exchange | None = None
        self._line: deque[Exchange] = deque()
        self._advancing = False
        self._holds = Hold(0)
        self._dropped_bytes = 0
        self._is_broken = False
        self._offered: Head | None = None
        self._is_replaying = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        # uvloop's transports are not made of asyncio's classes.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(self._limits.write_buffer_bytes)
        self.client = _address(transport.get_extra_info("peername"))
        self.server = _address(transport.get_extra_info("sockname"))
        self.host.connections.add(self)
        self.deadline_s = self.host.loop.time() + self._limits.header_timeout_s
        if len(self.host.connections) > self._limits.connections:
            self._refuse(too_many_connections(self._limits.connections))

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        while self._parser is not None and (self.state is State.OPEN or self._incoming is not None):
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._ignore_upgrade()
                continue
            except httptools.HttpParserError:
                self._refuse(self._refusal)
            return
        self._dropped_bytes += len(data)
        if self._dropped_bytes > _DROPPED_LIMIT:
            self.transport.abort()

    def eof_received(self) -> bool:
        """The client sends no more. One that is gone looks the same, so nothing is answered any more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The connection ended."""
        self.host.connections.discard(self)
        self.deadline_s = self.write_deadline_s = inf
        self.state = State.ENDING
        self._parser = None
        self.writable = True
        for exchange in (self._current, *self._line):
            if exchange is not None:
                exchange.lost()
        self._line.clear()
        self._current = self._incoming = None

    def pause_writing(self) -> None:
        """The client does not take what was written."""
        self.writable = False
        self.hold(Hold.WRITING)
        self.write_deadline_s = self.host.loop.time() + self._limits.write_timeout_s

    def resume_writing(self) -> None:
        """The client took it."""
        self.writable = True
        self.write_deadline_s = inf
        self.release(Hold.WRITING)
        if self._current is not None:
            self._current.drained()
        self._advance()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request's first byte came."""
        if self._is_replaying:
            return
        if self.state is not State.OPEN:
            raise _RefusedError
        self._url = b""
        self._headers = []
        self._header_bytes = 0
        self._in_head = True
        self.deadline_s = self.host.loop.time() + self._limits.header_timeout_s

    def on_url(self, url: bytes) -> None:
        """A part of the path came."""
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came, or a trailer, which nobody reads."""
        if self._is_replaying:
            return
        self._count(len(name) + len(value) + 4)
        if self._in_head:
            self._headers.append((name.lower(), value))
            if len(self._headers) > self._limits.header_count:
                self._refusal = too_many_headers(self._limits.header_count)
                raise _RefusedError

    def on_headers_complete(self) -> None:
        """The headers are all there."""
        parser = self._parser
        if self._is_replaying or parser is None:
            self._is_replaying = False
            return
        self._in_head = False
        self.deadline_s = inf
        head = read_head(
            parser.get_method().decode("ascii"),
            self._url,
            parser.get_http_version(),
            self._headers,
            keep_alive=parser.should_keep_alive(),
        )
        if isinstance(head, Refusal):
            self._refusal = head
            raise _RefusedError
        self._requests += 1
        if parser.should_upgrade() and head.has_body:
            self._offered = head
        match = self.host.app.direct(head.method, head.target.path, head.headers, head.length)
        exchange = AsgiExchange(self, head) if match is None else DirectExchange(self, head, match)
        self._incoming = exchange
        self._line.append(exchange)
        if len(self._line) > self._limits.pipelined:
            self.hold(Hold.LINE)
        self._advance()

    def on_body(self, chunk: bytes) -> None:
        """A part of the body came."""
        if self._incoming is not None:
            self._incoming.body(chunk)
            return
        self._dropped_bytes += len(chunk)
        if self._dropped_bytes > self._limits.discard_bytes:
            self._end()

    def on_message_complete(self) -> None:
        """The request is all there."""
        if self._offered is not None:
            return
        exchange, self._incoming = self._incoming, None
        self._dropped_bytes = 0
        if exchange is not None:
            if not exchange.keep_alive and self.state is State.OPEN:
                self.state = State.LAST
            exchange.ended()
        elif self.state is not State.OPEN:
            return
        elif self._current is None and not self._line:
            self._idle()

    @property
    def has_more(self) -> bool:
        """Whether requests wait behind the one being answered."""
        return bool(self._line)

    def _ignore_upgrade(self) -> None:
        """Read on as if the client had not offered another protocol, which no server is obliged to take.

        The parser takes what follows the headers for that protocol. Where it is a body, another parser
        is told of the headers again, without the offer.
        """
        self._parser = httptools.HttpRequestParser(self)
        head, self._offered = self._offered, None
        if head is None:
            return
        length = b"Content-Length: %d" % head.length if head.length else b"Transfer-Encoding: chunked"
        self._is_replaying = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % length)

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.header_bytes:
            self._refusal = too_large(self._limits.header_bytes)
            raise _RefusedError

    # What exchanges call.

    def write(self, parts: list[bytes | memoryview]) -> None:
        """Send `parts`."""
        if len(parts) == 1:
            self.transport.write(parts[0])
        elif sum(map(len, parts)) <= _JOINED_BYTES:
            self.transport.write(b"".join(parts))
        else:
            self.transport.writelines(parts)

    def hold(self, why: Hold) -> None:
        """Read nothing until `release`."""
        if not self._holds:
            self.transport.pause_reading()
        self._holds |= why

    def release(self, why: Hold) -> None:
        """Read on, unless there is another reason not to."""
        if self._holds & why:
            self._holds &= ~why
            if not self._holds and not self.transport.is_closing():
                self.transport.resume_reading()

    def hold_body(self) -> None:
        """Read nothing until the application has taken what there is of the body."""
        self.hold(Hold.BODY)

    def release_body(self) -> None:
        """The application has taken what there was."""
        self.release(Hold.BODY)

    def may_live_on(self, exchange: Exchange) -> bool:
        """Whether the connection may be used again after `exchange`."""
        if self._line:
            return True
        if self.host.app.closing or self._requests >= self._limits.requests:
            return False
        if exchange.complete or exchange.head is None:
            return True
        # Its body still comes, and nobody wants it.
        length = exchange.head.length
        is_bounded = length is not None and length <= self._limits.discard_bytes
        return is_bounded and not exchange.head.expects_continue

    def finished(self, exchange: Exchange) -> None:
        """All of the answer of `exchange` is written."""
        if self._current is not exchange:
            return
        self._current = None
        if not exchange.keep_alive:
            self._end()
            return
        if self._incoming is exchange:
            # What it answered without. The rest of its body is dropped.
            self._incoming = None
            self.release(Hold.BODY)
            self.deadline_s = self.host.loop.time() + self._limits.header_timeout_s
        elif not self._line:
            self._idle()
        self._advance()

    # What the host calls.

    def late(self) -> None:
        """A deadline is over."""
        is_stalled = self.write_deadline_s <= self.host.loop.time()
        self.deadline_s = self.write_deadline_s = inf
        if is_stalled or self.state is State.ENDING:
            self.transport.abort()
        elif self._in_head:
            self._refuse(too_slow(self._limits.header_timeout_s))
        else:
            self._end()

    def shut_down(self) -> None:
        """End the connection when what it has sent is answered; at once if that is nothing."""
        if self._current is None and not self._line:
            self._end()
            return
        self._last()

    def _last(self) -> None:
        if self.state is State.OPEN:
            self.state = State.LAST
        if self._line:
            for exchange in list(self._line)[:-1]:
                exchange.keep_alive = True
            self._line[-1].keep_alive = False
        elif self._current is not None:
            self._current.keep_alive = False

    def _idle(self) -> None:
        if self.state is State.OPEN:
            self.deadline_s = self.host.loop.time() + self._limits.idle_timeout_s

    def _advance(self) -> None:
        """Let the next request have its turn."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._line and self._current is None and self.writable and self.state is not State.ENDING:
                exchange = self._line.popleft()
                self._current = exchange
                self.release(Hold.LINE)
                exchange.opened()
        finally:
            self._advancing = False

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what cannot be understood behind what came before it, and hang up."""
        if self.state is not State.OPEN:
            return
        self.state = State.LAST
        self._is_broken = True
        broken, self._incoming = self._incoming, None
        if broken is not None:
            broken.lost()
            if broken is not self._current:
                self._line.remove(broken)
            elif broken.started:
                self._end()
                return
            else:
                self._current = None
        self._line.append(RefusedExchange(self, refusal))
        self._advance()

    def _end(self) -> None:
        """Close, but let the client read what was written first."""
        if self.state is State.ENDING:
            return
        is_more_coming = self._is_broken or self._incoming is not None
        self.state = State.ENDING
        self._incoming = None
        self._line.clear()
        self.release(Hold.LINE | Hold.BODY | Hold.WRITING)
        if not is_more_coming or not self.transport.can_write_eof() or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write_eof()
        self.deadline_s = self.host.loop.time() + self._limits.linger_s


_JOINED_BYTES = 16 << 10
"""Below this size one copy is cheaper than a list of buffers."""

_DROPPED_LIMIT = 64 << 20
"""Most bytes that are read and dropped at the end of a connection."""


def _address(name: object) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
