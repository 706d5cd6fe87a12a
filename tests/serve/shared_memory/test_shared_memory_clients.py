"""`tritonclient` with its tensors in shared memory, unmodified, over HTTP and gRPC."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_process import ServerProcess
from small_models import WEIGHT

from tessera.program.errors import ConfigError
from tessera.serve import ProductionServer

httpclient = pytest.importorskip("tritonclient.http")
grpcclient = pytest.importorskip("tritonclient.grpc")
shm = pytest.importorskip("tritonclient.utils.shared_memory")

MODULES = {"http": httpclient, "grpc": grpcclient}
SCRIPT = (
    "from tessera.serve import ProductionServer\n"
    "ProductionServer({package!r}, {{'device': 'reference', 'shared_memory': {allowed!r}}}).run()\n"
)


def served(folder: Path, package: Path, *, allowed: bool) -> Iterator[dict[str, Any]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = SCRIPT.format(package=str(package), allowed=allowed)
    process = ServerProcess(folder, script, TESSERA_GRPC_PORT=str(port))
    try:
        process.wait_ready()
        http = process.url.removeprefix("http://")
        yield {"http": http, "grpc": f"127.0.0.1:{port}", "process": process.process}
    finally:
        process.kill()


@pytest.fixture(scope="module")
def sharing(linear_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Addresses of a server that takes shared memory."""
    yield from served(tmp_path_factory.mktemp("sharing"), linear_package, allowed=True)


