"""A front: a process that speaks HTTP, checks requests and asks the owners."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from http import HTTPStatus

from tessera.serve.answer import Answer
from tessera.serve.endpoints import Endpoint
from tessera.serve.metrics import CONTENT_TYPE
from tessera.serve.processes.child import BEAT_S, Child
from tessera.serve.processes.messages import (
    Ask,
    AskTotals,
    Beat,
    Count,
    Counted,
    Open,
    Ready,
    Stop,
    ToChild,
    Totals,
)
from tessera.serve.processes.origin import endpoints_again
from tessera.serve.processes.remote import RemoteService, elsewhere
from tessera.serve.processes.totals import Told, told_of
from tessera.serve.request import Request
from tessera.serve.session import Session

TOTALS_S = 2.0
"""How long a reader of `/metrics` waits for the other processes."""


class Front:
    """What the supervisor says to a session, and what the session says to it.

    Args:
        child: The channel to the supervisor.
        service: Asks the owners.
    """

    def __init__(self, child: Child, service: RemoteService) -> None:
        self._child = child
        self._service = service
        self._session: Session
        self._readers: list[asyncio.Future[bytes]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, session: Session) -> None:
        """Listen to the supervisor, and tell it that this process lives."""
        self._session = session
        self._child.listen(self._receive)
        self._keep(self._beat())
        self._keep(self._tell_ready())
        # Somebody may want this process gone: it finishes what it has, and the supervisor starts another.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._drain)

    async def totals(self, _: Request) -> Answer:
        """`/metrics`: what all processes have counted."""
        reader: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._readers.append(reader)
        self._child.say(AskTotals())
        try:
            async with asyncio.timeout(TOTALS_S):
                return Answer(HTTPStatus.OK, await reader, CONTENT_TYPE)
        finally:
            if reader in self._readers:
                self._readers.remove(reader)

    def _receive(self, message: ToChild, fds: list[int]) -> None:
        match message:
            case Ask(info=info):
                self._keep(self._service.attach(info, socket.socket(fileno=fds[0])))
            case Count():
                self._child.say(Counted(self._told(), asked=True))
            case Totals(text=text):
                readers, self._readers = self._readers, []
                for reader in readers:
                    if not reader.done():
                        reader.set_result(text)
            case Open():
                self._service.is_open = True
            case Stop():
                self._session.stop()

    def _told(self) -> Told:
        return told_of(self._session.metrics)

    def _drain(self) -> None:
        if not self._session.stopping:
            self._session.stop()

    async def _beat(self) -> None:
        while True:
            self._child.say(Beat())
            self._child.say(Counted(self._told()))
            await asyncio.sleep(BEAT_S)

    async def _tell_ready(self) -> None:
        await asyncio.wrap_future(self._session.ready)
        self._child.say(Ready())

    def _keep(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def serve(child: Child) -> int:
    """Serve until the supervisor says to stop; the exit status.

    Raises:
        ServeError: Requests were not finished in time.
    """
    start, config, (memory, listener, *admin) = await child.start()
    server, own = endpoints_again(start.origin)
    service = RemoteService(config, memory)
    service.is_open = start.is_open
    os.close(memory)
    front = Front(child, service)
    metrics = [_metrics_endpoint(front)] if config.enable_metrics else []
    endpoints = [*own, *(m for m in metrics if all(m.path != e.path for e in own))]
    session = Session(config, [elsewhere(config)], endpoints, service)
    service.observer = None if session.metrics is None else session.metrics.model()
    # Owners that are there already are asked before the first connection is taken.
    for message, fds in child.early(Ask):
        await service.attach(message.info, socket.socket(fileno=fds[0]))
    if service.loaded:
        await session.lifecycle.start()
    if server is not None:
        server.adopt(session)
    serving = asyncio.create_task(
        session.serve(
            socket.socket(fileno=listener),
            socket.socket(fileno=admin[0]) if admin else None,
            on_signals=False,
        )
    )
    listening = asyncio.wrap_future(session.listening)
    await asyncio.wait([serving, listening], return_when=asyncio.FIRST_COMPLETED)
    if listening.done():
        front.start(session)
    await serving
    return 0


def _metrics_endpoint(front: Front) -> Endpoint:
    return Endpoint("/metrics", ("GET",), front.totals, is_async=True, reads_body=False)
