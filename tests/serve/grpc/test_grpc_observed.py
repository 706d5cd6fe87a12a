"""Calls of inference are traced and written down as HTTP's requests are."""

import logging
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from small_models import linear_model

from tessera.serve import ProductionServer
from tessera.serve.grpc.protocol import inference_pb2 as pb

sys.path.insert(0, str(Path(__file__).parents[1] / "observe"))

INFER = f"/{pb.SERVICE.full_name}/ModelInfer"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def call(address: str, name: str, **metadata: str) -> grpc.StatusCode:
    request = pb.ModelInferRequest(
        model_name=name, raw_input_contents=[np.ones((1, 4), np.float32).tobytes()]
    )
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(INFER, pb.ModelInferRequest.SerializeToString)
        found: grpc.StatusCode = infer.future(request, metadata=tuple(metadata.items()), timeout=10).code()
    return found


def test_calls_are_in_the_access_log_with_the_clients_id(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "tessera.access"),
        ProductionServer(linear_model(), {"port": 0, "grpc_port": 0, "access_log": 1.0}) as server,
    ):
        call(str(server.grpc_address), "linear", **{"x-request-id": "mine-1"})
        call(str(server.grpc_address), "other", **{"x-request-id": "mine-2"})
    lines: list[Any] = [r for r in caplog.records if r.name == "tessera.access"]
    assert [(r.request_id, r.path, r.status) for r in lines] == [
        ("mine-1", INFER, 200),
        ("mine-2", INFER, 404),
    ]


def test_trace_of_the_caller_goes_on_in_the_server() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from otlp_receiver import collecting

    with collecting() as receiver:
        settings = {"enable_tracing": True, "tracing_endpoint": receiver.url, "tracing_sampling": 0.0}
        with ProductionServer(linear_model(), {"port": 0, "grpc_port": 0, **settings}) as server:
            call(str(server.grpc_address), "linear", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
            call(str(server.grpc_address), "linear")
        spans = receiver.wait(3)
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert f"POST {INFER}" in {span.name for span in spans}
    assert len(spans) >= 3
