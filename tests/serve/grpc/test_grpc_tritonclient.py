"""`tritonclient.grpc`, unmodified, against a server in a process of its own."""

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from small_models import WEIGHT

from tessera.program.datatypes import DATATYPES
from tessera.program.dtype import DTYPES

grpcclient = pytest.importorskip("tritonclient.grpc", reason="pip install 'tritonclient[grpc]>=2.73'")
aioclient = pytest.importorskip("tritonclient.grpc.aio")

WAIT_S = 20


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    with grpcclient.InferenceServerClient(request.getfixturevalue(request.param).grpc) as client:
        yield client


def tensor(name: str, array: np.ndarray[Any, Any], datatype: str = "FP32") -> Any:
    return grpcclient.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


def rows(rng: np.random.Generator, count: int, width: int = 4) -> np.ndarray[Any, Any]:
    return rng.standard_normal((count, width)).astype(np.float32)


def check(result: Any, x: np.ndarray[Any, Any]) -> None:
    np.testing.assert_allclose(result.as_numpy("output"), x @ WEIGHT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    with pytest.raises(grpcclient.InferenceServerException, match="no model 'other'"):
        client.is_model_ready("other")
    assert client.get_server_metadata(as_json=True)["name"] == "tessera"
    metadata = client.get_model_metadata("linear", as_json=True)
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]
    assert client.is_model_ready("linear", metadata["versions"][0])


@pytest.mark.parametrize("client", ["linear"], indirect=True)
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer_gives_the_output(client: Any, compression: str | None, rng: np.random.Generator) -> None:
    x = rows(rng, 5)
    result = client.infer("linear", [tensor("x", x)], request_id="42", compression_algorithm=compression)
    check(result, x)
    assert result.get_response().id == "42"
    assert result.get_response().model_name == "linear"


@pytest.mark.parametrize("client", ["pair"], indirect=True)
def test_outputs_are_those_asked_for_in_that_order(client: Any, rng: np.random.Generator) -> None:
    a, b = rows(rng, 3, 2), rows(rng, 3, 2)
    inputs = [tensor("b", b), tensor("a", a)]
    both = client.infer("pair", inputs)
    np.testing.assert_array_equal(both.as_numpy("total"), a + b)
    np.testing.assert_array_equal(both.as_numpy("product"), a * b)
    asked = [grpcclient.InferRequestedOutput(name) for name in ("product", "total")]
    turned = client.infer("pair", inputs, outputs=asked)
    assert [o.name for o in turned.get_response().outputs] == ["product", "total"]
    np.testing.assert_array_equal(turned.as_numpy("product"), a * b)
    assert client.infer("pair", inputs, outputs=asked[:1]).as_numpy("total") is None


