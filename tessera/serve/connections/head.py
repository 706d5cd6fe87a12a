"""What a request says before its body, and whether it may be believed."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

import httptools

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is ended by an error."""

    status: int
    message: str
    hint: str | None = None
    retry_after_s: int | None = None
    """When to come back."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    path: str
    """Percent-decoded."""
    raw_path: bytes
    query: bytes


@dataclass(slots=True)
class Head:
    """A request's line and headers."""

    method: str
    target: Target
    version: str
    """`1.1` or `1.0`."""
    headers: RawHeaders
    """Names in lower case."""
    keep_alive: bool
    """Whether the client lets the connection live on."""
    length: int | None
    """What Content-Length says."""
    chunked: bool
    """Whether the body comes in chunks."""
    expects_continue: bool
    """Whether the client waits to be told to send its body."""

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.chunked or bool(self.length)


NOT_HTTP = Refusal(
    HTTPStatus.BAD_REQUEST, "this is not an HTTP request", "http://…, not https://…, and HTTP/1.1"
)


def too_large(limit_bytes: int) -> Refusal:
    """What a client hears whose headers are over the limit."""
    return Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"the path and headers are too large: the limit is {limit_bytes} bytes",
        "send data in the body",
    )


def too_many_headers(limit: int) -> Refusal:
    """What a client hears that sends too many headers."""
    return Refusal(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"there are too many headers: the limit is {limit}",
        "send data in the body",
    )


def too_many_connections(limit: int) -> Refusal:
    """What a client hears when others have taken every connection."""
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"there are {limit} connections, the most that max_connections allows",
        "keep connections and use them again; or raise max_connections",
        retry_after_s=1,
    )


def too_slow(seconds: float) -> Refusal:
    """What a client hears whose headers do not come."""
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, f"no complete headers within {seconds:g} s")


def read_head(
    method: str, url: bytes, version: str, headers: RawHeaders, *, keep_alive: bool
) -> Head | Refusal:
    """The head of a request that the parser took, unless two readers could understand it differently.

    The parser refuses most of what smuggles requests past a proxy: both lengths, two lengths, folded
    lines, bare line feeds, blanks before a colon. What it takes in silence is refused here.

    Source: RFC 9112, sections 3.2, 6.1 and 6.3.
    """
    if version not in ("1.1", "1.0"):
        return Refusal(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"this is HTTP/{version}", "this server speaks HTTP/1.1"
        )
    length: int | None = None
    coding: bytes | None = None
    expect: bytes | None = None
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            coding = value if coding is None else b"%b, %b" % (coding, value)
        elif name == b"expect":
            expect = value.lower()
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return _bad(f"the header Host is there {hosts} times, not once")
    if coding is not None:
        if version == "1.0":
            return _bad("HTTP/1.0 has no Transfer-Encoding", "send Content-Length")
        if coding.lower() != b"chunked":
            return Refusal(
                HTTPStatus.NOT_IMPLEMENTED,
                f"the Transfer-Encoding is {coding[:80].decode('latin-1')!r}",
                "send it chunked; compression goes into Content-Encoding",
            )
    if expect is not None and expect != b"100-continue":
        return Refusal(
            HTTPStatus.EXPECTATION_FAILED, f"the server does not know what {expect[:80]!r} expects"
        )
    target = _TARGETS.get(url)
    if target is None:
        found = read_target(method, url)
        if isinstance(found, Refusal):
            return found
        target = _remember(url, found)
    return Head(
        method,
        target,
        version,
        headers,
        keep_alive,
        length,
        coding is not None,
        expect is not None and version == "1.1",
    )


_TARGETS: dict[bytes, Target] = {}
_MAX_TARGETS = 256
_MAX_REMEMBERED_BYTES = 200


def _remember(url: bytes, target: Target) -> Target:
    """Most requests go to few paths. The table is small, and whoever fills it only empties it."""
    if len(url) <= _MAX_REMEMBERED_BYTES and url.startswith(b"/"):
        if len(_TARGETS) >= _MAX_TARGETS:
            _TARGETS.clear()
        _TARGETS[url] = target
    return target


def read_target(method: str, url: bytes) -> Target | Refusal:
    """The path and query that a request's line names."""
    if b"#" in url:
        return _bad("the request's target has a fragment", "leave out what begins with #")
    if method == "CONNECT":
        return Refusal(HTTPStatus.NOT_IMPLEMENTED, "this server is no proxy: it does not CONNECT")
    if url.startswith(b"/"):
        raw, _, query = url.partition(b"?")
    elif url == b"*" and method == "OPTIONS":
        raw, query = url, b""
    else:
        try:
            parsed = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            return _bad("the request's target is no path")
        if parsed.schema not in (b"http", b"https") or not parsed.host:
            return _bad("the request's target is no path")
        raw, query = parsed.path or b"/", parsed.query or b""
    text = raw.decode("latin-1")
    return Target(unquote(text) if "%" in text else text, raw, query)


def _bad(message: str, hint: str | None = None) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, message, hint)
