"""Records of a sweep as tables, for pages to draw: ranks, what was best so far, what is worth its cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tessera.compiler.tuning.record import Record, configuration_key


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


def ranked(records: Iterable[Record], reference: Record | None = None) -> tuple[Ranked, ...]:
    """All records, the cheapest first, equal costs by the configuration's text; then those without a cost.

    Args:
        records: Of one sweep, in any order.
        reference: What others are compared with.
    """
    ordered = sorted(
        records, key=lambda r: (_cost(r) is None, _cost(r) or 0.0, configuration_key(r.configuration))
    )
    usual = None if reference is None else _cost(reference)
    found = []
    for place, record in enumerate(ordered):
        cost = _cost(record)
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
    found: list[Step] = []
    lowest: tuple[float, str] | None = None
    for number, record in enumerate(records, 1):
        cost = _cost(record)
        place = None if cost is None else (cost, configuration_key(record.configuration))
        if place is not None and (lowest is None or place < lowest):
            lowest = place
            found.append(Step(number, record))
    return tuple(found)


def pareto(records: Iterable[Record]) -> tuple[Record, ...]:
    """Records that no other beats in cost, registers and shared memory at once, the cheapest first.

    What is as cheap and takes less of a multiprocessor leaves more of it to kernels that run beside it. An
    unknown figure beats nothing.
    """
    good = [each.record for each in ranked(records) if each.rank is not None]
    return tuple(r for r in good if not any(_beats(other, r) for other in good))


def _cost(record: Record) -> float | None:
    return record.cost_ms if record.status == "ok" else None


def _beats(one: Record, other: Record) -> bool:
    pairs = [
        (one.cost_ms, other.cost_ms),
        (one.registers, other.registers),
        (one.shared_bytes, other.shared_bytes),
    ]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return len(known) == len(pairs) and all(a <= b for a, b in known) and any(a < b for a, b in known)
