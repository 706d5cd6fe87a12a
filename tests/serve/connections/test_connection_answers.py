"""What a connection does with answers: streams, slow readers, clients that go away."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import Response, StreamingResponse

from tessera.serve import ProductionServer, Request, RequestError
from tessera.serve.connections.limits import Limits

SIZE = 30_000_000


@pytest.fixture
def serve(linear_package: Path) -> Iterator[Callable[..., ProductionServer]]:
    """Starts servers whose endpoints answer in every way."""
    started: list[ProductionServer] = []

    def start(**config: Any) -> ProductionServer:
        server = ProductionServer(linear_package, {"port": 0, "device": "reference", **config})

        async def parts() -> AsyncIterator[bytes]:
            for i in range(5):
                await asyncio.sleep(0.001)
                yield b"part %d\n" % i

        @server.endpoint("/stream")
        async def stream(request: Request) -> Any:
            return StreamingResponse(parts(), media_type="text/plain")

        @server.endpoint("/large")
        async def large() -> Any:
            return Response(bytes(SIZE))

        @server.endpoint("/forged")
        async def forged() -> Any:
            return Response(b"", headers={"X-A": "b\r\nX-Forged: 1"})

        @server.endpoint("/forged-error")
        async def forged_error() -> Any:
            raise RequestError("no", headers={"X-A": "b\r\nX-Forged: 1"})

        @server.endpoint("/echo", methods=["POST"])
        async def echo(request: Request) -> Any:
            return Response(request.body)

        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def connect(server: ProductionServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_stream_comes_in_chunks_and_the_connection_lives_on(serve: Callable[..., ProductionServer]) -> None:
    with httpx.Client(base_url=serve().url, timeout=20) as client:
        for _ in range(2):
            answer = client.get("/stream")
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.text == "".join(f"part {i}\n" for i in range(5))


def test_stream_to_http_1_0_ends_with_the_connection(serve: Callable[..., ProductionServer]) -> None:
    with connect(serve()) as connection:
        connection.sendall(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    assert b"transfer-encoding" not in received
    assert received.endswith(b"part 4\n")


def test_header_with_a_line_break_is_never_sent(serve: Callable[..., ProductionServer]) -> None:
    server = serve()
    for path in ("/forged", "/forged-error"):
        answer = httpx.get(server.url + path, timeout=20)
        assert answer.status_code == 500
        assert "x-forged" not in answer.headers


def test_large_bodies_go_there_and_back_whole(serve: Callable[..., ProductionServer]) -> None:
    body = bytes(range(256)) * 40_000
    answer = httpx.post(f"{serve().url}/echo", content=body, timeout=20)
    assert answer.content == body


def test_slow_reader_gets_all_of_a_large_answer(serve: Callable[..., ProductionServer]) -> None:
    with connect(serve()) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        time.sleep(0.2)
        size = 0
        while chunk := connection.recv(1 << 20):
            size += len(chunk)
    assert size > SIZE


def test_reader_that_takes_nothing_is_cut_and_the_server_can_stop(
    serve: Callable[..., ProductionServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessera.serve.session.limits_of", lambda _: Limits(write_timeout_s=0.3))
    server = serve()
    with connect(server) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        time.sleep(1.0)
        size = 0
        try:
            while chunk := connection.recv(1 << 20):
                size += len(chunk)
        except ConnectionResetError:
            pass
    assert size < 3 * SIZE
    assert httpx.get(f"{server.url}/ready").status_code == 200


def test_idle_connection_is_closed(
    serve: Callable[..., ProductionServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessera.serve.session.limits_of", lambda _: Limits(idle_timeout_s=0.2))
    with connect(serve()) as connection:
        connection.sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert connection.recv(4096) == b""


def test_last_request_of_a_connection_says_so(
    serve: Callable[..., ProductionServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessera.serve.session.limits_of", lambda _: Limits(requests=2))
    with connect(serve()) as connection:
        for expected in (False, True):
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (b"connection: close" in connection.recv(4096)) is expected
        assert connection.recv(4096) == b""
