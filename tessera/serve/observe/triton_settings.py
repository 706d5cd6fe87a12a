"""Settings of a running server that Triton's clients ask for: what is logged, what is traced.

Source: Triton Inference Server, docs/protocol/extension_logging.md and extension_trace.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from tessera.serve.config import ServerConfig
from tessera.serve.endpoints import Routes
from tessera.serve.models.registry import Registry
from tessera.serve.request import Request, RequestError

_LOG = logging.getLogger("tessera.serve")

_LEVELS = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
"""The level from which on each kind of line is shown. Each shows those after it, too."""

_SILENT = logging.CRITICAL + 10


def log_settings() -> dict[str, Any]:
    """What the server logs, as Triton says it."""
    level = _LOG.getEffectiveLevel()
    return {
        "log_file": "",
        **{name: level <= own for name, own in _LEVELS.items()},
        "log_verbose_level": int(level <= logging.DEBUG),
        "log_format": "default",
    }


def update_log_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Change what the server logs; what it is then.

    Raises:
        RequestError: A setting is unknown, of another type, or cannot be had.
    """
    wanted = log_settings()
    for name, value in given.items():
        if name not in wanted:
            raise RequestError(
                f"there is no log setting {name[:80]!r}", hint=f"there is: {', '.join(wanted)}"
            )
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not (whole if name == "log_verbose_level" else isinstance(value, type(wanted[name]))):
            raise RequestError(f"the log setting {name!r} cannot be {str(value)[:80]!r}")
        if name in ("log_file", "log_format") and value != wanted[name]:
            raise RequestError(
                f"the log setting {name!r} stays {wanted[name]!r} while the server runs",
                hint="where a log goes, and its form, is set where the server is started",
                status=HTTPStatus.NOT_IMPLEMENTED,
            )
        wanted[name] = value
    shown = [bool(wanted["log_verbose_level"]), *(wanted[name] for name in _LEVELS)]
    if shown != sorted(shown):
        raise RequestError(
            "what is less grave is not shown without what is graver",
            hint="log_verbose_level over 0 wants log_info, that wants log_warning, that wants log_error",
        )
    levels = [logging.DEBUG, *_LEVELS.values(), _SILENT]
    _LOG.setLevel(levels[shown.index(True) if any(shown) else -1])
    return log_settings()


def trace_settings(config: ServerConfig) -> dict[str, Any]:
    """What the server traces, as Triton says it."""
    return {"trace_level": ["TIMESTAMPS" if config.enable_tracing else "OFF"], "trace_mode": "opentelemetry"}


def refuse_trace_settings(given: Mapping[str, Any]) -> None:
    """Traces are set where the server is started.

    Raises:
        RequestError: `given` is not empty.
    """
    if given:
        raise RequestError(
            f"the trace settings {', '.join(given)[:200]} stay as they are while the server runs",
            hint="traces are set where the server is started: enable_tracing and what is beside it",
            status=HTTPStatus.NOT_IMPLEMENTED,
        )


def add_triton_settings(routes: Routes, registry: Registry, config: ServerConfig) -> None:
    """Add `/v2/logging` and `/v2/trace/setting`, for operators."""

    async def logs(request: Request) -> dict[str, Any]:
        return update_log_settings(request.object) if request.method == "POST" else log_settings()

    async def traces(request: Request) -> dict[str, Any]:
        if "model" in request.path_params:
            registry.resolve(request.path_params["model"])
        if request.method == "POST":
            refuse_trace_settings(request.object)
        return trace_settings(config)

    for path, call in (
        ("/v2/logging", logs),
        ("/v2/trace/setting", traces),
        ("/v2/models/{model}/trace/setting", traces),
    ):
        routes.add_default(path, ("GET", "POST"), call, admin=True)
