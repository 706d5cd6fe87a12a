"""An owner: a process that runs one model on one device for all fronts."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from typing import TYPE_CHECKING

from tessera.serve.processes.child import BEAT_S, Child
from tessera.serve.processes.info import ModelInfo, interface_of
from tessera.serve.processes.messages import Attach, Beat, Count, Counted, Ready, Stop, ToChild
from tessera.serve.processes.origin import opener_again
from tessera.serve.processes.owner_service import FrontLink, OwnerService, attach_front
from tessera.serve.processes.totals import told_of
from tessera.serve.rows import row_rule

if TYPE_CHECKING:
    from tessera.serve.metrics import Metrics

logger = logging.getLogger("tessera.serve")


class Owner:
    """The model, the fronts that ask for it, and the supervisor.

    Args:
        child: The channel to the supervisor.
        service: Runs the model; loaded.
        metrics: What is counted here; None: nothing.
    """

    def __init__(self, child: Child, service: OwnerService, metrics: Metrics | None) -> None:
        self._child = child
        self._service = service
        self._metrics = metrics
        self._links: set[FrontLink] = set()
        self._said = b""
        self._stop = asyncio.Event()
        self._attaching: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until the supervisor says to stop."""
        self._child.listen(self._receive)
        self._child.say(Ready(self._info()))
        while not self._stop.is_set():
            self._child.say(Beat(self._service.busy_s()))
            self._child.say(Counted(told_of(self._metrics)))
            self._tell_memory()
            try:
                await asyncio.wait_for(self._stop.wait(), BEAT_S)
            except TimeoutError:
                continue
        for link in list(self._links):
            link.close()

    def _receive(self, message: ToChild, fds: list[int]) -> None:
        match message:
            case Attach():
                task = asyncio.get_running_loop().create_task(self._attach(*fds))
                self._attaching.add(task)
                task.add_done_callback(self._attaching.discard)
            case Count():
                self._child.say(Counted(told_of(self._metrics), asked=True))
            case Stop():
                self._stop.set()

    async def _attach(self, connection: int, memory: int) -> None:
        link = await attach_front(
            self._service.batcher, socket.socket(fileno=connection), memory, self._links.discard
        )
        self._links.add(link)
        link.tell_memory(self._said)

    def _tell_memory(self) -> None:
        said = json.dumps({"pid": os.getpid(), **self._service.memory_usage()}).encode()
        if said != self._said:
            self._said = said
            for link in self._links:
                link.tell_memory(said)

    def _info(self) -> ModelInfo:
        service = self._service
        model = service.model
        return ModelInfo(
            name=service.name,
            version=service.version,
            package_version=model.version,
            device=model.device,
            program=interface_of(model.program),
            rows=row_rule(model.program).symbol,
        )


async def serve(child: Child) -> int:
    """Load the model and run it until the supervisor says to stop; the exit status."""
    _import_early()
    start, config, _ = await child.start()
    metrics = _metrics() if config.enable_metrics else None
    service = OwnerService(
        opener_again(start.origin, config), config, None if metrics is None else metrics.model()
    )
    if metrics is not None:
        _show_queue(metrics, service)
    await service.load()
    await Owner(child, service, metrics).serve()
    ended = await asyncio.to_thread(service.close, 1.0)
    return 0 if ended else 1


def _show_queue(metrics: Metrics, service: OwnerService) -> None:
    from tessera.serve.metrics import ModelNow

    def now() -> list[ModelNow]:
        if not service.loaded:
            return []
        return [ModelNow(service.name, service.version, service.waiting, service.running)]

    metrics.models_now = now


def _import_early() -> None:
    """What nearly every owner needs, while it may still be waiting for the word to be one."""
    import tessera.runtime.deployment
    import tessera.serve.metrics  # noqa: F401


def _metrics() -> Metrics:
    # prometheus_client costs 60 ms, which a server without metrics need not wait for.
    from tessera.serve.metrics import Metrics

    return Metrics()
