"""Spans of OpenTelemetry, made of a request's course."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tessera import __version__
from tessera.serve.observe.context import RequestContext
from tessera.serve.observe.trace import InferenceTrace, RequestTrace

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Link, SpanContext

_SERVER_ERROR = 500


class SpanMaker:
    """Makes spans: `receive`, `queue`, `batch` with `infer` in it, and `send`, under one of the request.

    Args:
        resource: What all of them are about.
    """

    def __init__(self, resource: Resource) -> None:
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = resource
        self._scope = InstrumentationScope("tessera.serve", __version__)

    def spans(self, trace: RequestTrace) -> list[ReadableSpan]:
        """Those of one request, the request's own first."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        own = context_of(trace)
        end_s = trace.sent_s if trace.sent_s is not None else trace.started_s
        status = StatusCode.ERROR if trace.status >= _SERVER_ERROR else StatusCode.UNSET
        made = [
            self._span(
                trace,
                trace.name,
                own,
                _parent_of(trace),
                (trace.started_s, end_s),
                trace.attributes,
                kind=SpanKind.SERVER,
                status=Status(status),
            )
        ]
        for name, begin_s, finish_s in _parts(trace, end_s):
            made.append(self._span(trace, name, _child(own), own, (begin_s, finish_s), {}))
        for inference in trace.inferences:
            made += self._inference(inference, own)
        return made

    def _inference(self, each: InferenceTrace, own: SpanContext) -> Iterator[ReadableSpan]:
        trace = each.trace
        end_s = next(
            (s for s in (each.ended_s, each.started_s, trace.answered_s, trace.sent_s) if s is not None),
            each.enqueued_s,
        )
        model: dict[str, str | int] = {"tessera.model": each.model, "tessera.version": each.version}
        left_s = each.started_s if each.started_s is not None else end_s
        yield self._span(trace, "queue", _child(own), own, (each.enqueued_s, left_s), model)
        if each.started_s is None:
            return
        batch = _child(own)
        sizes: dict[str, str | int] = {
            **model,
            "tessera.batch.id": f"{each.batch_id:016x}",
            "tessera.batch.requests": each.requests,
            "tessera.batch.rows": each.rows,
        }
        yield self._span(trace, "batch", batch, own, (each.started_s, end_s), sizes, links=_links(each))
        if each.stacked_s is not None and each.inferred_s is not None:
            yield self._span(trace, "infer", _child(batch), batch, (each.stacked_s, each.inferred_s), model)

    def _span(
        self,
        trace: RequestTrace,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        times_s: tuple[float, float],
        attributes: Mapping[str, str | int],
        **more: Any,
    ) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan

        begin_s, end_s = times_s
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            start_time=trace.unix_ns(begin_s),
            end_time=trace.unix_ns(max(begin_s, end_s)),
            instrumentation_scope=self._scope,
            **more,
        )


def context_of(trace: RequestTrace) -> SpanContext:
    """The context of the request's own span."""
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    state = TraceState.from_header([trace.tracestate]) if trace.tracestate else None
    return SpanContext(
        trace.trace_id,
        trace.span_id,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=state,
    )


def current_context(context: RequestContext) -> SpanContext:
    """The context in which an endpoint runs; one that is not traced hands on that it is not."""
    from opentelemetry.trace import SpanContext, TraceFlags

    if context.trace is not None:
        return context_of(context.trace)
    trace_id = context.unsampled.trace_id if context.unsampled else random.getrandbits(128) or 1
    span_id = context.unsampled.span_id if context.unsampled else random.getrandbits(64) or 1
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(0))


def _parent_of(trace: RequestTrace) -> SpanContext | None:
    from opentelemetry.trace import SpanContext, TraceFlags

    if trace.parent is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(trace.parent.trace_id, trace.parent.span_id, is_remote=True, trace_flags=flags)


def _child(parent: SpanContext) -> SpanContext:
    from opentelemetry.trace import SpanContext

    return SpanContext(
        parent.trace_id,
        random.getrandbits(64) or 1,
        is_remote=False,
        trace_flags=parent.trace_flags,
        trace_state=parent.trace_state,
    )


def _links(each: InferenceTrace) -> list[Link]:
    from opentelemetry.trace import Link

    return [Link(context_of(other)) for other in each.others]


def _parts(trace: RequestTrace, end_s: float) -> Iterator[tuple[str, float, float]]:
    if trace.body_s is not None:
        yield "receive", trace.started_s, trace.body_s
    if trace.answered_s is not None:
        yield "send", trace.answered_s, end_s
