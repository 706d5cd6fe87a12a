"""The sockets that fronts listen on: one each, all on one port."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tessera.serve.config import ServerConfig
from tessera.serve.http import listen
from tessera.serve.security.admin import listen_for_operators


@dataclass(frozen=True, slots=True)
class Ports:
    """Listening sockets. The supervisor keeps them open while a front is being started again.

    A connection that the kernel gave to a front that ended is then answered by the next one.
    """

    fronts: list[socket.socket]
    """One for each front; the kernel gives each connection to one of them."""
    admin: socket.socket | None
    """Operators' port, which every front listens on."""
    grpc_port: int | None
    """The port that every front opens for gRPC; None: there is none."""

    def close(self) -> None:
        """Leave them to the fronts alone."""
        for listener in self.fronts:
            listener.close()
        if self.admin is not None:
            self.admin.close()


def open_ports(config: ServerConfig) -> Ports:
    """The sockets for `config.processes` fronts.

    Raises:
        ServeError: A port is taken, not allowed or unknown.
    """
    # Alone first: another server of this user would otherwise share the port, and get half of the requests.
    port = _free(config.host, config.port)
    grpc_port = None if config.grpc_port is None else _free(config.host, config.grpc_port)
    ports = Ports([], None, grpc_port)
    try:
        for _ in range(config.processes):
            ports.fronts.append(listen(config.host, port, shared=True))
        return Ports(ports.fronts, listen_for_operators(config), grpc_port)
    except BaseException:
        ports.close()
        raise


def _free(host: str, port: int) -> int:
    """`port`, or for 0 another one, that nobody listens on."""
    with listen(host, port) as alone:
        return int(alone.getsockname()[1])
