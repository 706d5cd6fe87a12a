"""What is counted of one version of a model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tessera.serve.batcher import Observer
from tessera.serve.observe.figures import SECONDS, SIZES, Family, Histogram, Snapshot

LABELS = ("model", "version")

_MS = tuple(1000.0 * s for s in SECONDS)

_REASONS = {
    "overloaded": "REJECTED",
    "draining": "REJECTED",
    "timeout": "REJECTED",
    "cancelled": "CANCELED",
    "invalid": "OTHER",
}
"""What Triton calls the ways in which a request leaves without an answer."""


class ServiceObserver(Observer, Protocol):
    """Is told what a service and its batcher do."""

    def bind(self, name: str, version: str) -> None:
        """What the model is called: known once it is loaded."""

    def computed(self, requests: int, input_s: float, infer_s: float, output_s: float) -> None:
        """A batch was put together, run and taken apart, and how long that took."""

    def cache_asked(self, *, hit: bool) -> None:
        """The cache of answers was asked; `hit`: it had one."""


@dataclass(slots=True)
class Figures:
    """The counts of one name and version."""

    requests: int = 0
    """Answered well."""
    failures: Counter[str] = field(default_factory=Counter)
    """By Triton's reason."""
    rejected: Counter[str] = field(default_factory=Counter)
    """By our reason."""
    rows: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    request_s: float = 0.0
    """Of those answered well, from queueing to the answer."""
    queue_s: float = 0.0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    last_s: float = 0.0
    """When the last batch was done, in seconds since 1970."""
    request_seconds: Histogram = field(default_factory=lambda: Histogram.empty(SECONDS))
    queue_seconds: Histogram = field(default_factory=lambda: Histogram.empty(SECONDS))
    batch_seconds: Histogram = field(default_factory=lambda: Histogram.empty(SECONDS))
    batch_rows: Histogram = field(default_factory=lambda: Histogram.empty(SIZES))
    batch_requests: Histogram = field(default_factory=lambda: Histogram.empty(SIZES))

    def add(self, other: Figures) -> None:
        """Count what `other` counted."""
        self.requests += other.requests
        self.failures.update(other.failures)
        self.rejected.update(other.rejected)
        self.rows += other.rows
        self.cache_hits += other.cache_hits
        self.cache_misses += other.cache_misses
        for name in ("request_s", "queue_s", "input_s", "infer_s", "output_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_s = max(self.last_s, other.last_s)
        for name, *_ in _HISTOGRAMS:
            getattr(self, name).add(getattr(other, name))


class ModelMetrics:
    """Counts for one version of a model; a batch costs one update, whatever its size.

    Args:
        known: Figures by name and version, shared by every version that ever was: a model that is
            reloaded goes on counting where it was.
    """

    def __init__(self, known: dict[tuple[str, str], Figures]) -> None:
        self._known = known
        self._figures = Figures()

    @property
    def figures(self) -> Figures:
        """The counts so far."""
        return self._figures

    def bind(self, name: str, version: str) -> None:
        """What the model is called: known once it is loaded."""
        present = self._known.setdefault((name, version), self._figures)
        if present is not self._figures:
            present.add(self._figures)
            self._figures = present

    def batch_started(self, requests: int, rows: int, waits_s: Sequence[float]) -> None:
        """A batch left the queue; how long each of its requests waited."""
        figures = self._figures
        figures.batch_requests.observe(requests)
        figures.batch_rows.observe(rows)
        figures.queue_s += sum(waits_s)
        figures.queue_seconds.observe_many(waits_s)

    def batch_finished(
        self, seconds: float, rows: int, waits_s: Sequence[float], failed: Sequence[str]
    ) -> None:
        """A batch is done, well or not.

        Args:
            seconds: How long it ran.
            rows: Its rows.
            waits_s: How long each of the requests had waited that were answered well.
            failed: Why the others were not: `backend`, `invalid`, `cancelled`.
        """
        figures = self._figures
        figures.last_s = time.time()
        figures.batch_seconds.observe(seconds)
        figures.rows += rows
        figures.requests += len(waits_s)
        figures.request_s += sum(waits_s) + seconds * len(waits_s)
        figures.request_seconds.observe_many([seconds + wait for wait in waits_s])
        for reason in failed:
            figures.failures[_REASONS.get(reason, "BACKEND")] += 1

    def computed(self, requests: int, input_s: float, infer_s: float, output_s: float) -> None:
        """A batch was put together, run and taken apart, and how long that took."""
        figures = self._figures
        # Each request is charged with its whole batch, as Triton does it.
        figures.input_s += requests * input_s
        figures.infer_s += requests * infer_s
        figures.output_s += requests * output_s

    def cache_asked(self, *, hit: bool) -> None:
        """The cache of answers was asked; `hit`: it had one."""
        if hit:
            self._figures.cache_hits += 1
        else:
            self._figures.cache_misses += 1

    def request_rejected(self, reason: str) -> None:
        """A request left without an answer: `overloaded`, `draining`, `timeout`, `cancelled`, `invalid`."""
        self._figures.rejected[reason] += 1
        self._figures.failures[_REASONS.get(reason, "OTHER")] += 1


_HISTOGRAMS = (
    ("request_seconds", "tessera_inference_seconds", "Time from queueing to the answer."),
    ("queue_seconds", "tessera_queue_seconds", "Time that a request waited."),
    ("batch_seconds", "tessera_batch_seconds", "Time that a batch ran."),
    ("batch_rows", "tessera_batch_rows", "Rows of a batch."),
    ("batch_requests", "tessera_batch_requests", "Requests of a batch."),
)

_COUNTERS: tuple[tuple[str, str, Callable[[Figures], float]], ...] = (
    ("nv_inference_request_success", "Requests answered well.", lambda f: f.requests),
    ("nv_inference_count", "Rows inferred; a batch of n counts n.", lambda f: f.rows),
    ("nv_inference_exec_count", "Batches executed.", lambda f: f.batch_seconds.count),
    ("nv_inference_request_duration_us", "Time of requests answered well.", lambda f: f.request_s * 1e6),
    ("nv_inference_queue_duration_us", "Time in the queue.", lambda f: f.queue_s * 1e6),
    ("nv_inference_compute_input_duration_us", "Time to stack inputs.", lambda f: f.input_s * 1e6),
    ("nv_inference_compute_infer_duration_us", "Time in the model.", lambda f: f.infer_s * 1e6),
    ("nv_inference_compute_output_duration_us", "Time to take outputs apart.", lambda f: f.output_s * 1e6),
    ("nv_cache_num_hits_per_model", "Requests that the cache answered.", lambda f: f.cache_hits),
    ("nv_cache_num_misses_per_model", "Requests that it could not answer.", lambda f: f.cache_misses),
)


def families(known: Mapping[tuple[str, str], Figures]) -> Snapshot:
    """The metrics of all models, under our names and under those that Triton's users know."""
    made: Snapshot = []
    for name, text, value in _COUNTERS:
        values: dict[tuple[str, ...], float] = {labels: float(value(f)) for labels, f in known.items()}
        made.append(Family(name, "counter", text, LABELS, values, is_plain=True))
    failures = Family(
        "nv_inference_request_failure", "counter", "Requests that failed.", (*LABELS, "reason"), is_plain=True
    )
    rejected = Family(
        "tessera_inference_rejected", "counter", "Requests that left unanswered.", (*LABELS, "reason")
    )
    for labels, figures in known.items():
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
            failures.add((*labels, reason), figures.failures[reason])
        for reason, count in figures.rejected.items():
            rejected.add((*labels, reason), count)
    made += [failures, rejected]
    for attribute, name, text in _HISTOGRAMS:
        histograms: dict[tuple[str, ...], Histogram] = {
            labels: getattr(f, attribute).copy() for labels, f in known.items()
        }
        made.append(Family(name, "histogram", text, LABELS, histograms=histograms))
    made.append(_first_response(known))
    return made


def _first_response(known: Mapping[tuple[str, str], Figures]) -> Family:
    shown: dict[tuple[str, ...], Histogram] = {
        labels: Histogram(_MS, list(f.request_seconds.counts), f.request_seconds.total * 1e3)
        for labels, f in known.items()
    }
    text = "Milliseconds from queueing to the first response."
    return Family("nv_inference_first_response_histogram_ms", "histogram", text, LABELS, histograms=shown)
