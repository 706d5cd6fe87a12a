"""Which request goes to which replica, and when. Pure: simulations and servers run the same code."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from tessera.program.errors import OverloadedError
from tessera.serve.balancing.line import Job, Line
from tessera.serve.balancing.seat import Seat
from tessera.serve.balancing.strategies import Strategy


class Outcome(Enum):
    """How a request ended at a replica."""

    WELL = "well"
    """It was answered, be it that its input was wrong."""
    FAILED = "failed"
    """The replica did not answer it."""
    ABANDONED = "abandoned"
    """Nobody waits for it any more; the replica may still work on it."""


@dataclass(slots=True, eq=False)
class Bunch:
    """Requests that a replica got at once."""

    seat: Seat
    began_s: float
    size: int
    """Requests of it."""
    left: int
    """Those that have not ended."""
    spoiled: bool = False
    """Whether its time says nothing of the replica."""


@dataclass(slots=True)
class Round:
    """What `assign` decided."""

    assigned: list[tuple[Job, Bunch]]
    expired: list[Job]
    """Out of time; they are not run."""
    unfinished: bool = False
    """Whether to ask again, as soon as what was given has begun."""


class Dispatcher:
    """A line of jobs and the seats that take them.

    Jobs go by rank: their deadline, or the end of their patience if that comes first. So nobody waits
    for one that came after their patience was over, and deadlines are met in the order in which they come.

    Args:
        strategy: How seats are chosen.
        clock: Seconds from anywhere.
        max_queue: Most jobs in the line.
        patience_s: A job without a deadline is treated as if it had one this far away.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        clock: Callable[[], float],
        max_queue: int = 1024,
        patience_s: float = 1.0,
    ) -> None:
        self.strategy = strategy
        self.seats: list[Seat] = []
        self._clock = clock
        self._max_queue = max_queue
        self._patience_s = patience_s
        self._line = Line()
        self._choices = 0
        self._seconds_per_job = 0.01

    def __len__(self) -> int:
        return len(self._line)

    def enqueue(self, job: Job) -> None:
        """Put a new job in the line.

        Raises:
            OverloadedError: The line is full.
        """
        if len(self._line) >= self._max_queue:
            after_s = self.retry_after_s()
            raise OverloadedError(
                f"{len(self._line)} requests are waiting, the most that max_queue allows",
                hint=f"try again in {after_s} s; if this lasts, add replicas or raise max_queue",
                retry_after_s=after_s,
            )
        job.rank_s = min(job.deadline_s, job.enqueued_s + self._patience_s)
        self._line.push(job)

    def again(self, job: Job, seat: Seat) -> Job | None:
        """Put a job in the line that `seat` has failed; None if no other seat could take it.

        It keeps its rank, and is never refused for want of room: it was accepted.
        """
        job = replace(job, tried=job.tried | {seat.number})
        if not self._has_hope(job):
            return None
        self._line.push(job)
        return job

    def remove(self, job: Job) -> bool:
        """Take a job out of the line, if it is there; says whether it was."""
        return self._line.remove(job)

    def hopeless(self) -> list[Job]:
        """Take out the jobs that no seat could take any more, and return them."""
        lost = [job for job in self._line.waiting() if not self._has_hope(job)]
        for job in lost:
            self._line.remove(job)
        return lost

    def assign(self) -> Round:
        """Give jobs to seats, as far as this strategy gives them now."""
        made = Round([], [])
        if self._line:
            now_s = self._clock()
            (self._assign_late if self.strategy.late else self._assign_early)(now_s, made)
        return made

    def finish(self, bunch: Bunch, job: Job, outcome: Outcome) -> None:
        """A job ended at the seat that it was given to."""
        now_s = self._clock()
        seat = bunch.seat
        seat.jobs -= 1
        seat.rows -= job.rows
        bunch.left -= 1
        if outcome is Outcome.WELL:
            seat.answered += 1
            seat.progress_s = now_s
            seat.latency.observe(now_s - bunch.began_s, now_s)
        else:
            bunch.spoiled = True
            if outcome is Outcome.FAILED:
                seat.failed += 1
                seat.progress_s = now_s
        if bunch.left == 0:
            seat.bunches -= 1
            if not bunch.spoiled and self.strategy.late:
                self._measure(bunch, now_s)

    def retry_after_s(self) -> int:
        """Whole seconds after which the present line should be done, from recent bunches."""
        return min(60, max(1, math.ceil(len(self._line) * self._seconds_per_job)))

    def _measure(self, bunch: Bunch, now_s: float) -> None:
        seconds = now_s - bunch.began_s
        bunch.seat.time.observe(seconds, now_s)
        workers = sum(seat.workers for seat in self.seats if seat.up) or 1
        self._seconds_per_job += 0.05 * (seconds / (bunch.size * workers) - self._seconds_per_job)

    def _assign_late(self, now_s: float, made: Round) -> None:
        free = [seat for seat in self.seats if seat.is_free]
        while free and self._line:
            seat = self.strategy.pick(free, now_s)
            places = sum(s.places for s in free)
            # Those that wait are shared out evenly: two requests and two idle devices run side by side.
            share = -(-len(self._line) // places)
            taken = self._line.take(seat.number, share, seat.rows_now(now_s))
            jobs = [job for job in taken if job.deadline_s > now_s]
            made.expired.extend(job for job in taken if job.deadline_s <= now_s)
            if jobs:
                self._give(jobs, seat, now_s, made)
            # One bunch at a time: a replica with two idle workers would run two bunches as one batch.
            free.remove(seat)
            made.unfinished |= bool(taken) and seat.is_free

    def _assign_early(self, now_s: float, made: Round) -> None:
        for job in self._line.waiting():
            able = [s for s in self.seats if s.up and s.number not in job.tried and s.jobs < s.max_jobs]
            if not able:
                continue
            self._line.remove(job)
            if job.deadline_s <= now_s:
                made.expired.append(job)
            else:
                self._give([job], self.strategy.pick(able, now_s), now_s, made)

    def _give(self, jobs: list[Job], seat: Seat, now_s: float, made: Round) -> None:
        self._choices += 1
        seat.used = self._choices
        if not seat.jobs:
            seat.progress_s = now_s
        bunch = Bunch(seat, now_s, len(jobs), len(jobs))
        seat.bunches += 1
        seat.fresh = seat.fresh + 1 if seat.given_s >= now_s else 1
        seat.given_s = now_s
        seat.jobs += len(jobs)
        seat.rows += sum(job.rows for job in jobs)
        made.assigned.extend((job, bunch) for job in jobs)

    def _has_hope(self, job: Job) -> bool:
        return any(seat.up and seat.number not in job.tried for seat in self.seats)
