"""Inference requests of the Open Inference Protocol: JSON, and tensors as raw bytes behind it.

A body is JSON, whose length a header says, and then the bytes of tensors, little-endian and in
row-major order, in the order in which the JSON names them.

Source: Triton Inference Server, docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np

from tessera.program.datatypes import DATATYPES
from tessera.program.errors import InputError
from tessera.program.program import Port, Program
from tessera.serve.inputs import Arrays, as_array, describe
from tessera.serve.request import JsonObject, Request, RequestError, parse_json
from tessera.serve.shared_memory.regions import NO_REGIONS, REGION, Regions

LENGTH_HEADER = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON."""

_NUMBER = re.compile(r"[0-9]{1,18}")


class TensorIn(msgspec.Struct, frozen=True):
    """One input of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: Any = msgspec.UNSET
    """Flat or nested lists; unset if the tensor's bytes are behind the JSON."""
    parameters: dict[str, Any] = {}


class OutputWanted(msgspec.Struct, frozen=True):
    """One output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True):
    """The JSON of `/v2/models/<name>/infer`."""

    inputs: list[TensorIn]
    id: str | None = None
    outputs: list[OutputWanted] = []
    parameters: dict[str, Any] = {}


class Tail:
    """What follows the JSON: the bytes of one tensor after the other.

    Args:
        body: The whole body.
        offset: Where the JSON ends.
    """

    def __init__(self, body: bytes, offset: int) -> None:
        self._body = body
        self._offset = offset

    @property
    def left_bytes(self) -> int:
        """Bytes that no tensor took yet."""
        return len(self._body) - self._offset

    def take(self, port: Port, shape: tuple[int, ...], size: Any) -> np.ndarray[Any, Any]:
        """The next tensor, read-only and without a copy: it lies in the body.

        Args:
            port: Says the dtype.
            shape: What the request says, without negative sizes.
            size: Its `binary_data_size`.

        Raises:
            InputError: The size is no number, not that of the shape, or more than there is.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise wrong(port, f"has the binary_data_size {str(size)[:80]!r}, which is no number of bytes")
        check_size(port, shape, size, "binary_data_size")
        if size > self.left_bytes:
            raise wrong(port, f"has binary_data_size {size}, but the body has {self.left_bytes} bytes left")
        array = raw_array(port, shape, self._body, self._offset)
        self._offset += size
        return array

    def end(self) -> None:
        """Nothing may be left.

        Raises:
            RequestError: Something is.
        """
        if self.left_bytes:
            raise RequestError(
                f"{self.left_bytes} bytes of the body belong to no input",
                hint=f"{LENGTH_HEADER} is the length of the JSON, binary_data_size that of each input",
            )


def read_infer_request(
    program: Program, request: Request, regions: Regions = NO_REGIONS
) -> tuple[InferRequest, Arrays]:
    """The request's JSON, and its tensors by name.

    Args:
        program: Says what inputs there are.
        request: As it came.
        regions: The shared memory that tensors may lie in.

    Raises:
        RequestError: The body is not an inference request.
        InputError: An input is unknown, there twice, or not what it says it is.
    """
    return read_infer_body(program, request, json_length(request), regions)


def read_infer_body(
    program: Program, request: Request, length: int | None, regions: Regions = NO_REGIONS
) -> tuple[InferRequest, Arrays]:
    """As `read_infer_request`, of a body whose first `length` bytes are JSON; None: all of it.

    Raises:
        RequestError: The body is not an inference request.
        InputError: An input is unknown, there twice, or not what it says it is.
    """
    if length == 0 and request.body:
        body = _raw_request(program, len(request.body))
    else:
        json = memoryview(request.body)[:length] if length is not None else request.body
        body = _converted(program, parse_json(json))
    tail = Tail(request.body, len(request.body) if length is None else length)
    inputs = _inputs(program, body, tail, regions)
    tail.end()
    return body, inputs


