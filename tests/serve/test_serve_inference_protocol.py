"""The Open Inference Protocol in JSON; `test_serve_binary_tensors.py` has the binary extension."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from small_models import WEIGHT, linear_model

from tessera import __version__
from tessera.serve import ProductionServer


@pytest.fixture(scope="module")
def client(linear_package: Path) -> Iterator[httpx.Client]:
    """A client of the linear package."""
    with (
        ProductionServer(linear_package, {"port": 0, "device": "reference"}) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        yield client


EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "statistics"]


def tensor(data: Any, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": "FP32", "data": data, **more}


def test_health_and_metadata(client: httpx.Client) -> None:
    assert client.get("/v2").json() == {"name": "tessera", "version": __version__, "extensions": EXTENSIONS}
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    metadata = client.get("/v2/models/linear").json()
    version = metadata["versions"][0]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 3]}]
    assert client.get(f"/v2/models/linear/versions/{version}").json() == metadata
    assert client.get("/v2/models/linear/ready").json() == {"name": "linear", "ready": True}


@pytest.mark.parametrize("flat", [True, False])
def test_infer_takes_flat_and_nested_data(client: httpx.Client, flat: bool, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 4)).astype(np.float32)
    body = {"id": "42", "inputs": [tensor((x.ravel() if flat else x).tolist(), [3, 4])]}
    answer = client.post("/v2/models/linear/infer", json=body).raise_for_status().json()
    assert answer["model_name"] == "linear"
    assert answer["id"] == "42"
    (output,) = answer["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("output", [3, 3], "FP32")
    np.testing.assert_allclose(np.reshape(output["data"], (3, 3)), x @ WEIGHT, rtol=1e-5, atol=1e-5)


ZEROS = [0.0] * 4


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "'x' is missing"),
        ({"inputs": [tensor(ZEROS, [1, 4], datatype="FP64")]}, "datatype 'FP64', not 'FP32'"),
        ({"inputs": [tensor(ZEROS, [1, 5])]}, "shape [1, 5]"),
        ({"inputs": [tensor([ZEROS], [4, 1])]}, "shape [4, 1]"),
        ({"inputs": [tensor(ZEROS, [-1, -4])]}, "shape [-1, -4]"),
        ({"inputs": [tensor(ZEROS, [4])]}, "has 1 axes, expected 2"),
        ({"inputs": [tensor(ZEROS, ["1", 4])]}, "$.inputs[0].shape[0]"),
        ({"inputs": [tensor(ZEROS, [1, 4]), tensor(ZEROS, [1, 4])]}, "twice"),
        ({"inputs": [tensor(ZEROS, [1, 4], name="y")]}, "no input 'y'"),
        ({"inputs": [tensor(["a"] * 4, [1, 4])]}, "a string at [0]"),
        ({"inputs": [tensor(ZEROS, [1, 4])], "outputs": [{"name": "z"}]}, "no output 'z'"),
        ({"inputs": [tensor(ZEROS, [1, 4])], "parameters": {"timeout": "soon"}}, "timeout"),
    ],
)
def test_infer_bad_request_is_400_and_names_the_field(client: httpx.Client, body: Any, part: str) -> None:
    response = client.post("/v2/models/linear/infer", json=body)
    assert response.status_code == 400
    assert part in response.json()["error"]


@pytest.mark.parametrize(
    "path", ["/v2/models/other", "/v2/models/linear/versions/99", "/v2/models/other/ready"]
)
def test_unknown_model_is_404(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert "'linear'" in response.json()["hint"]


def test_content_that_is_neither_json_nor_bytes_is_415(client: httpx.Client) -> None:
    headers = {"Content-Type": "text/xml", "Inference-Header-Content-Length": "2"}
    assert client.post("/v2/models/linear/infer", content=b"{}", headers=headers).status_code == 415


def test_infer_keeps_the_requests_own_timeout() -> None:
    model = linear_model()
    with ProductionServer(model, {"port": 0}) as server:
        model.seconds = 0.5
        body = {"inputs": [tensor(ZEROS, [1, 4])], "parameters": {"timeout": 50_000}}
        response = httpx.post(f"{server.url}/v2/models/linear/infer", json=body)
        assert response.status_code == 504
        assert response.elapsed.total_seconds() < 0.4
