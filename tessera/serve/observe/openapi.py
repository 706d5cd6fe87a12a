"""The interface of a server as an OpenAPI document, made of its endpoints and its models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tessera import __version__
from tessera.serve.endpoints import Endpoint, Routes
from tessera.serve.models.registry import Backend, Registry
from tessera.serve.observe import json_schema
from tessera.serve.observe.json_schema import Schema

VERSION = "3.1.0"

_PARAMETER = re.compile(r"{(\w+)(?::(\w+))?}")
_KINDS = {"int": "integer", "float": "number"}
_JSON = "application/json"

ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "description": "What is wrong."},
        "hint": {"type": "string", "description": "What to do about it."},
    },
    "required": ["error"],
}
"""What every error is."""

_STATUSES = {
    "400": "The request is not what the endpoint takes; the message names the field.",
    "401": "No key, or one that is not known.",
    "403": "Not for whoever asked.",
    "404": "There is no such path or model.",
    "405": "Not with this method; `Allow` says which.",
    "408": "The body did not come in time.",
    "413": "The body is larger than the server takes.",
    "415": "The body is of another type or coding than the endpoint takes.",
    "429": "Too many requests; `Retry-After` says when to come back.",
    "500": "Anything else; the server's log explains it.",
    "503": "Not now: the queue is full, the model loads, the server stops. `Retry-After` says when.",
    "504": "No answer in time.",
}

_OBJECT: Schema = {"type": "object"}
_TEXTS: Mapping[str, tuple[str, str]] = {
    "/predict": ("Infer", _JSON),
    "/health": ("Whether the process answers", _JSON),
    "/ready": ("Whether the models are loaded", _JSON),
    "/metrics": ("Metrics, in Prometheus' text format", "text/plain"),
    "/openapi.json": ("This document", _JSON),
    "/docs": ("This document, to try out", "text/html"),
    "/status": ("The server's state, live", "text/html"),
    "/status.json": ("The server's state", _JSON),
    "/v2": ("The server, by the Open Inference Protocol", _JSON),
    "/v2/health/live": ("Whether the process answers", _JSON),
    "/v2/health/ready": ("Whether the models are loaded", _JSON),
    "/v2/models/{model}": ("What a model takes and gives", _JSON),
    "/v2/models/{model}/versions/{version}": ("What a version of a model takes and gives", _JSON),
    "/v2/models/{model}/ready": ("Whether a model answers", _JSON),
    "/v2/models/{model}/versions/{version}/ready": ("Whether a version of a model answers", _JSON),
    "/v2/models/{model}/config": ("A model's configuration, as Triton writes it", _JSON),
    "/v2/models/{model}/versions/{version}/config": (
        "A version's configuration, as Triton writes it",
        _JSON,
    ),
    "/v2/models/{model}/stats": ("What was counted of a model", _JSON),
    "/v2/models/{model}/versions/{version}/stats": ("What was counted of a version of a model", _JSON),
    "/v2/models": ("The models", _JSON),
    "/v2/models/stats": ("What was counted of all models", _JSON),
}
"""What the server's own endpoints are for, and the type of what they answer."""


