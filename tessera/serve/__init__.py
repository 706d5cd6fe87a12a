"""Answers requests with a package: batching, health, metrics, graceful stop.

Names are imported when first used: the HTTP stack costs 120 ms, and whoever only
reads a `ServerConfig` does not pay for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tessera.program.errors import MissingDependencyError

if TYPE_CHECKING:
    from tessera.serve.balancing.breaker import CircuitBreaker
    from tessera.serve.balancing.load_balancer import LoadBalancer
    from tessera.serve.balancing.replica import ModelReplica
    from tessera.serve.balancing.settings import BalancerSettings
    from tessera.serve.config import ServerConfig
    from tessera.serve.dynamic_batcher import DynamicBatcher
    from tessera.serve.models.multi_model_server import MultiModelServer
    from tessera.serve.request import Request, RequestError
    from tessera.serve.server import ProductionServer

__all__ = [
    "BalancerSettings",
    "CircuitBreaker",
    "DynamicBatcher",
    "LoadBalancer",
    "ModelReplica",
    "MultiModelServer",
    "ProductionServer",
    "Request",
    "RequestError",
    "ServerConfig",
]

_HOMES = {
    "BalancerSettings": "tessera.serve.balancing.settings",
    "CircuitBreaker": "tessera.serve.balancing.breaker",
    "DynamicBatcher": "tessera.serve.dynamic_batcher",
    "LoadBalancer": "tessera.serve.balancing.load_balancer",
    "ModelReplica": "tessera.serve.balancing.replica",
    "MultiModelServer": "tessera.serve.models.multi_model_server",
    "ProductionServer": "tessera.serve.server",
    "Request": "tessera.serve.request",
    "RequestError": "tessera.serve.request",
    "ServerConfig": "tessera.serve.config",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package in ("", "tessera"):
            raise
        raise MissingDependencyError.extra(package, "serve", needed_for=name) from missing
