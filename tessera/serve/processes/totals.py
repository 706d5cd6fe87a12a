"""The metrics of all processes as those of one server.

Each process counts in its own memory, so counting costs what it costs in a server of one process.
Only when somebody reads `/metrics` are the processes asked, and what they say is added up. What a
process had counted before it ended stays in the totals: counters never go back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from tessera.serve.observe.figures import Snapshot, merged, to_text

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from tessera.serve.metrics import Metrics

Labels = tuple[tuple[str, str], ...]

PER_PROCESS = ("process_", "python_")
"""Metrics of these prefixes are not added up, but told apart by the label `process`."""

_ACCUMULATED = ("counter", "histogram", "summary")


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One number of a metric."""

    name: str
    labels: Labels
    value: float


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """One metric that the program counts by itself with `prometheus_client`, in one process."""

    name: str
    text: str
    kind: str
    samples: list[Sample]


class Told(msgspec.Struct, frozen=True, array_like=True):
    """All that one process has counted."""

    snapshot: Snapshot = []
    """The server's own metrics."""
    counts: list[Counts] = []
    """The program's."""


def told_of(metrics: Metrics | None) -> Told:
    """What this process has counted; nothing where nothing is counted."""
    if metrics is None:
        return Told()
    from prometheus_client import REGISTRY

    return Told(metrics.snapshot(), counts_of(REGISTRY))


def counts_of(registry: CollectorRegistry) -> list[Counts]:
    """What `registry` holds now."""
    return [
        Counts(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(s.name, tuple(sorted(s.labels.items())), s.value) for s in metric.samples],
        )
        for metric in registry.collect()
    ]


class Totals:
    """What each process said last, and what those that have ended had said."""

    def __init__(self) -> None:
        self._said: dict[str, Told] = {}
        self._ended = Told()

    def said(self, process: str, told: Told) -> None:
        """`process` has counted so far."""
        self._said[process] = told

    def ended(self, process: str) -> None:
        """`process` counts no more. Its counters stay, its gauges go."""
        told = self._said.pop(process, Told())
        kept = [f for f in told.snapshot if f.kind in _ACCUMULATED]
        counts = [c for c in told.counts if c.kind in _ACCUMULATED and not _is_own(c)]
        self._ended = Told(
            merged([self._ended.snapshot, kept]), list(_added(self._ended.counts, counts).values())
        )

    def text(self) -> bytes:
        """All of it, as `/metrics` answers."""
        snapshot = merged([self._ended.snapshot, *(told.snapshot for told in self._said.values())])
        counts = list(self._ended.counts)
        for process, told in self._said.items():
            counts = list(_added(counts, [_told_apart(c, process) for c in told.counts]).values())
        return to_text(snapshot).encode() + _text_of(counts)


def _text_of(counts: list[Counts]) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.metrics_core import Metric

    class Merged:
        def collect(self) -> Iterable[Metric]:
            for each in counts:
                metric = Metric(each.name, each.text, each.kind)
                for sample in each.samples:
                    metric.add_sample(sample.name, dict(sample.labels), sample.value)
                yield metric

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Merged())
    return generate_latest(registry)


def _is_own(counts: Counts) -> bool:
    return counts.name.startswith(PER_PROCESS)


def _told_apart(counts: Counts, process: str) -> Counts:
    if not _is_own(counts):
        return counts
    samples = [Sample(s.name, (("process", process), *s.labels), s.value) for s in counts.samples]
    return Counts(counts.name, counts.text, counts.kind, samples)


def _added(first: list[Counts], second: list[Counts]) -> dict[str, Counts]:
    """Both, metrics of one name put together."""
    found = {counts.name: counts for counts in first}
    for counts in second:
        before = found.get(counts.name)
        found[counts.name] = counts if before is None else _sum(before, counts)
    return found


def _sum(first: Counts, second: Counts) -> Counts:
    values = {(s.name, s.labels): s.value for s in first.samples}
    for sample in second.samples:
        key = (sample.name, sample.labels)
        if key not in values:
            values[key] = sample.value
        elif sample.name.endswith("_created"):
            values[key] = min(values[key], sample.value)
        else:
            values[key] += sample.value
    samples = [Sample(name, labels, value) for (name, labels), value in values.items()]
    return Counts(first.name, first.text, first.kind, samples)
