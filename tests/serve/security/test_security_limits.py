"""How large and how deep what a client sends may be."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import NumpyModel, echo_model, linear_model

from tessera.program.dim import symbol
from tessera.program.dtype import f32, i64
from tessera.program.errors import InputError
from tessera.program.program import Port, Program
from tessera.serve import ProductionServer
from tessera.serve.security.json_flaws import MAX_DEPTH, flaw_of
from tessera.serve.security.tensor_limits import SizeCheck, TensorLimits

N, M = symbol("n"), symbol("m")


def outer_program() -> Program:
    """`y = outer(a, b)`, a: (n,), b: (m,)."""
    return Program(
        name="outer",
        inputs=(Port(name="a", dtype=f32, shape=(N,)), Port(name="b", dtype=f32, shape=(M,))),
        outputs=(Port(name="y", dtype=f32, shape=(N, M)),),
    )


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    """A server of small limits."""
    limits = {"max_tensor_elements": 100, "max_tensor_bytes": 300, "max_request_bytes": 500}
    with ProductionServer(linear_model(), {"port": 0, **limits}) as server:
        yield server.url


def error_of(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"])


def test_large_input_is_400_and_names_input_and_limit(small: str) -> None:
    answer = httpx.post(f"{small}/predict", json={"input": np.ones((26, 4)).tolist()})
    assert error_of(answer) == "input 'x' of shape (26, 4) has 104 elements; the limit is 100"
    answer = httpx.post(f"{small}/predict", json={"input": np.ones((20, 4)).tolist()})
    assert error_of(answer) == "input 'x' of shape (20, 4) has 320 bytes; the limit is 300"
    assert httpx.post(f"{small}/predict", json={"input": np.ones((18, 4)).tolist()}).status_code == 200


def test_limits_hold_over_the_inference_protocol_too(small: str) -> None:
    x = np.ones((26, 4), np.float32)
    tensor = {"name": "x", "shape": [26, 4], "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(head)),
        "Content-Type": "application/octet-stream",
    }
    answer = httpx.post(f"{small}/v2/models/linear/infer", content=head + x.tobytes(), headers=headers)
    assert "104 elements" in error_of(answer)


def test_axis_without_elements_is_measured_by_its_length() -> None:
    program = Program(
        name="rowsum",
        inputs=(Port(name="x", dtype=f32, shape=(N, M)),),
        outputs=(Port(name="y", dtype=f32, shape=(N,)),),
    )
    model = NumpyModel(program, lambda x: {"y": x.sum(axis=1)})
    with ProductionServer(model, {"port": 0}) as server:
        tensor = {"name": "x", "shape": [1 << 40, 0], "datatype": "FP32", "data": []}
        answer = httpx.post(f"{server.url}/v2/models/rowsum/infer", json={"inputs": [tensor]})
        assert "'x'" in error_of(answer)
        assert httpx.get(f"{server.url}/ready").status_code == 200


def test_output_is_measured_before_it_is_made() -> None:
    model = NumpyModel(outer_program(), lambda a, b: {"y": np.outer(a, b)})
    with ProductionServer(model, {"port": 0}) as server:
        body = {"inputs": {"a": [1.0] * 100_000, "b": [2.0] * 100_000}}
        answer = httpx.post(f"{server.url}/predict", json=body)
        assert "output 'y' of shape (100000, 100000) has 10000000000 elements" in error_of(answer)
        body = {"inputs": {"a": [1.0], "b": [2.0, 3.0]}}
        assert httpx.post(f"{server.url}/predict", json=body).json()["output"] == [[2, 3]]


def test_number_that_sizes_an_output_is_measured() -> None:
    program = Program(
        name="iota",
        inputs=(Port(name="n", kind="scalar", dtype=i64, shape=()),),
        outputs=(Port(name="y", dtype=i64, shape=(N,)),),
    )
    check = SizeCheck(program, TensorLimits(1000, 1 << 20, 1 << 20))
    check.check({"n": np.int64(1000)}, {"n": 1000})
    with pytest.raises(InputError, match="output 'y'"):
        check.check({"n": np.int64(1 << 50)}, {"n": 1 << 50})


def test_all_tensors_together_are_measured() -> None:
    check = SizeCheck(outer_program(), TensorLimits(1000, 1000, 1200))
    check.check({"a": np.ones(10, np.float32), "b": np.ones(20, np.float32)}, {"n": 10, "m": 20})
    with pytest.raises(InputError, match="all inputs together have 1600 bytes; the limit is 1200"):
        check.check({"a": np.ones(200, np.float32), "b": np.ones(200, np.float32)}, {"n": 200, "m": 200})


NESTED = st.recursive(
    st.one_of(st.none(), st.integers(-9, 9), st.text('ab:"{[\\', max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text('ab:"{[\\ ', max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(NESTED, st.sampled_from([(",", ":"), (", ", " : "), (" ,\n", "\t:\r\n")]))
def test_proper_json_has_no_flaw(value: Any, separators: tuple[str, str]) -> None:
    body = json.dumps(value, separators=separators).encode()
    assert flaw_of(body, orjson.loads(body)) is None


@given(NESTED, st.text('ab:"{[\\', max_size=3), st.sampled_from([":", " :", "\n\t:"]), st.booleans())
def test_field_that_is_there_twice_is_found_wherever_it_is(
    value: Any, name: str, colon: str, is_deep: bool
) -> None:
    key, inner = json.dumps(name), json.dumps(value)
    body = f'{{{key}{colon}{inner}, "other": 1, {key}: {inner}}}'
    if is_deep:
        body = f'{{"list": [1, {inner}, {body}]}}'
    found = flaw_of(body.encode(), orjson.loads(body))
    assert found is not None
    assert "twice" in found


@pytest.mark.parametrize("kind", ["[]", "{}", "mixed"])
def test_depth_is_counted_and_brackets_in_strings_are_not(kind: str) -> None:
    def nested(levels: int) -> bytes:
        if kind == "[]":
            return b"[" * levels + b"]" * levels
        if kind == "{}":
            return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)
        return b'[{"a":' * (levels // 2) + b"1" + b"}]" * (levels // 2)

    for levels, found in ((MAX_DEPTH, None), (MAX_DEPTH + 2, "deeper")):
        flaw = flaw_of(nested(levels), orjson.loads(nested(levels)))
        assert (flaw is None) if found is None else (flaw is not None and found in flaw)
    strings = json.dumps(["[" * 500, '"' + "{" * 500 + "\\"]).encode()
    assert flaw_of(strings, orjson.loads(strings)) is None


def test_wide_json_is_not_deep() -> None:
    body = orjson.dumps({"input": [[1.0, 2.0]] * 50_000})
    assert flaw_of(body, orjson.loads(body)) is None


def test_very_large_body_with_a_field_twice_is_refused_without_a_search() -> None:
    body = b'{"a":1,"a":[' + b"1," * 5_000_000 + b"1]}"
    assert "twice" in (flaw_of(body, orjson.loads(body)) or "")


@pytest.mark.parametrize("path", ["/predict", "/v2/models/echo/infer", "/user"])
def test_field_twice_or_too_deep_is_400_on_every_path(path: str) -> None:
    server = ProductionServer(echo_model(f32), {"port": 0})

    @server.endpoint("/user")
    def user(request: Any) -> Any:
        return request.json

    with server:
        twice = b'{"inputs": {"x_f32": [[1, 2, 3]]}, "inputs": {"x_f32": [[4, 5, 6]]}}'
        deep = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        levels = b'{"inputs": ' + b"[" * 300 + b"]" * 300 + b"}"
        for body, part in ((twice, "'inputs' is there twice"), (deep, "JSON"), (levels, "deeper than 128")):
            headers = {"Content-Type": "application/json"}
            assert part in error_of(httpx.post(server.url + path, content=body, headers=headers))
