"""What a server counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters and histograms of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "tessera_http_requests",
            "HTTP requests answered.",
            ("method", "path", "status"),
            registry=self.registry,
        )
        self._request_seconds = self._histogram(
            "tessera_http_request_seconds",
            "Time from a request's headers to its answer.",
            _SECONDS,
            ("path",),
        )
        # Looking a child up by its labels costs more than counting.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._rejected = Counter(
            "tessera_inference_rejected",
            "Inference requests that left without an answer.",
            ("reason",),
            registry=self.registry,
        )
        self._queue_seconds = self._histogram(
            "tessera_queue_seconds", "Time that an inference request waited.", _SECONDS
        )
        self._batch_seconds = self._histogram("tessera_batch_seconds", "Time that a batch ran.", _SECONDS)
        self._batch_rows = self._histogram("tessera_batch_rows", "Rows of a batch.", _SIZES)
        self._batch_requests = self._histogram("tessera_batch_requests", "Requests of a batch.", _SIZES)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(name, text, tuple(labels), buckets=tuple(buckets), registry=self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is asked for when the metrics are read."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered. `path` is the endpoint's, so that clients cannot make up labels."""
        key = (method, path, status)
        found = self._children.get(key)
        if found is None:
            found = (self._requests.labels(method, path, str(status)), self._request_seconds.labels(path))
            self._children[key] = found
        found[0].inc()
        found[1].observe(seconds)

    def batch_started(self, requests: int, rows: int, waits_s: Sequence[float]) -> None:
        """A batch left the queue; how long each of its requests waited."""
        self._batch_requests.observe(requests)
        self._batch_rows.observe(rows)
        for seconds in waits_s:
            self._queue_seconds.observe(seconds)

    def batch_finished(self, seconds: float) -> None:
        """A batch is done, well or not."""
        self._batch_seconds.observe(seconds)

    def request_rejected(self, reason: str) -> None:
        """A request left without an answer: `overloaded`, `draining`, `timeout`, `cancelled`."""
        self._rejected.labels(reason).inc()

    def text(self) -> bytes:
        """All of it, as `/metrics` answers."""
        return generate_latest(self.registry)
