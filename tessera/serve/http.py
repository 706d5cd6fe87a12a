"""The listening socket and the HTTP server on it, with a stop that loses no request."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from tessera.program.errors import ServeError
from tessera.serve.app import App
from tessera.serve.connections.connection import Connection
from tessera.serve.connections.host import Host
from tessera.serve.connections.limits import Limits

logger = logging.getLogger("tessera.serve")

BACKLOG = 2048
"""Connections that the kernel keeps until they are accepted."""

HANDSHAKE_TIMEOUT_S = 20.0
"""Longest that a client may take to agree on keys."""

LIMITS = Limits()
"""What a connection may do, unless a server is told otherwise."""

LINGER_S = 0.25
"""How long idle connections are still answered after the stop began. A request may be on its way."""


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens on `host` and `port` (0: any free one).

    Args:
        host: A name or an address.
        port: TCP port.
        shared: Whether other sockets of this user may listen there, too; the kernel then gives each
            connection to one of them.

    Raises:
        ServeError: The address is taken, not allowed or unknown.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ServeError(
            f"unknown host {host!r}: {error.strerror}",
            hint="0.0.0.0 is every network, 127.0.0.1 this machine",
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    listener.setblocking(False)  # noqa: FBT003
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> ServeError:
    hints = {
        errno.EADDRINUSE: (
            f"port {port} of {host} is in use",
            f"ss -ltnp 'sport = :{port}' shows by whom; or take another port, 0 picks a free one",
        ),
        errno.EACCES: (f"port {port} of {host} is not allowed to this user", "take a port from 1024 up"),
        errno.EADDRNOTAVAIL: (f"{host} is not an address of this machine", "ip addr shows which are"),
    }
    message, hint = hints.get(error.errno or 0, (f"cannot listen on {host}:{port}: {error.strerror}", None))
    return ServeError(message, hint=hint, host=host, port=port)


def url_of(listener: socket.socket, *, secure: bool = False) -> str:
    """Where a client on this machine reaches `listener`; `secure`: over TLS."""
    scheme = "https" if secure else "http"
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop: uvloop where it is installed, half the cost of asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class HttpServer:
    """Serves `app` on `listener` until `stop`, then finishes what clients have sent.

    Args:
        app: What answers.
        listener: A listening socket; closed at the end.
        drain_timeout_s: Longest time for requests to finish.
        tls: What encrypts the connections; None: nothing does.
        limits: What a connection may do; None: `LIMITS`.
    """

    def __init__(
        self,
        app: App,
        listener: socket.socket,
        drain_timeout_s: float,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._app = app
        self._listener = listener
        # A second descriptor of the same socket: connections that the kernel already completed can
        # be taken from it when the event loop no longer listens. Closing it unread would reset them.
        self._backlog = listener.dup()
        self._drain_timeout_s = drain_timeout_s
        self._tls = tls
        self._limits = limits or LIMITS
        self._host: Host
        self._stopping = asyncio.Event()
        self._in_haste = False
        self.drained = True
        """Whether every request was finished in time; known after the end."""

    def stop(self) -> None:
        """Begin to stop; a second call does not wait for requests any more."""
        self._in_haste = self._stopping.is_set()
        self._stopping.set()
        self._app.closing = True

    async def serve(self) -> None:
        """Answer until `stop`, and finish what was accepted then."""
        loop = asyncio.get_running_loop()
        self._host = Host(self._app, self._limits, "https" if self._tls else "http")
        try:
            server = await loop.create_server(
                self._connection,
                sock=self._listener,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if self._tls else None,
                backlog=BACKLOG,
            )
            await self._stopping.wait()
            server.close()
            await self._shut_down(loop.time() + self._drain_timeout_s)
        finally:
            self._host.close()

    def _connection(self) -> Connection:
        return Connection(self._host)

    async def _shut_down(self, deadline_s: float) -> None:
        """Finish every request, close every connection."""
        await self._take_backlog()
        await self._linger(deadline_s)
        for connection in list(self._host.connections):
            connection.shut_down()
        self.drained = await self._until_idle(deadline_s)
        if not self.drained:
            logger.error(
                "%d requests were not finished within drain_timeout_s = %g s",
                self._app.active,
                self._drain_timeout_s,
            )
            await self._abort()

    async def _take_backlog(self) -> None:
        loop = asyncio.get_running_loop()
        with self._backlog:
            while True:
                try:
                    accepted, _ = self._backlog.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    logger.warning("a connection was lost while stopping: %s", error)
                    break
                accepted.setblocking(False)  # noqa: FBT003
                await loop.connect_accepted_socket(self._connection, accepted, ssl=self._tls)

    async def _linger(self, deadline_s: float) -> None:
        """Give clients with an idle connection time to send what is on its way.

        Each answer says `Connection: close`, so that busy connections end by themselves.
        """
        loop = asyncio.get_running_loop()
        until_s = min(deadline_s, loop.time() + LINGER_S)
        while self._host.connections and loop.time() < until_s and not self._in_haste:
            await asyncio.sleep(0.01)

    async def _until_idle(self, deadline_s: float) -> bool:
        loop = asyncio.get_running_loop()
        while self._host.busy or self._host.connections:
            if self._in_haste or loop.time() >= deadline_s:
                return not self._host.busy
            await asyncio.sleep(0.01)
        return True

    async def _abort(self) -> None:
        """Answer what is left with 503, and cut connections that do not take it."""
        self._app.aborting = True
        self._host.abort()
        for _ in range(50):
            if not self._host.busy:
                break
            await asyncio.sleep(0.01)
        for connection in list(self._host.connections):
            connection.transport.close()
