"""A replica in service: its state, its circuit, and how it is brought back after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tessera.program.errors import ServeError
from tessera.serve.balancing.breaker import CircuitBreaker
from tessera.serve.balancing.replica import ReplicaBackend, ReplicaSource
from tessera.serve.balancing.seat import Seat
from tessera.serve.observe.model_metrics import ServiceObserver

logger = logging.getLogger("tessera.serve")

_REOPEN_AFTER = 2
"""Trials that fail before a replica is loaded anew: a device that lost its context needs that."""


class ReplicaState(Enum):
    """Where a replica is in its life."""

    LOADING = "loading"
    """It is being opened or warmed up; no request goes to it."""
    READY = "ready"
    """It takes requests."""
    BROKEN = "broken"
    """It failed; it is tried from time to time."""
    DRAINING = "draining"
    """It finishes what it has; no request goes to it."""
    REMOVED = "removed"
    """Its memory is given back."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica at this moment."""

    name: str
    """What it is called."""
    state: ReplicaState
    reason: str
    """Why it is broken; empty otherwise."""
    device: str | None
    """Where it really runs; None: it is not loaded."""
    requests: int
    """Requests that it has now."""
    answered: int
    """Requests that it answered well."""
    failed: int
    """Requests that it failed."""
    batch_ms: float | None
    """Mean time of its batches; None: not measured, or the strategy does not measure it."""
    latency_ms: float | None
    """Its latency's recent peak; None: it has not answered yet."""
    opened: int
    """How often its circuit has opened."""


class Member:
    """One replica of a balancer. Lives on the balancer's event loop.

    Args:
        source: What it is made of.
        seat: What the strategies see of it.
        breaker: Its circuit.
        observer: Makes what is told of its batches.
        probe_timeout_s: Longest that a trial may take.
    """

    def __init__(
        self,
        source: ReplicaSource,
        seat: Seat,
        breaker: CircuitBreaker,
        *,
        observer: Callable[[], ServiceObserver] | None,
        probe_timeout_s: float,
    ) -> None:
        self.source = source
        self.seat = seat
        self.breaker = breaker
        self.backend: ReplicaBackend | None = None
        self.state = ReplicaState.LOADING
        self.reason = ""
        self.recovery: asyncio.Task[None] | None = None
        """Brings it back, while it is broken."""
        self._observer = observer
        self._probe_timeout_s = probe_timeout_s
        self._trials = 0

    async def open(self) -> ReplicaBackend:
        """Load it. Whatever goes wrong is raised."""
        backend = self.source.make(self._observer() if self._observer else None)
        try:
            await backend.load()
        except BaseException:
            backend.close(0.0)
            raise
        self.backend = backend
        return backend

    async def trial(self) -> None:
        """See whether it is well again, after loading it anew if it has to be. Raises what is wrong."""
        self._trials += 1
        if self.backend is not None and self._trials > _REOPEN_AFTER and self.source.reopens:
            await self.discard(1.0)
        async with asyncio.timeout(self._probe_timeout_s if self.backend is not None else None):
            if self.backend is None:
                await self.open()
            else:
                await self.backend.probe()
        self._trials = 0

    async def discard(self, timeout_s: float) -> None:
        """Give its model back; what it still had goes to others.

        Its threads may be stuck in a call that never returns: they are waited for no longer than that.
        """
        backend, self.backend = self.backend, None
        self.seat.lingering = 0
        if backend is not None:
            backend.abort()
            await asyncio.to_thread(backend.close, timeout_s)

    def abandoned(self, now_s: float) -> None:
        """Somebody waits no more for what it has: note whether it still runs."""
        if self.backend is not None:
            self.seat.count_lingering(self.backend.running, now_s, self.seat.workers)

    def settle(self, now_s: float) -> None:
        """Ask whether what nobody waits for any more has come to its end."""
        seat = self.seat
        if seat.lingering:
            running = self.backend.running if self.backend is not None else 0
            seat.count_lingering(running, now_s, seat.lingering)

    def status(self) -> ReplicaStatus:
        """What there is to say of it."""
        seat, backend = self.seat, self.backend
        mean_s, latency_s = seat.time.mean_s, seat.latency.latency_s
        return ReplicaStatus(
            name=seat.name,
            state=self.state,
            reason=self.reason,
            device=backend.model.device if backend is not None and backend.loaded else None,
            requests=seat.jobs,
            answered=seat.answered,
            failed=seat.failed,
            batch_ms=None if mean_s is None else mean_s * 1e3,
            latency_ms=latency_s * 1e3 if latency_s else None,
            opened=self.breaker.opened,
        )

    def ready_backend(self) -> ReplicaBackend:
        """What answers for it.

        Raises:
            ServeError: Its model was given back meanwhile.
        """
        if self.backend is None:
            raise ServeError(f"replica {self.seat.name} is not loaded", hint="send the request again")
        return self.backend
