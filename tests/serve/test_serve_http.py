"""A server on a real port with a real package: what clients see."""

import concurrent.futures
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from small_models import WEIGHT, linear_model, linear_program, log_program, save

from tessera.program.dtype import bf16
from tessera.program.errors import ConfigError, DeviceError, PackageError, ServeError
from tessera.serve import ProductionServer, Request, RequestError

Start = Callable[..., ProductionServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers on free ports and stops them."""
    servers: list[ProductionServer] = []

    def make(model: Any, prepare: Callable[[ProductionServer], None] | None = None, **config: Any) -> Any:
        server = ProductionServer(model, {"port": 0, "device": "reference", **config})
        if prepare is not None:
            prepare(server)
        server.start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def linear(linear_package: Path) -> Iterator[ProductionServer]:
    """One server of the linear package for every test that does not change it."""
    with ProductionServer(
        linear_package, {"port": 0, "device": "reference", "max_body_bytes": 100_000}
    ) as server:
        yield server


@pytest.fixture(scope="module")
def client(linear: ProductionServer) -> Iterator[httpx.Client]:
    """A client of `linear`."""
    with httpx.Client(base_url=linear.url, timeout=20) as client:
        yield client


def metric(server: ProductionServer, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    # The server has one model; what is asked for is said without its name.
    text = re.sub(r'model="[^"]*",version="[^"]*",?', "", text).replace("{}", "")
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} not in:\n{text}"
    return float(found[1])


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) <= {"error", "hint"}
    assert "Traceback" not in response.text
    return str(body["error"])


def test_predict_answers_with_the_programs_output(client: httpx.Client, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 4)).astype(np.float32)
    for body in ({"input": x.tolist()}, {"inputs": {"x": x.tolist()}}):
        output = np.array(client.post("/predict", json=body).raise_for_status().json()["output"])
        np.testing.assert_allclose(output, x.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-5)


def test_health_ready_and_metrics_answer(client: httpx.Client) -> None:
    health = client.get("/health").raise_for_status().json()
    assert health["status"] == "healthy"
    assert health["memory"]["device"] == "reference"
    assert client.get("/ready").json() == {"status": "ready", "model": "linear"}
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "tessera_ready 1.0" in metrics.text
    assert client.head("/health").status_code == 200


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b'{"input": [[1, 2, 3, 4]', "not JSON"),
        (b"", "empty"),
        (b"[1, 2]", "not a JSON object"),
        (b"{}", "no field 'input' or 'inputs': it is empty"),
        (b'{"x": [1]}', "'inputs': it has 'x'"),
        (b'{"input": [[1, 2, 3]]}', "'x' of shape (1, 3): axis 1 is 3, expected 4"),
        (b'{"input": [1, 2, 3, 4]}', "'x'"),
        (b'{"input": [[1, 2, 3, "4"]]}', "'x' holds a string at [0][3]"),
        (b'{"input": [[1, 2, 3, null]]}', "'x' holds null at [0][3]"),
        (b'{"input": [[1, 2, 3, 4], [1]]}', "ragged"),
        (b'{"input": "AAAA"}', "a string"),
        (b'{"input": [[1, 2, 3, 1e39]]}', "cannot hold"),
        (b'{"input": [[true, true, true, true]]}', "bool"),
        (b'{"inputs": [[1, 2, 3, 4]]}', "'inputs' is not an object"),
        (b'{"inputs": {"y": [[1, 2, 3, 4]]}}', "'x' is missing"),
        (b'{"input": [[1,2,3,4]], "inputs": {}}', "both"),
        (b'{"input": [[1, 2, 3, NaN]]}', "not JSON"),
        (b"\xff\xfe{", "not JSON"),
    ],
)
def test_predict_bad_body_is_400_and_says_what(client: httpx.Client, body: bytes, part: str) -> None:
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert part in error_of(response, 400)


def test_predict_other_content_is_415(client: httpx.Client) -> None:
    assert "application/json" in client.post("/predict", data={"a": "b"}).json()["hint"]
    error_of(client.post("/predict", content=b"<x/>", headers={"Content-Type": "text/xml"}), 415)
    headers = {"Content-Type": "application/json", "Content-Encoding": "br"}
    error_of(client.post("/predict", content=b"{}", headers=headers), 415)


def test_unknown_path_is_404_and_lists_what_there_is(client: httpx.Client) -> None:
    response = client.get("/predictt")
    assert "/predictt" in error_of(response, 404)
    assert "/predict" in response.json()["hint"]


@pytest.mark.parametrize(
    ("method", "path", "allow"), [("GET", "/predict", "POST"), ("DELETE", "/health", "GET")]
)
def test_wrong_method_is_405_with_allow(client: httpx.Client, method: str, path: str, allow: str) -> None:
    response = client.request(method, path)
    error_of(response, 405)
    assert response.headers["allow"] == allow


def test_huge_body_is_413_whether_announced_or_chunked(client: httpx.Client) -> None:
    body = b'{"input": "' + b"a" * 5_000_000 + b'"}'
    headers = {"Content-Type": "application/json"}
    assert "100000" in error_of(client.post("/predict", content=body, headers=headers), 413)

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    error_of(client.post("/predict", content=chunks(), headers=headers), 413)
    assert client.get("/health").status_code == 200


def raw(server: ProductionServer, data: bytes, *, timeout_s: float = 10) -> bytes:
    """What the server sends back for `data`, until it hangs up or is quiet."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
        connection.sendall(data)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except TimeoutError:
            pass
        return received


def test_not_http_is_400_in_json(linear: ProductionServer) -> None:
    answer = raw(linear, b"\x16\x03\x01hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_endless_headers_are_431(linear: ProductionServer) -> None:
    answer = raw(linear, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_conflicting_lengths_are_refused(linear: ProductionServer) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw(linear, head + b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1


def test_pipelined_requests_are_answered_in_order(linear: ProductionServer) -> None:
    one = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"
    two = b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
    three = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = raw(linear, one + two + three)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_half_sent_body_is_408_in_time_and_harms_nobody(start: Start, linear_package: Path) -> None:
    server = start(linear_package, request_timeout_s=0.3)
    half = (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    answer = raw(server, half)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert httpx.get(f"{server.url}/ready").status_code == 200


def test_slow_headers_are_cut_off(start: Start, linear_package: Path) -> None:
    server = start(linear_package, header_timeout_s=0.2)
    assert raw(server, b"GET / HTTP/1.1\r\nHost:").startswith(b"HTTP/1.1 408 ")


def test_concurrent_requests_get_their_own_answers_in_batches(start: Start, linear_package: Path) -> None:
    server = start(linear_package, workers=2, max_batch_size=16)
    rng = np.random.default_rng(11)
    inputs = [rng.standard_normal((1 + i % 3, 4)).astype(np.float32) for i in range(200)]

    with httpx.Client(base_url=server.url, timeout=30, limits=httpx.Limits(max_connections=200)) as client:

        def ask(x: np.ndarray[Any, Any]) -> Any:
            return client.post("/predict", json={"input": x.tolist()}).raise_for_status().json()["output"]

        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(ask, inputs))
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer, x.astype(np.float64) @ WEIGHT, rtol=1e-4, atol=1e-5)
    assert metric(server, "tessera_batch_rows_sum") == sum(len(x) for x in inputs)
    assert metric(server, "tessera_queue_seconds_count") == 200


def test_requests_during_a_batch_form_the_next_one_and_neighbours_keep_their_answers(start: Start) -> None:
    model = linear_model(seconds=0.1)
    server = start(model, max_batch_size=8)
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal((1, 4)).astype(np.float32) for _ in range(24)]

    def ask(index: int) -> httpx.Response:
        body = {"input": inputs[index].tolist()} if index != 5 else {"input": [[1, 2, 3]]}
        return httpx.post(f"{server.url}/predict", json=body, timeout=30)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(24)))
    assert "expected 4" in error_of(answers.pop(5), 400)
    inputs.pop(5)
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer.json()["output"], x @ WEIGHT, rtol=1e-5, atol=1e-5)
    assert metric(server, "tessera_batch_requests_count") <= 12
    assert metric(server, 'tessera_batch_rows_bucket{le="8.0"}') == metric(server, "tessera_batch_rows_count")
    assert max(len(b["x"]) for b in model.batches) == 8


