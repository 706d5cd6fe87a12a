"""Loading, replacing and unloading models while requests are answered.

A new model is opened and warmed up beside the one that serves, takes its place in one step of the
event loop, and only then the old one finishes what it accepted and is closed. So no request is
refused, none is answered half by one and half by the other, and the memory of both is held
meanwhile. What fails to load changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from tessera.program.errors import ServeError
from tessera.serve.models.registry import Backend, Entry, Registry, State
from tessera.serve.models.spec import ModelSpec, package_state
from tessera.serve.refusals import server_stopping
from tessera.serve.service import Phase

logger = logging.getLogger("tessera.serve")

T = TypeVar("T")

LOADS_AT_ONCE = 2
"""Models that are loaded at the same time: each reads its weights and is warmed up."""

UNLOADED = "unloaded"
"""The reason of models that were unloaded when somebody asked for it."""

MakeBackend = Callable[[ModelSpec], Backend]
"""Makes what will answer for a model; it is not loaded yet."""


class Lifecycle:
    """Changes what a registry has. Lives on its event loop; only `add` may be called before it runs.

    Calls that concern one name take their turns in the order in which they came. A call goes on if
    whoever made it no longer waits.

    Args:
        registry: What is changed.
        make: Makes backends.
        drain_timeout_s: Longest that a replaced or unloaded model may take to finish.
    """

    def __init__(self, registry: Registry, make: MakeBackend, *, drain_timeout_s: float) -> None:
        self._registry = registry
        self._make = make
        self._drain_timeout_s = drain_timeout_s
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[object]] = set()
        self._loads = asyncio.Semaphore(LOADS_AT_ONCE)

    def add(self, spec: ModelSpec) -> Entry:
        """Take a model up, to be loaded by `start`."""
        return self._registry.add(self._make(spec), name=spec.name, version=spec.version, spec=spec)

    async def start(self) -> None:
        """Load what was added.

        Raises:
            TesseraError: A model cannot be loaded and is not optional; the others are loaded all the same.
        """
        entries = self._registry.entries(State.LOADING)
        outcomes = await asyncio.gather(
            *(self._locked(e.name, partial(self._open, e)) for e in entries), return_exceptions=True
        )
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, BaseException) and not (entry.spec and entry.spec.in_repository):
                raise outcome
        if self._registry.phase is Phase.LOADING:
            self._registry.phase = Phase.READY

    async def load(self, spec: ModelSpec) -> Backend:
        """Load a model and let it answer, in place of what has its name and version, or its name and file.

        Raises:
            TesseraError: It cannot be loaded; what was there before answers as before.
        """

        async def work() -> Backend:
            return await self._open(self.add(spec))

        return await self._going_on(self._locked(spec.name, work))

    async def reload(self, name: str, version: str | None = None) -> list[Backend]:
        """Load every version of `name`, or one, again from its package, in place of itself.

        Raises:
            ModelNotFoundError: There is no such model.
            ServeError: It was given as a loaded model, which has nothing to be loaded from.
            TesseraError: It cannot be loaded; the old one answers as before.
        """

        async def work() -> list[Backend]:
            return [await self._again(entry) for entry in self._registry.answering(name, version)]

        return await self._going_on(self._locked(name, work))

    async def unload(self, name: str, version: str | None = None, *, wait: bool = False) -> list[Entry]:
        """Let every version of `name`, or one, finish what it accepted, and give its memory back.

        Args:
            name: The model's.
            version: Which one; None: all.
            wait: Return when the memory is given back, rather than when no new request is taken.

        Returns:
            Them.

        Raises:
            ModelNotFoundError: There is no such model.
        """

        async def work() -> list[Entry]:
            entries = self._registry.answering(name, version)
            for entry in entries:
                self._retire(entry, UNLOADED)
            return entries

        entries = await self._going_on(self._locked(name, work))
        if wait:
            for entry in entries:
                await entry.gone.wait()
        return entries

    async def close(self, timeout_s: float) -> None:
        """Let what is under way end within `timeout_s`."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _again(self, entry: Entry) -> Backend:
        spec = entry.spec
        if spec is None or not spec.reopens:
            raise ServeError(
                f"the model {entry.name!r} was given loaded, it cannot be loaded again",
                hint="register it by its package's path",
            )
        return await self._open(self.add(replace(spec, name=entry.name)), (entry,))

    async def _open(self, entry: Entry, replaces: Sequence[Entry] = ()) -> Backend:
        path = entry.spec.path if entry.spec else None
        replaces = [*replaces, *self._of_file(entry)]
        try:
            async with self._loads:
                # Before it is opened: what changes meanwhile is seen as a change.
                entry.file_state = await asyncio.to_thread(package_state, path) if path else None
                await entry.backend.load()
        except BaseException as error:
            logger.error("cannot load %s: %s", entry.spec, error)
            self._registry.mark_failed(entry, reason(error), replaces)
            entry.backend.close(0.0)
            raise
        for old in {*self._registry.mark_ready(entry), *replaces}:
            self._retire(old, "")
        return entry.backend

    def _of_file(self, entry: Entry) -> list[Entry]:
        """What serves an earlier content of the same file, whose version may have been another one."""
        spec = entry.spec
        if spec is None or spec.path is None:
            return []
        return [
            other
            for other in self._registry.entries(State.READY)
            if other.name == entry.name
            and other.spec is not None
            and (other.spec.path, other.spec.version) == (spec.path, spec.version)
        ]

    def _retire(self, entry: Entry, why: str) -> None:
        """Let `entry` take no new requests, finish in the background, and be listed with `why`."""
        if entry.state is not State.READY:
            return
        self._registry.retire(entry, why)
        self._keep(asyncio.create_task(self._end(entry, why)))

    async def _end(self, entry: Entry, why: str) -> None:
        finished = True
        try:
            async with asyncio.timeout(self._drain_timeout_s):
                while entry.holds or entry.backend.waiting or entry.backend.running:
                    await entry.backend.drain()
                    # Requests that hold it have not come to the queue yet.
                    await asyncio.sleep(0.005 if entry.holds else 0)
        except TimeoutError:
            finished = False
            logger.error(
                "requests to %s were not finished within drain_timeout_s = %g s",
                entry.spec,
                self._drain_timeout_s,
            )
        await asyncio.to_thread(entry.backend.close, 1.0 if finished else 0.0)
        self._registry.remove(entry, why)

    async def _locked(self, name: str | None, work: Callable[[], Awaitable[T]]) -> T:
        if self._registry.phase in (Phase.DRAINING, Phase.STOPPED):
            raise server_stopping()
        lock = self._locks.setdefault(name or "", asyncio.Lock())
        async with lock:
            return await work()

    async def _going_on(self, work: Awaitable[T]) -> T:
        """The result of `work`, which is finished even if the caller is cancelled: a client may hang up."""
        task = asyncio.ensure_future(work)
        self._keep(task)
        return await asyncio.shield(task)

    def _keep(self, task: asyncio.Future[T]) -> None:
        self._tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[T]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever waited has heard of it; if nobody did, the log has it.
            task.exception()


def reason(error: BaseException) -> str:
    """Why a model cannot be loaded, for the listing."""
    return f"{error}".partition("\n")[0] or type(error).__name__
