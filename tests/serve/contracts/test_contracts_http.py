"""Servers that run as a cloud runs them: ports, probes, bodies of every form."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from small_models import WEIGHT, NumpyModel, echo_model, linear_model, two_port_program

from tessera.program.dtype import bf16, bool_, f32, i32
from tessera.program.program import Port, Program
from tessera.serve import ProductionServer

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers of a contract on free ports; gives their URLs."""
    servers: list[ProductionServer] = []

    def start(model: Any, contract: str, **settings: Any) -> str:
        config = {"port": 0, "host": "127.0.0.1", "contract": contract, **settings}
        server = ProductionServer(model, config)
        server.start()
        servers.append(server)
        return server.url

    yield start
    for server in servers:
        server.stop()


def npy(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def error_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) <= {"error", "hint"}
    return str(answer.json()["error"])


@pytest.mark.parametrize(
    ("contract", "variables", "probe", "score"),
    [
        ("sagemaker", {}, "/ping", "/invocations"),
        ("vertex", {}, "/health", "/predict"),
        (
            "vertex",
            {"AIP_HEALTH_ROUTE": "/v1/m/5", "AIP_PREDICT_ROUTE": "/v1/m/5:predict"},
            "/v1/m/5",
            "/v1/m/5:predict",
        ),
        ("azure", {}, "/ready", "/score"),
    ],
)
def test_probe_and_score_are_where_the_cloud_looks(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
    contract: str,
    variables: dict[str, str],
    probe: str,
    score: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    url = serve(linear_model(), contract)
    x = rng.standard_normal((3, 4)).astype(np.float32)
    assert httpx.get(url + probe).status_code == 200
    predictions = httpx.post(url + score, json={"instances": x.tolist()}).raise_for_status().json()
    assert list(predictions) == ["predictions"]
    np.testing.assert_allclose(
        predictions["predictions"], x.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-5
    )


def test_azures_liveness_answers_at_the_root(serve: Serve) -> None:
    assert httpx.get(serve(linear_model(), "azure") + "/").status_code == 200


def test_probes_need_no_key_but_scoring_does(serve: Serve) -> None:
    url = serve(linear_model(), "sagemaker", api_keys="alice:0123456789abcdef")
    assert httpx.get(f"{url}/ping").status_code == 200
    assert httpx.post(f"{url}/invocations", json=[[1, 2, 3, 4]]).status_code == 401


def test_ping_is_503_while_the_model_loads_and_connections_are_accepted(serve: Serve) -> None:
    model = linear_model(seconds=0.4)
    server = ProductionServer(model, {"port": 0, "contract": "sagemaker", "host": "127.0.0.1"})
    server.start(wait=False)
    try:
        answer = httpx.get(f"{server.url}/ping")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        refused = httpx.post(f"{server.url}/invocations", json=[[1, 2, 3, 4]])
        assert refused.status_code == 503
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("body", "pick"),
    [
        (lambda x: x, lambda a: a),
        (lambda x: {"input": x}, lambda a: a["output"]),
        (lambda x: {"inputs": {"x": x}}, lambda a: a["output"]),
        (lambda x: {"instances": x}, lambda a: a["predictions"]),
        (lambda x: {"instances": [{"x": row} for row in x]}, lambda a: a["predictions"]),
        (lambda x: {"instances": x, "parameters": None}, lambda a: a["predictions"]),
        (lambda x: {"instances": x, "parameters": {"outputs": ["output"]}}, lambda a: a["predictions"]),
        (lambda x: {"input_data": x}, lambda a: a),
        (lambda x: {"input_data": {"x": x}}, lambda a: a),
        (lambda x: {"input_data": {"columns": [0, 1, 2, 3], "index": [0], "data": x}}, lambda a: a),
        (lambda x: {"data": x}, lambda a: a),
    ],
)
def test_answer_has_the_form_of_the_question(
    serve: Serve, rng: np.random.Generator, body: Callable[[Any], Any], pick: Callable[[Any], Any]
) -> None:
    url = serve(linear_model(), "sagemaker")
    x = rng.standard_normal((2, 4)).astype(np.float32)
    answer = httpx.post(f"{url}/invocations", json=body(x.tolist())).raise_for_status().json()
    np.testing.assert_allclose(pick(answer), x.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, ">f4"])
def test_npy_goes_in_and_out(serve: Serve, rng: np.random.Generator, dtype: Any, order: Any) -> None:
    url = serve(linear_model(), "sagemaker")
    x = np.asarray(rng.integers(-100, 100, (5, 4)), dtype, order=order)
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    answer = httpx.post(f"{url}/invocations", content=npy(x), headers=headers).raise_for_status()
    assert answer.headers["content-type"] == "application/x-npy"
    output = np.load(io.BytesIO(answer.content), allow_pickle=False)
    np.testing.assert_allclose(output, x.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-4)


