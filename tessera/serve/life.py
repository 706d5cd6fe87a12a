"""What a program sees of a running server, whether it is one process or several."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from tessera.program.errors import ServeError
from tessera.serve.models.registry import Registry

logger = logging.getLogger("tessera.serve")


class Life(ABC):
    """One life of a server: from its start to its end, on one event loop."""

    def __init__(self) -> None:
        self.registry = Registry()
        """The models; a server of one package has one."""
        self.url = ""
        """Where a client on this machine reaches it; empty if it has no port of its own."""
        self.admin_url: str | None = None
        """Where operators on this machine reach it; None: nowhere."""
        self.grpc_address: str | None = None
        """Where a client on this machine reaches gRPC, as `HOST:PORT`; None: there is none."""
        self.loop: asyncio.AbstractEventLoop
        """The loop that everything in this process runs on."""
        self.thread = 0
        """The thread of that loop."""
        self.error: BaseException | None = None
        """What ended it, if it did not end well."""
        self.listening: concurrent.futures.Future[None] = concurrent.futures.Future()
        """Done when the port is open."""
        self.ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        """Done when everything is loaded and warm."""

    @abstractmethod
    def stop(self) -> None:
        """Begin to stop; a second call does not wait for requests any more. On the loop's thread."""

    def attach(self) -> None:
        """Belong to the running loop and thread."""
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits for `listening` or `ready`, or looks at `error`."""
        self.error = error
        for waiter in (self.listening, self.ready):
            if not waiter.done():
                waiter.set_exception(error)

    def stop_from_thread(self) -> None:
        """Begin to stop, from any thread."""
        try:
            self.loop.call_soon_threadsafe(self.stop)
        except RuntimeError:
            logger.debug("the server had ended by itself")

    @contextmanager
    def _stopping_on_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop it; only in the main thread."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def unfinished(drain_timeout_s: float) -> ServeError:
    """The error of a server that ended before its requests."""
    return ServeError(
        f"requests were not finished within drain_timeout_s = {drain_timeout_s:g} s",
        hint="raise drain_timeout_s, or lower request_timeout_s",
    )