def test_lone_request_is_not_delayed_by_the_batch_timeout(start: Start, linear_package: Path) -> None:
    server = start(linear_package, batch_timeout_ms=60_000, workers=4)
    # A request that waited for the batch would fail by the client's limit.
    with httpx.Client(base_url=server.url, timeout=20) as client:
        client.get("/ready")
        client.post("/predict", json={"input": [[1, 2, 3, 4]]}).raise_for_status()


def test_request_larger_than_a_batch_runs_in_parts(start: Start, rng: np.random.Generator) -> None:
    model = linear_model()
    server = start(model, max_batch_size=4)
    x = rng.standard_normal((10, 4)).astype(np.float32)
    answer = httpx.post(f"{server.url}/predict", json={"input": x.tolist()}).json()["output"]
    np.testing.assert_allclose(answer, x @ WEIGHT, rtol=1e-5, atol=1e-5)
    assert [len(b["x"]) for b in model.batches][-3:] == [4, 4, 2]


def test_overload_is_503_with_retry_after_and_the_rest_is_served(start: Start) -> None:
    server = start(linear_model(seconds=0.4), max_queue=2, max_batch_size=1)

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=30)

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(10)))
    codes = sorted(a.status_code for a in answers)
    assert codes[:3] == [200, 200, 200]
    assert codes[-1] == 503
    refused = next(a for a in answers if a.status_code == 503)
    assert "max_queue" in error_of(refused, 503)
    assert int(refused.headers["retry-after"]) >= 1
    assert metric(server, 'tessera_inference_rejected_total{reason="overloaded"}') >= 1


