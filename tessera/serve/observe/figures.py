"""Counters and histograms that cost a list access, and what they look like from outside.

They belong to one event loop or one lock; nothing here is locked. Values of several processes are added
up by `merged`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of histograms of time."""
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
"""Bounds of histograms of batches."""


class Histogram(msgspec.Struct):
    """How often values fell between bounds.

    Args:
        bounds: Upper ones, rising; what is larger goes into one place more.
        counts: So far, one more than there are bounds.
        total: Sum of the values.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    @classmethod
    def empty(cls, bounds: Sequence[float]) -> Histogram:
        """One without values."""
        return cls(tuple(bounds), [0] * (len(bounds) + 1))

    def observe(self, value: float) -> None:
        """Count `value`: 0.2 µs."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_many(self, values: Iterable[float]) -> None:
        """Count each of `values`."""
        counts, bounds = self.counts, self.bounds
        total = 0.0
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            total += value
        self.total += total

    def add(self, other: Histogram) -> None:
        """Count what `other`, of the same bounds, counted."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def copy(self) -> Histogram:
        """One that does not change with this one."""
        return Histogram(self.bounds, list(self.counts), self.total)

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Below which value `share` of them lie, within a bucket as if spread evenly; None without any.

        Source: Prometheus, `histogram_quantile`.
        """
        return quantile(self.bounds, self.counts, share)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """As `Histogram.quantile`."""
    wanted = share * sum(counts)
    if not wanted:
        return None
    below = 0
    for number, count in enumerate(counts):
        if below + count >= wanted:
            if number == len(bounds):
                return bounds[-1]
            low = bounds[number - 1] if number else 0.0
            return low + (bounds[number] - low) * (wanted - below) / count
        below += count
    return bounds[-1]


Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "min", "max"]


class Family(msgspec.Struct):
    """A metric with the values of all its labels."""

    name: str
    """Without the `_total` of a counter."""
    kind: Kind
    text: str
    """What it counts."""
    labels: tuple[str, ...] = ()
    values: dict[tuple[str, ...], float] = msgspec.field(default_factory=dict)
    """Of counters and gauges, by the labels' values."""
    histograms: dict[tuple[str, ...], Histogram] = msgspec.field(default_factory=dict)
    """Of histograms, by the labels' values."""
    merge: Merge = "sum"
    """What several processes' values make together."""
    is_plain: bool = False
    """Whether a counter is shown without `_total`, as Triton's are."""

    def add(self, labels: tuple[str, ...], value: float | Histogram) -> None:
        """Put in a value, together with what is there."""
        if isinstance(value, Histogram):
            present = self.histograms.get(labels)
            if present is None:
                self.histograms[labels] = value.copy()
            else:
                present.add(value)
        elif labels not in self.values:
            self.values[labels] = value
        elif self.merge == "sum":
            self.values[labels] += value
        else:
            self.values[labels] = (min if self.merge == "min" else max)(self.values[labels], value)


Snapshot = list[Family]
"""All metrics of a process at one moment; `msgspec` writes and reads it."""


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The metrics of several processes as one's."""
    found: dict[str, Family] = {}
    for snapshot in snapshots:
        for family in snapshot:
            known = found.get(family.name)
            if known is None:
                known = Family(
                    family.name,
                    family.kind,
                    family.text,
                    family.labels,
                    merge=family.merge,
                    is_plain=family.is_plain,
                )
                found[family.name] = known
            for labels, value in family.values.items():
                known.add(labels, value)
            for labels, histogram in family.histograms.items():
                known.add(labels, histogram)
    return list(found.values())


def to_text(snapshot: Snapshot) -> str:
    """`snapshot` in Prometheus' text format.

    Source: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
    """
    return "".join(line + "\n" for family in snapshot for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    ending = "_total" if family.kind == "counter" and not family.is_plain else ""
    name = family.name + ending
    text = family.text.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {family.kind}"
    for labels, value in family.values.items():
        yield f"{name}{_labels(family.labels, labels)} {_number(value)}"
    for labels, histogram in family.histograms.items():
        below = 0
        for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
            below += count
            shown = _labels((*family.labels, "le"), (*labels, _number(bound)))
            yield f"{name}_bucket{shown} {below}"
        shown = _labels(family.labels, labels)
        yield f"{name}_count{shown} {below}"
        yield f"{name}_sum{shown} {_number(histogram.total)}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    return "{" + ",".join(f'{n}="{_escaped(v)}"' for n, v in zip(names, values, strict=True)) + "}"


def _escaped(value: str) -> str:
    plain = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return plain.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))
