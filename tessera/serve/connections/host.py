"""What the connections of one port share: the application, the limits, the clock."""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import TYPE_CHECKING

from tessera.serve.app import App
from tessera.serve.connections.limits import Limits
from tessera.serve.connections.wire import date_line

if TYPE_CHECKING:
    from tessera.serve.connections.connection import Connection
    from tessera.serve.connections.direct import DirectExchange

TICK_S = 0.1
"""How often connections are looked at for having taken too long."""


class Host:
    """The application behind connections, and all of its connections. Lives on one event loop.

    Args:
        app: What answers.
        limits: What a connection may do.
        scheme: `http` or `https`.
    """

    def __init__(self, app: App, limits: Limits, scheme: str = "http") -> None:
        self.app = app
        self.limits = limits
        self.scheme = scheme
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        """Those that are open."""
        self.tasks: set[asyncio.Task[None]] = set()
        """Answers of the application that are being made."""
        self.date = date_line()
        """The header Date, not older than a second."""
        self._deadlines: dict[DirectExchange, float] = {}
        self._next_deadline: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._timer = self.loop.call_later(TICK_S, self._tick)

    @property
    def busy(self) -> bool:
        """Whether an answer is being made."""
        return self.app.active > 0 or bool(self.tasks)

    def limit(self, exchange: DirectExchange) -> None:
        """Call `exchange.overdue()` when it has taken `request_timeout_s`, unless `unlimit` comes first.

        All of them take equally long at most, so that the first to come is the first to be overdue, and one
        timer is enough.
        """
        deadline_s = self.loop.time() + self.app.request_timeout_s
        self._deadlines[exchange] = deadline_s
        if self._next_deadline is None:
            self._next_deadline = self.loop.call_at(deadline_s, self._overdue)

    def unlimit(self, exchange: DirectExchange) -> None:
        """`exchange` was answered."""
        self._deadlines.pop(exchange, None)

    def _overdue(self) -> None:
        self._next_deadline = None
        now_s = self.loop.time()
        late = list(takewhile(lambda exchange: self._deadlines[exchange] <= now_s, self._deadlines))
        for exchange in late:
            del self._deadlines[exchange]
        if self._deadlines:
            first_s = next(iter(self._deadlines.values()))
            self._next_deadline = self.loop.call_at(first_s, self._overdue)
        for exchange in late:
            exchange.overdue()

    def abort(self) -> None:
        """Break off every answer that is being made; `app.aborting` says that each is told so."""
        for exchange in list(self._deadlines):
            exchange.abort()
        for task in list(self.tasks):
            task.cancel()

    def close(self) -> None:
        """Look at no connection any more."""
        self._timer.cancel()
        if self._next_deadline is not None:
            self._next_deadline.cancel()

    def _tick(self) -> None:
        self._timer = self.loop.call_later(TICK_S, self._tick)
        self._ticks += 1
        if self._ticks % 5 == 0:
            self.date = date_line()
        now_s = self.loop.time()
        late = [c for c in self.connections if c.deadline_s <= now_s or c.write_deadline_s <= now_s]
        for connection in late:
            connection.late()