def test_request_timeout_is_504_and_what_waited_never_runs(start: Start) -> None:
    model = linear_model()
    server = start(model, request_timeout_s=0.3, max_batch_size=1)
    warm_up = len(model.batches)
    model.seconds = 0.8

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=30)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert "request_timeout_s" in error_of(answers[0], 504)
    assert {a.status_code for a in answers} == {504}
    time.sleep(0.8)
    assert len(model.batches) == warm_up + 1


def test_client_that_hangs_up_takes_its_request_out_of_the_queue(start: Start) -> None:
    model = linear_model()
    server = start(model, max_batch_size=1)
    warm_up = len(model.batches)
    model.seconds = 0.5
    body = json.dumps({"input": [[9, 9, 9, 9]]})
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    host, port = server.url.removeprefix("http://").split(":")
    connections = [socket.create_connection((host, int(port))) for _ in range(6)]
    for connection in connections:
        connection.sendall(head)
        time.sleep(0.02)
    time.sleep(0.1)
    for connection in connections[1:]:
        connection.close()
    assert connections[0].recv(100).startswith(b"HTTP/1.1 200")
    connections[0].close()
    time.sleep(0.3)
    assert len(model.batches) == warm_up + 1
    assert metric(server, 'tessera_inference_rejected_total{reason="cancelled"}') == 5


def test_ready_is_503_until_the_model_is_warm(linear_package: Path) -> None:
    gate = threading.Event()
    model = linear_model()
    slow = model.infer_batch

    def infer_batch(inputs: Any) -> Any:
        gate.wait(10)
        return slow(inputs)

    model.infer_batch = infer_batch  # type: ignore[method-assign]
    server = ProductionServer(model, {"port": 0})
    server.start(wait=False)
    try:
        assert "loading" in error_of(httpx.get(f"{server.url}/ready"), 503)
        assert httpx.get(f"{server.url}/health").status_code == 200
        refused = httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]})
        assert "loaded" in error_of(refused, 503)
        assert refused.headers["retry-after"] == "1"
        gate.set()
        deadline = time.monotonic() + 10
        while httpx.get(f"{server.url}/ready").status_code != 200:
            assert time.monotonic() < deadline
    finally:
        gate.set()
        server.stop()


