"""Requests in the order of their ranks, handed out in batches of one kind. Pure: no clock, no thread."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Ranked(Protocol):
    """What the queue needs to know of a request."""

    @property
    def key(self) -> Hashable:
        """Only requests with equal keys go together."""

    @property
    def order(self) -> tuple[float, int]:
        """Its rank, smaller goes first, and a number that no other request has."""


T = TypeVar("T", bound=Ranked)


class RankedQueue(Generic[T]):
    """Hands out the request of the lowest rank, and behind it those of its key in the order of rank.

    Every batch holds the request of the lowest rank of all, so none waits for more than those before it.

    Args:
        max_batch_size: Most requests of a batch.
    """

    def __init__(self, max_batch_size: int) -> None:
        self._max = max_batch_size
        self._groups: dict[Hashable, list[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, request: T) -> None:
        """Put `request` in its place."""
        insort(self._groups.setdefault(request.key, []), request, key=_order)
        self._count += 1

    def take(self) -> list[T]:
        """The next batch, lowest rank first; empty if none waits."""
        if not self._groups:
            return []
        group = min(self._groups.values(), key=lambda g: g[0].order)
        batch = group[: self._max]
        del group[: self._max]
        if not group:
            del self._groups[batch[0].key]
        self._count -= len(batch)
        return batch

    def remove(self, request: T) -> bool:
        """Take `request` out, if it still waits; says whether it did."""
        group = self._groups.get(request.key, [])
        at = bisect_left(group, request.order, key=_order)
        if at == len(group) or group[at] is not request:
            return False
        del group[at]
        if not group:
            del self._groups[request.key]
        self._count -= 1
        return True

    def sift(self, goes: Callable[[T], bool]) -> list[T]:
        """Take out every request that `goes`, and return them."""
        gone = [request for group in self._groups.values() for request in group if goes(request)]
        for request in gone:
            self.remove(request)
        return gone

    def waiting(self) -> list[T]:
        """Every request that waits, kind by kind."""
        return [request for group in self._groups.values() for request in group]

    def is_full(self) -> bool:
        """Whether a whole batch of one kind waits."""
        return any(len(group) >= self._max for group in self._groups.values())


def _order(request: Ranked) -> tuple[float, int]:
    return request.order
