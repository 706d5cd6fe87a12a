"""The port of those who operate a server: models loaded and unloaded, debugging, figures."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import socket

from tessera.serve.app import App
from tessera.serve.config import ServerConfig
from tessera.serve.http import HttpServer, listen, url_of
from tessera.serve.security.exposure import on_main_port

DRAIN_S = 1.0
"""Time for operators' requests to finish when everything else has."""


def listen_for_operators(config: ServerConfig) -> socket | None:
    """The socket of `admin_port`; None if there is none, or if it is `port`.

    Raises:
        ServeError: The address is taken, not allowed or unknown.
    """
    if config.admin_port is None or on_main_port(config):
        return None
    return listen(config.admin_host, config.admin_port)


@asynccontextmanager
async def serving_operators(app: App, listener: socket, tls: ssl.SSLContext | None) -> AsyncIterator[str]:
    """Serve `app` on `listener` as long as the block runs; gives its URL."""
    http = HttpServer(app, listener, DRAIN_S, tls)
    serving = asyncio.create_task(http.serve())
    try:
        yield url_of(listener, secure=tls is not None)
    finally:
        http.stop()
        await serving
        app.close()
