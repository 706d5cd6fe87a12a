"""What a server counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from tessera.serve.observe.figures import SECONDS, Family, Histogram, Merge, Snapshot, merged, to_text
from tessera.serve.observe.gpu_figures import GpuSource
from tessera.serve.observe.model_metrics import LABELS, Figures, ModelMetrics, families

CONTENT_TYPE = CONTENT_TYPE_LATEST


class ModelNow(NamedTuple):
    """A version of a model at this moment."""

    name: str
    version: str
    waiting: int
    """Requests in its queue."""
    running: int
    """Batches in execution."""


@dataclass(slots=True)
class RouteMetrics:
    """Answers of one method and path; whoever keeps it counts without looking anything up."""

    counts: dict[int, int] = field(default_factory=dict)
    """Answers by status."""
    seconds: Histogram = field(default_factory=lambda: Histogram.empty(SECONDS))

    def answered(self, status: int, seconds: float) -> None:
        """A request was answered."""
        self.counts[status] = self.counts.get(status, 0) + 1
        self.seconds.observe(seconds)


class Metrics:
    """Counters and histograms of one server. Lives on one event loop."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, str], RouteMetrics] = {}
        self._calls: dict[tuple[str, str], Histogram] = {}
        self._models: dict[tuple[str, str], Figures] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float], Merge]] = {}
        self._counters: dict[str, tuple[str, Callable[[], float]]] = {}
        self._gpus = GpuSource()
        self.models_now: Callable[[], Iterable[ModelNow]] = lambda: ()
        """Asked for queues when the metrics are read."""
        self.more: list[Callable[[], Snapshot]] = []
        """Asked for further metrics when the metrics are read."""
        self.others: Callable[[], Iterable[Snapshot]] = lambda: ()
        """Asked for the metrics of the server's other processes."""

    def model(self) -> ModelMetrics:
        """Counts for a model, which says its name when it is loaded."""
        return ModelMetrics(self._models)

    def route(self, method: str, path: str) -> RouteMetrics:
        """Counts for an endpoint; `path` is the endpoint's, so that clients cannot make up labels."""
        key = (method, path)
        found = self._routes.get(key)
        if found is None:
            found = self._routes[key] = RouteMetrics()
        return found

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """A request was answered; `path` is the endpoint's."""
        self.route(method if method in _METHODS else "(other)", path).answered(status, seconds)

    def called(self, method: str, code: str, seconds: float) -> None:
        """A gRPC call ended with a status, such as `OK` or `INVALID_ARGUMENT`."""
        found = self._calls.get((method, code))
        if found is None:
            found = self._calls[method, code] = Histogram.empty(SECONDS)
        found.observe(seconds)

    def gauge(self, name: str, text: str, value: Callable[[], float], merge: Merge = "sum") -> None:
        """Add a gauge whose value is asked for when the metrics are read."""
        self._gauges[name] = (text, value, merge)

    def counter(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a counter, named without `_total`, whose value is asked for when the metrics are read."""
        self._counters[name] = (text, value)

    def figures(self) -> dict[tuple[str, str], Figures]:
        """The counts of every model by name and version, as they are; not to be changed."""
        return self._models

    def forget_models(self, listed: Collection[tuple[str | None, str | None]]) -> None:
        """Drop the counts of versions that are not `listed` any more, once there are many of them.

        Versions may come and go for months; a page of all that ever were would not end.
        """
        if len(self._models) > MOST_MODELS:
            for key in [key for key in self._models if key not in listed]:
                del self._models[key]

    def snapshot(self) -> Snapshot:
        """All of this process' metrics as data, for `figures.merged`."""
        made = [*self._http(), *self._grpc(), *families(self._models), *self._now(), *self._gpus.families()]
        for name, (text, value) in self._counters.items():
            made.append(Family(name, "counter", text, (), {(): float(value())}))
        for name, (text, value, merge) in self._gauges.items():
            made.append(Family(name, "gauge", text, (), {(): float(value())}, merge=merge))
        for source in self.more:
            made.extend(source())
        return made

    def text(self) -> bytes:
        """All of it, as `/metrics` answers; with it what the program counts with `prometheus_client`."""
        own = to_text(merged([self.snapshot(), *self.others()]))
        return own.encode() + generate_latest(REGISTRY)

    def _http(self) -> Snapshot:
        requests = Family(
            "tessera_http_requests", "counter", "HTTP requests answered.", ("method", "path", "status")
        )
        text = "Time from a request's headers to its answer."
        seconds = Family("tessera_http_request_seconds", "histogram", text, ("path",))
        for (method, path), route in self._routes.items():
            for status, count in route.counts.items():
                requests.add((method, path, str(status)), count)
            seconds.add((path,), route.seconds)
        return [requests, seconds]

    def _grpc(self) -> Snapshot:
        text = "Time of gRPC calls."
        calls = Family("tessera_grpc_request_seconds", "histogram", text, ("method", "code"))
        for labels, seconds in self._calls.items():
            calls.add(labels, seconds)
        return [calls]

    def _now(self) -> Snapshot:
        waiting = Family("tessera_queue_requests", "gauge", "Inference requests that wait.", LABELS)
        pending = Family(
            "nv_inference_pending_request_count", "gauge", "Inference requests that wait.", LABELS
        )
        running = Family("tessera_batches_running", "gauge", "Batches in execution.", LABELS)
        for now in self.models_now():
            labels = (now.name, now.version)
            waiting.add(labels, now.waiting)
            pending.add(labels, now.waiting)
            running.add(labels, now.running)
        return [waiting, pending, running]


MOST_MODELS = 256
"""Versions of models whose counts are kept though they may be served no more."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are labels. A client may make up others."""
