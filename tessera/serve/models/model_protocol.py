"""What the protocol tells of models beside their inference: a list, configurations, statistics.

Source: Triton Inference Server, docs/protocol/extension_model_configuration.md and
extension_statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tessera.serve.defaults import default_endpoint
from tessera.serve.endpoints import Call, Routes
from tessera.serve.metrics import Metrics
from tessera.serve.models.model_config import model_config
from tessera.serve.models.registry import Backend, Registry, State
from tessera.serve.models.statistics import statistics
from tessera.serve.observe.model_metrics import Figures
from tessera.serve.request import Request


def add_model_protocol(routes: Routes, registry: Registry, metrics: Metrics | None) -> None:
    """Add `/v2/models`, `config` and, with `metrics`, `stats` where nothing else is."""

    def told(backends: Iterable[Backend]) -> dict[str, Any]:
        known = metrics.figures() if metrics else {}
        figures = [(backend, known.get((backend.name, backend.version), Figures())) for backend in backends]
        return {"model_stats": [statistics(backend, each) for backend, each in figures]}

    async def models(_: Request) -> dict[str, list[str]]:
        return {"models": registry.names}

    async def config(request: Request) -> dict[str, Any]:
        backend = registry.resolve(request.path_params["model"], request.path_params.get("version"))
        return model_config(backend, registry.config_of(backend))

    async def all_stats(_: Request) -> dict[str, Any]:
        return told(entry.backend for entry in registry.entries(State.READY))

    async def stats(request: Request) -> dict[str, Any]:
        entries = registry.answering(request.path_params["model"], request.path_params.get("version"))
        return told(entry.backend for entry in entries)

    _add(routes, "/v2/models", models)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        _add(routes, f"{prefix}/config", config)
        if metrics is not None:
            _add(routes, f"{prefix}/stats", stats)
    if metrics is not None:
        _add(routes, "/v2/models/stats", all_stats)


def _add(routes: Routes, path: str, call: Call) -> None:
    if routes.at(path) is None:
        routes.add(default_endpoint(path, "GET", call))
