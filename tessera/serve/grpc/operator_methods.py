"""What operators ask over gRPC: models loaded and unloaded, logs, traces.

It is answered where operators' paths are answered on the main port of HTTP, too: `admin_port` is `port`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from tessera.serve.config import ServerConfig
from tessera.serve.grpc.protocol import inference_pb2 as pb
from tessera.serve.models.control import ModelControl
from tessera.serve.models.registry import Registry
from tessera.serve.models.repository_protocol import STATES, refuse_content
from tessera.serve.observe.triton_settings import (
    log_settings,
    refuse_trace_settings,
    trace_settings,
    update_log_settings,
)
from tessera.serve.request import RequestError
from tessera.serve.security.exposure import on_main_port


class OperatorMethods:
    """The methods by name.

    Args:
        control: Loads and unloads.
        config: Settings.
        registry: The models.
    """

    def __init__(self, control: ModelControl, config: ServerConfig, registry: Registry) -> None:
        self._control = control
        self._config = config
        self._registry = registry
        methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
            "TraceSetting": self._trace,
            "LogSettings": self._log,
        }
        allowed = on_main_port(config)
        self.unary = methods if allowed else {name: _refusal(name) for name in methods}
        """The methods by name; without `admin_port` they refuse."""

    async def _index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        response = pb.RepositoryIndexResponse()
        for row in await self._control.index(ready=request.ready):
            response.models.add(
                name=row.name, version=row.version, state=STATES[row.state], reason=row.reason
            )
        return response

    async def _load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        refuse_content(request.parameters)
        await self._control.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        await self._control.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def _trace(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        if request.model_name:
            self._registry.resolve(request.model_name)
        refuse_trace_settings(request.settings)
        response = pb.TraceSettingResponse()
        for name, value in trace_settings(self._config).items():
            response.settings[name].value.extend(value if isinstance(value, list) else [value])
        return response

    async def _log(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        given = {name: _value(setting) for name, setting in request.settings.items()}
        response = pb.LogSettingsResponse()
        for name, value in (update_log_settings(given) if given else log_settings()).items():
            field = next(field for kind, field in _FIELDS if isinstance(value, kind))
            setattr(response.settings[name], field, value)
        return response


# A boolean is an integer in Python, and comes first.
_FIELDS: Iterable[tuple[type, str]] = ((bool, "bool_param"), (int, "uint32_param"), (str, "string_param"))


def _value(setting: Any) -> Any:
    choice = setting.WhichOneof("parameter_choice")
    return None if choice is None else getattr(setting, choice)


def _refusal(name: str) -> Callable[[Any], Awaitable[Any]]:
    async def refuse(_: Mapping[str, Any]) -> None:
        raise RequestError(
            f"{name} is for operators, and not answered on this port",
            hint="set admin_port to the server's port, or ask its admin_port over HTTP",
            status=HTTPStatus.FORBIDDEN,
        )

    return refuse
