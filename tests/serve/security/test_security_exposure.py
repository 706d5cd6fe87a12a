"""What is checked and said before a port is open."""

import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from tessera.package.keys import generate_key
from tessera.program.errors import PackageError, ServeError, SignatureError
from tessera.serve import ProductionServer
from tessera.serve.config import ServerConfig
from tessera.serve.security.exposure import is_loopback, warnings_of


@pytest.fixture
def taken_port() -> Any:
    """A port that somebody listens on: a server that gets as far as opening it fails there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_unsigned_package_is_refused_before_the_port_is_opened(
    linear_package: Path, tmp_path: Path, taken_port: int
) -> None:
    public = generate_key(tmp_path / "release").public
    settings = {"port": taken_port, "device": "reference", "require_signature": str(public)}
    with pytest.raises(SignatureError, match="not signed"):
        ProductionServer(linear_package, settings).start()
    with pytest.raises(SignatureError, match="not signed"):
        ProductionServer(linear_package, settings).run()


def test_damaged_package_is_refused_before_the_port_is_opened(tmp_path: Path, taken_port: int) -> None:
    path = tmp_path / "damaged.tsd"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(PackageError, match="no package"):
        ProductionServer(path, {"port": taken_port, "device": "reference"}).start()


def test_taken_port_is_still_an_error_of_its_own(linear_package: Path, taken_port: int) -> None:
    with pytest.raises(ServeError, match="in use"):
        ProductionServer(linear_package, {"port": taken_port, "device": "reference"}).start()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "127.0.0.1"}, None),
        ({"host": "localhost"}, None),
        ({"host": "::1"}, None),
        ({"host": "127.8.8.8"}, None),
        ({"host": "0.0.0.0"}, "without API keys and TLS"),
        ({"host": "10.0.0.1"}, "without API keys and TLS"),
        ({"host": "server.local"}, "without API keys and TLS"),
        ({"host": "::", "api_keys_file": "k"}, "without TLS"),
        ({"host": "::", "tls_certificate": "c"}, "without API keys"),
        ({"host": "::", "tls_certificate": "c", "tls_client_ca": "a"}, None),
        ({"host": "::", "tls_certificate": "c", "api_keys_file": "k"}, None),
        ({"host": "::1", "admin_port": 1, "admin_host": "0.0.0.0"}, "may operate the server"),
    ],
)
def test_reachable_server_without_keys_or_tls_is_warned_of(
    settings: dict[str, Any], said: str | None
) -> None:
    warnings = warnings_of(ServerConfig.load(settings, environment={}))
    assert [said in w and settings.get("admin_host", settings["host"]) in w for w in warnings] == (
        [True] if said else []
    )


def test_started_server_logs_what_is_missing(linear_package: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"host": "0.0.0.0", "port": 0, "device": "reference"}
    with caplog.at_level(logging.WARNING), ProductionServer(linear_package, settings):
        assert "0.0.0.0 is reachable from other machines, without API keys and TLS" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "::1", "localhost"])
def test_loopback_is_recognized(host: str) -> None:
    assert is_loopback(host)
