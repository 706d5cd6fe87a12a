"""What only operators may do, and where."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tessera.program.errors import ServeError
from tessera.serve import ProductionServer

KEY = "k3y-of-alice-0123456789"
Serve = Callable[..., ProductionServer]


@pytest.fixture
def serve(linear_package: Path) -> Iterator[Serve]:
    """Starts servers with an operators' endpoint."""
    servers: list[ProductionServer] = []

    def start(**settings: Any) -> ProductionServer:
        server = ProductionServer(linear_package, {"port": 0, "device": "reference", **settings})

        @server.endpoint("/operate", methods=["GET", "POST"], admin=True)
        async def operate() -> dict[str, bool]:
            return {"done": True}

        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_operators_path_is_closed_by_default(serve: Serve) -> None:
    server = serve()
    answer = httpx.get(f"{server.url}/operate")
    assert answer.status_code == 403
    assert "admin_port" in answer.json()["hint"]
    assert server.admin_url is None


def test_operators_path_is_answered_on_the_admin_port_alone(serve: Serve) -> None:
    server = serve(admin_port=0)
    assert server.admin_url is not None
    assert server.admin_url != server.url
    assert httpx.get(f"{server.url}/operate").status_code == 403
    assert httpx.get(f"{server.admin_url}/operate").json() == {"done": True}
    assert httpx.get(f"{server.admin_url}/ready").status_code == 200


def test_operators_path_is_on_the_main_port_where_that_is_said(serve: Serve) -> None:
    port = free_port()
    server = serve(port=port, admin_port=port)
    assert httpx.get(f"{server.url}/operate").json() == {"done": True}


def test_metrics_may_be_left_to_operators(serve: Serve) -> None:
    server = serve(admin_port=0, admin_metrics=True)
    assert httpx.get(f"{server.url}/metrics").status_code == 403
    text = httpx.get(f"{server.admin_url}/metrics").text
    assert re.search(r"^tessera_ready 1", text, re.MULTILINE)


def test_admin_port_asks_for_keys_as_well(serve: Serve) -> None:
    server = serve(admin_port=0, api_keys=f"alice:{KEY}")
    assert httpx.get(f"{server.admin_url}/operate").status_code == 401
    assert httpx.get(f"{server.admin_url}/operate", headers={"X-API-Key": KEY}).status_code == 200


def test_taken_admin_port_is_an_error_and_leaves_no_port_open(linear_package: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {"port": port, "admin_port": taken.getsockname()[1], "device": "reference"}
        with pytest.raises(ServeError, match=f"port {taken.getsockname()[1]} .*in use"):
            ProductionServer(linear_package, settings).start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[broken"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:80", "Origin": "http://evil.example:80"},
        {"Host": "localhost.evil.example"},
        {"Host": "[::2]"},
    ],
)
def test_other_sites_pages_may_not_operate(serve: Serve, headers: dict[str, str]) -> None:
    server = serve(admin_port=0)
    assert httpx.post(f"{server.admin_url}/operate", headers=headers).status_code == 403
    for host in ("localhost", "127.0.0.1:1", "[::1]:80"):
        assert httpx.post(f"{server.admin_url}/operate", headers={"Host": host}).status_code == 200
    own = {"Origin": str(server.admin_url), "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(f"{server.admin_url}/operate", headers=own).status_code == 200
