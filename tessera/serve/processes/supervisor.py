"""The parent of all fronts and owners: starts them, watches them, starts them again, stops them.

It opens the ports and makes the shared memory, so that whatever is not to be had is an error of the
call that starts the server; and it holds one end of everything, so that nothing is left when it is gone.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext

from tessera.serve.config import ServerConfig
from tessera.serve.http import url_of
from tessera.serve.life import Life, unfinished
from tessera.serve.models.lifecycle import Lifecycle
from tessera.serve.processes.crew import Crew
from tessera.serve.processes.origin import Origin
from tessera.serve.processes.ports import open_ports
from tessera.serve.processes.remote import elsewhere

logger = logging.getLogger("tessera.serve")

GRACE_S = 3.0
"""How much longer than `drain_timeout_s` the processes may take to end; then they are killed."""


class Supervisor(Life):
    """One life of a server of several processes. To its program it looks as a `Session` does.

    Args:
        config: Settings.
        origin: How the children make the server again.
        log_to_stderr: Whether they show the log.
    """

    def __init__(self, config: ServerConfig, origin: Origin, *, log_to_stderr: bool) -> None:
        super().__init__()
        self._config = config
        self._origin = origin
        self._log_to_stderr = log_to_stderr
        self._lifecycle: Lifecycle
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()

    async def serve(self, *, on_signals: bool) -> None:
        """Serve until stopped.

        Args:
            on_signals: Whether SIGTERM and SIGINT stop it. Only in the main thread.

        Raises:
            ServeError: The port is taken, there is no shared memory, or requests were not finished in time.
            TesseraError: A process cannot serve.
        """
        self.attach()
        ports = open_ports(self._config)
        secure = self._config.tls_certificate is not None
        try:
            crew = Crew(self._config, self._origin, ports, log_to_stderr=self._log_to_stderr)
        except BaseException:
            ports.close()
            raise
        self._lifecycle = Lifecycle(
            self.registry, lambda _: crew.service, drain_timeout_s=self._config.drain_timeout_s
        )
        self._lifecycle.add(elsewhere(self._config))
        self.url = url_of(ports.fronts[0], secure=secure)
        self.admin_url = url_of(ports.admin, secure=secure) if ports.admin else None
        if ports.grpc_port is not None:
            host = self.url.partition("//")[2].rpartition(":")[0]
            self.grpc_address = f"{host}:{ports.grpc_port}"
        with self._stopping_on_signals() if on_signals else nullcontext():
            try:
                crew.start()
                logger.info(
                    "serving on %s (host %s) with %d HTTP processes and %d that run the model",
                    self.url,
                    self._config.host,
                    self._config.processes,
                    crew.owners,
                )
                self.listening.set_result(None)
                await self._until_stopped(crew)
                finished = await self._end(crew)
            finally:
                await crew.kill()
        logger.info("stopped")
        if crew.error is not None:
            raise crew.error
        if not finished:
            raise unfinished(self._config.drain_timeout_s)

    def stop(self) -> None:
        """Begin to stop; a second call does not wait for requests any more. On the loop's thread."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()

    async def _until_stopped(self, crew: Crew) -> None:
        """Until somebody stops it, or a process cannot serve at all."""
        loading = asyncio.create_task(self._load(crew))
        waiting = [asyncio.create_task(event.wait()) for event in (self._stopping, crew.failed)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in (loading, *waiting):
            task.cancel()

    async def _load(self, crew: Crew) -> None:
        await self._lifecycle.start()
        await crew.all_ready.wait()
        self.ready.set_result(None)

    async def _end(self, crew: Crew) -> bool:
        """Let every process finish; says whether all requests were finished in time."""
        self.registry.begin_drain()
        limit_s = self._config.drain_timeout_s
        at_once = asyncio.create_task(self._at_once.wait())
        at_once.add_done_callback(lambda task: None if task.cancelled() else crew.stop_fronts())
        try:
            finished = await crew.end_fronts(limit_s + GRACE_S)
            try:
                # Calls of infer() from other threads of this process.
                await asyncio.wait_for(self.registry.drain(), 0.1 if self._at_once.is_set() else limit_s)
            except TimeoutError:
                finished = False
            await crew.end_owners(GRACE_S)
            return finished
        finally:
            at_once.cancel()
            self.registry.close(0.0)
