"""Tensors as bytes behind the JSON: layout, limits, and requests that lie about both."""

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import WEIGHT, NumpyModel, echo_model, linear_program, two_port_program

from tessera.program.datatypes import DATATYPES
from tessera.program.dtype import DTYPES, bool_, f8e4m3, f32, i16, u64
from tessera.program.errors import InputError
from tessera.serve import ProductionServer
from tessera.serve.encoding import decoded
from tessera.serve.inference_answer import classify, infer_answer, wanted_outputs
from tessera.serve.inference_request import read_infer_request
from tessera.serve.request import Request, RequestError

LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/linear/infer"
LIMIT = 1 << 16


@pytest.fixture(scope="module")
def client(linear_package: Path) -> Iterator[httpx.Client]:
    """A client of the linear package: x, (rows, 4) f32."""
    config = {"port": 0, "device": "reference", "max_body_bytes": LIMIT}
    with (
        ProductionServer(linear_package, config) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        yield client


def entry(name: str, array: np.ndarray[Any, Any], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": array.nbytes}
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": parameters, **more}


def packed(
    head: dict[str, Any], *arrays: np.ndarray[Any, Any], length: Any = None
) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    body = b"".join([text, *(a.tobytes() for a in arrays)])
    return body, {LENGTH: str(len(text) if length is None else length)}


def rows(rng: np.random.Generator, count: int = 3) -> np.ndarray[Any, Any]:
    return rng.standard_normal((count, 4)).astype(np.float32)


def unpacked(response: httpx.Response) -> dict[str, np.ndarray[Any, Any]]:
    length = int(response.headers[LENGTH])
    assert response.headers["Content-Type"] == "application/octet-stream"
    found, at = {}, length
    for output in json.loads(response.content[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = np.frombuffer(response.content[at : at + size], np.float32).reshape(
            output["shape"]
        )
        at += size
    assert at == len(response.content)
    return found


BINARY_OUT = {"parameters": {"binary_data_output": True}}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_bodies_may_be_chunked_and_compressed(
    client: httpx.Client, chunked: bool, coding: str | None, rng: np.random.Generator
) -> None:
    x = rows(rng)
    body, headers = packed({"inputs": [entry("x", x)], **BINARY_OUT}, x)
    if coding:
        body = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
        headers["Content-Encoding"] = coding
    pieces = (body[i : i + 7] for i in range(0, len(body), 7))
    response = client.post(INFER, content=pieces if chunked else body, headers=headers)
    np.testing.assert_allclose(
        unpacked(response.raise_for_status())["output"], x @ WEIGHT, rtol=1e-5, atol=1e-5
    )


def test_compressed_json_is_taken_everywhere(client: httpx.Client) -> None:
    body = gzip.compress(b'{"input": [[1, 0, 0, 0]]}')
    answer = client.post("/predict", content=body, headers={"Content-Encoding": "gzip"}).raise_for_status()
    np.testing.assert_allclose(answer.json()["output"], WEIGHT[:1], rtol=1e-6)


def test_body_that_unpacks_beyond_the_limit_is_413(client: httpx.Client) -> None:
    bomb = gzip.compress(b" " * (100 * LIMIT))
    assert len(bomb) < LIMIT
    response = client.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413
    assert f"more than {LIMIT} bytes" in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"{}", "not gzip"),
        (gzip.compress(b"{}", mtime=0)[:-3], "cut off"),
        (gzip.compress(b"{}", mtime=0) + gzip.compress(b"", mtime=0), "follow the end"),
        (b"", "cut off"),
    ],
)
def test_damaged_compression_is_400(client: httpx.Client, body: bytes, part: str) -> None:
    response = client.post(INFER, content=body, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 400
    assert part in response.json()["error"]


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd"])
def test_other_codings_are_415(client: httpx.Client, coding: str) -> None:
    assert client.post(INFER, content=b"{}", headers={"Content-Encoding": coding}).status_code == 415


@pytest.mark.parametrize(
    "length", ["-1", "+5", "1e2", "0x10", "", "abc", "9" * 18, "9" * 400, "12 34", "1,2", "١٢".encode().hex()]
)
def test_length_that_is_none_is_400(client: httpx.Client, length: str, rng: np.random.Generator) -> None:
    x = rows(rng)
    body, headers = packed({"inputs": [entry("x", x)]}, x, length=length)
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 400
    assert LENGTH in response.json()["error"]


def test_two_lengths_are_400(client: httpx.Client, rng: np.random.Generator) -> None:
    x = rows(rng)
    body, headers = packed({"inputs": [entry("x", x)]}, x)
    twice = [(LENGTH, headers[LENGTH]), (LENGTH, "2")]
    assert "not one number" in client.post(INFER, content=body, headers=twice).json()["error"]


@pytest.mark.parametrize("shift", [-1, 1, 20])
def test_length_beside_the_jsons_end_is_400(
    client: httpx.Client, shift: int, rng: np.random.Generator
) -> None:
    x = rows(rng)
    head = {"inputs": [entry("x", x)]}
    body, headers = packed(head, x, length=len(json.dumps(head)) + shift)
    assert client.post(INFER, content=body, headers=headers).status_code == 400


def sized(size: Any, shape: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {"name": "x", "shape": shape or [3, 4], "datatype": "FP32", "parameters": parameters, **more}


@pytest.mark.parametrize(
    ("inputs", "part"),
    [
        ([sized(-48)], "'x' has the binary_data_size '-48'"),
        ([sized("48")], "no number of bytes"),
        ([sized(48.0)], "no number of bytes"),
        ([sized(size=True)], "no number of bytes"),
        ([sized(10**18)], "'x' has binary_data_size 1000000000000000000, but shape [3, 4] of FP32 is 48"),
        ([sized(47)], "is 48 bytes"),
        ([sized(96, datatype="FP64")], "datatype 'FP64', not 'FP32'"),
        ([sized(24, datatype="FP16")], "datatype 'FP16', not 'FP32'"),
        ([sized(64, [4, 4])], "the body has 48 bytes left"),
        ([sized(32, [2, 4])], "16 bytes of the body belong to no input"),
        ([sized(48, [12])], "has 1 axes, expected 2"),
        ([sized(48, [-3, -4])], "no size is negative"),
        ([sized(0, [0, 2**62])], "too large"),
        ([sized(48, [2**63 - 1, 2**63 - 1])], "binary_data_size 48, but shape"),
        ([sized(48, data=[0.0] * 12)], "both data and binary_data_size"),
        ([sized(48), sized(48)], "twice"),
        (
            [{**sized(48), "parameters": {"binary_data_size": 48, "shared_memory_region": "r"}}],
            "'x' has data, beside shared_memory_region",
        ),
        ([{"name": "x", "shape": [3, 4], "datatype": "FP32"}], "neither data nor binary_data_size"),
        ([sized(48, [3, 4], name="y")], "no input 'y'"),
        ([], "48 bytes of the body belong to no input"),
    ],
)
def test_sizes_that_lie_are_400_and_name_the_input(
    client: httpx.Client, inputs: Any, part: str, rng: np.random.Generator
) -> None:
    body, headers = packed({"inputs": inputs}, rows(rng))
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 400
    assert part in response.json()["error"]


@pytest.mark.parametrize(
    ("outputs", "parameters", "part"),
    [
        ([{"name": "output", "parameters": {"binary_data": 1}}], {}, "'binary_data' is '1'"),
        ([{"name": "output", "parameters": {"classification": "2"}}], {}, "not a number of classes"),
        ([{"name": "output", "parameters": {"classification": -1}}], {}, "not a number of classes"),
        ([{"name": "output", "parameters": {"shared_memory_region": "r"}}], {}, "shared memory"),
        ([{"name": "output"}, {"name": "output"}], {}, "twice"),
        ([], {"binary_data_output": "yes"}, "'binary_data_output' is 'yes'"),
    ],
)
def test_outputs_that_cannot_be_are_400(
    client: httpx.Client, outputs: Any, parameters: Any, part: str, rng: np.random.Generator
) -> None:
    x = rows(rng)
    head = {"inputs": [entry("x", x)], "outputs": outputs, "parameters": parameters}
    body, headers = packed(head, x)
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 400
    assert part in response.json()["error"]


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0.2, deflate;q=0.9", "deflate"),
        ("br, GZIP", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
        ("identity", None),
        ("*", None),
    ],
)
def test_answers_are_compressed_as_the_client_accepts(
    client: httpx.Client, accept: str, coding: str | None, rng: np.random.Generator
) -> None:
    x = rows(rng, 500)
    body, headers = packed({"inputs": [entry("x", x)], **BINARY_OUT}, x)
    response = client.post(INFER, content=body, headers={**headers, "Accept-Encoding": accept})
    assert response.headers.get("Content-Encoding") == coding
    np.testing.assert_allclose(unpacked(response)["output"], x @ WEIGHT, rtol=1e-5, atol=1e-5)
    small, headers = packed({"inputs": [entry("x", x[:1])]}, x[:1])
    response = client.post(INFER, content=small, headers={**headers, "Accept-Encoding": accept})
    assert "Content-Encoding" not in response.raise_for_status().headers


def test_bytes_without_json_are_the_only_input(client: httpx.Client, rng: np.random.Generator) -> None:
    x = rows(rng, 5)
    response = client.post(INFER, content=x.tobytes(), headers={LENGTH: "0"}).raise_for_status()
    np.testing.assert_allclose(unpacked(response)["output"], x @ WEIGHT, rtol=1e-5, atol=1e-5)
    torn = client.post(INFER, content=x.tobytes()[:-1], headers={LENGTH: "0"})
    assert (torn.status_code, "'x' has binary_data_size 79" in torn.text) == (400, True)


def request_of(body: bytes, length: int | None) -> Request:
    headers = [] if length is None else [(LENGTH.lower().encode(), str(length).encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, body)


def test_tensors_are_not_copied(rng: np.random.Generator) -> None:
    x = rows(rng, 1000)
    body, headers = packed({"inputs": [entry("x", x)]}, x)
    _, arrays = read_infer_request(linear_program(), request_of(body, int(headers[LENGTH])))
    assert np.shares_memory(arrays["x"], np.frombuffer(body, np.uint8))
    assert not arrays["x"].flags.writeable


def test_bool_is_0_or_1() -> None:
    program = echo_model(bool_).program
    truths = np.array([[0, 1, 1]], np.uint8)
    body, headers = packed({"inputs": [entry("x_bool", truths, "BOOL")]}, truths)
    _, arrays = read_infer_request(program, request_of(body, int(headers[LENGTH])))
    assert arrays["x_bool"].tolist() == [[False, True, True]]
    with pytest.raises(InputError, match="'x_bool' holds the byte 2 as element 2"):
        read_infer_request(program, request_of(body[:-1] + b"\2", int(headers[LENGTH])))


def test_program_of_two_inputs_needs_json() -> None:
    with pytest.raises(RequestError, match="bytes alone"):
        read_infer_request(two_port_program(), request_of(b"\0" * 16, 0))


@given(data=st.data(), count=st.integers(0, 5), pad=st.integers(0, 9))
def test_what_is_sent_comes_back_to_the_bit(data: st.DataObject, count: int, pad: int) -> None:
    """Any bits of any dtypes, at any alignment, in any order."""
    names = data.draw(st.permutations([d for d in DTYPES if d != "bool"]))
    model: NumpyModel = echo_model()
    program = echo_model(*(DTYPES[n] for n in names)).program
    arrays = {}
    for name in names:
        dtype = DTYPES[name]
        size = count * 3 * dtype.itemsize
        raw = data.draw(st.binary(min_size=size, max_size=size))
        arrays[name] = np.frombuffer(raw, dtype.numpy).reshape(count, 3)
    inputs = [entry(f"x_{n}", a, DATATYPES[n]) for n, a in arrays.items()]
    text = json.dumps({"inputs": inputs, **BINARY_OUT}).encode() + b" " * pad
    body = text + b"".join(a.tobytes() for a in arrays.values())
    request, read = read_infer_request(program, request_of(body, len(text)))
    outputs = {f"y_{n}": read[f"x_{n}"] for n in names}
    answer = infer_answer({"model_name": model.program.name}, wanted_outputs(program, request), outputs)
    assert answer.body[int(answer.headers[LENGTH]) :] == body[len(text) :]


@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 250))
def test_any_bytes_are_a_request_or_the_clients_error(body: bytes, length: int | None) -> None:
    with contextlib.suppress(RequestError, InputError):
        read_infer_request(linear_program(), request_of(body, length))


NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.none() | st.text(max_size=3)


@given(
    shape=st.lists(st.integers(-(2**63), 2**64 - 1) | st.integers(0, 4), max_size=4),
    size=NUMBERS | st.integers(0, 64),
    tail=st.binary(max_size=64),
    datatype=st.sampled_from([*DATATYPES.values(), "BYTES", ""]),
)
def test_any_sizes_give_that_shape_or_the_clients_error(
    shape: list[int], size: Any, tail: bytes, datatype: str
) -> None:
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]}).encode()
    try:
        _, arrays = read_infer_request(linear_program(), request_of(text + tail, len(text)))
    except (RequestError, InputError):
        return
    assert (arrays["x"].shape, arrays["x"].nbytes) == (tuple(shape), size)
    assert arrays["x"].tobytes() == tail


@given(body=st.binary(max_size=300), limit=st.integers(0, 300))
def test_decoding_keeps_the_limit(body: bytes, limit: int) -> None:
    for coding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        if len(body) <= limit:
            assert decoded(pack(body), coding, limit) == body
        else:
            with pytest.raises(RequestError) as error:
                decoded(pack(body), coding, limit)
            assert error.value.fields["status"] == 413


def test_classes_are_largest_first_with_ties_in_order() -> None:
    values = np.array([[1, 3, 3, 2]])
    assert classify(values.astype(i16.numpy), 3) == ["3:1", "3:2", "2:3"]
    assert classify(np.array([[0, 2**64 - 1, 1]], u64.numpy), 2) == [f"{2**64 - 1}:1", "1:2"]
    assert classify(values.astype(f8e4m3.numpy), 1) == ["3.000000:1"]
    assert classify(np.array([[np.nan, -np.inf, 0.5]], f32.numpy), 9) == ["0.500000:2", "-inf:1", "nan:0"]
    assert classify(np.array([[True, False, True]]), 2) == ["1:0", "1:2"]