def test_csv_goes_in_and_out(serve: Serve, rng: np.random.Generator) -> None:
    url = serve(linear_model(), "sagemaker")
    x = rng.standard_normal((5, 4)).astype(np.float32)
    text = "".join(",".join(map(str, row.tolist())) + "\r\n" for row in x)
    headers = {"Content-Type": "text/csv; charset=utf-8", "Accept": "text/csv"}
    answer = httpx.post(f"{url}/invocations", content=text, headers=headers).raise_for_status()
    rows = [[float(v) for v in line.split(",")] for line in answer.text.splitlines()]
    np.testing.assert_allclose(rows, x.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-5)


def test_json_lines_go_in_and_out(serve: Serve, rng: np.random.Generator) -> None:
    url = serve(linear_model(), "sagemaker")
    x = rng.standard_normal((3, 4)).astype(np.float32)
    lines = "\n".join(json.dumps(row) for row in x.tolist()) + "\n\n"
    headers = {"Content-Type": "application/jsonlines", "Accept": "application/jsonlines"}
    answer = httpx.post(f"{url}/invocations", content=lines, headers=headers).raise_for_status()
    rows = [json.loads(line) for line in answer.text.splitlines()]
    np.testing.assert_allclose(rows, x.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-5)


def pair() -> NumpyModel:
    return NumpyModel(two_port_program(), lambda a, b: {"total": a + b, "product": a * b})


def test_several_inputs_and_outputs_are_objects_by_name(serve: Serve) -> None:
    url = serve(pair(), "vertex")
    instances = [{"a": [1, 2], "b": [3, 4]}, {"b": [5, 6], "a": [7, 8]}]
    answer = httpx.post(f"{url}/predict", json={"instances": instances}).json()["predictions"]
    assert answer == [{"total": [4, 6], "product": [3, 8]}, {"total": [12, 14], "product": [35, 48]}]
    wanted = {"instances": instances[:1], "parameters": {"outputs": ["product"]}}
    assert httpx.post(f"{url}/predict", json=wanted).json()["predictions"] == [{"product": [3, 8]}]
    table = {"columns": ["b", "a"], "data": [[[3, 4], [1, 2]], [[5, 6], [7, 8]]]}
    by_name = httpx.post(f"{url}/predict", json={"input_data": table}).json()
    assert by_name == {"total": [[4, 6], [12, 14]], "product": [[3, 8], [35, 48]]}
    headers = {"Content-Type": "application/x-npy"}
    error_of(httpx.post(f"{url}/predict", content=npy(np.ones((1, 2))), headers=headers), 415)
    assert "several outputs" in error_of(
        httpx.post(f"{url}/predict", json={"instances": instances}, headers={"Accept": "text/csv"}), 406
    )


def test_instance_is_a_whole_input_where_the_program_counts_no_rows(serve: Serve) -> None:
    program = Program(
        name="sum",
        inputs=(Port(name="x", dtype=f32, shape=(3,)),),
        outputs=(Port(name="y", dtype=f32, shape=(3,)),),
    )
    url = serve(NumpyModel(program, lambda x: {"y": x * 2}), "vertex")
    answer = httpx.post(f"{url}/predict", json={"instances": [[1, 2, 3], [4, 5, 6]]}).json()
    assert answer == {"predictions": [[2, 4, 6], [8, 10, 12]]}
    answer = httpx.post(f"{url}/predict", json={"instances": [[1, 2, 3], [4, 5]]})
    assert "'x'" in error_of(answer, 400)


@pytest.mark.parametrize(
    ("dtype", "rows"),
    [(f32, "1.5,nan,-inf\n"), (i32, "1,-2,2147483647\n"), (bool_, "0,1,1\n"), (bf16, "1,2,3\n")],
)
def test_csv_carries_every_kind_of_number(serve: Serve, dtype: Any, rows: str) -> None:
    url = serve(echo_model(dtype), "sagemaker")
    headers = {"Content-Type": "text/csv", "Accept": "text/csv"}
    answer = httpx.post(f"{url}/invocations", content=rows, headers=headers).raise_for_status().text
    values = [float(v) for v in answer.strip().split(",")]
    np.testing.assert_equal(values, [float(v) for v in rows.strip().split(",")])


