"""Tensors in typed fields and raw bytes: what fits is read to the bit, what lies is named."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import echo_model, linear_program, two_port_program

from tessera.program.datatypes import DATATYPES
from tessera.program.dtype import DTYPES, bf16, bool_, f16, f32, i8, u64
from tessera.program.errors import InputError, TesseraError
from tessera.serve.grpc.protocol import inference_pb2 as pb
from tessera.serve.grpc.tensors import infer_response, read_request
from tessera.serve.request import RequestError

TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def echo_request(name: str, **contents: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="echo")
    tensor = request.inputs.add(name=f"x_{name}", datatype=DATATYPES[name], shape=[2, 3])
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return request


@pytest.mark.parametrize("name", [n for n in DTYPES if DATATYPES[n] in TYPED])
def test_typed_contents_come_and_go_to_the_bit(name: str, rng: np.random.Generator) -> None:
    dtype = DTYPES[name]
    if dtype.kind == "float":
        array = rng.standard_normal((2, 3)).astype(dtype.numpy)
        array[0, 1] = np.inf
    elif dtype.kind == "bool":
        array = rng.random((2, 3)) < 0.5
    else:
        array = np.frombuffer(rng.bytes(6 * dtype.itemsize), dtype.numpy).reshape(2, 3)
    request = echo_request(name, **{TYPED[DATATYPES[name]]: array.reshape(-1).tolist()})
    request.parameters["binary_data_output"].bool_param = False
    asked = read_request(echo_model(dtype).program, request)
    read = asked.inputs[f"x_{name}"]
    assert (read.dtype, read.tobytes()) == (array.dtype, array.tobytes())
    response = infer_response(asked, {f"y_{name}": read}, pb.ModelInferResponse())
    assert not response.raw_output_contents
    back = np.array(getattr(response.outputs[0].contents, TYPED[DATATYPES[name]]), dtype.numpy)
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("dtype", "contents", "part"),
    [
        (f16, {"fp32_contents": [0.5] * 6}, "FP16 goes as raw_input_contents"),
        (bf16, {}, "BF16 goes as raw_input_contents"),
        (f32, {"fp64_contents": [0.5] * 6}, "has fp64_contents; FP32 goes in fp32_contents"),
        (f32, {"fp32_contents": [0.5] * 5}, "but 5 elements in fp32_contents"),
        (f32, {}, "but 0 elements in fp32_contents"),
        (i8, {"int_contents": [0, 1, 2, 3, 4, 128]}, "holds 128; i8 holds -128 to 127"),
        (u64, {"int64_contents": [-1] * 6}, "UINT64 goes in uint64_contents"),
    ],
)
def test_typed_contents_that_do_not_fit_name_the_input(dtype: Any, contents: Any, part: str) -> None:
    with pytest.raises(InputError, match=part) as error:
        read_request(echo_model(dtype).program, echo_request(dtype.name, **contents))
    assert f"'x_{dtype.name}'" in error.value.message


def pair_request(*raws: bytes, **shapes: list[int]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="pair", raw_input_contents=raws)
    for name, shape in shapes.items():
        request.inputs.add(name=name, datatype="FP32", shape=shape)
    return request


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (pair_request(bytes(16), a=[2, 2], b=[2, 2]), "'b' has no bytes: raw_input_contents has 1 entries"),
        (pair_request(bytes(16), bytes(16), a=[2, 2]), "has 2 entries, but 1 inputs take one"),
        (
            pair_request(bytes(15), a=[2, 2]),
            "'a' has raw_input_contents of 15, but shape .2, 2. of FP32 is 16",
        ),
        (pair_request(bytes(16), a=[4]), "'a' has 1 axes, expected 2"),
        (pair_request(bytes(16), a=[-2, -2]), "no size is negative"),
        (pair_request(b"", a=[0, 2**62]), "too large"),
        (pair_request(bytes(16), c=[2, 2]), "there is no input 'c'"),
    ],
)
def test_raw_contents_that_do_not_fit_are_errors(request_: pb.ModelInferRequest, part: str) -> None:
    with pytest.raises((InputError, RequestError), match=part):
        read_request(two_port_program(), request_)


def test_typed_beside_raw_contents_is_an_error() -> None:
    request = pair_request(bytes(16), a=[2, 2], b=[2, 2])
    request.inputs[1].contents.fp32_contents.extend([1.0] * 4)
    with pytest.raises(InputError, match="'b' has typed contents, beside raw_input_contents"):
        read_request(two_port_program(), request)


def test_input_that_is_there_twice_is_an_error() -> None:
    request = pair_request(bytes(16), bytes(16), a=[2, 2])
    request.inputs.add().CopyFrom(request.inputs[0])
    with pytest.raises(InputError, match="'a' is there twice"):
        read_request(two_port_program(), request)


def test_bool_byte_that_is_neither_is_an_error() -> None:
    request = echo_request("bool")
    request.raw_input_contents.append(b"\0\1\0\2\0\0")
    with pytest.raises(InputError, match="holds the byte 2 as element 3"):
        read_request(echo_model(bool_).program, request)


def test_typed_answer_of_a_dtype_without_a_field_is_an_error(rng: np.random.Generator) -> None:
    request = echo_request("f16")
    request.raw_input_contents.append(rng.bytes(12))
    request.parameters["binary_data_output"].bool_param = False
    asked = read_request(echo_model(f16).program, request)
    with pytest.raises(RequestError, match="'y_f16' is FP16, which no typed field holds"):
        infer_response(asked, {"y_f16": asked.inputs["x_f16"]}, pb.ModelInferResponse())


VALID = pb.ModelInferRequest(model_name="linear", raw_input_contents=[bytes(range(48))])
VALID.inputs.add(name="x", datatype="FP32", shape=[3, 4])
RAW = VALID.SerializeToString()


@given(st.lists(st.tuples(st.integers(0, len(RAW) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_message_is_an_error_or_a_request(damage: list[tuple[int, int]]) -> None:
    data = bytearray(RAW)
    for place, value in damage:
        data[place] = value
    try:
        request = pb.ModelInferRequest.FromString(bytes(data))
    except Exception:  # noqa: BLE001 - protobuf's own; the server answers it before this code is reached
        return
    try:
        asked = read_request(linear_program(), request)
    except TesseraError:
        return
    assert set(asked.inputs) <= {"x"}