def json_length(request: Request) -> int | None:
    """How many bytes of the body are JSON; None: all.

    Raises:
        RequestError: The body is of another type, or a header is no number of its bytes.
    """
    content_type = request.content_type
    if content_type not in ("application/octet-stream", "application/json"):
        request.check_json()
    values = request.header_values(LENGTH_HEADER)
    if not values:
        return None
    if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
        raise RequestError(
            f"the header {LENGTH_HEADER} is {', '.join(values)[:80]!r}, not one number of bytes",
            hint="it is the length of the JSON at the start of the body",
        )
    length = int(values[0])
    if length > len(request.body):
        raise RequestError(
            f"the header {LENGTH_HEADER} is {length}, but the body has {len(request.body)} bytes",
            hint="it is the length of the JSON at the start of the body",
        )
    return length


def _converted(program: Program, value: Any) -> InferRequest:
    if not isinstance(value, JsonObject):
        raise RequestError("the body is not a JSON object", hint='send an object: {"inputs": […]}')
    try:
        return msgspec.convert(dict(value), InferRequest)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"not an inference request: {error}", hint=f"inputs: {describe(program)}"
        ) from error


def _raw_request(program: Program, size: int) -> InferRequest:
    """The request that a body without any JSON stands for: the bytes of the only input."""
    port = program.inputs[0] if len(program.inputs) == 1 else None
    unknown = [axis for axis, d in enumerate(port.shape) if not isinstance(d, int)] if port else []
    if port is None or len(unknown) > 1:
        raise RequestError(
            f"the header {LENGTH_HEADER} is 0, but bytes alone do not give this program's shapes",
            hint=f"inputs: {describe(program)}",
            status=HTTPStatus.BAD_REQUEST,
        )
    shape = [d if isinstance(d, int) else 1 for d in port.shape]
    row_bytes = math.prod(shape) * port.dtype.itemsize
    if unknown:
        shape[unknown[0]] = size // row_bytes if row_bytes else 0
    tensor = TensorIn(
        name=port.name,
        shape=shape,
        datatype=DATATYPES[port.dtype.name],
        parameters={"binary_data_size": size},
    )
    return InferRequest(inputs=[tensor], parameters={"binary_data_output": True})


def _inputs(program: Program, body: InferRequest, tail: Tail, regions: Regions) -> Arrays:
    ports = {p.name: p for p in program.inputs}
    found: Arrays = {}
    for tensor in body.inputs:
        if tensor.name in found:
            raise InputError(f"input {tensor.name[:80]!r} is there twice", input=tensor.name)
        if tensor.name not in ports:
            raise InputError(
                f"there is no input {tensor.name[:80]!r}",
                hint=f"inputs: {describe(program)}",
                input=tensor.name,
            )
        found[tensor.name] = _array(tensor, ports[tensor.name], tail, regions)
    return found


def _array(tensor: TensorIn, port: Port, tail: Tail, regions: Regions) -> np.ndarray[Any, Any]:
    check_datatype(tensor.datatype, port)
    shape = checked_shape(tensor.shape, port)
    if REGION in tensor.parameters:
        if tensor.data is not msgspec.UNSET or "binary_data_size" in tensor.parameters:
            raise wrong(port, f"has data, beside {REGION}")
        return shared_array(port, shape, tensor.parameters, regions)
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return _from_json(tensor, port, shape)
    if tensor.data is not msgspec.UNSET:
        raise wrong(port, "has both data and binary_data_size")
    return tail.take(port, shape, size)


def shared_array(
    port: Port, shape: tuple[int, ...], parameters: Mapping[str, Any], regions: Regions
) -> np.ndarray[Any, Any]:
    """A copy of a tensor that lies in shared memory.

    Args:
        port: Says the dtype.
        shape: What the request says, without negative sizes.
        parameters: Those of the tensor.
        regions: What there is.

    Raises:
        RequestError: There is no such region, or the tensor is not within it.
        InputError: It is not of its shape's size.
    """
    what = f"input {port.name!r}"
    place = regions.place(what, parameters)
    if place is None:
        raise wrong(port, f"has the parameter {REGION} without a value")
    check_size(port, shape, place.size, "shared_memory_byte_size")
    return raw_array(port, shape, place.read(what))


