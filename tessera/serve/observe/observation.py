"""What a server's settings say about observing it, put together."""

from __future__ import annotations

import logging
from typing import Literal, cast

from tessera.serve.config import ServerConfig
from tessera.serve.metrics import Metrics
from tessera.serve.observe.log_queue import QueuedHandler
from tessera.serve.observe.logging_config import LoggingConfig
from tessera.serve.observe.requests import AccessLog, Telemetry
from tessera.serve.observe.spans import SpanMaker
from tessera.serve.observe.trace import Sampler
from tessera.serve.observe.trace_export import TraceExport
from tessera.serve.observe.tracing_config import TracingConfig

logger = logging.getLogger("tessera.serve")


def tracing_of(config: ServerConfig) -> TracingConfig:
    """Where a server's traces go."""
    pairs = (pair.partition("=") for pair in (config.tracing_attributes or "").split(",") if pair)
    return TracingConfig(
        service_name=config.tracing_service,
        endpoint=config.tracing_endpoint,
        protocol=cast(Literal["http", "grpc"], config.tracing_protocol),
        sampling_ratio=config.tracing_sampling,
        attributes={key.strip(): value.strip() for key, _, value in pairs},
    )


def set_up_logging(config: ServerConfig) -> None:
    """Log as the settings say, unless the program has set up logging of its own.

    Raises:
        ConfigError: The log cannot be written.
    """
    if logging.getLogger().handlers:
        return
    LoggingConfig(
        level=config.log_level,
        format=cast(Literal["json", "text"], config.log_format),
        output_file=config.log_file,
        enable_rotation=True,
        max_bytes=config.log_max_bytes,
        rotate_every_s=config.log_rotate_s,
        backup_count=config.log_backups,
    ).apply()


class Observation:
    """Metrics, traces and access log of one server.

    Args:
        config: Settings.
        metrics: Counts; None: nothing is counted.

    Raises:
        ConfigError: A setting of the traces is wrong.
        MissingDependencyError: Traces are asked for, and OpenTelemetry is not installed.
    """

    def __init__(self, config: ServerConfig, metrics: Metrics | None) -> None:
        self._export: TraceExport | None = None
        sampler = traced = None
        if config.enable_tracing:
            tracing = tracing_of(config)
            self._export = TraceExport(SpanMaker(tracing.resource()).spans, tracing.exporter())
            sampler, traced = Sampler(config.tracing_sampling), self._export.finished
            tracing.share()
        log = AccessLog(config.access_log) if config.access_log is not None else None
        self.telemetry = Telemetry(metrics, sampler=sampler, traced=traced, access_log=log)
        """What is done for each request."""
        self.calls = Telemetry(sampler=sampler, traced=traced, access_log=log)
        """What is done for each gRPC call that infers; calls are counted where they end."""
        if metrics is not None:
            self._add_counts(metrics, self._export)

    def close(self) -> None:
        """Send the last traces and write the last lines, within seconds."""
        if self._export is not None:
            self._export.close()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, QueuedHandler):
                handler.flush()

    def _add_counts(self, metrics: Metrics, export: TraceExport | None) -> None:
        def lines_lost() -> float:
            handlers = [h for h in logging.getLogger().handlers if isinstance(h, QueuedHandler)]
            return sum(h.counts.dropped + h.counts.failed for h in handlers)

        metrics.counter(
            "tessera_log_lines_lost",
            "Lines of the log that were dropped or could not be written.",
            lines_lost,
        )
        metrics.counter(
            "tessera_traces_exported", "Traces sent.", lambda: export.counts.exported if export else 0
        )
        metrics.counter(
            "tessera_traces_lost",
            "Traces that were dropped or could not be sent.",
            lambda: export.counts.dropped + export.counts.failed if export else 0,
        )
