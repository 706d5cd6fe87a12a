"""Tensors in the messages of the protocol: as raw bytes, and as lists of their type."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.datatypes import DATATYPES
from tessera.program.errors import InputError
from tessera.program.program import Port, Program
from tessera.serve.grpc.protocol.inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from tessera.serve.inference_answer import Wanted, described, raw_bytes, wanted_outputs, write_shared
from tessera.serve.inference_request import (
    InferRequest,
    OutputWanted,
    check_datatype,
    check_size,
    checked_shape,
    raw_array,
    shared_array,
    wrong,
)
from tessera.serve.inputs import Arrays, as_array, describe
from tessera.serve.request import RequestError
from tessera.serve.shared_memory.regions import NO_REGIONS, REGION, Regions

_FIELDS: dict[str, str] = {
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
    "BYTES": "bytes_contents",
}
"""The field of `InferTensorContents` with each datatype's elements; FP16 and BF16 have none."""

_NUMPY: dict[str, Any] = {
    "bool_contents": np.bool_,
    "int_contents": np.int32,
    "int64_contents": np.int64,
    "uint_contents": np.uint32,
    "uint64_contents": np.uint64,
    "fp32_contents": np.float32,
    "fp64_contents": np.float64,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was read."""

    inputs: Arrays
    """By name; they lie in the request's message."""
    parameters: Mapping[str, Any]
    """Those of the request as a whole."""
    wanted: list[Wanted]
    """What the answer holds."""
    raw: bool
    """Whether outputs go as bytes rather than as lists of their type."""


def read_request(program: Program, request: ModelInferRequest, regions: Regions = NO_REGIONS) -> Asked:
    """What `request` asks for.

    Args:
        program: Says what inputs and outputs there are.
        request: As it came.
        regions: The shared memory that tensors may lie in.

    Raises:
        RequestError: It asks for what there is not.
        InputError: An input is unknown, there twice, or not what it says it is.
    """
    parameters = values_of(request.parameters)
    outputs = [OutputWanted(o.name, values_of(o.parameters)) for o in request.outputs]
    raw = parameters.pop("binary_data_output", True)
    if not isinstance(raw, bool):
        raise RequestError(f"the parameter 'binary_data_output' is {str(raw)[:80]!r}, not true or false")
    wanted = wanted_outputs(program, InferRequest(inputs=[], outputs=outputs), regions)
    return Asked(_inputs(program, request, regions), parameters, wanted, raw)


def values_of(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    """Parameters as Python's values; those without a value are left out."""
    if not parameters:
        return {}
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def _inputs(program: Program, request: ModelInferRequest, regions: Regions) -> Arrays:
    ports = {p.name: p for p in program.inputs}
    raws = request.raw_input_contents
    taken = 0
    found: Arrays = {}
    for tensor in request.inputs:
        name = tensor.name
        if name in found:
            raise InputError(f"input {name[:80]!r} is there twice", input=name)
        if name not in ports:
            raise InputError(
                f"there is no input {name[:80]!r}", hint=f"inputs: {describe(program)}", input=name
            )
        port = ports[name]
        check_datatype(tensor.datatype, port)
        shape = checked_shape(tensor.shape, port)
        if REGION in tensor.parameters:
            found[name] = shared_array(port, shape, values_of(tensor.parameters), regions)
            continue
        if not raws:
            found[name] = _typed(tensor.contents, port, shape)
            continue
        if tensor.HasField("contents"):
            raise wrong(port, "has typed contents, beside raw_input_contents of other inputs")
        if taken == len(raws):
            raise wrong(port, f"has no bytes: raw_input_contents has {len(raws)} entries")
        # Each look at an entry copies it out of the message.
        raw = raws[taken]
        taken += 1
        check_size(port, shape, len(raw), "raw_input_contents of")
        found[name] = raw_array(port, shape, raw)
    if taken != len(raws):
        raise RequestError(
            f"raw_input_contents has {len(raws)} entries, but {taken} inputs take one",
            hint="one for each input, in the order of the inputs",
        )
    return found


def _typed(contents: InferTensorContents, port: Port, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    datatype = DATATYPES[port.dtype.name]
    field = _FIELDS.get(datatype)
    given = [descriptor.name for descriptor, _ in contents.ListFields()]
    if field is None:
        raise wrong(port, f"has no bytes: {datatype} goes as raw_input_contents, no typed field holds it")
    if any(name != field for name in given):
        raise wrong(port, f"has {', '.join(given)}; {datatype} goes in {field}")
    values = np.array(getattr(contents, field), _NUMPY[field])
    if values.size != math.prod(shape):
        raise wrong(port, f"has shape {list(shape)}, but {values.size} elements in {field}")
    flat = as_array(values, Port(name=port.name, dtype=port.dtype, shape=port.shape))
    return flat.reshape(shape)


def infer_response(asked: Asked, outputs: Arrays, response: ModelInferResponse) -> ModelInferResponse:
    """`response` with what was asked for.

    Args:
        asked: What the answer holds.
        outputs: By name.
        response: Has the model's name and version, and the request's id.

    Raises:
        RequestError: An output has a datatype that goes as bytes only, and lists were asked for.
    """
    for wanted in asked.wanted:
        entry, value = described(wanted, outputs[wanted.port.name])
        output = response.outputs.add(name=entry["name"], datatype=entry["datatype"], shape=entry["shape"])
        if wanted.place is not None:
            for key, said in write_shared(wanted.place, wanted, value).items():
                field = "string_param" if isinstance(said, str) else "int64_param"
                setattr(output.parameters[key], field, said)
            if asked.raw:
                # Clients find an output's bytes by its place among the outputs.
                response.raw_output_contents.append(b"")
        elif asked.raw:
            response.raw_output_contents.append(bytes(raw_bytes(wanted, value)))
        else:
            _fill(output.contents, output.datatype, value, wanted.port)
    return response


def _fill(contents: InferTensorContents, datatype: str, value: Iterable[Any], port: Port) -> None:
    field = _FIELDS.get(datatype)
    if field is None:
        raise RequestError(
            f"output {port.name!r} is {datatype}, which no typed field holds",
            hint="leave out the parameter 'binary_data_output'",
        )
    elements = value.tolist() if isinstance(value, np.ndarray) else [s.encode() for s in value]
    getattr(contents, field).extend(elements)
