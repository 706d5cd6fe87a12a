"""Requests that wait for the device, and which of them go next. Pure: no clock, no event loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What the queue needs to know of a request."""

    @property
    def key(self) -> Hashable:
        """Only requests with equal keys go together; None: this one goes alone."""

    @property
    def rows(self) -> int:
        """Rows that it adds to a batch."""

    @property
    def enqueued_s(self) -> float:
        """When it came, in seconds of any clock."""


T = TypeVar("T", bound=Waiting)


@dataclass(slots=True)
class _Group(Generic[T]):
    """Requests of one key, oldest first."""

    members: OrderedDict[int, T] = field(default_factory=OrderedDict)
    rows: int = 0


class RequestQueue(Generic[T]):
    """A fair queue that hands out batches.

    The oldest request is always in the next batch; behind it go requests of the same key, in
    the order they came, until the next of them would not fit. So no request is overtaken by a
    later one that could have gone with it, and none waits for more than those before it.
    Every operation takes constant time per request.

    Args:
        max_rows: Most rows of a batch. A request of more goes alone.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._arrivals: OrderedDict[int, T] = OrderedDict()
        self._groups: dict[Hashable, _Group[T]] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    def push(self, request: T) -> None:
        """Put `request` at the end."""
        self._arrivals[id(request)] = request
        if request.key is not None:
            group = self._groups.setdefault(request.key, _Group())
            group.members[id(request)] = request
            group.rows += request.rows

    def remove(self, request: T) -> bool:
        """Take `request` out, if it still waits; says whether it did."""
        if self._arrivals.pop(id(request), None) is None:
            return False
        group = self._groups.get(request.key)
        if group is not None:
            del group.members[id(request)]
            group.rows -= request.rows
            if not group.members:
                del self._groups[request.key]
        return True

    def take(self) -> list[T]:
        """The next batch, oldest request first; empty if none waits."""
        if not self._arrivals:
            return []
        first = next(iter(self._arrivals.values()))
        group = self._groups.get(first.key)
        batch: list[T] = []
        rows = 0
        for request in islice(group.members.values(), self._max_rows) if group else [first]:
            if batch and rows + request.rows > self._max_rows:
                break
            batch.append(request)
            rows += request.rows
        for request in batch:
            self.remove(request)
        return batch

    def is_full(self) -> bool:
        """Whether waiting longer could not make the next batch larger."""
        if not self._arrivals:
            return False
        first = next(iter(self._arrivals.values()))
        group = self._groups.get(first.key)
        return group is None or group.rows >= self._max_rows

    def oldest_s(self) -> float | None:
        """When the oldest request came; None if none waits."""
        return next(iter(self._arrivals.values())).enqueued_s if self._arrivals else None
