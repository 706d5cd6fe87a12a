"""The endpoints that tell people about a server: its interface and its state, in a browser."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from tessera.serve.answer import Answer
from tessera.serve.endpoints import Routes
from tessera.serve.observe.status import Status
from tessera.serve.request import Request, RequestError

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}

_HEADERS = {
    # Nothing from elsewhere, nothing within the page's text that runs, and no frame around it.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_FILES = ("page.css", "docs.js", "status.js")

OPEN_PATHS = ("/docs", "/status", *(f"/pages/{name}" for name in _FILES))
"""What may be loaded without a key: it says nothing of this server. A browser sends none with a page."""


def add_pages(routes: Routes, status: Status, openapi: Callable[[], dict[str, Any]]) -> None:
    """Add `/openapi.json`, `/docs`, `/status` and what they load, where nothing else is."""

    async def document(_: Request) -> dict[str, Any]:
        return openapi()

    async def docs(_: Request) -> Answer:
        return _page("docs.html")

    async def page(_: Request) -> Answer:
        return _page("status.html")

    async def state(_: Request) -> dict[str, Any]:
        return status.now()

    async def part(request: Request) -> Answer:
        name = request.path_params["name"]
        if name not in _FILES:
            raise RequestError("there is no such file", status=HTTPStatus.NOT_FOUND)
        return _page(name)

    for path, call in (
        ("/openapi.json", document),
        ("/docs", docs),
        ("/status", page),
        ("/status.json", state),
        ("/pages/{name}", part),
    ):
        routes.add_default(path, "GET", call)


@cache
def _page(name: str) -> Answer:
    text = (files("tessera.serve.observe") / "pages" / name).read_bytes()
    return Answer(HTTPStatus.OK, text, _TYPES[name.rpartition(".")[2]], _HEADERS)
