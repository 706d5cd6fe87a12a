"""TLS of the gRPC port: the certificate of HTTP's, those whom it asks for one, and a new one."""

from pathlib import Path

import grpc
import pytest
from certificates import Authority
from small_models import linear_model

from tessera.serve import ProductionServer
from tessera.serve.grpc.protocol import inference_pb2 as pb

LIVE = f"/{pb.SERVICE.full_name}/ServerLive"


def live(address: str, root: Authority, client: tuple[Path, Path] | None = None) -> bytes:
    """The answer to whether it lives, over a connection of its own."""
    chain, key = (None, None) if client is None else (client[0].read_bytes(), client[1].read_bytes())
    credentials = grpc.ssl_channel_credentials(root.path.read_bytes(), key, chain)
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.secure_channel(address, credentials, options) as channel:
        found: bytes = channel.unary_unary(LIVE)(b"", timeout=10)
    return found


def test_calls_are_encrypted_and_a_renewed_certificate_is_used(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    certificate, key = old.issue("server")
    settings = {"port": 0, "grpc_port": 0, "tls_certificate": str(certificate), "tls_key": str(key)}
    with ProductionServer(linear_model(), settings) as server:
        address = str(server.grpc_address)
        assert pb.ServerLiveResponse.FromString(live(address, old)).live
        with grpc.insecure_channel(address) as plain, pytest.raises(grpc.RpcError):
            plain.unary_unary(LIVE)(b"", timeout=2)
        with pytest.raises(grpc.RpcError):
            live(address, new)
        new.issue("server")
        assert pb.ServerLiveResponse.FromString(live(address, new)).live


def test_clients_show_a_certificate_where_the_server_asks_for_one(tmp_path: Path) -> None:
    root, other = Authority(tmp_path, "root"), Authority(tmp_path, "other")
    certificate, key = root.issue("server")
    settings = {"port": 0, "grpc_port": 0, "tls_certificate": str(certificate), "tls_key": str(key)}
    with ProductionServer(linear_model(), {**settings, "tls_client_ca": str(root.path)}) as server:
        address = str(server.grpc_address)
        assert pb.ServerLiveResponse.FromString(live(address, root, root.issue("client"))).live
        for stranger in (None, other.issue("stranger")):
            with pytest.raises(grpc.RpcError):
                live(address, root, stranger)