@pytest.mark.parametrize(
    ("media_type", "body", "status", "part"),
    [
        ("application/json", b"{", 400, "not JSON"),
        ("application/json", b"3", 400, "neither a JSON object nor an array"),
        ("application/json", b"{}", 400, "no fields"),
        ("application/json", b'{"x": 1}', 400, "'x'"),
        ("application/json", b'{"input": 1, "instances": []}', 400, "'input' and 'instances'"),
        ("application/json", b'{"instances": []}', 400, "'instances'"),
        ("application/json", b'{"instances": {"x": 1}}', 400, "'instances'"),
        ("application/json", b'{"instances": [{"y": [1]}]}', 400, "instance 0 has 'y'"),
        ("application/json", b'{"instances": [{"x": [1,2,3,4]}, [1]]}', 400, "instance 1"),
        ("application/json", b'{"instances": [[1, 2]]}', 400, "'x'"),
        ("application/json", b'{"instances": [[1,2,3,4]], "parameters": 3}', 400, "'parameters'"),
        ("application/json", b'{"instances": [[1,2,3,4]], "parameters": {"k": 1}}', 400, "parameter 'k'"),
        (
            "application/json",
            b'{"instances": [[1,2,3,4]], "parameters": {"outputs": ["z"]}}',
            400,
            "'outputs'",
        ),
        ("application/json", b'{"inputs": [1]}', 400, "'inputs' is not an object"),
        ("application/json", b'{"input_data": {"columns": ["a"], "data": [[1], [2, 3]]}}', 400, "'x'"),
        ("text/csv", b"", 400, "empty"),
        ("text/csv", b"a,b,c,d\n1,2,3,4\n", 400, "CSV"),
        ("text/csv", b"1,2,3,4\n1,2\n", 400, "CSV"),
        ("text/csv", b"1,2,3\n", 400, "'x'"),
        ("text/csv", b"\xff\xfe", 400, "UTF-8"),
        ("application/x-npy", b"", 400, ".npy"),
        ("application/x-npy", b"\x93NUMPY\x01\x00", 400, ".npy"),
        ("application/x-npy", npy(np.ones((2, 3))), 400, "'x'"),
        ("application/x-npy", npy(np.ones((2, 4)))[:-1], 400, "bytes"),
        ("application/x-npy", npy(np.ones((2, 4))) + b"x", 400, "bytes"),
        (
            "application/x-npy",
            npy(np.array([{}], object), allow_pickle=True),
            400,
            "'|O'; a tensor holds numbers",
        ),
        ("application/x-npy", npy(np.ones(2, [("a", "f4")])), 400, "tensor holds numbers"),
        ("application/x-npy", npy(np.ones(3)).replace(b"(3,)", b"(" + b"1" * 3), 400, "its header is"),
        ("application/x-npy", npy(np.array(["a"])), 400, "tensor holds numbers"),
        ("application/jsonlines", b"[1,2,3,4]\n[1,2", 400, "line 2"),
        ("application/jsonlines", b"\n", 400, "'instances'"),
        ("application/x-pickle", b"\x80\x04", 415, "application/x-pickle"),
        ("application/octet-stream", b"1234", 415, "octet-stream"),
    ],
)
def test_wrong_body_is_refused_and_says_what(
    bad_bodies: str, media_type: str, body: bytes, status: int, part: str
) -> None:
    headers = {"Content-Type": media_type}
    answer = httpx.post(f"{bad_bodies}/invocations", content=body, headers=headers)
    assert part in error_of(answer, status)


@pytest.fixture(scope="module")
def bad_bodies() -> Iterator[str]:
    """One server for every wrong body."""
    config = {"port": 0, "host": "127.0.0.1", "contract": "sagemaker"}
    with ProductionServer(linear_model(), config) as server:
        yield server.url


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/x-npy;q=1", "application/x-npy"),
        ("text/*", "text/csv"),
        ("image/png", None),
    ],
)
def test_answer_is_of_a_type_that_is_accepted(bad_bodies: str, accept: str | None, media_type: str) -> None:
    with httpx.Client() as client:
        client.headers.pop("accept")
        headers = {} if accept is None else {"Accept": accept}
        answer = client.post(f"{bad_bodies}/invocations", json=[[1, 2, 3, 4]], headers=headers)
    if media_type is None:
        error_of(answer, 406)
    else:
        assert answer.headers["content-type"] == media_type


def test_target_model_names_one_and_never_a_file(bad_bodies: str) -> None:
    for name, status in (("linear", 200), ("../../etc/passwd", 404), ("", 404)):
        headers = {"X-Amzn-SageMaker-Target-Model": name}
        answer = httpx.post(f"{bad_bodies}/invocations", json=[[1, 2, 3, 4]], headers=headers)
        assert answer.status_code == status
