"""A model of a server, as endpoints use it."""

from __future__ import annotations

from typing import Any

from tessera.serve.inference_protocol import metadata
from tessera.serve.loop_calls import LoopCalls
from tessera.serve.service import Result
from tessera.serve.session import Session


class ModelHandle:
    """A model by name, and by version if one was asked for.

    It keeps no model open: each call goes to what answers at that moment, so a handle may be kept
    while models are replaced.

    Args:
        calls: The way into the server.
        name: The model's.
        version: Which one; None: the latest at each call.
    """

    def __init__(self, calls: LoopCalls, name: str, version: str | None) -> None:
        self._calls = calls
        self.name = name
        """What clients call it."""
        self.version = version
        """The version that was asked for; None: the latest."""

    async def infer(self, input_data: Any, *, timeout_s: float | None = None) -> Result:
        """The output for `input_data`, batched with other requests.

        Args:
            input_data: The value of the only input, or a mapping by name: nested lists,
                arrays, numbers.
            timeout_s: Longest to wait.

        Returns:
            An array; with several outputs a dict of arrays by name.

        Raises:
            ModelNotFoundError: It was unloaded.
            InputError: Not what the program takes; the message names the input.
            OverloadedError: Too many requests wait, or the server is starting or stopping.
            TimeoutError: `timeout_s` is over.
        """
        return await self._calls.run(lambda session: self._infer(session, input_data, timeout_s))

    def infer_sync(self, input_data: Any, *, timeout_s: float | None = None) -> Result:
        """As `infer`, for endpoints that are plain functions and for other threads."""
        return self._calls.run_sync(
            lambda session: self._infer(session, input_data, timeout_s), instead="await model.infer(…)"
        )

    async def _infer(self, session: Session, input_data: Any, timeout_s: float | None) -> Result:
        backend = session.registry.resolve(self.name, self.version)
        return await backend.infer(input_data, timeout_s=timeout_s)

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, version, inputs, outputs, device and memory of what answers now.

        Raises:
            ModelNotFoundError: It was unloaded.
            OverloadedError: It is being loaded.
        """
        registry = self._calls.session.registry
        backend = registry.resolve(self.name, self.version)
        return {
            **metadata(backend, registry.versions(backend.name)),
            "version": backend.version,
            "device": backend.model.device,
            "memory": backend.memory_usage(),
        }

    def __repr__(self) -> str:
        return f"ModelHandle({self.name!r}, version={self.version!r})"
