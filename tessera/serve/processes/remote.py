"""A model that runs in owner processes, as a front sees it: it looks like a `Service`."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from tessera.program.codec import program_from_json
from tessera.program.errors import InputError, OverloadedError, ServeError
from tessera.serve.config import ServerConfig
from tessera.serve.inputs import Arrays, Prepared, Preparer
from tessera.serve.model import Model
from tessera.serve.models.spec import ModelSpec
from tessera.serve.observe.model_metrics import ModelMetrics
from tessera.serve.processes.arena import Arena
from tessera.serve.processes.calls import MAX_LAYOUTS, Call, OwnerLink
from tessera.serve.processes.info import ModelInfo
from tessera.serve.processes.layout import Layout, layout_of
from tessera.serve.refusals import server_stopping, still_loading
from tessera.serve.request import RequestError
from tessera.serve.response_cache import ResponseCache
from tessera.serve.security.tensor_limits import SizeCheck, tensor_limits_of
from tessera.serve.service import Phase, Result

logger = logging.getLogger("tessera.serve")

PARK_S = 0.9
"""How long requests wait for an owner while none runs; then they are answered 503."""

MAX_TRIES = 2
"""Owners that may run a request. One that two have died of is not given to a third."""


class RemoteModel:
    """The metadata of a model that another process has loaded."""

    def __init__(self, info: ModelInfo) -> None:
        self.program = program_from_json(info.program)
        self.version = info.package_version
        self.device = info.device

    def infer_batch(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:  # noqa: ARG002
        """Not here: another process runs it."""
        raise ServeError(f"{self.program.name} runs in another process", hint="await server.infer(…) instead")

    def memory_usage(self) -> Mapping[str, int]:
        """Nothing on this process's account."""
        return {}

    def close(self) -> None:
        """Nothing to give back."""


