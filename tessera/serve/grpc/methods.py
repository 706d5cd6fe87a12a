"""What each method of the protocol answers; errors and access are seen to by whoever calls them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tessera.serve.config import ServerConfig
from tessera.serve.grpc.inference import Inference
from tessera.serve.grpc.memory_methods import memory_methods
from tessera.serve.grpc.operator_methods import OperatorMethods
from tessera.serve.grpc.protocol import health_pb2 as health
from tessera.serve.grpc.protocol import inference_pb2 as pb
from tessera.serve.inference_protocol import model_metadata, server_metadata
from tessera.serve.metrics import Metrics
from tessera.serve.models.control import ModelControl
from tessera.serve.models.model_config import model_config
from tessera.serve.models.model_protocol import all_statistics
from tessera.serve.models.registry import ModelNotFoundError, Registry
from tessera.serve.observe.requests import Telemetry
from tessera.serve.service import Phase
from tessera.serve.shared_memory.regions import Regions

Unary = Callable[[Any], Awaitable[Any]]
"""Takes a request, gives its response."""

WATCH_EVERY_S = 0.25
"""How often a watcher of the server's health looks."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server has that its methods tell of, shared with HTTP."""

    registry: Registry
    """The models."""
    control: ModelControl
    """What operators do with them."""
    regions: Regions
    """Memory that clients share."""
    config: ServerConfig
    metrics: Metrics | None
    telemetry: Telemetry
    """Traces inference and writes it down."""
    extensions: tuple[str, ...] = ()
    """What is served beside the protocol's core, by the names that Triton gave."""


class Methods:
    """The protocol's methods by name.

    Args:
        parts: What they tell of.
        inference: Answers requests.
    """

    def __init__(self, parts: Parts, inference: Inference) -> None:
        self._registry = parts.registry
        self._parts = parts
        self._closing = asyncio.Event()
        operators = OperatorMethods(parts.control, parts.config, parts.registry)
        self.unary: dict[str, Unary] = {
            **operators.unary,
            **memory_methods(parts.regions),
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
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
        return pb.ServerMetadataResponse(**server_metadata(self._parts.extensions))

    async def _model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        return pb.ModelMetadataResponse(**model_metadata(self._registry, request.name, request.version))

    async def _model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        backend = self._registry.resolve(request.name, request.version)
        found = model_config(backend, self._registry.config_of(backend))
        for port in (*found["input"], *found["output"]):
            if port["data_type"] not in pb.DataType.keys():  # noqa: SIM118 - no mapping
                # The protocol has no fp8.
                port["data_type"] = "TYPE_INVALID"
        return pb.ModelConfigResponse(config=found)

    async def _model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        found = all_statistics(
            self._registry, self._parts.metrics, request.name or None, request.version or None
        )
        return pb.ModelStatisticsResponse(**found)

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
