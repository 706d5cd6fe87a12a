"""What the protocol tells of models beside their inference: a list, configurations, statistics.

Source: Triton Inference Server, docs/protocol/extension_model_configuration.md and
extension_statistics.md.
"""

from __future__ import annotations

from typing import Any

from tessera.serve.endpoints import Routes
from tessera.serve.metrics import Metrics
from tessera.serve.models.model_config import model_config
from tessera.serve.models.registry import Registry, State
from tessera.serve.models.statistics import statistics
from tessera.serve.observe.model_metrics import Figures
from tessera.serve.request import Request


def add_model_protocol(routes: Routes, registry: Registry, metrics: Metrics | None) -> None:
    """Add `/v2/models`, `config` and, with `metrics`, `stats` where nothing else is."""

    async def models(_: Request) -> dict[str, list[str]]:
        return {"models": sorted({*registry.names, *registry.aliases})}

    async def config(request: Request) -> dict[str, Any]:
        backend = registry.resolve(request.path_params["model"], request.path_params.get("version"))
        return model_config(backend, registry.config_of(backend))

    async def all_stats(_: Request) -> dict[str, Any]:
        return all_statistics(registry, metrics)

    async def stats(request: Request) -> dict[str, Any]:
        return all_statistics(
            registry, metrics, request.path_params["model"], request.path_params.get("version")
        )

    routes.add_default("/v2/models", "GET", models)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes.add_default(f"{prefix}/config", "GET", config)
        if metrics is not None:
            routes.add_default(f"{prefix}/stats", "GET", stats)
    if metrics is not None:
        routes.add_default("/v2/models/stats", "GET", all_stats)


def all_statistics(
    registry: Registry, metrics: Metrics | None, name: str | None = None, version: str | None = None
) -> dict[str, Any]:
    """The statistics of what answers.

    Args:
        registry: The models.
        metrics: What was counted.
        name: Of this model alone; None: of all.
        version: Of this version alone; None: of all of the model's.

    Raises:
        ModelNotFoundError: There is none of that name and version.
    """
    entries = registry.answering(name, version) if name else registry.entries(State.READY)
    known = metrics.figures() if metrics else {}
    backends = [entry.backend for entry in entries]
    figures = [(backend, known.get((backend.name, backend.version), Figures())) for backend in backends]
    return {"model_stats": [statistics(backend, each) for backend, each in figures]}
