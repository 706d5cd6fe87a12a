"""Compressed bodies of requests."""

from __future__ import annotations

import zlib
from http import HTTPStatus

from tessera.serve.request import RequestError

_WINDOW_BITS: dict[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's `wbits` of each coding. HTTP's `deflate` is zlib's format. Source: RFC 9110, section 8.4.1."""


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
        result = engine.decompress(body, limit_bytes + 1)
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
    if not engine.eof:
        raise RequestError(f"the body is cut off: its {name} data does not end")
    if engine.unused_data:
        # A gzip file may have several members; unpacking millions of empty ones would take for ever.
        raise RequestError(f"{len(engine.unused_data)} bytes follow the end of the body's {name} data")
    return result