def check_datatype(datatype: str, port: Port) -> None:
    """The datatype that a request says must be that of its port.

    Raises:
        InputError: It is another.
    """
    expected = DATATYPES[port.dtype.name]
    if datatype == expected:
        return
    strings = "; programs take numbers, no strings" if datatype == "BYTES" else ""
    raise InputError(
        f"input {port.name!r} has datatype {datatype[:80]!r}, not {expected!r}{strings}",
        hint=f"it takes {port.type_text}",
        input=port.name,
    )


def checked_shape(shape: Sequence[int], port: Port) -> tuple[int, ...]:
    """The shape that a request says, of as many axes as the port's.

    Raises:
        InputError: It has another number of axes, or a negative size.
    """
    # The protocol sends scalars as tensors of one element.
    if port.kind == "scalar" and list(shape) == [1]:
        return ()
    shown = str(list(shape[:16]))
    if len(shape) != len(port.shape):
        raise wrong(port, f"has {len(shape)} axes, expected {len(port.shape)}: its shape is {shown}")
    if any(extent < 0 for extent in shape):
        raise wrong(port, f"has shape {shown}; no size is negative")
    return tuple(shape)


def check_size(port: Port, shape: tuple[int, ...], size: int, what: str) -> None:
    """The bytes that a request says must be those of its shape.

    Args:
        port: Says the dtype.
        shape: What the request says, without negative sizes.
        size: How many bytes there are.
        what: What says so, for the message.

    Raises:
        InputError: They are not.
    """
    expected = math.prod(shape) * port.dtype.itemsize
    if size != expected:
        raise wrong(
            port,
            f"has {what} {size}, but shape {list(shape)} of {DATATYPES[port.dtype.name]} is {expected} bytes",
        )


def raw_array(
    port: Port, shape: tuple[int, ...], buffer: bytes | memoryview, offset: int = 0
) -> np.ndarray[Any, Any]:
    """A tensor that lies in `buffer`, read-only and without a copy.

    Args:
        port: Says the dtype.
        shape: Of as many bytes as there are from `offset` on, at least.
        buffer: Little-endian elements in row-major order.
        offset: Where they begin.

    Raises:
        InputError: It holds what its dtype has not, or the shape is too large.
    """
    count = math.prod(shape)
    if not count:
        return _reshaped(np.empty(0, port.dtype.numpy), port, shape)
    if port.dtype.kind != "bool":
        return np.frombuffer(buffer, port.dtype.numpy, count, offset).reshape(shape)
    array = np.frombuffer(buffer, np.uint8, count, offset)
    if array.max() > 1:
        index = int(np.argmax(array > 1))
        raise wrong(port, f"holds the byte {array[index]} as element {index}; BOOL is 0 or 1")
    return array.view(np.bool_).reshape(shape)


def _from_json(tensor: TensorIn, port: Port, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if tensor.data is msgspec.UNSET:
        raise wrong(port, "has neither data nor binary_data_size")
    array = as_array(tensor.data, Port(name=port.name, dtype=port.dtype, shape=port.shape))
    nested = array.ndim > 1 and array.shape != shape
    if nested or math.prod(shape) != array.size:
        raise InputError(
            f"input {port.name!r} has shape {list(shape)}, but its data has {list(array.shape)}",
            hint="data is flat in row-major order, or nested as the shape says",
            input=port.name,
        )
    return _reshaped(array, port, shape)


def _reshaped(array: np.ndarray[Any, Any], port: Port, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:
        # No elements, yet an axis of 2**62: NumPy has no such array.
        raise wrong(port, f"has shape {list(shape)}, which is too large") from error


def wrong(port: Port, text: str) -> InputError:
    """The error of an input; `text` follows its name."""
    return InputError(f"input {port.name!r} {text}", hint=f"it takes {port.type_text}", input=port.name)
