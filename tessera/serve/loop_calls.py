"""Calls into a running server, from its own event loop and from anywhere else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tessera.program.errors import ServeError
from tessera.serve.session import Session

T = TypeVar("T")

Work = Callable[[Session], Coroutine[Any, Any, T]]
"""Made and run on the server's loop, so that it sees one state up to its first `await`."""


class LoopCalls:
    """Runs coroutines on the loop of the session that runs now.

    Args:
        running: That session; raises if there is none.
    """

    def __init__(self, running: Callable[[], Session]) -> None:
        self._running = running

    @property
    def session(self) -> Session:
        """The one that runs now.

        Raises:
            ServeError: None does.
        """
        return self._running()

    async def run(self, work: Work[T]) -> T:
        """What `work` gives, awaited on any event loop."""
        session = self._running()
        if asyncio.get_running_loop() is session.loop:
            return await work(session)
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(_later(work, session), session.loop)
        )

    def run_sync(self, work: Work[T], *, instead: str) -> T:
        """What `work` gives, waited for in a thread.

        Args:
            work: As in `run`.
            instead: What to write on the server's own thread.

        Raises:
            ServeError: This is the server's own thread, which would wait for itself.
        """
        session = self._running()
        if threading.get_ident() == session.thread:
            raise ServeError("this call would block the server", hint=f"{instead} instead")
        call = asyncio.run_coroutine_threadsafe(_later(work, session), session.loop)
        try:
            return call.result()
        finally:
            call.cancel()


async def _later(work: Work[T], session: Session) -> T:
    return await work(session)
