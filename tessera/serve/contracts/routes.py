"""The paths of a cloud's contract, on the routes of a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import orjson

from tessera.serve.answer import JSON, Answer, answer_for, to_json
from tessera.serve.contracts.bodies import Asked, array_of, predictions_of, read_body
from tessera.serve.contracts.clouds import Contract
from tessera.serve.contracts.formats import (
    CSV,
    JSON_LINES,
    NPY,
    read_csv,
    read_json_lines,
    read_npy,
    write_csv,
    write_json_lines,
    write_npy,
)
from tessera.serve.defaults import unready
from tessera.serve.endpoints import Routes
from tessera.serve.models.registry import Backend, Registry
from tessera.serve.request import Request, RequestError

TARGET_HEADER = "X-Amzn-SageMaker-Target-Model"
"""The header by which SageMaker's clients name a model."""

_WRITERS: dict[str, Callable[[Any], bytes]] = {NPY: write_npy, CSV: write_csv}
_MEDIA_TYPES = (JSON, NPY, CSV, JSON_LINES)


def add_contract(routes: Routes, registry: Registry, contract: Contract) -> None:
    """Add the paths of `contract` where nothing else is."""

    async def ready(_: Request) -> Answer | dict[str, str]:
        return unready(registry) or {"status": "ready"}

    async def live(_: Request) -> dict[str, str]:
        return {"status": "healthy"}

    async def score(request: Request) -> Answer:
        return await _score(_backend(registry, request), request)

    async def score_for_client(request: Request) -> Answer:
        try:
            return await score(request)
        except Exception as error:  # noqa: BLE001 - whatever is raised has an answer, and a log entry
            return _as_google(answer_for(error, f"{request.method} {request.path}"))

    for paths, method, call in (
        (contract.probes, "GET", ready),
        (contract.live, "GET", live),
        (contract.scores, "POST", score),
        (contract.client_scores, "POST", score_for_client),
    ):
        for path in paths:
            routes.add_default(path, method, call)


def _as_google(answer: Answer) -> Answer:
    """An error in the form that Google's clients read."""
    said = orjson.loads(answer.body)
    message = ": ".join(text for text in (said["error"], said.get("hint")) if text)
    return replace(answer, body=to_json({"error": {"code": answer.status, "message": message}}))


def _backend(registry: Registry, request: Request) -> Backend:
    named = request.header_values(TARGET_HEADER)
    return registry.resolve(named[0]) if named else registry.default


async def _score(backend: Backend, request: Request) -> Answer:
    media_type = _wanted_type(request)
    asked = _asked(backend, request)
    if asked.by_instance:
        result = await predictions_of(backend, asked)
    else:
        result = await backend.infer_all(asked.data)
    if media_type == JSON:
        return Answer(HTTPStatus.OK, to_json(asked.answer(result)))
    if media_type == JSON_LINES:
        lines = result if asked.by_instance else _only_array(result, media_type)
        return Answer(HTTPStatus.OK, write_json_lines(lines), JSON_LINES)
    return Answer(HTTPStatus.OK, _WRITERS[media_type](_only_array(result, media_type)), media_type)


def _asked(backend: Backend, request: Request) -> Asked:
    program = backend.model.program
    media_type = request.content_type
    if media_type in (NPY, CSV):
        if len(program.inputs) != 1:
            raise RequestError(
                f"{media_type} carries one tensor; the program takes {len(program.inputs)} inputs",
                hint='send application/json: {"inputs": {name: …}}',
                status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            )
        data = read_npy(request.body) if media_type == NPY else read_csv(request.body, program.inputs[0])
        return read_body(program, {"data": data})
    if media_type == JSON_LINES:
        return read_body(program, {"instances": read_json_lines(request.body)})
    if media_type != JSON and not media_type.endswith("+json"):
        raise RequestError(
            f"the body is {media_type[:80]!r}",
            hint=f"send one of {', '.join(_MEDIA_TYPES)}",
            status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    return read_body(program, request.json)


def _only_array(result: Any, media_type: str) -> Any:
    array = array_of(result)
    if array is None:
        raise RequestError(
            f"{media_type} carries one tensor; the program has several outputs",
            hint="send Accept: application/json",
            status=HTTPStatus.NOT_ACCEPTABLE,
        )
    return array


def _wanted_type(request: Request) -> str:
    """The media type of the answer: the first in the header Accept that there is; JSON without a header."""
    entries = [e.strip() for value in request.header_values("accept") for e in value.split(",")]
    names = [e.partition(";")[0].strip().lower() for e in entries if e]
    for name in names:
        if name in _MEDIA_TYPES:
            return name
        if name in ("*/*", "application/*"):
            return JSON
        if name == "text/*":
            return CSV
    if not names:
        return JSON
    raise RequestError(
        f"no answer of {', '.join(names)[:80]!r} can be given",
        hint=f"accept one of {', '.join(_MEDIA_TYPES)}",
        status=HTTPStatus.NOT_ACCEPTABLE,
    )