class RemoteService:
    """Asks owners. Lives on one event loop.

    Args:
        config: Settings.
        memory: The front's shared memory, from `create_memory`; it stays the caller's.
    """

    def __init__(self, config: ServerConfig, memory: int) -> None:
        self._config = config
        self._arena = Arena(memory)
        self._links: list[OwnerLink] = []
        self._parked: list[Call] = []
        self._parking: asyncio.TimerHandle | None = None
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._info: ModelInfo | None = None
        self._model: RemoteModel | None = None
        self._known = asyncio.Event()
        self._preparer: Preparer
        self._sizes: SizeCheck
        self._cache = ResponseCache(config.cache_bytes, config.cache_ttl_s) if config.cache_bytes else None
        self._ending: Phase | None = None
        self.observer: ModelMetrics | None = None
        """Is told of requests that never come to an owner."""
        self.is_open = True
        """Whether it may be called ready once an owner is there."""

    @property
    def phase(self) -> Phase:
        """Loading also while every owner is gone: who asks is told so at once."""
        if self._ending is not None:
            return self._ending
        return Phase.READY if self._links and self.is_open else Phase.LOADING

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._ending = phase if phase in (Phase.DRAINING, Phase.STOPPED) else None

    @property
    def name(self) -> str:
        """What clients call the model.

        Raises:
            OverloadedError: No owner has loaded it yet.
        """
        return self._told.name

    @property
    def version(self) -> str:
        """The model's version, as clients see it.

        Raises:
            OverloadedError: No owner has loaded it yet.
        """
        return self._told.version

    @property
    def model(self) -> RemoteModel:
        """The model's metadata.

        Raises:
            OverloadedError: No owner has loaded it yet.
        """
        if self._model is None:
            raise still_loading()
        return self._model

    @property
    def loaded(self) -> bool:
        """Whether an owner has ever loaded it."""
        return self._model is not None

    @property
    def waiting(self) -> int:
        """Requests that wait for an owner to start; the owners count those that wait in theirs."""
        return len(self._parked)

    @property
    def running(self) -> int:
        """Batches in execution: the owners count them."""
        return 0

    @property
    def in_flight(self) -> int:
        """Requests of this process that have no answer yet."""
        return len(self._parked) + sum(link.in_flight for link in self._links)

    async def attach(self, info: ModelInfo, connection: socket.socket) -> None:
        """Ask the owner at the other end of `connection`, too."""
        link = OwnerLink(self._lost)
        await asyncio.get_running_loop().create_connection(lambda: link, sock=connection)
        if self._info != info:
            if self._model is not None:
                logger.warning("an owner has another model: %s %s", info.name, info.version)
            self._info, self._model = info, RemoteModel(info)
            self._layouts.clear()
            self._preparer = Preparer(self._model.program)
            self._sizes = SizeCheck(self._model.program, tensor_limits_of(self._config))
            if self._cache is not None:
                self._cache.clear()
            if self.observer is not None:
                self.observer.bind(info.name, info.version)
        self._links.append(link)
        self._known.set()
        self._unpark()

    async def load(self) -> None:
        """Return when an owner has loaded the model."""
        await self._known.wait()

    async def infer(self, data: Any, *, timeout_s: float | None = None) -> Result:
        """The output for `data`; with several outputs a dict by name. See `Service.infer`."""
        outputs = await self.infer_all(data, timeout_s=timeout_s)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    async def infer_all(self, data: Any, *, timeout_s: float | None = None) -> Arrays:
        """As `infer`, always by name. What is `Prepared` for this program is not checked again."""
        if self._model is None:
            raise still_loading()
        try:
            prepared = data if isinstance(data, Prepared) else self._preparer.prepare(data)
            layout = self._layout(prepared)
        except InputError:
            if self.observer is not None:
                self.observer.request_rejected("invalid")
            raise
        if self._cache is None:
            return await self._ask(prepared, layout, timeout_s)
        run = partial(self._ask, prepared, layout, timeout_s)
        return await self._cache.through(prepared.arrays, run, self.observer)

    async def _ask(self, prepared: Prepared, layout: Layout, timeout_s: float | None) -> Arrays:
        """The owner's answer."""
        call = self._call(prepared, layout, timeout_s)
        try:
            if timeout_s is None:
                return await call.answer
            async with asyncio.timeout(timeout_s):
                return await call.answer
        except (asyncio.CancelledError, TimeoutError):
            self._abandon(call)
            raise

    async def drain(self) -> None:
        """Return when every request has its answer."""
        while self.in_flight:
            await asyncio.sleep(0.005)

    def memory_usage(self) -> dict[str, Any]:
        """What the owner last said; with several, by device."""
        if self._model is None:
            return {"device": None}
        said = [link.memory for link in self._links if link.memory]
        if len(said) == 1:
            return dict(said[0])
        return {"device": self._model.device, "owners": said}

    def close(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing here takes time
        """Hang up. Requests without an answer are refused."""
        self.phase = Phase.STOPPED
        for link in self._links:
            link.close()
        return True

    @property
    def _told(self) -> ModelInfo:
        if self._info is None:
            raise still_loading()
        return self._info

    def _call(self, prepared: Prepared, layout: Layout, timeout_s: float | None) -> Call:
        """A call with its inputs in shared memory, on its way to an owner or parked."""
        if self._ending is Phase.STOPPED:
            raise server_stopping()
        if not self._links and len(self._parked) >= self._config.max_queue:
            raise _gone()
        # Without a limit of its own the front ends it after request_timeout_s, and says so to the client.
        wait_s = self._config.request_timeout_s + 1.0 if timeout_s is None else timeout_s
        answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        call = Call(layout, self._arena, answer, time.monotonic() + wait_s)
        layout.write(self._arena.memory, call.block, prepared.arrays)
        self._dispatch(call)
        return call

    def _layout(self, prepared: Prepared) -> Layout:
        key = tuple(prepared.symbols.values())
        layout = self._layouts.get(key)
        if layout is None:
            self._sizes.check(prepared.arrays, prepared.symbols)
            layout = layout_of(self.model.program, prepared.symbols, self._told.rows)
            if layout.size_bytes > self._arena.largest_bytes:
                raise RequestError(
                    f"inputs and outputs of this request have {layout.size_bytes} bytes; "
                    f"the shared memory takes {self._arena.largest_bytes}",
                    hint="send fewer rows at once, or raise shared_memory_size",
                    status=413,
                )
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[key] = layout
        return layout

    def _dispatch(self, call: Call) -> None:
        if not self._links:
            self._park(call)
            return
        link = self._links[0]
        if len(self._links) > 1:
            link = min(self._links, key=_in_flight)
            # Equals take turns.
            self._links.remove(link)
            self._links.append(link)
        link.send(call)

    def _abandon(self, call: Call) -> None:
        if call in self._parked:
            self._parked.remove(call)
            call.release()
        elif call.link is not None:
            call.link.cancel(call)

    def _lost(self, link: OwnerLink, calls: list[Call]) -> None:
        """An owner is gone: its requests go to another. Inference has no effects that could come twice."""
        if link in self._links:
            self._links.remove(link)
        for call in calls:
            call.link = None
            if call.answer.done():
                call.release()
            elif self._ending is Phase.STOPPED:
                call.fail(server_stopping())
            elif call.tries >= MAX_TRIES:
                call.fail(_gone())
            else:
                self._dispatch(call)

    def _park(self, call: Call) -> None:
        self._parked.append(call)
        if self._parking is None:
            self._parking = asyncio.get_running_loop().call_later(PARK_S, self._give_up)

    def _give_up(self) -> None:
        self._parking = None
        parked, self._parked = self._parked, []
        for call in parked:
            call.fail(_gone())

    def _unpark(self) -> None:
        if self._parking is not None:
            self._parking.cancel()
            self._parking = None
        parked, self._parked = self._parked, []
        for call in parked:
            self._dispatch(call)


def elsewhere(config: ServerConfig) -> ModelSpec:
    """The model that owners open, as the registry of another process lists it."""
    return ModelSpec("", _opens_nothing, config)


def _opens_nothing() -> Model:
    raise ServeError("another process opens the model")


def _in_flight(link: OwnerLink) -> int:
    return link.in_flight


def _gone() -> OverloadedError:
    return OverloadedError(
        "the process that ran the model ended, and a new one is being started",
        hint="try again in 1 s",
        retry_after_s=1,
    )
