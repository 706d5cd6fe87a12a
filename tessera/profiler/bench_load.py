"""Clients that ask a server again and again, and what they meet."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tessera.profiler.bench_client import Address, Connection, NoAnswerError, open_connection
from tessera.profiler.bench_program import Budget
from tessera.profiler.bench_result import Load
from tessera.profiler.timing import BLOCKS, Timing, median_interval, quantile, summarize
from tessera.program.errors import ServeError

_PAUSE_S = 0.01
"""Between a request that failed and the next of that client: a server that refuses is not to be stormed."""
_PATIENCE = 20
"""Failures of each client in a row, with no success of any, after which the server counts as gone."""
_SILENCE = 10
"""For how many of them one counts that waited for its whole timeout."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one number of clients met."""

    timing: Timing
    """Latencies of the requests that were answered."""
    load: Load
    client_share: float
    """Share of the time that this process worked, of one processor."""


@dataclass(slots=True)
class _Tally:
    """What all clients have met so far."""

    latencies_ns: list[int] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    """When each of them ended, by `time.perf_counter`."""
    failures: Counter[str] = field(default_factory=Counter)
    failed_in_a_row: int = 0

    @property
    def listed(self) -> str:
        """The most frequent failures: `503: 12, no answer in 10 s: 1`."""
        return ", ".join(f"{what}: {count}" for what, count in self.failures.most_common(5))


async def load(address: Address, request: bytes, clients: int, budget: Budget, timeout_s: float) -> Loaded:
    """Let `clients` ask for the time of the budget, after a warm-up on the same connections.

    Raises:
        ServeError: The server is gone, or answered nothing but refusals.
    """
    crowd = _Crowd(address, request, clients, timeout_s)
    try:
        await crowd.run(budget.warmup_seconds)
        before, start = time.process_time(), time.perf_counter()
        tally = await crowd.run(budget.seconds)
        elapsed = time.perf_counter() - start
        share = (time.process_time() - before) / elapsed
    finally:
        crowd.close()
    if not tally.latencies_ns:
        raise _gone(address, tally, clients)
    timing = summarize(f"{clients} clients", tally.latencies_ns)
    return Loaded(timing, _load(tally, clients, start, elapsed), share)


def _load(tally: _Tally, clients: int, start: float, seconds: float) -> Load:
    low, high = _rate_interval(tally.ended, start, seconds)
    ordered = sorted(tally.latencies_ns)
    return Load(
        concurrency=clients,
        requests=len(ordered),
        seconds=seconds,
        per_second=len(ordered) / seconds,
        per_second_low=low,
        per_second_high=high,
        p99_ms=quantile(ordered, 0.99) / 1e6,
        failures=dict(tally.failures),
    )


def _rate_interval(ended: Sequence[float], start: float, seconds: float) -> tuple[float | None, float | None]:
    """The 95 % interval of the median rate of up to 20 stretches, each of ten answers or more."""
    count = min(BLOCKS, len(ended) // 10)
    low, high = median_interval(count)
    if low is None or high is None:
        return None, None
    width = seconds / count
    counted = [0] * count
    for moment in ended:
        counted[min(count - 1, int((moment - start) / width))] += 1
    rates = sorted(n / width for n in counted)
    return rates[low], rates[high]


def _gone(address: Address, tally: _Tally, clients: int) -> ServeError:
    return ServeError(
        f"{address.origin} answered none of the requests of {clients} clients"
        + (f" ({tally.listed})" if tally.failures else ""),
        hint="503: the server is overloaded, its queue too short; else its log says why",
        failures=dict(tally.failures),
    )


class _Crowd:
    """Clients with a connection each, which stays open from one run to the next."""

    def __init__(self, address: Address, request: bytes, clients: int, timeout_s: float) -> None:
        self._address = address
        self._request = request
        self._timeout_s = timeout_s
        self._connections: list[Connection | None] = [None] * clients

    async def run(self, seconds: float) -> _Tally:
        """Let every client ask until the time is up, once at least.

        Raises:
            ServeError: No client got an answer for a long time.
        """
        tally = _Tally()
        end = time.perf_counter() + seconds
        watch = asyncio.create_task(self._end_late_ones())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(len(self._connections)):
                    group.create_task(self._client(number, end, tally))
        except* ServeError as errors:
            # One says what all would say.
            raise errors.exceptions[0] from None
        finally:
            watch.cancel()
        return tally

    def close(self) -> None:
        """End every connection."""
        for connection in self._connections:
            if connection is not None:
                connection.give_up("done")

    async def _client(self, number: int, end: float, tally: _Tally) -> None:
        while True:
            failure = await self._once(number, tally)
            if failure is not None:
                tally.failures[failure] += 1
                tally.failed_in_a_row += _SILENCE if failure.startswith("no ") else 1
                if tally.failed_in_a_row > _PATIENCE * len(self._connections):
                    raise _stopped(self._address, tally)
                await asyncio.sleep(_PAUSE_S)
            if time.perf_counter() >= end:
                return

    async def _once(self, number: int, tally: _Tally) -> str | None:
        """One request; what came instead of an answer, if so."""
        try:
            connection = self._connections[number]
            if connection is None or connection.closed:
                connection = await open_connection(self._address, self._timeout_s)
                self._connections[number] = connection
            start = time.perf_counter_ns()
            answer = await connection.ask(self._request)
            taken = time.perf_counter_ns() - start
        except NoAnswerError as error:
            return str(error)
        if answer.status != 200:
            return str(answer.status)
        tally.latencies_ns.append(taken)
        tally.ended.append(time.perf_counter())
        tally.failed_in_a_row = 0
        return None

    async def _end_late_ones(self) -> None:
        """Give up requests that have waited too long; a timer for each would cost more than a request."""
        while True:
            await asyncio.sleep(min(0.1, self._timeout_s / 4))
            now = time.perf_counter()
            for connection in self._connections:
                asked = None if connection is None else connection.asked_at
                if connection is not None and asked is not None and now - asked > self._timeout_s:
                    connection.give_up(f"no answer in {self._timeout_s:g} s")


def _stopped(address: Address, tally: _Tally) -> ServeError:
    return ServeError(
        f"{address.origin} answered {len(tally.latencies_ns)} requests and then no more ({tally.listed})",
        hint="the server's log says why",
        failures=dict(tally.failures),
    )