def test_endpoints_of_every_form_work(start: Start, linear_package: Path) -> None:
    def endpoints(server: ProductionServer) -> None:
        @server.endpoint("/predict")
        async def predict(request: Request) -> Any:
            return {"output": await server.infer(request.json["input"]), "mine": True}

        @server.endpoint("/health")
        async def health() -> Any:
            return {"status": "healthy", "gpu_memory": server.get_memory_usage()}

        @server.endpoint("/sync", methods=["POST"])
        def sync(request: Request) -> Any:
            assert threading.current_thread().name.startswith("tessera-endpoint")
            return {"output": server.infer_sync(request.input)}

        @server.endpoint("/predict/{model_name}")
        async def named(model_name: str, request: Request) -> Any:
            return {"model": model_name, "query": request.query.get("q"), "who": request.headers["x-who"]}

        @server.endpoint("/predict/ab")
        async def ab() -> Any:
            return "ab"

        @server.endpoint("/teapot")
        async def teapot() -> Any:
            raise RequestError("short and stout", status=418)

        @server.endpoint("/broken")
        async def broken() -> Any:
            raise ValueError("/etc/secret")

        @server.endpoint("/forgotten")
        async def forgotten() -> Any:
            return {"output": server.infer([[1, 2, 3, 4]])}

    server = start(linear_package, endpoints)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        body = {"input": [[1, 0, 0, 0]]}
        answer = client.post("/predict", json=body).json()
        np.testing.assert_allclose(answer["output"], WEIGHT[:1], rtol=1e-6)
        assert answer["mine"] is True
        assert client.get("/predict").status_code == 405
        assert "'input'" in error_of(client.post("/predict", json={}), 400)
        assert client.get("/health").json()["gpu_memory"]["device"] == "reference"
        assert client.post("/sync", json=body).json()["output"] == answer["output"]
        found = client.get("/predict/m1?q=7", headers={"X-Who": "me"}).json()
        assert found == {"model": "m1", "query": "7", "who": "me"}
        assert client.get("/predict/ab").json() == "ab"
        assert error_of(client.get("/teapot"), 418) == "short and stout"
        assert error_of(client.get("/broken"), 500) == "internal error"
        assert error_of(client.get("/forgotten"), 500) == "internal error"


def test_outputs_that_json_cannot_hold_are_null(start: Start, tmp_path: Path) -> None:
    server = start(save(tmp_path, log_program()))
    answer = httpx.post(f"{server.url}/predict", json={"input": [[0, -1], [1, 1]]})
    assert answer.json() == {"output": [[None, None], [0.0, 0.0]]}


def test_bf16_program_answers_in_numbers(start: Start, tmp_path: Path) -> None:
    weight = WEIGHT.astype(bf16.numpy)
    server = start(save(tmp_path, linear_program(bf16, "half"), w=weight))
    output = httpx.post(f"{server.url}/predict", json={"input": [[1, 0, 0, 0]]}).json()["output"]
    np.testing.assert_array_equal(np.float32(output), weight[:1].astype(np.float32))


def test_several_inputs_and_outputs_go_by_name(start: Start, pair_package: Path) -> None:
    server = start(pair_package)
    answer = httpx.post(f"{server.url}/predict", json={"inputs": {"a": [[1, 2]], "b": [[3, 4]]}}).json()
    assert answer == {"outputs": {"total": [[4.0, 6.0]], "product": [[3.0, 8.0]]}}
    refused = httpx.post(f"{server.url}/predict", json={"input": [[1, 2]]})
    assert "2 inputs" in error_of(refused, 400)


def test_package_of_several_programs_needs_a_choice(tmp_path: Path) -> None:
    package = save(tmp_path, linear_program(), log_program(), w=WEIGHT)
    with pytest.raises(ConfigError, match="2 programs") as caught:
        ProductionServer(package, {"port": 0, "device": "reference"}).start()
    assert "linear, log" in (caught.value.hint or "")
    with ProductionServer(package, {"port": 0, "device": "reference", "program": "log"}) as server:
        assert httpx.post(f"{server.url}/predict", json={"input": [[1, 1]]}).json() == {
            "output": [[0.0, 0.0]]
        }


def test_metrics_off_is_404(start: Start, linear_package: Path) -> None:
    server = start(linear_package, enable_metrics=False)
    assert httpx.get(f"{server.url}/metrics").status_code == 404
    assert httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}).status_code == 200


def test_infer_from_the_programs_own_loop_and_threads(linear: ProductionServer) -> None:
    import asyncio

    output = asyncio.run(linear.infer(np.eye(4, dtype=np.float32)))
    np.testing.assert_array_equal(output, WEIGHT)
    np.testing.assert_array_equal(linear.infer_sync({"x": np.eye(4)}), WEIGHT)


