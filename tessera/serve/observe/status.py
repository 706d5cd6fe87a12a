"""The state of a server in one look: what `/status` shows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tessera import __version__
from tessera.serve.models.registry import Registry
from tessera.serve.observe.figures import Family, Histogram, Snapshot

WINDOW_S = 10.0
"""Over how long rates are taken, as far as somebody looks that often."""

_ERROR = 400


class Status:
    """Makes the data of the status page.

    Args:
        registry: The models.
        snapshot: The metrics of the whole server; None: it counts nothing.
        clock: Seconds from anywhere.
    """

    def __init__(
        self,
        registry: Registry,
        snapshot: Callable[[], Snapshot] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._snapshot = snapshot
        self._clock = clock
        self._started_s = clock()
        self._seen: deque[tuple[float, float, float]] = deque([(self._started_s, 0.0, 0.0)])

    def now(self) -> dict[str, Any]:
        """The state now. Rates are those since the page was asked for about 10 s ago."""
        families = {f.name: f for f in self._snapshot()} if self._snapshot else {}
        routes = _routes(families)
        answered = sum(route["answered"] for route in routes)
        errors = sum(route["errors"] for route in routes)
        requests_per_s, errors_per_s = self._rates(answered, errors)
        return {
            "version": __version__,
            "phase": self._registry.phase.value,
            "uptime_s": round(self._clock() - self._started_s, 3),
            "waiting": self._registry.waiting,
            "running": self._registry.running,
            "requests_per_s": requests_per_s if families else None,
            "errors_per_s": errors_per_s if families else None,
            "models": self._models(families),
            "routes": routes,
        }

    def _rates(self, answered: float, errors: float) -> tuple[float, float]:
        now_s = self._clock()
        while len(self._seen) > 1 and now_s - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        then_s, *before = self._seen[0]
        self._seen.append((now_s, answered, errors))
        seconds = max(now_s - then_s, 1e-3)
        return (answered - before[0]) / seconds, (errors - before[1]) / seconds

    def _models(self, families: dict[str, Family]) -> list[dict[str, Any]]:
        waiting, running = (
            _values(families, "tessera_queue_requests"),
            _values(families, "tessera_batches_running"),
        )
        failures = _values(families, "nv_inference_request_failure")
        shown = []
        for status in self._registry.listing():
            key = (status.name or "", status.version or "")
            seconds = _histogram(families, "tessera_inference_seconds", key)
            queue = _histogram(families, "tessera_queue_seconds", key)
            batches, rows = (_values(families, f"nv_inference_{n}").get(key) for n in ("exec_count", "count"))
            shown.append(
                {
                    "name": status.name or "(its package's name)",
                    "version": status.version or "",
                    "state": status.state.value,
                    "reason": status.reason[:200],
                    "waiting": waiting.get(key),
                    "running": running.get(key),
                    "answered": _values(families, "nv_inference_request_success").get(key),
                    "failed": sum(v for labels, v in failures.items() if labels[:2] == key)
                    if failures
                    else None,
                    "p50_s": seconds.quantile(0.5) if seconds else None,
                    "p99_s": seconds.quantile(0.99) if seconds else None,
                    "queue_p99_s": queue.quantile(0.99) if queue else None,
                    "rows_per_batch": rows / batches if rows is not None and batches else None,
                }
            )
        return shown


def _routes(families: dict[str, Family]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for (method, path, status), count in _values(families, "tessera_http_requests").items():
        seconds = _histogram(families, "tessera_http_request_seconds", (path,))
        route = found.setdefault(
            (path, method),
            {
                "method": method,
                "path": path,
                "answered": 0.0,
                "errors": 0.0,
                "p50_s": seconds.quantile(0.5) if seconds else None,
                "p99_s": seconds.quantile(0.99) if seconds else None,
            },
        )
        route["answered"] += count
        route["errors"] += count if int(status) >= _ERROR else 0
    return [found[key] for key in sorted(found)]


def _values(families: dict[str, Family], name: str) -> dict[tuple[str, ...], float]:
    return families[name].values if name in families else {}


def _histogram(families: dict[str, Family], name: str, labels: Iterable[str]) -> Histogram | None:
    return families[name].histograms.get(tuple(labels)) if name in families else None
