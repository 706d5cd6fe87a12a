"""HTTP connections: uvicorn's, with limits on headers and errors in this server's form."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tessera.serve.answer import error_answer

MAX_HEADER_BYTES = 64 << 10
"""Most bytes of a request's line and headers together."""

HEADER_TIMEOUT_S = 20.0
"""Longest that a request's headers may take to come."""


class Connection(HttpToolsProtocol):
    """One client's connection."""

    headers_since_s: float | None = None
    """When the headers that are being read began, by the loop's clock; None while none are."""
    _header_bytes = 0
    _refusal = (400, "this is not an HTTP request", "http://…, not https://…, and HTTP/1.1")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self.headers_since_s = self.loop.time()

    def on_message_begin(self) -> None:
        """A request's first byte came."""
        super().on_message_begin()
        self._header_bytes = 0
        self.headers_since_s = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A part of the path came."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are all there."""
        self.headers_since_s = None
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            limit = f"the limit is {MAX_HEADER_BYTES} bytes"
            self._refusal = (431, f"the path and headers are too large: {limit}", "send data in the body")
            raise httptools.HttpParserError("headers too large")

    def refuse_slow(self, now_s: float) -> None:
        """End the connection if its client takes too long to send headers."""
        if self.headers_since_s is not None and now_s - self.headers_since_s > HEADER_TIMEOUT_S:
            self._refusal = (408, f"no complete headers within {HEADER_TIMEOUT_S:g} s", "")
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says more
        """Answer what could not be parsed, and hang up."""
        status, message, hint = self._refusal
        if self.transport.is_closing():
            return
        # Bytes between two answers of a pipeline would be taken for a part of the first.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            answer = error_answer(status, message, hint or None)
            lines: list[Any] = [STATUS_LINE[status]]
            for name, value in answer.raw_headers(close=True):
                lines += [name, b": ", value, b"\r\n"]
            self.transport.write(b"".join([*lines, b"\r\n", answer.body]))
        self.transport.close()
