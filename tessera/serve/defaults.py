"""The endpoints that every server has, unless the user writes others at their paths."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from tessera import __version__
from tessera.serve.answer import Answer, error_answer
from tessera.serve.endpoints import Routes
from tessera.serve.inputs import Arrays
from tessera.serve.metrics import CONTENT_TYPE, Metrics
from tessera.serve.models.registry import Backend, Registry
from tessera.serve.request import Request, RequestError
from tessera.serve.service import Phase


def add_defaults(routes: Routes, registry: Registry, metrics: Metrics | None) -> None:
    """Add `/predict`, `/health`, `/ready` and, with `metrics`, `/metrics` where nothing else is."""
    started = time.monotonic()

    async def predict(request: Request) -> dict[str, Any]:
        service = registry.default
        return outputs_of(await service.infer_all(inputs_of(service, request.object)))

    async def health(_: Request) -> dict[str, Any]:
        return {
            "status": "healthy",
            "phase": registry.phase.value,
            "uptime_s": round(time.monotonic() - started, 3),
            "version": __version__,
            "memory": memory_usage(registry),
        }

    async def ready(_: Request) -> Answer | dict[str, Any]:
        answer = unready(registry)
        if answer is not None:
            return answer
        names = registry.names
        return (
            {"status": "ready", "model": names[0]}
            if len(names) == 1
            else {"status": "ready", "models": names}
        )

    async def metrics_text(_: Request) -> Answer:
        return Answer(HTTPStatus.OK, metrics.text() if metrics else b"", CONTENT_TYPE)

    routes.add_default("/predict", "POST", predict)
    routes.add_default("/health", "GET", health)
    routes.add_default("/ready", "GET", ready)
    if metrics is not None:
        routes.add_default("/metrics", "GET", metrics_text)


def inputs_of(service: Backend, body: Mapping[str, Any]) -> Any:
    """The inputs in the body of a plain JSON request.

    Raises:
        RequestError: They are not there, or twice.
    """
    if "input" in body and "inputs" in body:
        raise RequestError("the body has both 'input' and 'inputs'", hint="send one of them")
    if "input" not in body and "inputs" not in body:
        raise _no_input(service, body)
    if "inputs" in body and not isinstance(body["inputs"], dict):
        raise RequestError("the field 'inputs' is not an object", hint='{"inputs": {"name": [[…]]}}')
    return body["inputs"] if "inputs" in body else body["input"]


def outputs_of(outputs: Arrays) -> dict[str, Any]:
    """What such a request is answered with."""
    return {"output": next(iter(outputs.values()))} if len(outputs) == 1 else {"outputs": outputs}


def _no_input(service: Backend, body: Mapping[str, Any]) -> RequestError:
    """The error of a body with neither field, with a body that would do."""
    names = [port.name for port in service.model.program.inputs]
    by_name = ", ".join(f'"{name}": …' for name in names)
    wanted = '{"input": …}' if len(names) == 1 else f'{{"inputs": {{{by_name}}}}}'
    has = f"it has {', '.join(map(repr, list(body)[:8]))[:100]}" if body else "it is empty"
    return RequestError(f"the body has no field 'input' or 'inputs': {has}", hint=f"send {wanted}")


def memory_usage(registry: Registry) -> dict[str, Any]:
    """The devices' memory: that of the only model, or of each by `name/version`."""
    backends = registry.backends
    if len(backends) == 1:
        return backends[0].memory_usage()
    loaded = [backend for backend in backends if backend.loaded]
    return {f"{backend.name}/{backend.version}": backend.memory_usage() for backend in loaded}


def unready(asked: Backend | Registry) -> Answer | None:
    """503 with the reason, unless the model, or the server as a whole, takes requests."""
    if asked.phase is Phase.READY:
        return None
    return error_answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"not ready: {asked.phase.value}",
        headers={"Retry-After": "1"},
    )


DEFAULT_METHODS: dict[str, tuple[str, ...]] = {
    "/predict": ("POST",),
    "/health": ("GET",),
    "/ready": ("GET",),
    "/metrics": ("GET",),
}
"""Methods of the endpoints above: a user's endpoint at the same path answers the same ones."""
