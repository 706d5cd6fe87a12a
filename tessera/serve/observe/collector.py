"""MetricsCollector: counts calls of functions, and answers Prometheus on a port of its own."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

from tessera.program.errors import MissingDependencyError, ServeError
from tessera.serve.observe.figures import SECONDS, Family, Histogram, Snapshot, to_text

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger("tessera.serve")

F = TypeVar("F", bound=Callable[..., Any])

_LABELS = ("function", "outcome")


class Exporter:
    """An HTTP server that answers Prometheus; `close` ends it."""

    def __init__(self, server: ThreadingHTTPServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread
        host, port = server.server_address[:2]
        self.port = int(port)
        """Where it listens."""
        self.url = f"http://{host!s}:{port}/metrics"
        """What Prometheus asks, from this machine."""

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


class MetricsCollector:
    """Counts what functions do; any number of threads may call them.

    ```python
    metrics = MetricsCollector()

    @metrics.track
    def infer(x):
        return model(x)

    metrics.export_to_prometheus(port=9090)
    ```

    Args:
        registry: What else is shown; None: everything that the program counts with
            `prometheus_client`, which includes this process' memory and CPU.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import REGISTRY
        except ImportError as missing:
            raise MissingDependencyError.extra(
                "prometheus-client", "serve", needed_for="MetricsCollector"
            ) from missing
        self._registry = REGISTRY if registry is None else registry
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}
        self._seconds: dict[str, Histogram] = {}
        self._exporters: list[Exporter] = []

    def track(self, function: F) -> F:
        """`function`, plain or `async def`, with its calls, errors and time counted."""
        name = function.__name__
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with _Call(self, name):
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with _Call(self, name):
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]

    def snapshot(self) -> Snapshot:
        """The counts so far: calls by function and outcome, and histograms of their time."""
        with self._lock:
            calls = Family("tessera_function_calls", "counter", "Calls of tracked functions.", _LABELS)
            for labels, count in self._counts.items():
                calls.add(labels, count)
            seconds = Family(
                "tessera_function_seconds", "histogram", "Time of tracked functions.", ("function",)
            )
            for name, histogram in self._seconds.items():
                seconds.add((name,), histogram)
        return [calls, seconds]

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        from prometheus_client import generate_latest

        return to_text(self.snapshot()).encode() + generate_latest(self._registry)

    def export_to_prometheus(self, port: int = 9090, host: str = "127.0.0.1") -> Exporter:
        """Answer Prometheus from a thread, until the program ends or the exporter is closed.

        Args:
            port: 0 takes any free one.
            host: Address to listen on; `0.0.0.0` is every network.

        Raises:
            ServeError: The port is taken or not allowed.
        """
        try:
            server = ThreadingHTTPServer((host, port), _handler(self.text))
        except OSError as error:
            raise ServeError(
                f"cannot export metrics on {host}:{port}: {error.strerror}",
                hint="another port; 0 takes any free one",
                host=host,
                port=port,
            ) from error
        thread = threading.Thread(target=server.serve_forever, name="tessera-metrics", daemon=True)
        thread.start()
        exporter = Exporter(server, thread)
        self._exporters.append(exporter)
        return exporter

    def close(self) -> None:
        """Give the ports back."""
        while self._exporters:
            self._exporters.pop().close()

    def _count(self, name: str, outcome: str, seconds: float) -> None:
        with self._lock:
            key = (name, outcome)
            self._counts[key] = self._counts.get(key, 0) + 1
            histogram = self._seconds.get(name)
            if histogram is None:
                histogram = self._seconds[name] = Histogram.empty(SECONDS)
            histogram.observe(seconds)


def _handler(text: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    from prometheus_client import CONTENT_TYPE_LATEST

    class Handler(BaseHTTPRequestHandler):
        """Answers every path with the metrics, as `prometheus_client`'s own server does."""

        def do_GET(self) -> None:
            body = text()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            logger.debug(format, *args)

    return Handler


class _Call:
    """Times one call."""

    __slots__ = ("_collector", "_name", "_started_s")

    def __init__(self, collector: MetricsCollector, name: str) -> None:
        self._collector = collector
        self._name = name

    def __enter__(self) -> None:
        self._started_s = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        outcome = "ok" if kind is None else "error"
        self._collector._count(self._name, outcome, time.perf_counter() - self._started_s)  # noqa: SLF001
