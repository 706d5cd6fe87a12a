"""Several replicas that answer as one model: a `LoadBalancer`'s life on one event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tessera.program.errors import InputError, OutOfMemoryError, OverloadedError, ServeError
from tessera.serve.balancing.breaker import is_failure
from tessera.serve.balancing.dispatcher import Bunch, Dispatcher, Outcome
from tessera.serve.balancing.fleet import Fleet
from tessera.serve.balancing.line import Job
from tessera.serve.balancing.member import Member, ReplicaState, ReplicaStatus
from tessera.serve.balancing.replica import ReplicaSource
from tessera.serve.balancing.settings import BalancerSettings
from tessera.serve.balancing.strategies import strategy_of
from tessera.serve.inputs import Arrays, Prepared, prepare
from tessera.serve.model import Model
from tessera.serve.observe.model_metrics import ServiceObserver
from tessera.serve.refusals import server_stopping, still_loading
from tessera.serve.rows import RowRule, row_rule
from tessera.serve.service import Phase, Result, rows_and_key

logger = logging.getLogger("tessera.serve")

Failure = tuple[Member, Exception, float]
"""Who failed a request, how, and when it was asked."""


class BalancedService:
    """Replicas of one model, as one `Backend`. Lives on one event loop.

    Args:
        sources: The replicas by name.
        settings: How it behaves.
        observer: Makes what is told of each replica's batches, and of requests that are refused.
        name: What clients call the model; None: the program's name.
        version: The version that clients see; None: the package's.
        clock: Seconds from anywhere.
    """

    def __init__(
        self,
        sources: Mapping[str, ReplicaSource],
        settings: BalancerSettings | None = None,
        *,
        observer: Callable[[], ServiceObserver] | None = None,
        name: str | None = None,
        version: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or BalancerSettings()
        self._clock = clock
        self._observer = observer() if observer else None
        self._name, self._version = name, version
        self._dispatcher = Dispatcher(
            strategy_of(self._settings.strategy),
            clock=clock,
            max_queue=self._settings.max_queue,
            patience_s=self._settings.patience_s,
        )
        self._fleet = Fleet(self._settings, clock=clock, observer=observer, changed=self._changed)
        self._numbers = itertools.count()
        self._turns: dict[int, asyncio.Future[Bunch]] = {}
        self._assigning = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._rule = RowRule(None)
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where it lives; None before `load`."""
        self.phase = Phase.LOADING
        for each, source in sources.items():
            self.add(source, each)

    @property
    def name(self) -> str:
        """What clients call the model.

        Raises:
            OverloadedError: The package gives the name, and is still being loaded.
        """
        return self.model.program.name if self._name is None else self._name

    @property
    def version(self) -> str:
        """The model's version, as clients see it.

        Raises:
            OverloadedError: The package gives the version, and is still being loaded.
        """
        return self.model.version if self._version is None else self._version

    @property
    def model(self) -> Model:
        """The model of the first replica that was loaded.

        Raises:
            OverloadedError: None is.
        """
        if self._fleet.model is None:
            raise still_loading()
        return self._fleet.model

    @property
    def loaded(self) -> bool:
        """Whether there is a model."""
        return self._fleet.model is not None

    @property
    def waiting(self) -> int:
        """Requests that wait, for a replica or at one."""
        return len(self._turns) + sum(m.backend.waiting for m in self._fleet.members if m.backend)

    @property
    def running(self) -> int:
        """Batches in execution."""
        return sum(m.backend.running for m in self._fleet.members if m.backend)

    @property
    def replicas(self) -> list[ReplicaStatus]:
        """Every replica at this moment, in the order they were added."""
        return [member.status() for member in self._fleet.members]

    def set_strategy(self, name: str) -> None:
        """Choose replicas in this way from now on.

        Raises:
            ConfigError: There is no such strategy.
        """
        self._dispatcher.strategy = strategy_of(name)
        if len(self._dispatcher):
            self._wake()

    async def load(self) -> None:
        """Load every replica; return when each is ready or has failed.

        A replica whose device fails is tried again later, as long as another one is ready.

        Raises:
            TesseraError: None could be loaded, or a package or setting is wrong.
        """
        self.loop = asyncio.get_running_loop()
        await self._fleet.open_all()
        self._rule = row_rule(self.model.program)
        if self._observer is not None:
            self._observer.bind(self.name, self.version)
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    def add(self, source: ReplicaSource, name: str) -> None:
        """Load another replica in the background; it gets requests when it is warm.

        Before `load`, it only joins those that are to be loaded.
        """
        member = self._fleet.take_up(source, name)
        self._dispatcher.seats.append(member.seat)
        if self.loop is not None:
            self._fleet.keep(self._fleet.open(member))

    async def remove(self, name: str, timeout_s: float) -> bool:
        """Give the replica called `name` no more requests, let it finish, and give its memory back.

        Requests that it has not finished within `timeout_s` go to others.

        Returns:
            Whether it finished in time.

        Raises:
            ConfigError: There is no such replica.
        """
        member, finished = await self._fleet.remove(name, timeout_s)
        self._dispatcher.seats.remove(member.seat)
        return finished

    def remove_soon(self, name: str, timeout_s: float) -> None:
        """As `remove`, in the background."""
        self._fleet.keep(self.remove(name, timeout_s))

    async def infer(self, data: Any, *, timeout_s: float | None = None) -> Result:
        """The output for `data`; with several outputs a dict by name.

        Args:
            data: A value for the only input, or a mapping by name; see `inputs.prepare`.
            timeout_s: Longest to wait, over all tries.

        Raises:
            InputError: `data` is not what the program takes.
            OverloadedError: Too many requests wait, or no replica is ready.
            DeviceError: Every replica that was asked failed.
            TimeoutError: `timeout_s` is over.
        """
        outputs = await self.infer_all(data, timeout_s=timeout_s)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    async def infer_all(self, data: Any, *, timeout_s: float | None = None) -> Arrays:
        """As `infer`, always by name. What is `Prepared` for this program is not checked again."""
        program = self.model.program
        try:
            prepared = data if isinstance(data, Prepared) else prepare(program, data)
        except InputError:
            self._rejected("invalid")
            raise
        rows, key = rows_and_key(program, self._rule, prepared)
        now_s = self._clock()
        job = Job(next(self._numbers), rows, key, now_s)
        if timeout_s is None:
            return await self._answer(job, prepared)
        job.deadline_s = now_s + timeout_s
        async with asyncio.timeout(timeout_s):
            return await self._answer(job, prepared)

    async def drain(self) -> None:
        """Return when nothing waits or runs. New requests are still taken until `close`."""
        while self._turns or any(member.seat.jobs for member in self._fleet.members):
            await asyncio.sleep(_POLL_S)
        for member in self._fleet.members:
            if member.backend is not None and not member.seat.lingering:
                await member.backend.drain()

    async def probe(self) -> None:
        """See that a replica answers. Whatever goes wrong is raised."""
        member = next((m for m in self._fleet.members if m.seat.up), None)
        if member is None:
            raise self._fleet.nobody()
        await member.ready_backend().probe()

    def memory_usage(self) -> dict[str, Any]:
        """The devices' memory by replica; of the only one, as a service says it."""
        backends = {m.seat.name: m.backend for m in self._fleet.members if m.backend is not None}
        if len(backends) == 1:
            return next(iter(backends.values())).memory_usage()
        by_name = {name: backend.memory_usage() for name, backend in backends.items()}
        device = self._fleet.model.device if self._fleet.model else None
        return {"device": device, "replicas": by_name} if by_name else {"device": None}

    def close(self, timeout_s: float) -> bool:
        """Give every model back; says whether all of them ended within `timeout_s` each. From any thread."""
        self.phase = Phase.STOPPED
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.stop)
        backends = [member.backend for member in self._fleet.members]
        ended = [backend.close(timeout_s) for backend in backends if backend is not None]
        return all(ended)

    def stop(self) -> None:
        """Refuse what waits for a replica, and bring none back any more. On the loop."""
        self.phase = Phase.STOPPED
        self._fleet.stop()
        for timer in self._timers.values():
            timer.cancel()

    def abort(self) -> None:
        """Answer everything that waits or runs with `OverloadedError`, and take nothing more."""
        self.stop()
        for member in self._fleet.members:
            if member.backend is not None:
                member.backend.abort()

    async def _answer(self, job: Job, prepared: Prepared) -> Arrays:
        failures: list[Failure] = []
        self._admit(job)
        while True:
            bunch = await self._turn(job)
            member = self._fleet.member_of(bunch.seat)
            try:
                outputs = await member.ready_backend().infer_all(prepared)
            except InputError:
                self._ended(bunch, job, Outcome.WELL)
                raise
            except Exception as error:
                self._ended(bunch, job, Outcome.FAILED)
                failures.append((member, error, bunch.began_s))
                again = self._again(job, failures)
                if again is None:
                    self._blame(failures, answered=False)
                    raise
                job = again
            except BaseException:
                self._ended(bunch, job, Outcome.ABANDONED)
                member.abandoned(self._clock())
                raise
            else:
                self._ended(bunch, job, Outcome.WELL)
                if member.state is ReplicaState.READY:
                    member.breaker.succeeded()
                if failures:
                    self._blame(failures, answered=True)
                return outputs

    def _admit(self, job: Job) -> None:
        if self.phase is Phase.STOPPED:
            self._rejected("draining")
            raise server_stopping()
        try:
            if not any(seat.up for seat in self._dispatcher.seats):
                raise self._fleet.nobody()
            self._dispatcher.enqueue(job)
        except OverloadedError:
            self._rejected("overloaded")
            raise

    async def _turn(self, job: Job) -> Bunch:
        """What a replica got with `job`, once one takes it."""
        turn: asyncio.Future[Bunch] = asyncio.get_running_loop().create_future()
        self._turns[job.number] = turn
        self._wake()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # A replica took it in the very turn of the loop in which its caller left.
                self._ended(turn.result(), job, Outcome.ABANDONED)
            elif self._dispatcher.remove(job):
                late = self._clock() >= job.deadline_s
                self._rejected("timeout" if late else "cancelled")
            raise
        finally:
            self._turns.pop(job.number, None)

    def _again(self, job: Job, failures: Sequence[Failure]) -> Job | None:
        """The job, back in the line, if another replica should be asked."""
        member, error, _ = failures[-1]
        passes = is_failure(error) or isinstance(error, OverloadedError)
        if not passes or len(failures) >= self._settings.max_tries or self.phase is Phase.STOPPED:
            return None
        again = self._dispatcher.again(job, member.seat)
        if again is not None:
            logger.info("a request failed on %s and goes to another: %s", member.seat.name, error)
        return again

    def _blame(self, failures: Sequence[Failure], *, answered: bool) -> None:
        """Count failures against the replicas.

        Where nobody could answer, the request itself may be at fault, unless devices broke: a client
        must not be able to take every replica out of service by what it sends.
        """
        for member, error, began_s in failures:
            device_broke = not isinstance(error, ServeError | OutOfMemoryError)
            if is_failure(error) and (answered or device_broke):
                self._fleet.failed(member, error, began_s)

    def _ended(self, bunch: Bunch, job: Job, outcome: Outcome) -> None:
        self._dispatcher.finish(bunch, job, outcome)
        if len(self._dispatcher):
            self._wake()

    def _wake(self) -> None:
        # Not at once: requests that came in the same turn of the loop then go together, for free.
        if not self._assigning:
            self._assigning = True
            asyncio.get_running_loop().call_soon(self._assign)

    def _assign(self) -> None:
        self._assigning = False
        members = self._fleet.members
        for member in members:
            if member.seat.lingering:
                member.settle(self._clock())
        made = self._dispatcher.assign()
        for job, bunch in made.assigned:
            turn = self._turns.get(job.number)
            if turn is not None and not turn.done():
                turn.set_result(bunch)
            else:
                self._dispatcher.finish(bunch, job, Outcome.ABANDONED)
        for job in made.expired:
            self._rejected("timeout")
            self._fail(job, TimeoutError("the deadline passed while the request waited"))
        if made.unfinished and len(self._dispatcher):
            self._assigning = True
            self._assign_in(_TURNS_TO_BEGIN)
        if made.assigned:
            self._after("stall", self._settings.stall_timeout_s, self._check_stalls)
        if len(self._dispatcher) and any(member.seat.lingering for member in members):
            self._after("linger", _LINGER_S, self._wake)

    def _assign_in(self, turns: int) -> None:
        loop = asyncio.get_running_loop()
        if turns:
            loop.call_soon(self._assign_in, turns - 1)
        else:
            self._assign()

    def _check_stalls(self) -> None:
        if self._fleet.check_stalls():
            self._after("stall", max(self._settings.stall_timeout_s / 4, 0.01), self._check_stalls)

    def _after(self, what: str, delay_s: float, call: Callable[[], None]) -> None:
        """Call after `delay_s`, unless the same is coming anyway."""
        if what not in self._timers:

            def fire() -> None:
                del self._timers[what]
                call()

            self._timers[what] = asyncio.get_running_loop().call_later(delay_s, fire)

    def _changed(self) -> None:
        """A replica takes requests, or takes them no more."""
        for job in self._dispatcher.hopeless():
            self._rejected("overloaded")
            self._fail(job, self._fleet.nobody())
        if len(self._dispatcher):
            self._wake()

    def _fail(self, job: Job, error: Exception) -> None:
        turn = self._turns.get(job.number)
        if turn is not None and not turn.done():
            turn.set_exception(error)

    def _rejected(self, reason: str) -> None:
        if self._observer is not None:
            self._observer.request_rejected(reason)


_POLL_S = 0.002
"""How often is looked whether all is finished."""

_TURNS_TO_BEGIN = 3
"""Turns of the loop in which a request reaches its replica and is taken into a batch."""

_LINGER_S = 0.01
"""How often is looked whether a replica has ended what nobody waits for."""
