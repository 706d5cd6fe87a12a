"""TracingConfig: where traces go."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from tessera.program.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger("tessera.serve")

TIMEOUT_S = 5.0
"""Longest that a collector may take for one delivery."""
_JAEGER_PORT = 14268
"""Where Jaeger takes Thrift, which OpenTelemetry no longer speaks."""
_OTLP_PORTS = {"http": 4318, "grpc": 4317}


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """Where a program's traces go, and how many of them.

    ```python
    TracingConfig.setup(service_name="tessera-model", endpoint="http://collector:4318")
    with trace.get_tracer(__name__).start_as_current_span("inference"):
        ...
    ```
    """

    service_name: str = "tessera"
    """What the traces are filed under."""
    endpoint: str | None = None
    """An OTLP collector, such as `http://collector:4318`; None: `OTEL_EXPORTER_OTLP_ENDPOINT`, or else
    this machine."""
    protocol: Literal["http", "grpc"] = "http"
    """OTLP as protobuf over HTTP, or over gRPC."""
    sampling_ratio: float = 1.0
    """Share of the traces that begin here and are recorded; who calls with a `traceparent` has decided."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Further attributes of the service, such as `deployment.environment.name`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers that the collector asks for, such as a key."""
    jaeger_endpoint: str | None = None
    """A Jaeger: its old port 14268 stands for the OTLP port of the same host, which every Jaeger has
    since 1.35."""

    @classmethod
    def setup(
        cls,
        service_name: str = "tessera",
        endpoint: str | None = None,
        protocol: Literal["http", "grpc"] = "http",
        sampling_ratio: float = 1.0,
        attributes: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        jaeger_endpoint: str | None = None,
    ) -> TracerProvider:
        """Send the program's traces as said from now on; see the fields. Once in a program.

        Raises:
            ConfigError: A setting is wrong, or the program has set up traces already.
            MissingDependencyError: OpenTelemetry is not installed.
        """
        made = cls(
            service_name, endpoint, protocol, sampling_ratio, attributes or {}, headers or {}, jaeger_endpoint
        )
        return made.apply()

    def apply(self) -> TracerProvider:
        """Send the program's traces so; `shutdown()` of what comes back sends the last ones.

        Raises:
            ConfigError: A setting is wrong, or the program has set up traces already.
            MissingDependencyError: OpenTelemetry is not installed.
        """
        exporter = self.exporter()
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        if isinstance(trace.get_tracer_provider(), TracerProvider):
            raise ConfigError(
                "this program has set up OpenTelemetry already",
                hint="call TracingConfig.setup once, before anything else that sets it up",
                key="tracing",
            )
        sampler = ParentBased(TraceIdRatioBased(self.sampling_ratio))
        provider = TracerProvider(sampler=sampler, resource=self.resource())
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        return provider

    def share(self) -> None:
        """Send the spans that the program makes itself the same way, unless it has said where they go."""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        if not isinstance(trace.get_tracer_provider(), TracerProvider):
            self.apply()

    def resource(self) -> Resource:
        """What the spans are about."""
        from opentelemetry.sdk.resources import Resource

        return Resource.create({**self.attributes, "service.name": self.service_name})

    def exporter(self) -> SpanExporter:
        """What sends spans; its failures are counted and said once, and never raised.

        Raises:
            ConfigError: A setting is wrong.
            MissingDependencyError: OpenTelemetry is not installed.
        """
        self.check()
        _quiet()
        url, headers = self._url(), dict(self.headers) or None
        if self.protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as ByGrpc

            insecure = None if url is None else not url.startswith("https:")
            return ByGrpc(endpoint=url, insecure=insecure, headers=headers, timeout=TIMEOUT_S)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=url, headers=headers, timeout=TIMEOUT_S)

    def check(self) -> None:
        """Do nothing, if traces could be sent so.

        Raises:
            ConfigError: A setting is wrong.
            MissingDependencyError: OpenTelemetry is not installed.
        """
        self._check()
        for package in ("opentelemetry.sdk", f"opentelemetry.exporter.otlp.proto.{self.protocol}"):
            try:
                found = find_spec(package)
            except ModuleNotFoundError:
                found = None
            if found is None:
                name = package.replace(".", "-")
                raise MissingDependencyError.extra(name, "tracing", needed_for="tracing")

    def _check(self) -> None:
        if self.protocol not in _OTLP_PORTS:
            raise ConfigError(
                f"the protocol of traces is {self.protocol!r}", hint="http or grpc", key="protocol"
            )
        if not 0 <= self.sampling_ratio <= 1:
            raise ConfigError(
                f"sampling_ratio is {self.sampling_ratio:g}; it must be from 0 to 1",
                hint="0.01 records one request in a hundred",
                key="sampling_ratio",
            )
        if self.endpoint is not None and self.jaeger_endpoint is not None:
            raise ConfigError("there are an endpoint and a jaeger_endpoint", hint="give one", key="endpoint")
        for name in ("endpoint", "jaeger_endpoint"):
            url = getattr(self, name)
            if url is not None and (not urlsplit(url).hostname or not url.startswith(("http:", "https:"))):
                raise ConfigError(
                    f"{name} is {url!r}, which is no URL", hint="http://collector:4318", key=name
                )

    def _url(self) -> str | None:
        given = self.endpoint or self.jaeger_endpoint
        if given is None:
            return None
        parts = urlsplit(given)
        if self.jaeger_endpoint is not None and parts.port == _JAEGER_PORT:
            host = parts.netloc.rpartition(":")[0]
            parts = parts._replace(netloc=f"{host}:{_OTLP_PORTS[self.protocol]}", path="")
            logger.info("traces go to %s by OTLP, which Jaeger takes since 1.35", parts.netloc)
        if self.protocol == "http" and parts.path in ("", "/"):
            parts = parts._replace(path="/v1/traces")
        return urlunsplit(parts)


def _quiet() -> None:
    """Let OpenTelemetry's own exporters not log every failed try; what is lost is said once."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.CRITICAL)
