"""A client of HTTP/1.1 that costs little: one kept connection, one request at a time on it."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from tessera.program.errors import MissingDependencyError, ServeError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"http": 80, "https": 443}
MAX_ANSWER_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    scheme: str
    host: str
    port: int
    path: str
    """What follows host and port, without a slash at the end."""

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:8080`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


class NoAnswerError(Exception):
    """The connection ended, or time ran out, before an answer was whole; its text is one of a few."""


def parse_address(url: str) -> Address:
    """The parts of a URL.

    Raises:
        ServeError: It is none of HTTP.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in _PORTS or not host:
        raise ServeError(f"{url!r} is no address of a server", hint="such as http://127.0.0.1:8080")
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"))


def request_bytes(address: Address, method: str, path: str, body: bytes = b"") -> bytes:
    """A whole request, to be sent as often as one likes."""
    head = [
        f"{method} {path} HTTP/1.1",
        f"Host: {address.origin.partition('//')[2]}",
        "Accept: application/json",
    ]
    if body or method == "POST":
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


class Connection(asyncio.Protocol):
    """A kept connection; `open_connection` makes one."""

    def __init__(self, parser_class: Any) -> None:
        self._parser_class = parser_class
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parts: list[bytes] = []
        self._bytes = 0
        self.asked_at: float | None = None
        """When the request under way was sent, by `time.perf_counter`; None where none is."""
        self.closed = False

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            NoAnswerError: The connection ended first.
        """
        if self._transport is None or self.closed:
            raise NoAnswerError("hung up")
        self._parser = self._parser_class(self)
        self._parts, self._bytes = [], 0
        self._waiting = asyncio.get_running_loop().create_future()
        self.asked_at = time.perf_counter()
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            self.asked_at = self._waiting = None

    def give_up(self, reason: str) -> None:
        """End the connection; who waits for an answer is told `reason`."""
        self.closed = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(NoAnswerError(reason))
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        # uvloop's transports are none of asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        del exc
        self.give_up("hung up")

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        import httptools

        if self._waiting is None or self._waiting.done():
            # Nobody asked: what follows cannot be told apart from the next answer.
            self.give_up("spoke unasked")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.give_up("not HTTP")

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._bytes += len(body)
        if self._bytes > MAX_ANSWER_BYTES:
            self.give_up("endless answer")
            return
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Answer(self._parser.get_status_code(), b"".join(self._parts)))
        if not self._parser.should_keep_alive():
            # Also where the server leaves it open: each would hold a file descriptor.
            self.give_up("closed")


async def open_connection(address: Address, timeout_s: float) -> Connection:
    """A connection to a server.

    Raises:
        NoAnswerError: It is not there, or takes no connection in time.
        MissingDependencyError: httptools is not installed.
    """
    try:
        import httptools
    except ImportError:
        raise MissingDependencyError.extra("httptools", "serve", needed_for="measuring a server") from None
    loop = asyncio.get_running_loop()
    secure = ssl.create_default_context() if address.scheme == "https" else None
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(
                lambda: Connection(httptools.HttpResponseParser), address.host, address.port, ssl=secure
            )
    except TimeoutError:
        raise NoAnswerError(f"no connection in {timeout_s:g} s") from None
    except ssl.SSLError as error:
        raise NoAnswerError(f"TLS: {error.reason or error}") from None
    except OSError as error:
        raise NoAnswerError((error.strerror or str(error)).lower()) from None
    return connection


async def ask_once(address: Address, method: str, path: str, body: bytes, timeout_s: float) -> Answer:
    """One request on a connection of its own.

    Raises:
        NoAnswerError: There was no answer.
    """
    connection = await open_connection(address, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            return await connection.ask(request_bytes(address, method, path, body))
    except TimeoutError:
        raise NoAnswerError(f"no answer in {timeout_s:g} s") from None
    finally:
        connection.give_up("done")


def message_of(body: bytes) -> str:
    """What an answer says went wrong: the field `error` of its JSON, else the beginning of its text."""
    import msgspec

    try:
        data: Mapping[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        return str(data.get("error") or data.get("detail") or data)[:300]
    except msgspec.DecodeError:
        return body[:200].decode("utf-8", "replace").strip() or "nothing"
