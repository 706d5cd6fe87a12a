"""One life of a server: from the open port to the last answer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

from tessera.program.errors import MissingDependencyError
from tessera.serve.app import App
from tessera.serve.balancing.backends import backend_of
from tessera.serve.config import ServerConfig
from tessera.serve.connections.limits import limits_of
from tessera.serve.contracts.clouds import contract_of
from tessera.serve.contracts.routes import add_contract
from tessera.serve.defaults import add_defaults
from tessera.serve.endpoints import Endpoint, Routes
from tessera.serve.http import HttpServer, url_of
from tessera.serve.inference_protocol import add_inference_protocol
from tessera.serve.life import Life, unfinished
from tessera.serve.metrics import Metrics, ModelNow
from tessera.serve.models.control import ModelControl, initial
from tessera.serve.models.lifecycle import Lifecycle
from tessera.serve.models.model_protocol import add_model_protocol
from tessera.serve.models.registry import Backend
from tessera.serve.models.repository import Repository
from tessera.serve.models.repository_protocol import add_repository
from tessera.serve.models.route import Route, traffic_families
from tessera.serve.models.spec import ModelSpec
from tessera.serve.models.traffic_file import TrafficFile
from tessera.serve.models.watcher import Watcher
from tessera.serve.observe.debug import add_debug
from tessera.serve.observe.observation import Observation
from tessera.serve.observe.openapi import document
from tessera.serve.observe.pages_endpoints import OPEN_PATHS, add_pages
from tessera.serve.observe.status import Status
from tessera.serve.observe.triton_settings import add_triton_settings
from tessera.serve.security.access import make_gate
from tessera.serve.security.admin import serving_operators
from tessera.serve.security.exposure import on_main_port
from tessera.serve.security.tls import certificates_of
from tessera.serve.service import Phase
from tessera.serve.shared_memory.protocol import add_shared_memory
from tessera.serve.shared_memory.regions import Regions

if TYPE_CHECKING:
    from tessera.serve.grpc.server import GrpcServer

logger = logging.getLogger("tessera.serve")


class Session(Life):
    """Models, their endpoints and their connections, on one event loop.

    Args:
        config: Settings.
        models: What is served from the start.
        endpoints: The user's endpoints.
        backend: Answers in the place of models that are opened here.
        routes: Those of them that split requests among models.
    """

    def __init__(
        self,
        config: ServerConfig,
        models: Sequence[ModelSpec],
        endpoints: Sequence[Endpoint],
        backend: Backend | None = None,
        routes: Sequence[Route] = (),
    ) -> None:
        super().__init__()
        self._config = config
        self._endpoints = tuple(endpoints)
        self._elsewhere = backend
        self._metrics = Metrics() if config.enable_metrics else None
        self._contract = contract_of(config.contract, os.environ) if config.contract else None
        open_paths = (
            *(self._contract.free_paths if self._contract else ()),
            *(OPEN_PATHS if config.enable_pages else ()),
        )
        self.gate = make_gate(config, free_paths=open_paths)
        """Who may ask, and how often; None: everybody, always. Every protocol asks it."""
        certificates = certificates_of(config)
        self._tls = certificates.context if certificates else None
        self.lifecycle = Lifecycle(self.registry, self._backend, drain_timeout_s=config.drain_timeout_s)
        """Loads, replaces and unloads them."""
        folder = Repository(Path(config.repository), config) if config.repository else None
        for spec in [*models, *(initial(folder, config) if folder else ())]:
            self.lifecycle.add(spec)
        self.regions = Regions(config.shared_memory, config.max_body_bytes)
        """Memory that clients share."""
        self.control = ModelControl(self.registry, self.lifecycle, config, folder)
        """What operators do with them."""
        self._watcher = Watcher(
            self.registry,
            self.lifecycle,
            interval_s=config.poll_s,
            repository=folder if config.repository_mode == "poll" else None,
            traffic=TrafficFile(Path(config.traffic), routes) if config.traffic else None,
        )
        self._watching: asyncio.Task[None] | None = None
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._observation = Observation(config, self._metrics)
        self._status = Status(self.registry, self._metrics.snapshot if self._metrics else None)
        if self._metrics is not None:
            self._add_gauges(self._metrics)
            if routes:
                self._metrics.more.append(lambda: traffic_families(routes))

    def _backend(self, spec: ModelSpec) -> Backend:
        """What answers for a model."""
        if self._elsewhere is not None:
            return self._elsewhere
        observer = None
        if self._metrics is not None:
            self._metrics.forget_models({(row.name, row.version) for row in self.registry.listing()})
            observer = self._metrics.model
        return backend_of(spec, observer)

    def make_app(
        self,
        startup: Callable[[], Awaitable[None]] | None = None,
        shutdown: Callable[[], Awaitable[None]] | None = None,
        *,
        admin: bool = False,
    ) -> App:
        """The endpoints as an ASGI application; `admin`: with those of operators."""
        routes = Routes()
        for endpoint in self._endpoints:
            routes.add(endpoint)
        if self._contract is not None:
            add_contract(routes, self.registry, self._contract)
        add_defaults(routes, self.registry, self._metrics)
        add_model_protocol(routes, self.registry, self._metrics)
        if self.control.offered:
            add_repository(routes, self.control)
        add_inference_protocol(
            routes, self.registry, self._extensions, self.regions, compress=self._config.compress_answers
        )
        add_shared_memory(routes, self.regions)
        add_triton_settings(routes, self.registry, self._config)
        if self._config.enable_debug:
            add_debug(routes)
        if self._config.enable_pages:
            self._add_pages(routes, admin=admin)
        if self._config.admin_metrics:
            for path in ("/metrics", "/status", "/status.json"):
                if routes.at(path) is not None:
                    routes.restrict(path)
        return App(
            routes,
            max_body_bytes=self._config.max_body_bytes,
            request_timeout_s=self._config.request_timeout_s,
            telemetry=self._observation.telemetry,
            gate=self.gate,
            admin=admin,
            startup=startup,
            shutdown=shutdown,
        )

    def _add_pages(self, routes: Routes, *, admin: bool) -> None:
        config = self._config
        openapi = partial(
            document,
            routes,
            self.registry,
            title=f"Tessera {self._title}".strip(),
            has_keys=bool(config.api_keys or config.api_keys_file),
            with_admin=admin,
        )
        add_pages(routes, self._status, openapi)

    @property
    def _title(self) -> str:
        names = self.registry.names
        return names[0] if len(names) == 1 else ""

    @property
    def _extensions(self) -> list[str]:
        """What is served beside the protocol's core, by the names that Triton gave."""
        offered = {
            "model_configuration": True,
            "statistics": self._metrics is not None,
            "logging": self._config.admin_port is not None,
            "system_shared_memory": self.regions.offered,
            "model_repository": self.control.offered,
            "model_repository(unload_dependents)": self.control.offered,
        }
        return [name for name, there in offered.items() if there]

    async def serve(
        self, listener: socket, admin_listener: socket | None = None, *, on_signals: bool
    ) -> None:
        """Serve on `listener` until stopped.

        Args:
            listener: A listening socket; closed at the end.
            admin_listener: Another one, for operators; closed last.
            on_signals: Whether SIGTERM and SIGINT stop it. Only in the main thread.

        Raises:
            ServeError: Requests were not finished in time.
            TesseraError: The model cannot be loaded.
        """
        self.attach()
        if self._config.grpc_port is not None:
            # First: where its port is taken, nothing else has begun.
            try:
                await self._serve_grpc(self._config.grpc_port)
            except BaseException:
                listener.close()
                if admin_listener is not None:
                    admin_listener.close()
                raise
        app = self.make_app(admin=on_main_port(self._config))
        self._http = HttpServer(
            app, listener, self._config.drain_timeout_s, self._tls, limits_of(self._config)
        )
        self.url = url_of(listener, secure=self._tls is not None)
        loading = asyncio.create_task(self._load())
        async with AsyncExitStack() as stack:
            stack.enter_context(self._stopping_on_signals() if on_signals else nullcontext())
            if admin_listener is not None:
                admin = serving_operators(self.make_app(admin=True), admin_listener, self._tls)
                self.admin_url = await stack.enter_async_context(admin)
            logger.info("serving on %s (host %s)", self.url, self._config.host)
            self.listening.set_result(None)
            try:
                await self._http.serve()
            finally:
                loading.cancel()
                drained = self._http.drained
                if self._grpc is not None:
                    drained &= await self._grpc.stop()
                finished = await self._close(drained=drained)
                app.close()
        logger.info("stopped")
        if loading.done() and not loading.cancelled() and (error := loading.exception()):
            raise error
        if not finished and any(backend.loaded for backend in self.registry.backends):
            raise unfinished(self._config.drain_timeout_s)

    async def _serve_grpc(self, port: int) -> None:
        # grpcio takes 0.1 s and 20 MB; only a server that was asked for it pays.
        try:
            from tessera.serve.grpc.methods import Parts
            from tessera.serve.grpc.server import GrpcServer
        except ModuleNotFoundError as missing:
            package = (missing.name or "").partition(".")[0]
            if package not in ("grpc", "google"):
                raise
            raise MissingDependencyError.extra(package, "grpc", needed_for="grpc_port") from missing

        parts = Parts(
            self.registry,
            self.control,
            self.regions,
            self._config,
            self._metrics,
            self._observation.calls,
            tuple(self._extensions),
        )
        self._grpc = GrpcServer(parts, self.gate)
        self.grpc_address = await self._grpc.start(self._config.host, port)
        logger.info("serving gRPC on %s", self.grpc_address)

    @property
    def metrics(self) -> Metrics | None:
        """What is counted; None: nothing."""
        return self._metrics

    @property
    def stopping(self) -> bool:
        """Whether it has begun to stop."""
        return self.registry.phase in (Phase.DRAINING, Phase.STOPPED)

    def stop(self) -> None:
        """Begin to stop. On the loop's thread."""
        if self._http is None or self.registry.phase is Phase.STOPPED:
            return
        if self.registry.phase is not Phase.DRAINING:
            logger.info("stopping: %d inference requests wait", self.registry.waiting)
        self.registry.begin_drain()
        self._http.stop()
        if self._grpc is not None:
            self._grpc.begin_stop()

    async def drain_and_close(self) -> bool:
        """End without a port of its own; says whether every request was finished in time."""
        self.registry.begin_drain()
        return await self._close(drained=True)

    async def _close(self, *, drained: bool) -> bool:
        """Give the models back; says whether every request was finished."""
        if self._watching is not None:
            self._watching.cancel()
        if drained:
            try:
                # Requests that did not come over HTTP: calls of infer() from other threads.
                await asyncio.wait_for(self.registry.drain(), self._config.drain_timeout_s)
            except TimeoutError:
                drained = False
        await self.lifecycle.close(1.0 if drained else 0.0)
        await asyncio.to_thread(self._observation.close)
        ended = await asyncio.to_thread(self.registry.close, 1.0 if drained else 0.0)
        return drained and ended

    async def start_models(self) -> None:
        """Load the models, then follow their files. What cannot be loaded is raised."""
        await self.lifecycle.start()
        self._watching = asyncio.create_task(self._watcher.run())

    async def _load(self) -> None:
        try:
            await self.start_models()
        except BaseException:
            if self._http is not None:
                self._http.stop()
            raise
        self.ready.set_result(None)

    def _add_gauges(self, metrics: Metrics) -> None:
        registry = self.registry
        metrics.models_now = lambda: [
            ModelNow(backend.name, backend.version, backend.waiting, backend.running)
            for backend in registry.backends
            if backend.loaded
        ]
        metrics.gauge(
            "tessera_ready",
            "1 while requests are answered.",
            lambda: float(registry.phase is Phase.READY),
            merge="min",
        )
