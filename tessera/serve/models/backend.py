"""What answers for one version of a model."""

from __future__ import annotations

from typing import Any, Protocol

from tessera.serve.inputs import Arrays
from tessera.serve.model import Model
from tessera.serve.service import Phase, Result


class Backend(Protocol):
    """One version of a model, as protocols see it. `service.Service` is one."""

    phase: Phase
    """Where it is in its life."""

    @property
    def name(self) -> str:
        """What clients call it.

        Raises:
            OverloadedError: Its package gives the name, and is still being loaded.
        """

    @property
    def version(self) -> str:
        """Its version, as clients see it.

        Raises:
            OverloadedError: Its package gives the version, and is still being loaded.
        """

    @property
    def model(self) -> Model:
        """The loaded model: its program and device.

        Raises:
            OverloadedError: It is still being loaded.
        """

    @property
    def loaded(self) -> bool:
        """Whether there is a model."""

    @property
    def waiting(self) -> int:
        """Requests in its queue."""

    @property
    def running(self) -> int:
        """Batches in execution."""

    async def load(self) -> None:
        """Open the model and warm it up. Whatever goes wrong is raised."""

    async def infer(self, data: Any, *, timeout_s: float | None = None) -> Result:
        """The output for `data`; with several outputs a dict by name."""

    async def infer_all(self, data: Any, *, timeout_s: float | None = None) -> Arrays:
        """As `infer`, always by name."""

    async def drain(self) -> None:
        """Return when nothing waits or runs."""

    def memory_usage(self) -> dict[str, Any]:
        """The device's name and its memory, in bytes by purpose."""

    def close(self, timeout_s: float) -> bool:
        """Give the model back; says whether all of it ended within `timeout_s`."""
