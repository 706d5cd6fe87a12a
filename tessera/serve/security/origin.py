"""Operators' requests must not come from a web page of somebody else's.

A page that an operator has open can post to ports of the operator's own machine. Browsers say on
whose behalf they ask; requests on behalf of others are refused. And a name of somebody else's may
lead to this machine, so that a page of that name looks like this server's: the name is refused.

Source: https://www.w3.org/TR/fetch-metadata, RFC 6454.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from tessera.serve.request import RequestError
from tessera.serve.security.exposure import is_loopback

_OWN_SITES = frozenset({"same-origin", "none"})


def check_origin(headers: Iterable[tuple[bytes, bytes]], address: str | None) -> None:
    """Refuse what a browser sends for another site's page.

    Args:
        headers: Names in lower case, and values.
        address: The server's own end of the connection; None if it is not known.

    Raises:
        RequestError: 403, it was for another site, or reached this machine by another's name.
    """
    found = {k: v.decode("latin-1") for k, v in headers if k in (b"origin", b"host", b"sec-fetch-site")}
    site = found.get(b"sec-fetch-site", "none").lower()
    origin, host = found.get(b"origin"), found.get(b"host", "").lower()
    if address is not None and is_loopback(address) and not is_loopback(_name_in(host)):
        raise RequestError(
            f"{host[:80]!r} is no name of this machine, which operators' paths want",
            hint="ask 127.0.0.1 or localhost",
            status=HTTPStatus.FORBIDDEN,
        )
    if site in _OWN_SITES and (origin is None or _host(origin) == host):
        return
    raise RequestError(
        f"this comes from a page of {(origin or 'another site')[:80]!r}, which may not operate this server",
        hint="ask from a page of this server, or without a browser",
        status=HTTPStatus.FORBIDDEN,
    )


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _name_in(host: str) -> str:
    """The header Host without a port."""
    return host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
