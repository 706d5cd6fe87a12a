"""What each method of the protocol answers; errors and access are seen to by whoever calls them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tessera.serve.grpc.inference import Inference
from tessera.serve.grpc.protocol import health_pb2 as health
from tessera.serve.grpc.protocol import inference_pb2 as pb
from tessera.serve.inference_protocol import model_metadata, server_metadata
from tessera.serve.models.registry import ModelNotFoundError, Registry
from tessera.serve.service import Phase

Unary = Callable[[Any], Awaitable[Any]]
"""Takes a request, gives its response."""

WATCH_EVERY_S = 0.25
"""How often a watcher of the server's health looks."""


class Methods:
    """The protocol's methods by name.

    Args:
        registry: The models.
        inference: Answers requests with them.
    """

    def __init__(self, registry: Registry, inference: Inference) -> None:
        self._registry = registry
        self._closing = asyncio.Event()
        self.unary: dict[str, Unary] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": inference.infer,
        }
        """Methods of the service `inference.GRPCInferenceService` that answer once."""

    def end_watches(self) -> None:
        """Tell those who watch the health that it is over."""
        self._closing.set()

    async def _server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._registry.phase is Phase.READY)

    async def _model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        backend = self._registry.resolve(request.name, request.version)
        return pb.ModelReadyResponse(ready=backend.phase is Phase.READY)

    async def _server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**server_metadata())

    async def _model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        return pb.ModelMetadataResponse(**model_metadata(self._registry, request.name, request.version))

    async def check(self, request: health.HealthCheckRequest) -> health.HealthCheckResponse:
        """The health check of gRPC itself: of the server, of the service by its full name, or of a model.

        Raises:
            ModelNotFoundError: There is none of that name.
        """
        return health.HealthCheckResponse(status=self._status(request.service))

    async def watch(self, request: health.HealthCheckRequest) -> AsyncIterator[health.HealthCheckResponse]:
        """The health now, and whenever it changes."""
        said: str | None = None
        while True:
            try:
                status = self._status(request.service)
            except ModelNotFoundError:
                status = "SERVICE_UNKNOWN"
            if status != said:
                said = status
                yield health.HealthCheckResponse(status=status)
            if self._closing.is_set():
                return
            try:
                await asyncio.wait_for(self._closing.wait(), WATCH_EVERY_S)
            except TimeoutError:
                continue

    def _status(self, service: str) -> str:
        asked = self._registry
        phase = asked.phase if service in ("", pb.SERVICE.full_name) else asked.resolve(service).phase
        return "SERVING" if phase is Phase.READY else "NOT_SERVING"
