"""Requests that wait for a replica. Pure: no clock, no event loop."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Job:
    """One request, as the balancer sees it."""

    number: int
    """No other has it; later ones have larger ones."""
    rows: int
    """Rows along axis 0; 1 for a program that is not stacked."""
    key: Hashable
    """Equal keys may be stacked; None: alone."""
    enqueued_s: float
    """When it came."""
    deadline_s: float = math.inf
    """When nobody waits for it any more."""
    rank_s: float = math.inf
    """Smaller goes first."""
    tried: frozenset[int] = frozenset()
    """Seats that failed it."""

    @property
    def order(self) -> tuple[float, int]:
        """Where it stands in the line."""
        return (self.rank_s, self.number)


class Line:
    """Jobs by rank, handed out in bunches that may run as one batch.

    The job of the lowest rank that a seat may have is always in its bunch, and behind it those of its
    key in the order of rank, until the next of them would not fit.
    """

    def __init__(self) -> None:
        # Jobs that a seat has failed stand apart: whole groups are passed over, never single jobs.
        self._groups: dict[Hashable, list[Job]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, job: Job) -> None:
        """Put `job` in its place."""
        insort(self._groups.setdefault(_group(job), []), job, key=_order)
        self._count += 1

    def remove(self, job: Job) -> bool:
        """Take `job` out, if it still waits; says whether it did."""
        name = _group(job)
        group = self._groups.get(name, [])
        at = bisect_left(group, job.order, key=_order)
        if at == len(group) or group[at] is not job:
            return False
        self._drop(name, at, 1)
        return True

    def first_for(self, seat: int) -> Job | None:
        """The job of the lowest rank that `seat` has not failed."""
        heads = [group[0] for group in self._groups.values() if seat not in group[0].tried]
        return min(heads, key=_order) if heads else None

    def take(self, seat: int, most_jobs: int, most_rows: int) -> list[Job]:
        """The next bunch for `seat`, lowest rank first; empty if nothing waits that it may have.

        Args:
            seat: Whose.
            most_jobs: Most jobs of it.
            most_rows: Most rows of it. A job of more goes alone.
        """
        first = self.first_for(seat)
        if first is None:
            return []
        name = _group(first)
        group = self._groups[name]
        rows = count = 0
        for job in group[: most_jobs if first.key is not None else 1]:
            if count and rows + job.rows > most_rows:
                break
            rows += job.rows
            count += 1
        bunch = group[:count]
        self._drop(name, 0, count)
        return bunch

    def waiting(self) -> list[Job]:
        """Every job, in the order of rank."""
        return sorted((job for group in self._groups.values() for job in group), key=_order)

    def _drop(self, name: Hashable, at: int, count: int) -> None:
        group = self._groups[name]
        del group[at : at + count]
        self._count -= count
        if not group:
            del self._groups[name]


def _group(job: Job) -> Hashable:
    return (job.key, job.tried)


def _order(job: Job) -> tuple[float, int]:
    return job.order
