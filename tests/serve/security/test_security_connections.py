"""Limits of connections, over real sockets."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tessera.serve import ProductionServer

Serve = Callable[..., ProductionServer]


@pytest.fixture
def serve(linear_package: Path) -> Iterator[Serve]:
    servers: list[ProductionServer] = []

    def start(**settings: Any) -> ProductionServer:
        server = ProductionServer(linear_package, {"port": 0, "device": "reference", **settings})
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def connect(server: ProductionServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def test_connection_beyond_the_limit_is_503_and_the_others_go_on(serve: Serve) -> None:
    server = serve(max_connections=3)
    held = [connect(server) for _ in range(3)]
    for connection in held:
        connection.sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    with connect(server) as refused:
        answer = until_closed(refused)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert re.search(rb"\r\nretry-after: 1\r\n", answer)
    assert "max_connections" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    held[0].sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert until_closed(held[0]).startswith(b"HTTP/1.1 200 ")
    assert httpx.get(f"{server.url}/ready").status_code == 200
    for connection in held:
        connection.close()


def test_too_many_headers_are_431(serve: Serve) -> None:
    server = serve()
    for count, status in ((100, b"200"), (200, b"431")):
        headers = b"".join(b"X-%d: a\r\n" % i for i in range(count))
        with connect(server) as connection:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n")
            assert until_closed(connection).startswith(b"HTTP/1.1 " + status)