def test_infer_without_a_running_server_says_what_to_call(linear_package: Path) -> None:
    server = ProductionServer(linear_package)
    with pytest.raises(ServeError, match="does not run") as caught:
        server.infer_sync([[1, 2, 3, 4]])
    assert "start()" in (caught.value.hint or "")
    assert server.get_memory_usage() == {"device": None}


def test_port_in_use_is_an_error_with_a_remedy(linear: ProductionServer, linear_package: Path) -> None:
    port = int(linear.url.rsplit(":", 1)[1])
    with pytest.raises(ServeError, match=f"port {port} of 127.0.0.1 is in use") as caught:
        ProductionServer(linear_package, {"port": port, "device": "reference"}).start()
    assert f"sport = :{port}" in (caught.value.hint or "")


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1"])
def test_host_that_cannot_be_is_named(host: str, linear_package: Path) -> None:
    with pytest.raises(ServeError, match=re.escape(host)):
        ProductionServer(linear_package, {"host": host, "port": 0}).start()


def test_missing_package_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PackageError, match=r"none\.tsd"):
        ProductionServer(tmp_path / "none.tsd")
    monkeypatch.delenv("MODEL_PACKAGE", raising=False)
    with pytest.raises(ConfigError, match="no package"):
        ProductionServer()
    monkeypatch.setenv("MODEL_PACKAGE", str(tmp_path / "other.tsd"))
    with pytest.raises(PackageError, match=r"other\.tsd"):
        ProductionServer()


def test_damaged_package_ends_the_server_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "bad.tsd").write_bytes(b"not a package")
    with pytest.raises(PackageError):
        ProductionServer(tmp_path / "bad.tsd", {"port": 0}).start()


def test_unknown_device_ends_the_server_with_its_error(linear_package: Path) -> None:
    with pytest.raises(DeviceError, match="abacus"):
        ProductionServer(linear_package, {"port": 0, "device": "abacus"}).start()


def test_endpoint_after_the_start_or_twice_is_refused(linear: ProductionServer, linear_package: Path) -> None:
    with pytest.raises(ServeError, match="running server"):
        linear.endpoint("/late")(lambda: 1)
    server = ProductionServer(linear_package)
    server.endpoint("/p")(lambda: 1)
    with pytest.raises(ServeError, match="two endpoints"):
        server.endpoint("/p")(lambda: 2)


def test_stop_lets_a_request_finish_and_start_works_again() -> None:
    model = linear_model()
    server = ProductionServer(model, {"port": 0})
    server.start()
    model.seconds = 0.4
    url = server.url
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(httpx.post, f"{url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=30)
        time.sleep(0.15)
        server.stop()
        assert call.result().status_code == 200
        assert call.result().headers["connection"] == "close"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    assert model.closed
    with server:
        assert httpx.get(f"{server.url}/ready").status_code == 200


def test_stop_after_the_drain_timeout_answers_503_and_reports_it() -> None:
    model = linear_model()
    server = ProductionServer(model, {"port": 0, "drain_timeout_s": 0.2})
    server.start()
    model.seconds = 3.0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(httpx.post, f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}, timeout=30)
        time.sleep(0.2)
        with pytest.raises(ServeError, match="drain_timeout_s"):
            server.stop()
        assert "stopped" in error_of(call.result(), 503)


def test_app_runs_under_another_asgi_server(linear_package: Path) -> None:
    import asyncio

    async def main() -> httpx.Response:
        app = ProductionServer(linear_package, {"device": "reference"}).app
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        outbox: asyncio.Queue[Any] = asyncio.Queue()
        lifespan = asyncio.create_task(app({"type": "lifespan"}, inbox.get, outbox.put))
        await inbox.put({"type": "lifespan.startup"})
        assert (await outbox.get())["type"] == "lifespan.startup.complete"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            response = await client.post("/predict", json={"input": [[1, 0, 0, 0]]})
        await inbox.put({"type": "lifespan.shutdown"})
        assert (await outbox.get())["type"] == "lifespan.shutdown.complete"
        await lifespan
        return response

    np.testing.assert_allclose(asyncio.run(main()).json()["output"], WEIGHT[:1], rtol=1e-6)


def test_keep_alive_serves_many_requests_on_one_connection(linear: ProductionServer) -> None:
    host, port = linear.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port))
    try:
        for _ in range(5):
            connection.request("GET", "/ready")
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            assert not response.will_close
    finally:
        connection.close()
