"""Reading the metrics of every process when somebody asks for `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from tessera.serve.processes.messages import Count, Counted, Totals
from tessera.serve.processes.spawned import Spawned
from tessera.serve.processes.totals import Totals as Sums

WAIT_S = 0.5
"""How long a process may take to say what it has counted; then what it said last counts."""


class Scrape:
    """Asks the children, adds up what they say, answers the fronts that want to know.

    Args:
        children: Those that live.
    """

    def __init__(self, children: Callable[[], Iterable[Spawned]]) -> None:
        self._children = children
        self._sums = Sums()
        self._askers: list[Spawned] = []
        self._missing: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, asker: Spawned) -> None:
        """`asker` wants the totals."""
        self._askers.append(asker)
        if self._timer is not None:
            return
        asked = [child for child in self._children() if child.is_ready]
        self._missing = {child.name for child in asked}
        self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._answer)
        for child in asked:
            child.tell(Count())

    def said(self, child: Spawned, counted: Counted) -> None:
        """`child` has said what it has counted."""
        self._sums.said(child.name, counted.told)
        if counted.asked:
            self._arrived(child.name)

    def ended(self, child: Spawned) -> None:
        """`child` counts no more."""
        self._sums.ended(child.name)
        self._arrived(child.name)

    def _arrived(self, name: str) -> None:
        self._missing.discard(name)
        if self._timer is not None and not self._missing:
            self._answer()

    def _answer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text = self._sums.text()
        askers, self._askers = self._askers, []
        for asker in askers:
            asker.tell(Totals(text))
