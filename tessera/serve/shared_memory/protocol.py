"""Shared memory of the Open Inference Protocol over HTTP: register, unregister, status.

Source: Triton Inference Server, docs/protocol/extension_shared_memory.md.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from tessera.serve.answer import Answer
from tessera.serve.endpoints import Routes
from tessera.serve.request import Request, RequestError, parse_json
from tessera.serve.security.origin import check_origin
from tessera.serve.shared_memory.regions import Regions, check_client, no_cuda_memory


class Registration(msgspec.Struct, frozen=True):
    """The body of `register`."""

    key: str
    byte_size: int
    offset: int = 0


def add_shared_memory(routes: Routes, regions: Regions) -> None:
    """Add the paths under `/v2/systemsharedmemory` and `/v2/cudasharedmemory`."""

    async def status(request: Request) -> list[dict[str, Any]]:
        return [
            {"name": r.name, "key": r.key, "offset": r.offset, "byte_size": r.size}
            for r in regions.status(request.path_params.get("region"))
        ]

    async def register(request: Request) -> Answer:
        # Triton's C++ client says its JSON to be a form, as a web page could: pages of others are refused.
        check_origin(request.headers.raw, None)
        try:
            body = msgspec.convert(parse_json(request.body), Registration)
        except msgspec.ValidationError as error:
            raise RequestError(
                f"not a region: {error}", hint='{"key": "/name", "offset": 0, "byte_size": 64}'
            ) from error
        check_client(request.client)
        regions.register(request.path_params["region"], body.key, body.offset, body.byte_size)
        return Answer(HTTPStatus.OK, b"")

    async def unregister(request: Request) -> Answer:
        regions.unregister(request.path_params.get("region"))
        return Answer(HTTPStatus.OK, b"")

    async def cuda_status(_: Request) -> list[Any]:
        return []

    async def cuda_register(_: Request) -> Answer:
        raise no_cuda_memory()

    async def cuda_unregister(_: Request) -> Answer:
        return Answer(HTTPStatus.OK, b"")

    system, cuda = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
    for prefix, about, add, drop in (
        (system, status, register, unregister),
        (cuda, cuda_status, cuda_register, cuda_unregister),
    ):
        routes.add_default(f"{prefix}/status", "GET", about)
        routes.add_default(f"{prefix}/region/{{region}}/status", "GET", about)
        routes.add_default(f"{prefix}/region/{{region}}/register", "POST", add)
        routes.add_default(f"{prefix}/region/{{region}}/unregister", "POST", drop)
        routes.add_default(f"{prefix}/unregister", "POST", drop)