def document(
    routes: Routes, registry: Registry, *, title: str, has_keys: bool, with_admin: bool
) -> dict[str, Any]:
    """The document.

    Args:
        routes: What there is.
        registry: The models; one that is not loaded yet has no schema.
        title: What the server is called.
        has_keys: Whether callers need a key.
        with_admin: Whether operators' endpoints are answered where this is.
    """
    paths: dict[str, dict[str, Any]] = {}
    models = [backend for backend in registry.backends if backend.loaded]
    for endpoint in sorted(routes.endpoints, key=lambda e: e.path):
        if (endpoint.admin and not with_admin) or (endpoint.is_default and endpoint.path.startswith(_PARTS)):
            continue
        if endpoint.is_default and "/infer" in endpoint.path:
            if "{version}" in endpoint.path:
                continue
            for backend in models:
                path = endpoint.path.replace("{model}", _escaped(backend.name))
                paths[path] = {"post": _infer(backend)}
            continue
        path = _PARAMETER.sub(r"{\1}", endpoint.path)
        verbs = [m for m in endpoint.methods if m.lower() in _VERBS]
        paths[path] = {m.lower(): _operation(endpoint, m, models) for m in verbs}
    made: dict[str, Any] = {
        "openapi": VERSION,
        "info": {"title": title, "version": __version__},
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}, "responses": _error_responses()},
    }
    if has_keys:
        made["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        made["security"] = [{"bearer": []}, {"key": []}]
    return made


_PARTS = ("/pages/", "/v2/systemsharedmemory/", "/v2/cudasharedmemory/")
"""What is left out: what pages load, and memory that only a client on this host can have made before."""

_VERBS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


def _operation(endpoint: Endpoint, method: str, models: list[Backend]) -> dict[str, Any]:
    summary, media = _TEXTS.get(endpoint.path, (endpoint.summary, _JSON)) if endpoint.is_default else ("", "")
    made: dict[str, Any] = {
        "summary": summary or endpoint.summary or endpoint.path,
        "operationId": _identifier(method, endpoint.path),
        "tags": ["server" if endpoint.is_default else "endpoints"],
        "responses": {"200": {"description": "The answer."}, **_ERRORS},
    }
    if media:
        schema = _OBJECT if media == _JSON else {"type": "string"}
        made["responses"]["200"]["content"] = {media: {"schema": schema}}
    if endpoint.path == "/v2/models" and endpoint.is_default:
        made["responses"]["200"]["content"] = {_JSON: {}}
    if parameters := _parameters(endpoint, models):
        made["parameters"] = parameters
    if endpoint.reads_body and method in ("POST", "PUT", "PATCH"):
        made["requestBody"] = {"content": {_JSON: {"schema": {}}}}
    if endpoint.path == "/predict" and endpoint.is_default and len(models) == 1:
        program = models[0].model.program
        made["requestBody"] = _body(json_schema.predict_body(program))
        made["responses"]["200"]["content"][_JSON] = {"schema": json_schema.predict_answer(program)}
        made["description"] = _ports(models[0])
        made["tags"] = ["inference"]
    return made


def _infer(backend: Backend) -> dict[str, Any]:
    program = backend.model.program
    return {
        "summary": f"Infer with {backend.name}, by the Open Inference Protocol",
        "description": _ports(backend)
        + "\n\nTensors may also come and go as bytes behind the JSON (`Inference-Header-Content-Length`).",
        "operationId": _identifier("POST", f"/v2/models/{backend.name}/infer"),
        "tags": ["inference"],
        "requestBody": _body(json_schema.infer_body(program)),
        "responses": {
            "200": {
                "description": "The outputs.",
                "content": {_JSON: {"schema": json_schema.infer_answer(program)}},
            },
            **_ERRORS,
        },
    }


def _ports(backend: Backend) -> str:
    program = backend.model.program
    takes = "\n".join(f"- input `{json_schema.described(port)}`" for port in program.inputs)
    gives = "\n".join(f"- output `{json_schema.described(port)}`" for port in program.outputs)
    return f"{backend.name}, version {backend.version}\n\n{takes}\n{gives}"


def _body(schema: Schema) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _parameters(endpoint: Endpoint, models: list[Backend]) -> list[dict[str, Any]]:
    known = {"model": sorted({m.name for m in models}), "version": sorted({m.version for m in models})}
    made = []
    for name, kind in _PARAMETER.findall(endpoint.path):
        schema: Schema = {"type": _KINDS.get(kind or "", "string")}
        if endpoint.is_default and known.get(name):
            schema["enum"] = known[name]
        made.append({"name": name, "in": "path", "required": True, "schema": schema})
    return made


def _identifier(method: str, path: str) -> str:
    return f"{method.lower()}_" + (re.sub(r"\W+", "_", path).strip("_") or "root")


def _escaped(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def _error_responses() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        f"Error{status}": {"description": text, "content": {_JSON: {"schema": schema}}}
        for status, text in _STATUSES.items()
    }


_ERRORS = {status: {"$ref": f"#/components/responses/Error{status}"} for status in _STATUSES}
