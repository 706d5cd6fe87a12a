"""The figures in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tessera.profiler.live.figures import QUANTITIES, Device, Quantity, Reading
from tessera.profiler.live.player import Feed
from tessera.profiler.live.throttling import REASONS
from tessera.program.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LABELS = ("gpu", "name", "uuid")
_PREFIX = "tessera_gpu_"


class GpuCollector:
    """Answers each scrape with the newest sample. A figure that is unknown is left out, never 0.

    Args:
        feed: A sampler or a player.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def describe(self) -> list[Metric]:
        """Nothing: asking is cheap, and registering must not read a GPU."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric of every GPU that answers."""
        sample = self._feed.latest
        if sample is None:
            return
        gpus = [
            (_labels(device), reading)
            for device, reading in zip(self._feed.machine.devices, sample.readings, strict=True)
        ]
        yield _up(gpus)
        for quantity in QUANTITIES:
            yield _metric(quantity, gpus)
        yield _throttled(gpus)
        yield _processes(gpus)


def registry(feed: Feed) -> Any:
    """A `prometheus_client` registry of the feed's figures.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise MissingDependencyError.extra(
            "prometheus-client", "serve", needed_for="the Prometheus export"
        ) from error
    made = CollectorRegistry()
    made.register(GpuCollector(feed))
    return made


class Exporter:
    """An HTTP server that answers `/metrics`.

    Args:
        feed: A sampler or a player.
        port: 0 for any free one.
        host: Address to listen on.

    Raises:
        ConfigError: The port is taken.
    """

    def __init__(self, feed: Feed, port: int, host: str = "127.0.0.1") -> None:
        known = registry(feed)
        from prometheus_client import start_http_server

        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=known)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="--prometheus 0 takes any free port",
            ) from error
        self.url = f"http://{host}:{self._server.server_port}/metrics"
        """Where the figures are."""

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _labels(device: Device) -> list[str]:
    return [str(device.index), device.name, device.uuid or ""]


def _metric(quantity: Quantity, gpus: list[tuple[list[str], Reading]]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    family = CounterMetricFamily if quantity.counter else GaugeMetricFamily
    metric = family(_PREFIX + quantity.metric, f"{quantity.title}.", labels=LABELS)
    for labels, reading in gpus:
        value = getattr(reading.figures, quantity.field)
        if value is not None:
            metric.add_metric(labels, value * quantity.scale)
    return metric


def _up(gpus: list[tuple[list[str], Reading]]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    metric = GaugeMetricFamily(_PREFIX + "up", "1 where the GPU answers.", labels=LABELS)
    for labels, reading in gpus:
        metric.add_metric(labels, 0 if reading.fault else 1)
    return metric


def _throttled(gpus: list[tuple[list[str], Reading]]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    metric = GaugeMetricFamily(
        _PREFIX + "throttled", "1 for each reason that holds the clocks down.", labels=(*LABELS, "reason")
    )
    for labels, reading in gpus:
        bits = reading.figures.throttle_reasons
        for reason in REASONS if bits is not None else ():
            metric.add_metric([*labels, reason.word], 1 if (bits or 0) & reason.bit else 0)
    return metric


def _processes(gpus: list[tuple[list[str], Reading]]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    metric = GaugeMetricFamily(_PREFIX + "processes", "Processes that hold memory.", labels=LABELS)
    for labels, reading in gpus:
        if reading.processes is not None:
            metric.add_metric(labels, len(reading.processes))
    return metric
