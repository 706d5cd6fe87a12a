"""Values and errors as they go over the wire."""

import json
import logging
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tessera.program.errors import (
    DeviceError,
    InputError,
    OutOfMemoryError,
    OverloadedError,
    ServeError,
    ShapeError,
)
from tessera.serve.answer import answer_for, to_json
from tessera.serve.request import MissingFieldError, RequestError

FLOATS = [
    np.float16,
    np.float32,
    np.float64,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
]
INTEGERS = [np.int8, np.uint8, np.int16, np.int32, np.int64]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, np.bool_])
def test_to_json_gives_every_dtype_back_exactly(dtype: Any, rng: np.random.Generator) -> None:
    array = (rng.standard_normal((3, 5)) * 50).astype(dtype)
    back = np.array(json.loads(to_json({"output": array}))["output"]).astype(dtype)
    np.testing.assert_array_equal(back, array)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=1), elements=st.floats(width=32))
)
def test_to_json_keeps_float32_bits_and_writes_null_for_what_json_lacks(array: np.ndarray[Any, Any]) -> None:
    back = np.array(json.loads(to_json(array)), dtype=np.float64).astype(np.float32)
    expected = np.where(np.isfinite(array), array, np.nan)
    np.testing.assert_array_equal(back, expected)


def test_to_json_takes_strided_empty_and_scalar_arrays() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    values = {
        "t": array.T,
        "r": array[:, ::-1],
        "e": np.zeros((0, 3)),
        "s": np.float32(1.5),
        "b": ml_dtypes.bfloat16(2.5),
        "z": np.array(3, np.int32),
        "i": np.int64(4),
    }
    expected = {
        "t": [[0, 3], [1, 4], [2, 5]],
        "r": [[2, 1, 0], [5, 4, 3]],
        "e": [],
        "s": 1.5,
        "b": 2.5,
        "z": 3,
        "i": 4,
    }
    assert json.loads(to_json(values)) == expected


def test_to_json_coroutine_says_what_was_forgotten() -> None:
    async def infer() -> None:
        pass

    with pytest.raises(ServeError, match="not awaited"):
        to_json({"output": infer()})


def test_to_json_unknown_type_is_named() -> None:
    with pytest.raises(ServeError, match="object"):
        to_json({"output": object()})


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("m", hint="h"), 400),
        (ShapeError("m", hint="h"), 400),
        (RequestError("m", hint="h", status=418), 418),
        (MissingFieldError("m", hint="h"), 400),
        (OverloadedError("m", hint="h", retry_after_s=7), 503),
        (OutOfMemoryError("m", hint="h"), 503),
    ],
)
def test_answer_for_expected_errors_have_message_and_hint(error: Exception, status: int) -> None:
    answer = answer_for(error, "GET /")
    assert answer.status == status
    assert json.loads(answer.body) == {"error": "m", "hint": "h"}
    assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.parametrize("error", [ValueError("/secret"), DeviceError("/secret"), KeyError("/secret")])
def test_answer_for_other_errors_leak_nothing_but_an_identifier(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = answer_for(error, "POST /predict")
    body = json.loads(answer.body)
    assert answer.status == 500
    assert body["error"] == "internal error"
    assert "secret" not in answer.body.decode()
    identifier = body["hint"].rsplit(" ", 1)[1]
    assert identifier in caplog.text
    assert "/secret" in caplog.text
