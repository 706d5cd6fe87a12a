"""Answers as bytes on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

Headers = Sequence[tuple[bytes, bytes]]

STATUS_LINES: dict[int, bytes] = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()


@lru_cache(maxsize=256)
def first_lines(status: int, media_type: str) -> bytes:
    """The first line and the header Content-Type.

    Raises:
        ValueError: The media type holds a line break.
    """
    return status_line(status) + header_lines([(b"content-type", media_type.encode("latin-1"))])


def date_line() -> bytes:
    """The header Date of an answer that is made now."""
    return f"date: {formatdate(usegmt=True)}\r\n".encode()


def header_lines(headers: Headers) -> bytes:
    """`headers` as lines.

    Raises:
        ValueError: One holds a line break: what follows would be taken for a header, or an answer.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    breaks = lines.count(b"\r\n")
    if not lines.count(b"\n") == lines.count(b"\r") == breaks == len(headers) or b"\0" in lines:
        raise ValueError("a header of the answer holds a line break")
    return lines
