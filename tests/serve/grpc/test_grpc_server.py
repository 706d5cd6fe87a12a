"""The gRPC port: its life beside HTTP, its limits, and a stop that loses nothing."""

import asyncio
import builtins
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_servers import Served, model_script, served
from small_models import WEIGHT, NumpyModel, linear_model, linear_program

from tessera.program.errors import MissingDependencyError, ServeError
from tessera.serve import ProductionServer
from tessera.serve.grpc.protocol import health_pb2 as health
from tessera.serve.grpc.protocol import inference_pb2 as pb

SERVICE = f"/{pb.SERVICE.full_name}/"
WAIT_S = 20


def infer_request(x: np.ndarray[Any, Any], **more: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="linear", **more)
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    request.raw_input_contents.append(x.tobytes())
    return request


def rows(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal((count, 4)).astype(np.float32)


def infer_on(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        f"{SERVICE}ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )


def health_on(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health.HealthCheckRequest.SerializeToString,
        health.HealthCheckResponse.FromString,
    )


def output(response: pb.ModelInferResponse) -> np.ndarray[Any, Any]:
    (entry,) = response.outputs
    return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(entry.shape)


@pytest.fixture
def channel(linear: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(linear.grpc) as channel:
        yield channel


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model takes 0.3 s, one request at a time, with two places in the queue."""
    script = model_script("linear_model(0.3)", max_queue=2, max_batch_size=1)
    with served(tmp_path_factory.mktemp("slow-server"), script) as found:
        yield found


def test_health_checks_answer_for_server_service_and_model(channel: grpc.Channel) -> None:
    check = health_on(channel)
    for name in ("", pb.SERVICE.full_name, "linear"):
        assert check(health.HealthCheckRequest(service=name)).status == health.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        check(health.HealthCheckRequest(service="other"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_method_that_does_not_exist_is_unimplemented(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(f"{SERVICE}ModelExplain")(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_message_over_max_body_bytes_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    script = model_script("linear_model()", max_body_bytes=4096)
    with served(tmp_path, script) as server, grpc.insecure_channel(server.grpc) as channel:
        infer = infer_on(channel)
        infer(infer_request(rows(rng, 100)))
        with pytest.raises(grpc.RpcError) as error:
            infer(infer_request(rows(rng, 1000)))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_garbage_is_refused_and_the_server_lives_on(
    channel: grpc.Channel, linear: Served, rng: np.random.Generator
) -> None:
    raw = channel.unary_unary(f"{SERVICE}ModelInfer")
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as error:
            raw(b"\xff" + rng.bytes(50))
        assert error.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    x = rows(rng, 2)
    np.testing.assert_allclose(output(infer_on(channel)(infer_request(x))), x @ WEIGHT, rtol=1e-5, atol=1e-5)
    assert linear.process.process.poll() is None


def test_full_queue_is_unavailable_and_says_when_to_come_back(slow: Served, rng: np.random.Generator) -> None:
    with grpc.insecure_channel(slow.grpc) as channel:
        infer = infer_on(channel)
        calls = [infer.future(infer_request(rows(rng, 1))) for _ in range(12)]
        codes = [call.code() for call in calls]
        refused = [call for call in calls if call.code() is grpc.StatusCode.UNAVAILABLE]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        assert "max_queue" in refused[0].details()
        behind = dict(refused[0].trailing_metadata())
        assert int(behind["grpc-retry-pushback-ms"]) == 1000 * int(behind["retry-after"])


class Gated:
    """A model that holds the request that begins with 7 until it is let go."""

    def __init__(self) -> None:
        self.busy, self.go = threading.Event(), threading.Event()
        self.model = NumpyModel(linear_program(), self._compute)
        self.first = np.full((1, 4), 7, np.float32)

    def _compute(self, x: np.ndarray[Any, Any]) -> dict[str, Any]:
        if x[0, 0] == 7:
            self.busy.set()
            assert self.go.wait(WAIT_S)
        return {"output": x @ WEIGHT}

    def ran(self) -> list[int]:
        """Rows of the batches that ran after the warm-up."""
        return [len(batch["x"]) for batch in self.model.batches[2:]]


@pytest.mark.parametrize("how", ["deadline", "parameter", "cancel"])
def test_request_that_nobody_waits_for_is_never_run(how: str, rng: np.random.Generator) -> None:
    gated = Gated()
    with (
        ProductionServer(gated.model, {"port": 0, "grpc_port": 0}) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        infer = infer_on(channel)
        running = infer.future(infer_request(gated.first))
        assert gated.busy.wait(WAIT_S)
        if how == "deadline":
            waiting = infer.future(infer_request(rows(rng, 2)), timeout=0.2)
        elif how == "parameter":
            parameters = {"timeout": pb.InferParameter(int64_param=100_000)}
            waiting = infer.future(infer_request(rows(rng, 2), parameters=parameters))
        else:
            waiting = infer.future(infer_request(rows(rng, 2)))
            wait_for(server, r"tessera_queue_requests{.*} 1\.0")
            waiting.cancel()
        expected = grpc.StatusCode.CANCELLED if how == "cancel" else grpc.StatusCode.DEADLINE_EXCEEDED
        assert waiting.code() is expected
        wait_for(server, r"tessera_queue_requests{.*} 0\.0")
        gated.go.set()
        assert running.code() is grpc.StatusCode.OK
        infer(infer_request(rows(rng, 3)))
    assert gated.ran() == [1, 3]


def wait_for(server: ProductionServer, pattern: str) -> None:
    """Return when the metrics say so."""
    until = time.monotonic() + WAIT_S
    while not re.search(pattern, httpx.get(f"{server.url}/metrics").text):
        assert time.monotonic() < until, pattern
        time.sleep(0.01)


def test_batches_take_requests_of_both_protocols(rng: np.random.Generator) -> None:
    gated = Gated()
    xs = [gated.first, *(rows(rng, 1) for _ in range(8))]
    with (
        ProductionServer(gated.model, {"port": 0, "grpc_port": 0}) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
        ThreadPoolExecutor(4) as threads,
    ):
        infer = infer_on(channel)
        first = infer.future(infer_request(xs[0]))
        assert gated.busy.wait(WAIT_S)
        over_grpc = [infer.future(infer_request(x)) for x in xs[1:5]]
        url = f"{server.url}/predict"
        over_http = [
            threads.submit(httpx.post, url, json={"input": x.tolist()}, timeout=WAIT_S) for x in xs[5:]
        ]
        wait_for(server, r"tessera_queue_requests{.*} 8\.0")
        gated.go.set()
        for x, call in zip(xs, [first, *over_grpc], strict=False):
            np.testing.assert_allclose(output(call.result()), x @ WEIGHT, rtol=1e-5, atol=1e-5)
        for x, answer in zip(xs[5:], over_http, strict=True):
            np.testing.assert_allclose(answer.result().json()["output"], x @ WEIGHT, rtol=1e-5, atol=1e-5)
    assert gated.ran() == [1, 8]


def test_stop_finishes_what_was_accepted_and_ends_streams(tmp_path: Path, rng: np.random.Generator) -> None:
    xs = [rows(rng, 1) for _ in range(4)]
    with served(tmp_path, model_script("linear_model(0.4)", max_batch_size=1)) as server:
        with grpc.insecure_channel(server.grpc) as channel:
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                health.HealthCheckRequest.SerializeToString,
                health.HealthCheckResponse.FromString,
            )(health.HealthCheckRequest())
            assert next(watch).status == health.HealthCheckResponse.SERVING
            waiting = threading.Event()

            def requests() -> Iterator[pb.ModelInferRequest]:
                yield infer_request(xs[0], id="0")
                yield infer_request(xs[1], id="1")
                waiting.wait(WAIT_S)

            stream = channel.stream_stream(
                f"{SERVICE}ModelStreamInfer",
                pb.ModelInferRequest.SerializeToString,
                pb.ModelStreamInferResponse.FromString,
            )(requests())
            calls = [infer_on(channel).future(infer_request(x)) for x in xs[2:]]
            time.sleep(0.2)
            server.process.process.send_signal(signal.SIGTERM)
            for x, call in zip(xs[2:], calls, strict=True):
                np.testing.assert_allclose(output(call.result()), x @ WEIGHT, rtol=1e-5, atol=1e-5)
            answers = [next(stream), next(stream)]
            for x, answer in zip(xs, answers, strict=False):
                np.testing.assert_allclose(output(answer.infer_response), x @ WEIGHT, rtol=1e-5, atol=1e-5)
            with pytest.raises(grpc.RpcError) as error:
                next(stream)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "the server is stopping" in error.value.details()
            assert next(watch).status == health.HealthCheckResponse.NOT_SERVING
            assert list(watch) == []
            waiting.set()
        status, log = server.process.finish()
    assert status == 0, log
    assert "Traceback" not in log


def test_stop_after_drain_timeout_answers_unavailable(tmp_path: Path, rng: np.random.Generator) -> None:
    with served(tmp_path, model_script("linear_model(1.5)", drain_timeout_s=0.2)) as server:
        with grpc.insecure_channel(server.grpc) as channel:
            call = infer_on(channel).future(infer_request(rows(rng, 1)))
            time.sleep(0.2)
            server.process.process.send_signal(signal.SIGTERM)
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert "stopped before the request was done" in call.details()
        status, log = server.process.finish()
    assert status == 1
    assert "1 gRPC calls were not finished" in log


def test_port_that_is_taken_is_an_error_before_anything_is_served(linear: Served) -> None:
    port = int(linear.grpc.rpartition(":")[2])
    with pytest.raises(ServeError, match=f"cannot listen for gRPC on 127.0.0.1:{port}"):
        ProductionServer(linear_model(), {"port": 0, "grpc_port": port}).start()


def test_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_grpc(name: str, *more: Any) -> Any:
        if name.startswith("tessera.serve.grpc"):
            raise ModuleNotFoundError("No module named 'grpc'", name="grpc")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without_grpc)
    with pytest.raises(MissingDependencyError, match="grpc_port needs the Python package 'grpc'") as error:
        ProductionServer(linear_model(), {"port": 0, "grpc_port": 0}).start()
    assert error.value.hint == "pip install 'tessera[grpc]'"


async def test_calls_cancelled_in_masses_leave_the_server_whole(
    slow: Served, rng: np.random.Generator
) -> None:
    async with grpc.aio.insecure_channel(slow.grpc) as channel:
        infer = infer_on(channel)
        calls = [infer(infer_request(rows(rng, 1))) for _ in range(100)]
        await asyncio.sleep(0.05)
        for call in calls:
            call.cancel()
        x = rows(rng, 1)
        while await (call := infer(infer_request(x))).code() is grpc.StatusCode.UNAVAILABLE:
            await asyncio.sleep(0.2)
        response = await call
        np.testing.assert_allclose(output(response), x @ WEIGHT, rtol=1e-5, atol=1e-5)


def test_stream_of_more_requests_than_it_works_on_at_once_answers_all_in_order(
    channel: grpc.Channel, rng: np.random.Generator
) -> None:
    xs = [rows(rng, 1 + i % 3) for i in range(300)]
    stream = channel.stream_stream(
        f"{SERVICE}ModelStreamInfer",
        pb.ModelInferRequest.SerializeToString,
        pb.ModelStreamInferResponse.FromString,
    )(infer_request(x, id=str(i)) for i, x in enumerate(xs))
    for i, (x, answer) in enumerate(zip(xs, stream, strict=True)):
        assert answer.infer_response.id == str(i)
        np.testing.assert_allclose(output(answer.infer_response), x @ WEIGHT, rtol=1e-5, atol=1e-5)
