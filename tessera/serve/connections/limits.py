"""How much a connection may send, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.serve.config import ServerConfig


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may do. Beyond it the client gets an error, or the connection ends."""

    header_bytes: int = 64 << 10
    """Most bytes of a request's line and headers together, and of the trailers behind a body (431)."""
    header_count: int = 128
    """Most headers of a request (431)."""
    connections: int = 10_000
    """Most connections at the same time; one more is answered 503 and ended."""
    header_timeout_s: float = 20.0
    """Longest that a request's headers may take to come (408)."""
    idle_timeout_s: float = 75.0
    """How long a connection without a request is kept: longer than most load balancers keep theirs, so
    that it is they who close it, and never while a request is on its way."""
    write_timeout_s: float = 30.0
    """How long a client may take nothing of an answer that fills the buffers."""
    requests: int = 1_000_000
    """Requests of one connection; the last one's answer ends it, so that long-lived clients spread again."""
    pipelined: int = 32
    """Requests that may wait behind the one being answered; then nothing more is read."""
    body_buffer_bytes: int = 256 << 10
    """Bytes of a body that wait for an application to take them; then nothing more is read."""
    write_buffer_bytes: int = 256 << 10
    """Bytes of answers that wait for the client; then nothing more is answered."""
    discard_bytes: int = 1 << 20
    """Bytes of a body that are read and dropped, to keep the connection, after an answer that did not
    need them."""
    linger_s: float = 2.0
    """How long what a client still sends is dropped after an answer that ends its connection. Closing
    at once would reset the connection, and the client might never see the answer."""


def limits_of(config: ServerConfig) -> Limits:
    """The limits that `config` sets."""
    return Limits(connections=config.max_connections, header_timeout_s=config.header_timeout_s)
