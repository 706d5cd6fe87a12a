"""What an operator does with a server's models: list them, load and unload them by name.

Names are looked up among what the repository's folder holds and what the program registered. Nothing
that comes over the network becomes a part of a path.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import NamedTuple

from tessera.program.errors import ConfigError
from tessera.serve.config import ServerConfig
from tessera.serve.models.lifecycle import Lifecycle
from tessera.serve.models.registry import ModelStatus, Registry, State
from tessera.serve.models.repository import Found, Repository
from tessera.serve.models.spec import ModelSpec
from tessera.serve.request import RequestError


class IndexRow(NamedTuple):
    """One row of the repository's index."""

    name: str
    version: str
    state: State
    reason: str


class ModelControl:
    """Lists, loads and unloads models by name. Lives on the registry's event loop.

    Args:
        registry: Says what is served.
        lifecycle: Loads and unloads.
        config: Whether it may be done, `repository_mode`.
        repository: The folder of packages; None: there is none.
    """

    def __init__(
        self,
        registry: Registry,
        lifecycle: Lifecycle,
        config: ServerConfig,
        repository: Repository | None,
    ) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._mode = config.repository_mode
        self._repository = repository

    @property
    def offered(self) -> bool:
        """Whether there is anything to ask: a repository, or leave to load and unload."""
        return self._repository is not None or self._mode == "explicit"

    async def index(self, *, ready: bool = False) -> list[IndexRow]:
        """What is served, and what could be; with `ready`, only what answers."""
        rows = [self._row(row) for row in self._registry.listing() if row.name is not None]
        known = {row.name for row in rows}
        found = await self._scan()
        for name, versions in found.models.items():
            if name not in known:
                rows += [IndexRow(name, v or "", State.UNAVAILABLE, "not loaded") for v in versions]
        rows += [
            IndexRow(name, "", State.UNAVAILABLE, text)
            for name, text in found.problems.items()
            if name not in known
        ]
        return sorted(row for row in rows if row.state is State.READY or not ready)

    async def load(self, name: str) -> None:
        """Load a model, or load it again, in the versions that the policy takes.

        Raises:
            RequestError: Nobody may do this here, or there is no such model.
            TesseraError: It cannot be loaded; what was served before is served on.
        """
        self._allow()
        specs = await self._specs(name)
        for spec in specs:
            await self._lifecycle.load(spec)
        wanted = {spec.version for spec in specs}
        for entry in self._registry.entries(State.READY):
            if entry.name == name and entry.spec is not None and entry.spec.version not in wanted:
                await self._lifecycle.unload(name, entry.version)

    async def unload(self, name: str) -> None:
        """Serve a model no more; what was accepted is finished.

        Raises:
            RequestError: Nobody may do this here, or no such model is served.
        """
        self._allow()
        await self._lifecycle.unload(name)

    def _allow(self) -> None:
        if self._mode != "explicit":
            raise RequestError(
                f"models are not loaded and unloaded by request: repository_mode is {self._mode!r}",
                hint='set repository_mode = "explicit"',
                status=HTTPStatus.FORBIDDEN,
            )

    async def _specs(self, name: str) -> list[ModelSpec]:
        # By version, and the last of each: one that was unloaded is still known.
        own = {
            spec.version: spec
            for entry in self._registry.entries(*State)
            if entry.name == name and (spec := entry.spec) and spec.reopens and not spec.in_repository
        }
        if own:
            return list(own.values())
        if self._repository is None:
            there = ", ".join(self._registry.names) or "none"
            raise RequestError(
                f"there is no model {name[:80]!r} that can be loaded",
                hint=f"loaded: {there}",
                status=HTTPStatus.NOT_FOUND,
            )
        return self._repository.specs(await self._scan(), name)

    async def _scan(self) -> Found:
        if self._repository is None:
            return Found()
        return await asyncio.to_thread(self._repository.scan)

    def _row(self, row: ModelStatus) -> IndexRow:
        reason = row.reason if self._repository is None else self._repository.reason(row.reason)
        return IndexRow(str(row.name), row.version or "", row.state, reason)


def initial(repository: Repository, config: ServerConfig) -> list[ModelSpec]:
    """What a server begins with.

    Raises:
        ConfigError: `load_models` names what the folder does not have.
    """
    found = repository.scan()
    names = sorted({*found.models, *found.problems})
    if config.repository_mode != "poll" and config.load_models != "*":
        names = [name for name in map(str.strip, config.load_models.split(",")) if name]
    missing = [name for name in names if name not in found.models and name not in found.problems]
    if missing:
        raise ConfigError(
            f"load_models names {missing[0]!r}, which {config.repository} does not have",
            hint=f"it has: {', '.join(found.models) or 'no package'}",
            key="load_models",
        )
    return [spec for name in names if name in found.models for spec in repository.specs(found, name)]
