"""TLS over real sockets: who gets in, and what happens when the files change."""

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificates import Authority

from tessera.program.errors import ConfigError
from tessera.serve import ProductionServer
from tessera.serve.config import ServerConfig
from tessera.serve.security.tls import Certificates, certificates_of

BODY = {"input": [[1.0, 2.0, 3.0, 4.0]]}
Serve = Callable[..., ProductionServer]


@pytest.fixture
def root(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "root")


@pytest.fixture
def serve(linear_package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts servers on free ports, which look at their files at every handshake."""
    monkeypatch.setattr("tessera.serve.security.tls.RECHECK_S", 0.0)
    servers: list[ProductionServer] = []

    def start(**settings: Any) -> ProductionServer:
        server = ProductionServer(linear_package, {"port": 0, "device": "reference", **settings})
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def trusting(root: Path, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=root)
    if client:
        context.load_cert_chain(*client)
    return context


def issued_to(url: str, context: ssl.SSLContext) -> str:
    """The name in the certificate that a server shows."""
    host, port = url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        subject: Any = (secure.getpeercert() or {})["subject"]
        return str(subject[0][0][1])


def test_requests_over_tls_are_answered(serve: Serve, root: Authority) -> None:
    certificate, key = root.issue("server")
    server = serve(tls_certificate=str(certificate), tls_key=str(key))
    assert server.url.startswith("https://")
    with httpx.Client(verify=trusting(root.path), base_url=server.url) as client:
        assert client.post("/predict", json=BODY).raise_for_status().json()["output"]
        assert client.get("/ready").status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{server.url}/ready")


def test_one_file_may_hold_certificate_and_key(serve: Serve, root: Authority, tmp_path: Path) -> None:
    certificate, key = root.issue("server")
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    server = serve(tls_certificate=str(both))
    assert issued_to(server.url, trusting(root.path)) == "server"


@pytest.mark.filterwarnings("ignore:.*TLSv1.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_than_tls_1_2_is_refused(serve: Serve, root: Authority, version: ssl.TLSVersion) -> None:
    certificate, key = root.issue("server")
    server = serve(tls_certificate=str(certificate), tls_key=str(key))
    old = trusting(root.path)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    with pytest.raises(ssl.SSLError):
        issued_to(server.url, old)
    for modern in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(root.path)
        context.minimum_version = context.maximum_version = modern
        assert issued_to(server.url, context) == "server"


def test_http_on_a_tls_port_harms_nobody(serve: Serve, root: Authority) -> None:
    certificate, key = root.issue("server")
    server = serve(tls_certificate=str(certificate), tls_key=str(key))
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url.replace("https", "http") + "/ready")
    assert httpx.get(f"{server.url}/ready", verify=trusting(root.path)).status_code == 200


def test_client_certificate_is_asked_for_and_checked(serve: Serve, root: Authority, tmp_path: Path) -> None:
    certificate, key = root.issue("server")
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    server = serve(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(ours.path))
    context = trusting(root.path, ours.issue("friend"))
    assert httpx.get(f"{server.url}/ready", verify=context).status_code == 200
    for stranger in (None, theirs.issue("stranger")):
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/ready", verify=trusting(root.path, stranger))


def test_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    serve: Serve, root: Authority, tmp_path: Path
) -> None:
    certificate, key = root.issue("first")
    live = tmp_path / "live.crt", tmp_path / "live.key"
    shutil.copy(certificate, live[0])
    shutil.copy(key, live[1])
    server = serve(tls_certificate=str(live[0]), tls_key=str(live[1]))
    context = trusting(root.path)
    with httpx.Client(verify=context, base_url=server.url) as client:
        client.get("/ready").raise_for_status()
        assert issued_to(server.url, context) == "first"
        second_certificate, second_key = root.issue("second")
        shutil.copy(second_certificate, live[0])
        # Half of it is there: the one before goes on.
        assert issued_to(server.url, context) == "first"
        shutil.copy(second_key, live[1])
        assert issued_to(server.url, context) == "second"
        client.post("/predict", json=BODY).raise_for_status()
        live[0].write_text("garbage")
        assert issued_to(server.url, context) == "second"


def test_exchanged_authority_lets_its_clients_in_and_forgets_the_one_before(
    serve: Serve, root: Authority, tmp_path: Path
) -> None:
    certificate, key = root.issue("server")
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    live = tmp_path / "clients.pem"
    shutil.copy(old.path, live)
    server = serve(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(live))
    old_client, new_client = trusting(root.path, old.issue("a")), trusting(root.path, new.issue("b"))
    assert httpx.get(f"{server.url}/ready", verify=old_client).status_code == 200
    shutil.copy(new.path, live)
    assert httpx.get(f"{server.url}/ready", verify=new_client).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/ready", verify=old_client)


@pytest.mark.parametrize("broken", ["tls_certificate", "tls_key", "tls_client_ca"])
@pytest.mark.parametrize("damage", ["missing", "empty", "folder"])
def test_wrong_file_is_named(root: Authority, tmp_path: Path, broken: str, damage: str) -> None:
    certificate, key = root.issue("server")
    files = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": root.path}
    wrong = tmp_path / "wrong.pem"
    if damage == "empty":
        wrong.touch()
    elif damage == "folder":
        wrong.mkdir()
    files[broken] = wrong
    with pytest.raises(ConfigError, match=r"wrong\.pem") as caught:
        certificates_of(ServerConfig.load({k: str(v) for k, v in files.items()}, environment={}))
    assert caught.value.fields["key"] == broken


def test_key_of_another_certificate_is_named(root: Authority) -> None:
    certificate, _ = root.issue("server")
    _, other = root.issue("other")
    with pytest.raises(ConfigError, match=r"other\.key is not the private key of .*server\.crt"):
        Certificates(certificate, other)


def test_encrypted_key_is_an_error_and_no_question(root: Authority) -> None:
    certificate, key = root.issue("server", password="secret")
    with pytest.raises(ConfigError, match=r"server\.key is encrypted"):
        Certificates(certificate, key)


@pytest.mark.parametrize("body", ["AAAA", "", "====", "QUFBQQ=="])
@pytest.mark.parametrize("kind", ["CERTIFICATE", "PRIVATE KEY"])
def test_damaged_pem_is_named(root: Authority, tmp_path: Path, body: str, kind: str) -> None:
    certificate, key = root.issue("server")
    damaged = tmp_path / "damaged.pem"
    damaged.write_text(f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
    pair = (damaged, key) if kind == "CERTIFICATE" else (certificate, damaged)
    with pytest.raises(ConfigError, match=r"damaged\.pem"):
        Certificates(*pair)


def test_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(ConfigError, match="'tls_key' is given, but no certificate"):
        certificates_of(ServerConfig.load({"tls_key": "a.pem"}, environment={}))