@pytest.fixture(scope="module")
def refusing(linear_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Addresses of a server that takes none."""
    yield from served(tmp_path_factory.mktemp("refusing"), linear_package, allowed=False)


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def module(protocol: str) -> Any:
    return MODULES[protocol]


@pytest.fixture
def client(sharing: dict[str, Any], protocol: str, module: Any) -> Iterator[Any]:
    with module.InferenceServerClient(sharing[protocol]) as client:
        yield client
        client.unregister_system_shared_memory()


class Segment:
    """A client's segment."""

    def __init__(self, size: int) -> None:
        self.key = f"/tessera-test-{uuid.uuid4().hex}"
        self.size = size
        self.handle = shm.create_shared_memory_region("handle", self.key, size)


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment(4096)
    yield made
    shm.destroy_shared_memory_region(made.handle)


def rows(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal((count, 4)).astype(np.float32)


def test_inputs_and_outputs_in_one_segment(
    client: Any, module: Any, segment: Segment, rng: np.random.Generator
) -> None:
    client.register_system_shared_memory("in", segment.key, 1024)
    client.register_system_shared_memory("out", segment.key, 1024, offset=1024)
    for count in (1, 5, 7):
        x = rows(rng, count)
        shm.set_shared_memory_region(segment.handle, [np.zeros(4, np.float32), x])
        given = module.InferInput("x", list(x.shape), "FP32")
        given.set_shared_memory("in", x.nbytes, offset=16)
        asked = module.InferRequestedOutput("output")
        asked.set_shared_memory("out", 512, offset=64)
        client.infer("linear", [given], outputs=[asked])
        y = shm.get_contents_as_numpy(segment.handle, np.float32, [count, 3], offset=1024 + 64)
        np.testing.assert_allclose(y, x @ WEIGHT, rtol=1e-5, atol=1e-5)


def test_shared_input_with_an_output_in_the_answer_and_the_other_way_round(
    client: Any, module: Any, segment: Segment, rng: np.random.Generator
) -> None:
    client.register_system_shared_memory("r", segment.key, segment.size)
    x = rows(rng, 3)
    shm.set_shared_memory_region(segment.handle, [x])
    given = module.InferInput("x", [3, 4], "FP32")
    given.set_shared_memory("r", x.nbytes)
    y = client.infer("linear", [given]).as_numpy("output")
    np.testing.assert_allclose(y, x @ WEIGHT, rtol=1e-5, atol=1e-5)
    given = module.InferInput("x", [3, 4], "FP32").set_data_from_numpy(x)
    asked = module.InferRequestedOutput("output")
    asked.set_shared_memory("r", 36, offset=2048)
    client.infer("linear", [given], outputs=[asked])
    y = shm.get_contents_as_numpy(segment.handle, np.float32, [3, 3], offset=2048)
    np.testing.assert_allclose(y, x @ WEIGHT, rtol=1e-5, atol=1e-5)


def test_one_output_in_shared_memory_and_one_in_the_answer(
    pair_package: Path, tmp_path: Path, segment: Segment, rng: np.random.Generator
) -> None:
    a, b = rng.standard_normal((2, 3, 2)).astype(np.float32)
    server = served(tmp_path, pair_package, allowed=True)
    addresses = next(server)
    for protocol, module in MODULES.items():
        with module.InferenceServerClient(addresses[protocol]) as client:
            client.register_system_shared_memory(protocol, segment.key, 512)
            inputs = [
                module.InferInput(name, [3, 2], "FP32").set_data_from_numpy(x)
                for name, x in (("a", a), ("b", b))
            ]
            asked = [module.InferRequestedOutput(name) for name in ("total", "product")]
            asked[0].set_shared_memory(protocol, 24)
            result = client.infer("pair", inputs, outputs=asked)
            np.testing.assert_array_equal(result.as_numpy("product"), a * b)
            total = shm.get_contents_as_numpy(segment.handle, np.float32, [3, 2])
            np.testing.assert_array_equal(total, a + b)
    server.close()


def listed(client: Any, protocol: str) -> dict[str, tuple[str, int, int]]:
    if protocol == "http":
        found = client.get_system_shared_memory_status()
    else:
        found = client.get_system_shared_memory_status(as_json=True).get("regions", {}).values()
    return {r["name"]: (r["key"], int(r.get("offset", 0)), int(r["byte_size"])) for r in found}


def test_status_lists_what_is_registered(client: Any, protocol: str, segment: Segment) -> None:
    client.register_system_shared_memory("a", segment.key, 100)
    client.register_system_shared_memory("b", segment.key, 200, offset=8)
    assert listed(client, protocol) == {"a": (segment.key, 0, 100), "b": (segment.key, 8, 200)}
    with pytest.raises(httpclient.InferenceServerException, match="region 'a' already"):
        client.register_system_shared_memory("a", segment.key, 100)
    client.unregister_system_shared_memory("a")
    assert listed(client, protocol).keys() == {"b"}
    client.unregister_system_shared_memory()
    assert listed(client, protocol) == {}


def test_both_protocols_see_the_same_regions(sharing: dict[str, Any], segment: Segment) -> None:
    with (
        httpclient.InferenceServerClient(sharing["http"]) as http,
        grpcclient.InferenceServerClient(sharing["grpc"]) as grpc,
    ):
        http.register_system_shared_memory("shared", segment.key, 64)
        assert listed(grpc, "grpc").keys() == {"shared"}
        grpc.unregister_system_shared_memory("shared")
        assert listed(http, "http") == {}


@pytest.mark.parametrize("key", ["../etc/passwd", "/../secret", "a/b", "/dev/shm/x"])
def test_keys_that_lead_elsewhere_are_refused(client: Any, key: str) -> None:
    with pytest.raises(httpclient.InferenceServerException, match="no name of shared memory"):
        client.register_system_shared_memory("r", key, 8)


def test_tensors_out_of_bounds_are_refused(
    client: Any, module: Any, segment: Segment, rng: np.random.Generator
) -> None:
    client.register_system_shared_memory("r", segment.key, 64)
    with pytest.raises(httpclient.InferenceServerException, match="which has 4096 bytes"):
        client.register_system_shared_memory("large", segment.key, 8192)
    given = module.InferInput("x", [5, 4], "FP32")
    given.set_shared_memory("r", 80)
    with pytest.raises(httpclient.InferenceServerException, match=r"'x' is 80 bytes at 0 .* has 64 bytes"):
        client.infer("linear", [given])
    given.set_shared_memory("r", 64)
    with pytest.raises(httpclient.InferenceServerException, match="shared_memory_byte_size 64, but shape"):
        client.infer("linear", [given])
    given = module.InferInput("x", [3, 4], "FP32").set_data_from_numpy(rows(rng, 3))
    asked = module.InferRequestedOutput("output")
    asked.set_shared_memory("r", 35)
    with pytest.raises(httpclient.InferenceServerException, match="output 'output' is 36 bytes"):
        client.infer("linear", [given], outputs=[asked])


def test_segment_shortened_by_its_client_leaves_the_server_alive(
    client: Any, module: Any, segment: Segment, sharing: dict[str, Any], rng: np.random.Generator
) -> None:
    client.register_system_shared_memory("r", segment.key, segment.size)
    os.truncate(f"/dev/shm{segment.key}", 0)
    given = module.InferInput("x", [3, 4], "FP32")
    given.set_shared_memory("r", 48)
    for _ in range(3):
        with pytest.raises(httpclient.InferenceServerException, match="which has 0 bytes now"):
            client.infer("linear", [given])
    x = rows(rng, 3)
    given = module.InferInput("x", [3, 4], "FP32").set_data_from_numpy(x)
    asked = module.InferRequestedOutput("output")
    asked.set_shared_memory("r", 36)
    with pytest.raises(httpclient.InferenceServerException, match="which has 0 bytes now"):
        client.infer("linear", [given], outputs=[asked])
    os.truncate(f"/dev/shm{segment.key}", segment.size)
    np.testing.assert_allclose(
        client.infer("linear", [given]).as_numpy("output"), x @ WEIGHT, rtol=1e-5, atol=1e-5
    )
    assert sharing["process"].poll() is None


def test_server_that_was_not_told_so_takes_none(
    refusing: dict[str, Any], protocol: str, module: Any, segment: Segment
) -> None:
    with module.InferenceServerClient(refusing[protocol]) as client:
        assert listed(client, protocol) == {}
        client.unregister_system_shared_memory()
        with pytest.raises(httpclient.InferenceServerException, match="takes no shared memory"):
            client.register_system_shared_memory("r", segment.key, 64)
        given = module.InferInput("x", [1, 4], "FP32")
        given.set_shared_memory("r", 16)
        with pytest.raises(httpclient.InferenceServerException, match="which this server does not take"):
            client.infer("linear", [given])
        assert "system_shared_memory" not in str(client.get_server_metadata())


def test_cuda_memory_is_said_not_to_be_there(client: Any, protocol: str) -> None:
    client.unregister_cuda_shared_memory()
    assert not list(client.get_cuda_shared_memory_status() if protocol == "http" else [])
    with pytest.raises(httpclient.InferenceServerException, match="takes no CUDA shared memory"):
        client.register_cuda_shared_memory("g", b"x" * 64 if protocol == "grpc" else b"eA==", 0, 64)
    assert "system_shared_memory" in str(client.get_server_metadata())


def test_shared_memory_with_several_fronts_is_refused(linear_package: Path) -> None:
    server = ProductionServer(
        linear_package, {"port": 0, "processes": 2, "shared_memory": True, "device": "reference"}
    )
    with pytest.raises(ConfigError, match="shared_memory") as error:
        server.start()
    assert error.value.hint is not None
    assert "processes = 1" in error.value.hint
