"""Follows files of packages, and a folder of them, and has models loaded as they change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Hashable

from tessera.program.errors import TesseraError
from tessera.serve.models.lifecycle import UNLOADED, Lifecycle
from tessera.serve.models.registry import Entry, Registry, State
from tessera.serve.models.repository import Found, Repository
from tessera.serve.models.spec import ModelSpec, package_state
from tessera.serve.models.traffic_file import TrafficFile
from tessera.serve.security.files import State as FileState

logger = logging.getLogger("tessera.serve")


class Watcher:
    """Looks at files every so often. What changed is taken when two looks in a row find it equal: it may
    still be on its way. What cannot be loaded is not tried again until it changes.

    Args:
        registry: Says what is served.
        lifecycle: Loads and unloads.
        interval_s: Between two looks.
        repository: A folder whose packages are served as they come and go; None: there is none.
        traffic: A file that says how requests are split; None: there is none.
    """

    def __init__(
        self,
        registry: Registry,
        lifecycle: Lifecycle,
        *,
        interval_s: float,
        repository: Repository | None = None,
        traffic: TrafficFile | None = None,
    ) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._interval_s = interval_s
        self._repository = repository
        self._traffic = traffic
        self._last: dict[Hashable, object] = {}
        self._present: dict[Hashable, object] = {}
        self._refused: dict[Hashable, FileState] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.look()
            except OSError as error:
                logger.warning("cannot look for changed packages: %s", error)

    async def look(self) -> None:
        """Look once, and load and unload what must be."""
        self._last, self._present = self._present, {}
        for entry in self._registry.entries(State.READY, State.UNAVAILABLE):
            if entry.spec is not None and entry.spec.reload:
                await self._look_at(entry, entry.spec)
        if self._traffic is not None:
            await asyncio.to_thread(self._traffic.look)
        if self._repository is not None:
            found = await asyncio.to_thread(self._repository.scan)
            await self._follow(self._repository, found)

    async def _look_at(self, entry: Entry, spec: ModelSpec) -> None:
        path = spec.path
        if path is None or entry.reason == UNLOADED:
            return
        state = await asyncio.to_thread(package_state, path)
        # A file that is gone for a moment, or for good, is no reason to stop serving.
        if state is None or state == entry.file_state or not self._settled(path, state):
            return
        if self._refused.get(path) == state:
            return
        self._refused[path] = state
        logger.info("%s changed", spec)
        if entry.state is State.READY and entry.name is not None:
            await self._try(self._lifecycle.reload(entry.name, entry.version))
        else:
            await self._try(self._lifecycle.load(spec))

    async def _follow(self, repository: Repository, found: Found) -> None:
        """Make what is served what the folder holds."""
        for name in found.models:
            try:
                specs = repository.specs(found, name)
            except TesseraError as error:
                logger.debug("%s is not served: %s", name, error.message)
                continue
            loaded = [await self._follow_version(spec) for spec in specs]
            keep = {(spec.name, spec.version) for spec in specs}
            # Versions that the policy takes no more go when those that it takes have come.
            if all(loaded):
                await self._drop([e for e in self._followed() if e.name == name and _key(e) not in keep])
        for entry in self._followed():
            if entry.name not in found.models and self._settled(("gone", _key(entry)), entry.name):
                await self._drop([entry])

    async def _follow_version(self, spec: ModelSpec) -> bool:
        """Whether a version is served, after it was loaded if it is new or changed."""
        if spec.path is None:
            return False
        state = await asyncio.to_thread(package_state, spec.path)
        served = next((e for e in self._followed() if _key(e) == (spec.name, spec.version)), None)
        if served is not None and served.file_state == state:
            return True
        if state is None or not self._settled(spec.path, state) or self._refused.get(spec.path) == state:
            return served is not None
        self._refused[spec.path] = state
        logger.info("%s changed", spec)
        return await self._try(self._lifecycle.load(spec)) or served is not None

    def _followed(self) -> list[Entry]:
        """What is served of the folder."""
        return [e for e in self._registry.entries(State.READY) if e.spec is not None and e.spec.in_repository]

    async def _drop(self, entries: list[Entry]) -> None:
        for entry in entries:
            if entry.name is not None:
                await self._try(self._lifecycle.unload(entry.name, entry.version))

    def _settled(self, key: Hashable, state: object) -> bool:
        """Whether the last look found the same."""
        self._present[key] = state
        return self._last.get(key) == state

    async def _try(self, work: Awaitable[object]) -> bool:
        try:
            await work
        except TesseraError as error:
            logger.warning("%s; what was served before is served on", error.message)
            return False
        return True


def _key(entry: Entry) -> tuple[str | None, str | None]:
    """Name and the version that the folder gives, if it gives one."""
    return (entry.name, entry.spec.version if entry.spec is not None else entry.version)
