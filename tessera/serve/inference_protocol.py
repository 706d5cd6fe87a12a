"""The Open Inference Protocol (v2), with tensors as JSON.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
The binary extension is not part of this: a client must send and ask for JSON
(`binary_data=False` in `tritonclient`).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import numpy as np

from tessera import __version__
from tessera.program.datatypes import DATATYPES
from tessera.program.errors import InputError
from tessera.program.program import Port, Program
from tessera.serve.answer import Answer
from tessera.serve.defaults import default_endpoint, unready
from tessera.serve.endpoints import Call, Routes
from tessera.serve.inputs import Arrays, as_array, describe
from tessera.serve.request import Request, RequestError
from tessera.serve.service import Service


class TensorIn(msgspec.Struct, frozen=True):
    """One input of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: Any
    parameters: dict[str, Any] = {}


class OutputWanted(msgspec.Struct, frozen=True):
    """One output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True):
    """The body of `/v2/models/<name>/infer`."""

    inputs: list[TensorIn]
    id: str | None = None
    outputs: list[OutputWanted] = []
    parameters: dict[str, Any] = {}


def add_inference_protocol(routes: Routes, service: Service) -> None:
    """Add the paths under `/v2` where nothing else is."""

    async def server(_: Request) -> dict[str, Any]:
        return {"name": "tessera", "version": __version__, "extensions": []}

    async def live(_: Request) -> dict[str, bool]:
        return {"live": True}

    async def ready(_: Request) -> Answer | dict[str, bool]:
        return unready(service) or {"ready": True}

    async def model(request: Request) -> dict[str, Any]:
        return _metadata(_named(service, request), service.model.version)

    async def model_ready(request: Request) -> Answer | dict[str, Any]:
        answer = unready(service)
        return answer or {"name": _named(service, request).name, "ready": True}

    async def infer(request: Request) -> dict[str, Any]:
        return await _infer(service, _named(service, request), request)

    _add(routes, "/v2", "GET", server)
    _add(routes, "/v2/health/live", "GET", live)
    _add(routes, "/v2/health/ready", "GET", ready)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        _add(routes, prefix, "GET", model)
        _add(routes, f"{prefix}/ready", "GET", model_ready)
        _add(routes, f"{prefix}/infer", "POST", infer)


def _add(routes: Routes, path: str, method: str, call: Call) -> None:
    if routes.at(path) is None:
        routes.add(default_endpoint(path, method, call))


def _named(service: Service, request: Request) -> Program:
    model = service.model
    name, version = request.path_params["model"], request.path_params.get("version")
    if name != model.program.name or version not in (None, model.version):
        raise RequestError(
            f"there is no model {name[:80]!r}" + (f" of version {version[:80]!r}" if version else ""),
            hint=f"there is {model.program.name!r} of version {model.version!r}",
            status=HTTPStatus.NOT_FOUND,
        )
    return model.program


def _metadata(program: Program, version: str) -> dict[str, Any]:
    return {
        "name": program.name,
        "versions": [version],
        "platform": "tessera",
        "inputs": [_port(p) for p in program.inputs],
        "outputs": [_port(p) for p in program.outputs],
    }


def _port(port: Port) -> dict[str, Any]:
    shape = [d if isinstance(d, int) else -1 for d in port.shape]
    return {"name": port.name, "datatype": DATATYPES[port.dtype.name], "shape": shape}


async def _infer(service: Service, program: Program, request: Request) -> dict[str, Any]:
    try:
        body = msgspec.convert(dict(request.object), InferRequest)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"not an inference request: {error}", hint=f"inputs: {describe(program)}"
        ) from error
    wanted = _wanted(program, body)
    data = _inputs(program, body)
    try:
        outputs = await service.infer_all(data, timeout_s=_timeout_s(body.parameters))
    except TimeoutError as error:
        raise RequestError(
            "no answer within the request's own timeout",
            hint="the parameter 'timeout' is in microseconds",
            status=HTTPStatus.GATEWAY_TIMEOUT,
        ) from error
    answer: dict[str, Any] = {"model_name": program.name, "model_version": service.model.version}
    if body.id is not None:
        answer["id"] = body.id
    answer["outputs"] = [_tensor(port, outputs[port.name]) for port in wanted]
    return answer


def _inputs(program: Program, body: InferRequest) -> Arrays:
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
        found[tensor.name] = _array(tensor, ports[tensor.name])
    return found


def _array(tensor: TensorIn, port: Port) -> np.ndarray[Any, Any]:
    expected = DATATYPES[port.dtype.name]
    if tensor.datatype != expected:
        raise InputError(
            f"input {port.name!r} has datatype {tensor.datatype[:80]!r}, not {expected!r}",
            hint=f"it takes {port.type_text}",
            input=port.name,
        )
    # The protocol sends scalars as tensors of one element.
    array = as_array(tensor.data, Port(name=port.name, dtype=port.dtype, shape=port.shape))
    shape = () if port.kind == "scalar" and tensor.shape == [1] else tuple(tensor.shape)
    size = 1
    for extent in shape:
        size *= extent
    nested = array.ndim > 1 and array.shape != shape
    if nested or size != array.size or any(extent < 0 for extent in shape):
        raise InputError(
            f"input {port.name!r} has shape {list(tensor.shape)[:16]}, but its data has {list(array.shape)}",
            hint="data is flat in row-major order, or nested as the shape says",
            input=port.name,
        )
    return array.reshape(shape)


def _wanted(program: Program, body: InferRequest) -> list[Port]:
    if not body.outputs:
        return list(program.outputs)
    ports = {p.name: p for p in program.outputs}
    for output in body.outputs:
        if output.name not in ports:
            raise RequestError(
                f"there is no output {output.name[:80]!r}", hint=f"outputs: {', '.join(ports)}"
            )
    return [ports[output.name] for output in body.outputs]


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    timeout_us = parameters.get("timeout")
    if timeout_us is None:
        return None
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or timeout_us < 0:
        raise RequestError(f"the parameter 'timeout' is {timeout_us!r}, not microseconds"[:200])
    return timeout_us / 1e6 or None


def _tensor(port: Port, value: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {
        "name": port.name,
        "shape": list(value.shape),
        "datatype": DATATYPES[port.dtype.name],
        "data": value.reshape(-1),
    }
