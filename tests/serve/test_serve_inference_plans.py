"""Requests whose JSON came before: remembered as they are, and nothing that depends on more than the JSON."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from small_models import WEIGHT, echo_model

from tessera.program.dtype import DTYPES
from tessera.serve import ProductionServer

BOOL = DTYPES["bool"]


@pytest.fixture(scope="module")
def client(linear_package: Path) -> Iterator[httpx.Client]:
    """A client of the linear program."""
    with (
        ProductionServer(linear_package, {"port": 0, "device": "reference"}) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        yield client


def ask(client: httpx.Client, model: str, head: dict[str, Any], *tensors: Any) -> httpx.Response:
    text = json.dumps(head).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(text)),
    }
    content = text + b"".join(t if isinstance(t, bytes) else t.tobytes() for t in tensors)
    return client.post(f"/v2/models/{model}/infer", content=content, headers=headers)


def head_of(rows: int, **more: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": 16 * rows}
    tensor = {"name": "x", "shape": [rows, 4], "datatype": "FP32", "parameters": parameters}
    return {"inputs": [tensor], "parameters": {"binary_data_output": True}, **more}


def output_of(response: httpx.Response) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    length = int(response.raise_for_status().headers["Inference-Header-Content-Length"])
    return json.loads(response.content[:length]), np.frombuffer(response.content, np.float32, offset=length)


def test_same_json_before_other_tensors_gets_their_own_answers(
    client: httpx.Client, rng: np.random.Generator
) -> None:
    for turn in range(12):
        rows = 1 + turn % 3
        x = rng.standard_normal((rows, 4)).astype(np.float32)
        head, output = output_of(ask(client, "linear", head_of(rows, id=f"id-{turn % 2}"), x))
        assert head["id"] == f"id-{turn % 2}"
        assert head["outputs"][0]["shape"] == [rows, 3]
        np.testing.assert_allclose(
            output.reshape(rows, 3), x.astype(np.float64) @ WEIGHT, rtol=1e-4, atol=1e-5
        )


def test_known_json_with_too_few_or_too_many_bytes_is_still_400(client: httpx.Client) -> None:
    x = np.ones((2, 4), np.float32)
    output_of(ask(client, "linear", head_of(2), x))
    for wrong in (x[:1], b"", x.tobytes() + b"more"):
        response = ask(client, "linear", head_of(2), wrong)
        assert response.status_code == 400
        assert "bytes" in response.json()["error"]
    output_of(ask(client, "linear", head_of(2), x))


def test_answer_of_many_bytes_is_whole(client: httpx.Client, rng: np.random.Generator) -> None:
    x = rng.standard_normal((9000, 4)).astype(np.float32)
    for _ in range(2):
        _, output = output_of(ask(client, "linear", head_of(9000), x))
        np.testing.assert_allclose(output.reshape(-1, 3), x.astype(np.float64) @ WEIGHT, rtol=1e-3, atol=1e-4)


def test_truths_are_looked_at_in_every_request() -> None:
    parameters = {"binary_data_size": 3}
    tensor = {"name": "x_bool", "shape": [1, 3], "datatype": "BOOL", "parameters": parameters}
    head = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    with (
        ProductionServer(echo_model(BOOL), {"port": 0}) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        assert ask(client, "echo", head, b"\x01\x00\x01").content.endswith(b"\x01\x00\x01")
        refused = ask(client, "echo", head, b"\x01\x02\x01")
    assert refused.status_code == 400
    assert "BOOL is 0 or 1" in refused.json()["error"]
