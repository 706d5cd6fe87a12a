"""The replicas of a balancer: loading them, taking them out of service, bringing them back."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tessera.program.errors import ConfigError, OverloadedError, ServeError
from tessera.serve.balancing.breaker import CircuitBreaker, is_failure
from tessera.serve.balancing.member import Member, ReplicaState
from tessera.serve.balancing.replica import ReplicaSource
from tessera.serve.balancing.seat import Seat
from tessera.serve.balancing.settings import BalancerSettings
from tessera.serve.model import Model
from tessera.serve.observe.model_metrics import ServiceObserver

T = TypeVar("T")

logger = logging.getLogger("tessera.serve")


class Fleet:
    """Members and what becomes of them. Lives on one event loop.

    Args:
        settings: How the balancer behaves.
        clock: Seconds from anywhere.
        observer: Makes what is told of each replica's batches.
        changed: Called when a member takes requests, or takes them no more.
    """

    def __init__(
        self,
        settings: BalancerSettings,
        *,
        clock: Callable[[], float],
        observer: Callable[[], ServiceObserver] | None,
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self._changed = changed
        self._members: dict[int, Member] = {}
        self._numbers = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self.model: Model | None = None
        """That of the first replica that was loaded: it says what the program is."""
        self.stopped = False
        """Whether nothing is brought back any more."""

    @property
    def members(self) -> list[Member]:
        """All of them, in the order they came."""
        return list(self._members.values())

    def member_of(self, seat: Seat) -> Member:
        """Whose seat it is."""
        return self._members[seat.number]

    def take_up(self, source: ReplicaSource, name: str) -> Member:
        """A new member, to be loaded by `open`."""
        self._numbers += 1
        seat = Seat(
            number=self._numbers,
            name=name,
            workers=source.workers,
            max_rows=source.max_batch_size,
            max_jobs=source.max_queue,
            slow_start_s=self._settings.slow_start_s,
        )
        breaker = CircuitBreaker(clock=self._clock, **self._settings.breaker)
        member = Member(
            source, seat, breaker, observer=self._observer, probe_timeout_s=self._settings.probe_timeout_s
        )
        self._members[seat.number] = member
        return member

    async def open_all(self) -> None:
        """Load all of them; return when each is ready or has failed.

        Raises:
            TesseraError: None could be loaded, or a package or setting is wrong.
        """
        if not self._members:
            raise ServeError("the balancer has no replica", hint='add_replica(ModelReplica("model.tsd"))')
        errors = await asyncio.gather(*(self.open(member) for member in self.members))
        wrong = [e for e in errors if e is not None and not is_failure(e)]
        if wrong or not any(member.seat.up for member in self.members):
            raise next(iter(wrong or (e for e in errors if e is not None)))

    async def open(self, member: Member) -> Exception | None:
        """Load a new member; what went wrong, if something did. It is then tried again."""
        try:
            await member.open()
            self._agree(member)
        except Exception as error:  # noqa: BLE001 - open_all raises it, and the listing shows it
            member.breaker.trip()
            self.broke(member, reason_of(error))
            return error
        self._ready(member)
        return None

    async def remove(self, name: str, timeout_s: float) -> tuple[Member, bool]:
        """Let the member called `name` finish what it has, and give its memory back.

        Returns:
            It, and whether it finished within `timeout_s`.

        Raises:
            ConfigError: There is none.
        """
        member = next((m for m in self.members if m.seat.name == name), None)
        if member is None:
            names = ", ".join(m.seat.name for m in self.members) or "there is none"
            raise ConfigError(f"there is no replica {name!r}", hint=f"replicas: {names}")
        member.state, member.seat.up = ReplicaState.DRAINING, False
        if member.recovery is not None:
            member.recovery.cancel()
        self._changed()
        finished = True
        try:
            async with asyncio.timeout(timeout_s):
                while member.seat.jobs:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            finished = False
        await member.discard(1.0 if finished else 0.0)
        while member.seat.jobs:
            # Its callers have been told, and hand their requests to others as they come to run.
            await asyncio.sleep(_POLL_S)
        member.state = ReplicaState.REMOVED
        del self._members[member.seat.number]
        return member, finished

    def failed(self, member: Member, error: Exception, began_s: float) -> None:
        """Count a failure against a member."""
        if member.breaker.failed(began_s):
            self.broke(member, reason_of(error))

    def broke(self, member: Member, reason: str) -> None:
        """Take a member out of service, and begin to try it."""
        if member.state in (ReplicaState.DRAINING, ReplicaState.BROKEN) or self.stopped:
            return
        member.state, member.reason, member.seat.up = ReplicaState.BROKEN, reason, False
        logger.error("replica %s is taken out of service: %s", member.seat.name, reason)
        member.recovery = self.keep(self._recover(member))
        self._changed()

    def check_stalls(self) -> bool:
        """Take members out of service that finish nothing; says whether any member has work."""
        limit_s, now_s = self._settings.stall_timeout_s, self._clock()
        for member in self.members:
            seat = member.seat
            if seat.up and (seat.jobs or seat.lingering) and now_s - seat.progress_s >= limit_s:
                member.breaker.trip()
                self.broke(member, f"it has finished nothing for {limit_s:g} s")
                self.keep(member.discard(0.0))
        return any(member.seat.up and (member.seat.jobs or member.seat.lingering) for member in self.members)

    def nobody(self) -> OverloadedError:
        """The error for a request that no member could take now."""
        states = ", ".join(f"{m.seat.name} is {m.state.value}" for m in self.members) or "there is none"
        waits_s = [m.breaker.retry_after_s for m in self.members if m.state is ReplicaState.BROKEN]
        seconds = max(1, math.ceil(min(waits_s, default=1.0)))
        return OverloadedError(
            f"no replica takes requests: {states}", hint=f"try again in {seconds} s", retry_after_s=seconds
        )

    def stop(self) -> None:
        """Let no member take requests, and bring none back any more."""
        self.stopped = True
        for member in self.members:
            member.seat.up = False
        self._changed()
        for task in self._tasks:
            task.cancel()

    def keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` beside the requests; it ends with the balancer."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _ready(self, member: Member) -> None:
        if member.state is not ReplicaState.DRAINING and not self.stopped:
            member.state, member.reason, member.seat.up = ReplicaState.READY, "", True
            self._changed()

    def _agree(self, member: Member) -> None:
        """See that a member's program is the others'; the first one says what it is."""
        model = member.ready_backend().model
        if self.model is None:
            self.model = model
        mine, theirs = model.program, self.model.program
        if (mine.inputs, mine.outputs) != (theirs.inputs, theirs.outputs):
            raise ConfigError(
                f"replica {member.seat.name} has a program of other inputs or outputs than the others",
                hint="give all replicas of a balancer the same package",
            )

    async def _recover(self, member: Member) -> None:
        breaker = member.breaker
        while True:
            await asyncio.sleep(max(breaker.retry_after_s, 0.001))
            if not breaker.allow():
                continue
            try:
                await member.trial()
                self._agree(member)
            except Exception as error:  # noqa: BLE001 - it is tried again, whatever it was
                member.reason = reason_of(error)
                breaker.failed()
                breaker.trip()
                logger.warning("replica %s is still broken: %s", member.seat.name, member.reason)
                continue
            breaker.reset()
            member.seat.since_s = self._clock()
            logger.warning("replica %s is back in service", member.seat.name)
            self._ready(member)
            return


_POLL_S = 0.002
"""How often is looked whether a member has finished."""


def reason_of(error: Exception) -> str:
    """An error in a line."""
    return f"{error}".partition("\n")[0] or type(error).__name__