def of_every_dtype(rng: np.random.Generator, count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random bits for integers, random numbers and a NaN for floats."""
    made: dict[str, np.ndarray[Any, Any]] = {}
    for name, dtype in DTYPES.items():
        if dtype.is_float:
            array = rng.standard_normal((count, 3)).astype(dtype.numpy)
            array[0, 0] = np.nan
        elif dtype.kind == "bool":
            array = rng.random((count, 3)) < 0.5
        else:
            array = np.frombuffer(rng.bytes(count * 3 * dtype.itemsize), dtype.numpy).reshape(count, 3)
        made[name] = array
    return made


@pytest.mark.parametrize("client", ["echo"], indirect=True)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_dtype_comes_back_to_the_bit(client: Any, count: int, rng: np.random.Generator) -> None:
    arrays = {name: a[:count] for name, a in of_every_dtype(rng, max(count, 1)).items()}
    inputs = []
    for name, array in arrays.items():
        made = grpcclient.InferInput(f"x_{name}", list(array.shape), DATATYPES[name])
        if name.startswith("f8"):
            # The client has no name for fp8: its bytes go as they are.
            made._raw_content = array.tobytes()
        else:
            made.set_data_from_numpy(array)
        inputs.append(made)
    result = client.infer("echo", inputs)
    for name, array in arrays.items():
        if not name.startswith("f8"):
            back = result.as_numpy(f"y_{name}")
            assert (back.shape, back.tobytes()) == (array.shape, array.tobytes()), name


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_classification_gives_the_largest_of_each_row(client: Any, rng: np.random.Generator) -> None:
    x = rows(rng, 4)
    asked = [grpcclient.InferRequestedOutput("output", class_count=2)]
    best = client.infer("linear", [tensor("x", x)], outputs=asked).as_numpy("output")
    assert best.shape == (4, 2)
    for row, strings in zip(x @ WEIGHT, best, strict=True):
        values, indices = zip(*(s.decode().split(":") for s in strings), strict=True)
        assert [int(i) for i in indices] == list(np.argsort(-row)[:2])
        np.testing.assert_allclose(np.array(values, np.float64), np.sort(row)[::-1][:2], atol=1e-5)


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_errors_reach_the_caller_and_name_the_input(client: Any, rng: np.random.Generator) -> None:
    cases = [
        ("linear", tensor("x", np.array([[b"a", b"b"]], object), "BYTES"), "INVALID_ARGUMENT", "no strings"),
        ("linear", tensor("x", rows(rng, 2, 5)), "INVALID_ARGUMENT", "'x'"),
        ("linear", tensor("y", rows(rng, 2)), "INVALID_ARGUMENT", "no input 'y'"),
        ("other", tensor("x", rows(rng, 2)), "NOT_FOUND", "no model 'other'; there is 'linear'"),
    ]
    for model, given, code, part in cases:
        with pytest.raises(grpcclient.InferenceServerException, match=part) as error:
            client.infer(model, [given])
        assert error.value.status() == f"StatusCode.{code}"


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_async_infer_calls_back_with_each_answer(client: Any, rng: np.random.Generator) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    xs = {str(n): rows(rng, n) for n in (1, 2, 3)}
    for key, x in xs.items():
        client.async_infer(
            "linear",
            [tensor("x", x)],
            request_id=key,
            callback=lambda result, error: answers.put((result, error)),
        )
    while xs:
        result, error = answers.get(timeout=WAIT_S)
        assert error is None
        check(result, xs.pop(result.get_response().id))


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_stream_answers_in_order_and_goes_on_after_an_error(client: Any, rng: np.random.Generator) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    xs = [rows(rng, n) for n in (3, 1, 2, 4, 1, 2)]
    for i, x in enumerate(xs):
        client.async_stream_infer(
            "other" if i == 2 else "linear",
            [tensor("x", x)],
            request_id=str(i),
            enable_empty_final_response=i == 4,
        )
    for i, x in enumerate(xs):
        result, error = answers.get(timeout=WAIT_S)
        if i == 2:
            assert "no model 'other'" in str(error)
        else:
            assert error is None
            assert result.get_response().id == str(i)
            assert result.get_response().parameters["triton_final_response"].bool_param
            check(result, x)
    client.stop_stream()


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_stream_ends_with_the_status_for_a_client_that_asks_so(client: Any, rng: np.random.Generator) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(
        callback=lambda result, error: answers.put((result, error)), headers={"triton_grpc_error": "true"}
    )
    client.async_stream_infer("linear", [tensor("x", rows(rng, 1))])
    result, error = answers.get(timeout=WAIT_S)
    assert error is None
    client.async_stream_infer("other", [tensor("x", rows(rng, 1))])
    result, error = answers.get(timeout=WAIT_S)
    assert result is None
    assert error.status() == "StatusCode.NOT_FOUND"
    client.stop_stream()


async def test_asyncio_client_infers_and_streams(linear: Any, rng: np.random.Generator) -> None:
    async with aioclient.InferenceServerClient(linear.grpc) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata("linear")).name == "linear"
        xs = [rows(rng, n) for n in (1, 6, 3, 2)]
        answers = await asyncio.gather(*(client.infer("linear", [tensor("x", x)]) for x in xs))
        for x, answer in zip(xs, answers, strict=True):
            check(answer, x)
        with pytest.raises(grpcclient.InferenceServerException, match="no input 'y'"):
            await client.infer("linear", [tensor("y", xs[0])])

        async def requests() -> AsyncIterator[Any]:
            for i, x in enumerate(xs):
                yield {"model_name": "linear", "inputs": [tensor("x", x)], "request_id": str(i)}

        seen = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None
            check(result, xs[seen])
            seen += 1
        assert seen == len(xs)


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_many_threads_of_one_client_get_their_own_answers(client: Any, rng: np.random.Generator) -> None:
    xs = [rows(rng, 1 + i % 5) for i in range(64)]

    def ask(x: np.ndarray[Any, Any]) -> None:
        check(client.infer("linear", [tensor("x", x)]), x)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, xs))
