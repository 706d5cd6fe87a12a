"""Compressed bodies of requests and answers."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from tessera.serve.answer import Answer
from tessera.serve.request import RequestError

_WINDOW_BITS: dict[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's `wbits` of each coding. HTTP's `deflate` is zlib's format. Source: RFC 9110, section 8.4.1."""

_PIECE_BYTES = 256 << 10

MIN_BYTES = 1024
"""Smaller answers are not compressed: they fit into one packet anyway."""

_LEVEL = 1
"""Twice as fast as zlib's default; tensors hardly become smaller by more."""


def accepted_encoding(values: Sequence[str]) -> str | None:
    """`gzip` or `deflate`, whichever a client likes better; None: neither.

    Args:
        values: Its headers Accept-Encoding.
    """
    best, found = 0.0, None
    for item in ",".join(values).split(","):
        name, _, parameter = item.partition(";")
        key, _, weight = parameter.strip().partition("=")
        try:
            share = float(weight) if key.strip().lower() == "q" else 1.0
        except ValueError:
            continue
        if name.strip().lower() in ("gzip", "deflate") and share > best:
            best, found = share, name.strip().lower()
    return found


def encoded(answer: Answer, encoding: str) -> Answer:
    """`answer`, compressed. 1 MiB takes some 30 ms: it belongs in a thread.

    Args:
        answer: As it would be sent.
        encoding: `gzip` or `deflate`.
    """
    engine = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[encoding])
    body = b"".join([*(engine.compress(part) for part in answer.parts), engine.flush()])
    headers = {**answer.headers, "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
    return replace(answer, body=body, tail=(), headers=headers)


def decoded(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """`body` as it was before it was compressed.

    Args:
        body: As it came.
        encoding: What the header Content-Encoding says.
        limit_bytes: Most bytes of the result; nothing beyond is ever unpacked.

    Raises:
        RequestError: An unknown coding (415), too many bytes (413), or damaged data (400).
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    bits = _WINDOW_BITS.get(name)
    if bits is None:
        raise RequestError(
            f"the body is compressed with {name[:80]!r}",
            hint="send it with gzip, with deflate, or uncompressed",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    engine = zlib.decompressobj(bits)
    try:
        result, read = _unpacked(engine, body, limit_bytes)
    except zlib.error as error:
        raise RequestError(
            f"the body is not {name}: {error}", hint="is Content-Encoding what was done to it?"
        ) from error
    if len(result) > limit_bytes:
        raise RequestError(
            f"the body has more than {limit_bytes} bytes when it is unpacked, which is the limit",
            hint="send fewer rows at once, or raise max_body_bytes",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    follows = len(engine.unused_data) + len(body) - read
    if not engine.eof:
        raise RequestError(f"the body is cut off: its {name} data does not end")
    if follows:
        # A gzip file may have several members; unpacking millions of empty ones would take for ever.
        raise RequestError(f"{follows} bytes follow the end of the body's {name} data")
    return bytes(result)


def _unpacked(engine: Any, body: bytes, limit_bytes: int) -> tuple[bytearray, int]:
    """What `engine` makes of `body`, little more than `limit_bytes` of it, and how many bytes it took."""
    # Into one growing buffer, piece by piece: what zlib makes at once it makes twice, and the C library
    # keeps some of it for the thread.
    result = bytearray()
    read = 0
    while read < len(body) and not engine.eof and len(result) <= limit_bytes:
        piece: bytes = body[read : read + _PIECE_BYTES]
        read += len(piece)
        while piece and not engine.eof and len(result) <= limit_bytes:
            result += engine.decompress(piece, _PIECE_BYTES)
            piece = engine.unconsumed_tail
    # What the last piece has held back comes without further input.
    while not engine.eof and len(result) <= limit_bytes and (more := engine.decompress(b"", _PIECE_BYTES)):
        result += more
    return result, read
