"""`tritonclient`, unmodified, against a server in a process of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_process import ServerProcess
from small_models import WEIGHT

from tessera.program.datatypes import DATATYPES
from tessera.program.dtype import DTYPES

httpclient = pytest.importorskip("tritonclient.http", reason="pip install 'tritonclient[http]>=2.73'")
aioclient = pytest.importorskip("tritonclient.http.aio")

PACKAGE = (
    "from tessera.serve import ProductionServer\n"
    "ProductionServer({package!r}, {{'device': 'reference'}}).run()\n"
)
ECHO = (
    "import sys\nsys.path.insert(0, {tests!r})\nfrom small_models import echo_model\n"
    "from tessera.serve import ProductionServer\nProductionServer(echo_model(), {{}}).run()\n"
)


def served(folder: Path, script: str) -> Iterator[str]:
    process = ServerProcess(folder, script)
    try:
        process.wait_ready()
        yield process.url.removeprefix("http://")
    finally:
        process.kill()


@pytest.fixture(scope="module")
def pair(pair_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of the pair package."""
    yield from served(tmp_path_factory.mktemp("server"), PACKAGE.format(package=str(pair_package)))


@pytest.fixture(scope="module")
def linear(linear_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of the linear package."""
    yield from served(tmp_path_factory.mktemp("server"), PACKAGE.format(package=str(linear_package)))


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of a model that gives back what it takes, in every dtype."""
    yield from served(tmp_path_factory.mktemp("server"), ECHO.format(tests=str(Path(__file__).parent)))


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    with httpclient.InferenceServerClient(request.getfixturevalue(request.param)) as client:
        yield client


def tensor(name: str, array: np.ndarray[Any, Any], datatype: str = "FP32", *, binary: bool = True) -> Any:
    made = httpclient.InferInput(name, list(array.shape), datatype)
    return made.set_data_from_numpy(array, binary_data=binary)


def rows(rng: np.random.Generator, count: int, width: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal((count, width)).astype(np.float32)


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("linear")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == [
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "statistics",
    ]
    metadata = client.get_model_metadata("linear")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert client.is_model_ready("linear", metadata["versions"][0])


@pytest.mark.parametrize("client", ["linear"], indirect=True)
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer_gives_the_output_in_json_and_binary(
    client: Any, binary_in: bool, binary_out: bool | None, compression: str | None, rng: np.random.Generator
) -> None:
    x = rows(rng, 5, 4)
    outputs = None if binary_out is None else [httpclient.InferRequestedOutput("output", binary_out)]
    result = client.infer(
        "linear",
        [tensor("x", x, binary=binary_in)],
        outputs=outputs,
        request_id="42",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    np.testing.assert_allclose(result.as_numpy("output"), x @ WEIGHT, rtol=1e-5, atol=1e-5)
    assert result.get_response()["id"] == "42"
    assert ("data" in result.get_output("output")) == (binary_out is False)


@pytest.mark.parametrize("client", ["linear"], indirect=True)
@pytest.mark.parametrize("compression", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_answers_come_compressed_for_a_client_that_asks_so(
    client: Any, compression: str, binary: bool, rng: np.random.Generator
) -> None:
    x = rows(rng, 500, 4)
    result = client.infer(
        "linear",
        [tensor("x", x)],
        outputs=[httpclient.InferRequestedOutput("output", binary_data=binary)],
        response_compression_algorithm=compression,
    )
    np.testing.assert_allclose(result.as_numpy("output"), x @ WEIGHT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("client", ["pair"], indirect=True)
def test_outputs_are_those_asked_for_in_that_order(client: Any, rng: np.random.Generator) -> None:
    a, b = rows(rng, 3, 2), rows(rng, 3, 2)
    # One in JSON between binary ones, and not in the program's order.
    inputs = [tensor("b", b), tensor("a", a, binary=False)]
    both = client.infer("pair", inputs)
    np.testing.assert_array_equal(both.as_numpy("total"), a + b)
    np.testing.assert_array_equal(both.as_numpy("product"), a * b)
    asked = [
        httpclient.InferRequestedOutput("product", binary_data=True),
        httpclient.InferRequestedOutput("total", binary_data=False),
    ]
    mixed = client.infer("pair", inputs, outputs=asked)
    assert [o["name"] for o in mixed.get_response()["outputs"]] == ["product", "total"]
    np.testing.assert_array_equal(mixed.as_numpy("product"), a * b)
    np.testing.assert_allclose(mixed.as_numpy("total"), a + b, rtol=1e-6)
    only = client.infer("pair", inputs, outputs=asked[:1])
    assert only.as_numpy("total") is None


def of_every_dtype(rng: np.random.Generator, count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random bits for integers, random numbers for floats; and what only bytes can carry."""
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


def bits(array: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("client", ["echo"], indirect=True)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_dtype_comes_back_to_the_bit(client: Any, count: int, rng: np.random.Generator) -> None:
    arrays = of_every_dtype(rng, max(count, 1))
    arrays = {name: a[:count] for name, a in arrays.items()}
    inputs = []
    for name, array in arrays.items():
        made = httpclient.InferInput(f"x_{name}", list(array.shape), DATATYPES[name])
        if name.startswith("f8"):
            # The client has no name for fp8: its bytes go as they are.
            made._raw_data = array.tobytes()
            made._parameters["binary_data_size"] = array.nbytes
        else:
            made.set_data_from_numpy(array)
        inputs.append(made)
    result = client.infer("echo", inputs)
    for name, array in arrays.items():
        if not name.startswith("f8"):
            back = result.as_numpy(f"y_{name}")
            assert (back.shape, bits(back)) == (array.shape, bits(array)), name


@pytest.mark.parametrize("client", ["linear"], indirect=True)
@pytest.mark.parametrize("binary", [True, False])
def test_classification_gives_the_largest_of_each_row(
    client: Any, binary: bool, rng: np.random.Generator
) -> None:
    x = rows(rng, 4, 4)
    asked = [httpclient.InferRequestedOutput("output", binary_data=binary, class_count=2)]
    best = client.infer("linear", [tensor("x", x)], outputs=asked).as_numpy("output")
    assert best.shape == (4, 2)
    y = x @ WEIGHT
    for row, strings in zip(y, best, strict=True):
        texts = [s.decode() if isinstance(s, bytes) else s for s in strings]
        values, indices = zip(*(t.split(":") for t in texts), strict=True)
        assert [int(i) for i in indices] == list(np.argsort(-row)[:2])
        # Six digits after the point.
        np.testing.assert_allclose(np.array(values, np.float64), np.sort(row)[::-1][:2], atol=1e-5)


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_errors_reach_the_caller_and_name_the_input(client: Any, rng: np.random.Generator) -> None:
    cases = [
        (tensor("x", np.array([[b"a", b"b"]], object), "BYTES"), "'x' has datatype 'BYTES', not 'FP32'"),
        (tensor("x", rows(rng, 2, 5)), "x"),
        (tensor("y", rows(rng, 2, 4)), "no input 'y'"),
        (httpclient.InferInput("x", [1, 4], "FP32").set_shared_memory("region", 16), "shared memory"),
    ]
    for given, part in cases:
        with pytest.raises(httpclient.InferenceServerException, match=part) as error:
            client.infer("linear", [given])
        assert error.value.status() == "400"


@pytest.mark.parametrize("client", ["linear"], indirect=True)
def test_async_infer_of_the_sync_client_gives_each_its_answer(client: Any, rng: np.random.Generator) -> None:
    xs = [rows(rng, n, 4) for n in (1, 2, 3)]
    pending = [client.async_infer("linear", [tensor("x", x)]) for x in xs]
    for x, answer in zip(xs, pending, strict=True):
        np.testing.assert_allclose(answer.get_result().as_numpy("output"), x @ WEIGHT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_asyncio_client_infers(
    linear: str, binary: bool, compression: str | None, rng: np.random.Generator
) -> None:
    import asyncio

    async with aioclient.InferenceServerClient(linear) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata("linear"))["name"] == "linear"
        xs = [rows(rng, n, 4) for n in (1, 6, 3, 2)]
        asked = [httpclient.InferRequestedOutput("output", binary_data=binary)]
        answers = await asyncio.gather(
            *(
                client.infer(
                    "linear",
                    [tensor("x", x, binary=binary)],
                    outputs=asked,
                    request_compression_algorithm=compression,
                )
                for x in xs
            )
        )
        for x, answer in zip(xs, answers, strict=True):
            np.testing.assert_allclose(answer.as_numpy("output"), x @ WEIGHT, rtol=1e-5, atol=1e-5)
        with pytest.raises(httpclient.InferenceServerException, match="no input 'y'"):
            await client.infer("linear", [tensor("y", xs[0])])
