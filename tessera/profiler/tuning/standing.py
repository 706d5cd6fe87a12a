"""Records of a sweep as tables, for pages to draw: ranks, what was best so far, what is worth its cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tessera.compiler.tuning.record import Record, Value, configuration_key


class Tried(Protocol):
    """A configuration that was tried: a record, or a trial of a report."""

    @property
    def configuration(self) -> Mapping[str, Value]:
        """By the names of what was tuned."""

    @property
    def status(self) -> str:
        """`ok` if it ran and was right."""

    @property
    def cost_ms(self) -> float | None:
        """None where it has none."""


T = TypeVar("T", bound=Tried)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One record and its place."""

    rank: int | None
    """1 for the cheapest, by the rule that chooses; None where it has no cost."""
    record: Record
    faster: float | None
    """The reference's cost over this one's; None where either is unknown."""
    chosen: bool
    """Whether it is the one of least cost."""


@dataclass(frozen=True, slots=True)
class Step:
    """A point of the line of best costs."""

    tried: int
    """How many configurations had been tried, failures included."""
    record: Record
    """The best until then."""


def by_cost(tried: Iterable[T]) -> list[T]:
    """What has a cost, the least first; equal ones by their configuration's text, as the best is chosen."""
    return sorted((t for t in tried if cost_of(t) is not None), key=_place)


def improvements(tried: Iterable[T]) -> list[tuple[int, T]]:
    """Where the best became better, with its place from 1 on, failures counted.

    Args:
        tried: In the order in which they were tried.
    """
    found: list[tuple[int, T]] = []
    for number, each in enumerate(tried, 1):
        if cost_of(each) is not None and (not found or _place(each) < _place(found[-1][1])):
            found.append((number, each))
    return found


def cost_of(tried: Tried) -> float | None:
    """Its cost, if it ran and was right."""
    return tried.cost_ms if tried.status == "ok" else None


def _place(tried: Tried) -> tuple[float, str]:
    return cost_of(tried) or 0.0, configuration_key(tried.configuration)


def ranked(records: Iterable[Record], reference: Record | None = None) -> tuple[Ranked, ...]:
    """All records, the cheapest first, equal costs by the configuration's text; then those without a cost.

    Args:
        records: Of one sweep, in any order.
        reference: What others are compared with.
    """
    known = list(records)
    without = sorted((r for r in known if cost_of(r) is None), key=_place)
    ordered = [*by_cost(known), *without]
    usual = None if reference is None else cost_of(reference)
    found = []
    for place, record in enumerate(ordered):
        cost = cost_of(record)
        faster = usual / cost if usual and cost else None
        found.append(
            Ranked(None if cost is None else place + 1, record, faster, not place and cost is not None)
        )
    return tuple(found)


def best_so_far(records: Sequence[Record]) -> tuple[Step, ...]:
    """Where the best cost fell, for a line over the configurations tried.

    Args:
        records: In the order in which they were tried, as `Sweep.records` has them; a file has them by key.
    """
    return tuple(Step(number, record) for number, record in improvements(records))


def pareto(records: Iterable[Record]) -> tuple[Record, ...]:
    """Records that no other beats in cost, registers and shared memory at once, the cheapest first.

    What is as cheap and takes less of a multiprocessor leaves more of it to kernels that run beside it. An
    unknown figure beats nothing.
    """
    good = [each.record for each in ranked(records) if each.rank is not None]
    return tuple(r for r in good if not any(_beats(other, r) for other in good))


def _beats(one: Record, other: Record) -> bool:
    pairs = [
        (one.cost_ms, other.cost_ms),
        (one.registers, other.registers),
        (one.shared_bytes, other.shared_bytes),
    ]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return len(known) == len(pairs) and all(a <= b for a, b in known) and any(a < b for a, b in known)
