"""A server of several processes asks for the same keys, and has the same limits, as one of one process."""

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from certificates import Authority

from tessera.serve import ProductionServer

KEY = "k3y-of-alice-0123456789"
BODY = {"input": [[1.0, 2.0, 3.0, 4.0]]}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guarded(
    linear_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ProductionServer, ssl.SSLContext]]:
    folder = tmp_path_factory.mktemp("tls")
    root = Authority(folder, "root")
    certificate, key = root.issue("server")
    settings = {
        "port": 0,
        "device": "reference",
        "processes": 2,
        "api_keys": f"alice:{KEY}",
        "tls_certificate": str(certificate),
        "tls_key": str(key),
        "admin_port": 0,
        "admin_metrics": True,
        "contract": "sagemaker",
        "host": "127.0.0.1",
        "max_tensor_elements": 100,
        "cache_bytes": 1 << 20,
    }
    with ProductionServer(linear_package, settings) as server:
        yield server, ssl.create_default_context(cafile=root.path)


def test_every_process_is_guarded(guarded: tuple[ProductionServer, ssl.SSLContext]) -> None:
    server, context = guarded
    for _ in range(8):
        # A connection each: any of the processes may take it.
        with httpx.Client(base_url=server.url, verify=context) as client:
            assert client.get("/ping").status_code == 200
            assert client.post("/predict", json=BODY).status_code == 401
            client.headers["X-API-Key"] = KEY
            assert client.post("/predict", json=BODY).status_code == 200
            assert client.post("/invocations", json=BODY).status_code == 200
            large = client.post("/predict", json={"input": [[1.0, 2.0, 3.0, 4.0]] * 26})
            assert large.status_code == 400
            assert "104 elements" in large.json()["error"]
            assert client.get("/metrics").status_code == 403


def test_operators_have_their_port_and_the_cache_is_counted(
    guarded: tuple[ProductionServer, ssl.SSLContext],
) -> None:
    server, context = guarded
    headers = {"X-API-Key": KEY}
    for _ in range(3):
        httpx.post(f"{server.url}/predict", json=BODY, headers=headers, verify=context).raise_for_status()
    assert server.admin_url is not None
    assert httpx.get(f"{server.admin_url}/metrics", verify=context).status_code == 401
    text = httpx.get(f"{server.admin_url}/metrics", headers=headers, verify=context).text
    hits = [float(v) for v in re.findall(r"^nv_cache_num_hits_per_model\{.*\} (\S+)$", text, re.MULTILINE)]
    assert sum(hits) >= 2
