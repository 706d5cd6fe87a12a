"""The Open Inference Protocol (v2) over HTTP, as `tritonclient` speaks it.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from tessera import __version__
from tessera.program.datatypes import DATATYPES
from tessera.program.program import Port
from tessera.serve.answer import Answer
from tessera.serve.defaults import unready
from tessera.serve.encoding import MIN_BYTES, accepted_encoding, encoded
from tessera.serve.endpoints import Routes
from tessera.serve.inference_plans import InferPlans, planned_answer
from tessera.serve.inputs import Arrays
from tessera.serve.models.registry import Backend, Registry
from tessera.serve.request import Request, RequestError
from tessera.serve.shared_memory.regions import NO_REGIONS, Regions

EXTENSIONS = ("binary_tensor_data", "classification")
"""What this server adds to the protocol's core, by the names that Triton gave."""


def add_inference_protocol(
    routes: Routes,
    registry: Registry,
    extensions: Sequence[str] = (),
    regions: Regions = NO_REGIONS,
    *,
    compress: bool = True,
) -> None:
    """Add the paths under `/v2` where nothing else is.

    Args:
        routes: Where to.
        registry: The models.
        extensions: What is added elsewhere, by the names that Triton gave.
        regions: The shared memory that tensors may lie in.
        compress: Whether answers of inference are compressed for clients that ask for it.
    """
    plans = InferPlans(regions)

    async def server(_: Request) -> dict[str, Any]:
        return server_metadata(extensions)

    async def live(_: Request) -> dict[str, bool]:
        return {"live": True}

    async def ready(_: Request) -> Answer | dict[str, bool]:
        return unready(registry) or {"ready": True}

    async def model(request: Request) -> dict[str, Any]:
        return model_metadata(registry, request.path_params["model"], request.path_params.get("version"))

    async def model_ready(request: Request) -> Answer | dict[str, Any]:
        found = _named(registry, request)
        return unready(found) or {"name": found.name, "ready": True}

    async def infer(request: Request) -> Answer:
        answer = await _infer(plans, _named(registry, request), request)
        if not compress or answer.size_bytes < MIN_BYTES:
            return answer
        encoding = accepted_encoding(request.header_values("accept-encoding"))
        return answer if encoding is None else await asyncio.to_thread(encoded, answer, encoding)

    routes.add_default("/v2", "GET", server)
    routes.add_default("/v2/health/live", "GET", live)
    routes.add_default("/v2/health/ready", "GET", ready)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes.add_default(prefix, "GET", model)
        routes.add_default(f"{prefix}/ready", "GET", model_ready)
        routes.add_default(f"{prefix}/infer", "POST", infer)


def _named(registry: Registry, request: Request) -> Backend:
    return registry.resolve(request.path_params["model"], request.path_params.get("version"))


def server_metadata(extensions: Sequence[str] = ()) -> dict[str, Any]:
    """Name and version of the server, and its extensions with those that are added elsewhere."""
    return {"name": "tessera", "version": __version__, "extensions": [*EXTENSIONS, *extensions]}


def model_metadata(registry: Registry, name: str, version: str | None) -> dict[str, Any]:
    """Versions, inputs and outputs of a model.

    Args:
        registry: The models.
        name: What clients call it.
        version: Which version; None or empty: the latest, and the others are named too.

    Raises:
        ModelNotFoundError: There is no such model or version.
    """
    backend = registry.resolve(name, version)
    return metadata(backend, [backend.version] if version else registry.versions(backend.name))


def metadata(backend: Backend, versions: list[str]) -> dict[str, Any]:
    """What the protocol says of a model.

    Raises:
        OverloadedError: It is still being loaded.
    """
    program = backend.model.program
    return {
        "name": backend.name,
        "versions": versions,
        "platform": "tessera",
        "inputs": [_port(p) for p in program.inputs],
        "outputs": [_port(p) for p in program.outputs],
    }


def _port(port: Port) -> dict[str, Any]:
    shape = [d if isinstance(d, int) else -1 for d in port.shape]
    return {"name": port.name, "datatype": DATATYPES[port.dtype.name], "shape": shape}


async def _infer(plans: InferPlans, backend: Backend, request: Request) -> Answer:
    plan, inputs = plans.read(backend.model.program, request)
    outputs = await infer_within(backend, inputs, timeout_s(plan.body.parameters))
    return planned_answer(plan, backend.name, backend.version, outputs)


async def infer_within(backend: Backend, inputs: Arrays, limit_s: float | None) -> Arrays:
    """The outputs by name.

    Args:
        backend: What answers.
        inputs: By name.
        limit_s: The request's own timeout; None: it has none.

    Raises:
        RequestError: It is over (504).
        InputError: An input is not what the program takes.
        OverloadedError: Too many requests wait, or the server is starting or stopping.
    """
    try:
        return await backend.infer_all(inputs, timeout_s=limit_s)
    except TimeoutError as error:
        raise RequestError(
            "no answer within the request's own timeout",
            hint="the parameter 'timeout' is in microseconds",
            status=HTTPStatus.GATEWAY_TIMEOUT,
        ) from error


def timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """The request's own timeout in seconds, of its parameter `timeout`; None: it has none.

    Raises:
        RequestError: The parameter is no number of microseconds.
    """
    timeout_us = parameters.get("timeout")
    if timeout_us is None:
        return None
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or timeout_us < 0:
        raise RequestError(f"the parameter 'timeout' is {timeout_us!r}, not microseconds"[:200])
    return timeout_us / 1e6 or None
