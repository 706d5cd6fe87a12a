"""The model repository of the Open Inference Protocol over HTTP: index, load, unload.

Source: Triton Inference Server, docs/protocol/extension_model_repository.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tessera.serve.answer import Answer
from tessera.serve.endpoints import Routes
from tessera.serve.models.control import ModelControl
from tessera.serve.models.registry import State
from tessera.serve.request import JsonObject, Request, RequestError

STATES = {
    State.LOADING: "LOADING",
    State.READY: "READY",
    State.DRAINING: "UNLOADING",
    State.UNAVAILABLE: "UNAVAILABLE",
}
"""What the protocol calls them."""


def add_repository(routes: Routes, control: ModelControl) -> None:
    """Add the paths under `/v2/repository`, for operators."""

    async def index(request: Request) -> list[dict[str, str]]:
        ready = _body(request).get("ready", False)
        if not isinstance(ready, bool):
            raise RequestError(f"'ready' is {str(ready)[:80]!r}, not true or false")
        return [
            {"name": row.name, "version": row.version, "state": STATES[row.state], "reason": row.reason}
            for row in await control.index(ready=ready)
        ]

    async def load(request: Request) -> Answer:
        refuse_content(_parameters(request))
        await control.load(request.path_params["model"])
        return Answer(200, b"")

    async def unload(request: Request) -> Answer:
        _parameters(request)
        await control.unload(request.path_params["model"])
        return Answer(200, b"")

    routes.add_default("/v2/repository/index", "POST", index, admin=True)
    routes.add_default("/v2/repository/models/{model}/load", "POST", load, admin=True)
    routes.add_default("/v2/repository/models/{model}/unload", "POST", unload, admin=True)


def _body(request: Request) -> JsonObject:
    return request.object if request.body.strip() else JsonObject()


def _parameters(request: Request) -> dict[str, Any]:
    found = _body(request).get("parameters", {})
    if not isinstance(found, dict):
        raise RequestError("'parameters' is not an object", hint='such as {"parameters": {}}')
    return found


def refuse_content(parameters: Iterable[str]) -> None:
    """A model comes by its name alone.

    Raises:
        RequestError: The parameters bring a file or a configuration.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise RequestError(
                f"the parameter {name[:80]!r} is not taken: a package has its model and its settings in it",
                hint="put the package into the repository, then load it by name",
            )
