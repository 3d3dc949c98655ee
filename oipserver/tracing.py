"""OpenTelemetry spans: one of the server for each infer request, with a child for each phase.

They are made when a request is over, from times that are measured anyway, so nothing of it is on a request's
way.  Requests that one call of the model computed are linked: their `compute` spans name the first of them.
A caller's `traceparent` (W3C Trace Context) is the parent, and its decision to sample holds.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from oipserver.core.observer import Ended, Phases, SilentObserver
from oipserver.core.threads import in_daemon_thread

# Batches whose first span is remembered, for those whose answers take longer than others'.
MAX_BATCHES = 256

Attributes: TypeAlias = dict[str, str | int]


class Traces(SilentObserver):
    """Listens to the core; see `oipserver.core.observer.Observer`.

    Args:
        processor: takes spans that are over, and must not wait for their receiver.
        failures: codes of requests that failed, by no fault of the caller.
    """

    def __init__(self, processor: SpanProcessor, failures: frozenset[str]) -> None:
        self._failures = failures
        # Who ends the process decides how long to wait for the last spans; see `close`.
        self._provider = TracerProvider(resource=_resource(os.environ), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("oipserver")
        self._first: OrderedDict[tuple[str, str, float], SpanContext] = OrderedDict()

    def requests(self, ended: Ended) -> None:
        """Infer requests are over; where they brought no `traceparent`, it is told which one they got."""
        now, clock = time.time_ns(), time.monotonic()
        parents = ended.traces or [""] * len(ended.seconds)
        spans = [self._trace(ended, position, parent, now, clock) for position, parent in enumerate(parents)]
        if not ended.traces:
            ended.traces = [_traceparent(span) for span in spans]

    async def close(self) -> None:
        """Send what is left; wrap it in a timeout, for the receiver may be slow."""
        await in_daemon_thread(self._provider.shutdown, "traces")

    def _trace(self, ended: Ended, position: int, parent: str, now: int, clock: float) -> Span:
        start = now - _ns(ended.seconds[position])
        span = self._tracer.start_span(
            f"POST {ended.route}" if ended.route.startswith("/") else ended.route,
            _context(parent),
            SpanKind.SERVER,
            _attributes(ended, position),
            start_time=start,
        )
        if span.is_recording():
            if ended.code in self._failures:
                span.set_status(Status(StatusCode.ERROR, ended.code))
            if (phases := ended.phases) is not None:
                self._add_phases(span, ended, phases, start, now, now - _ns(clock - phases.started))
        span.end(now)
        return span

    def _add_phases(
        self, span: Span, ended: Ended, phases: Phases, start: int, now: int, computed: int
    ) -> None:
        """The children; the model was called at `computed`."""
        inside = set_span_in_context(span)
        self._add("decode", inside, start, phases.decode)
        self._add("queue", inside, computed - _ns(phases.queue), phases.queue)
        batch = (ended.model, ended.version, phases.started)
        first = self._first.get(batch)
        links = [Link(first)] if first is not None else []
        compute = self._add("compute", inside, computed, phases.compute, links, phases.batch_rows)
        if first is None:
            self._remember(batch, compute.get_span_context())
        self._add("encode", inside, now - _ns(phases.encode), phases.encode)

    def _add(
        self,
        name: str,
        inside: Context,
        start: int,
        seconds: float,
        links: list[Link] | None = None,
        rows: int = 0,
    ) -> Span:
        attributes = {"oip.batch_rows": rows} if rows else None
        span = self._tracer.start_span(
            name, inside, attributes=attributes, links=links or (), start_time=start
        )
        span.end(start + _ns(seconds))
        return span

    def _remember(self, batch: tuple[str, str, float], first: SpanContext) -> None:
        self._first[batch] = first
        if len(self._first) > MAX_BATCHES:
            self._first.popitem(last=False)


def exporting(endpoint: str) -> SpanProcessor:
    """What sends spans by OTLP over HTTP, from a bounded queue in a thread of its own.

    Args:
        endpoint: the collector's address, without a path; "" leaves it to the variables OTEL_*.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=url))


def _resource(environ: Mapping[str, str]) -> Resource:
    """Our name, unless the variables say another: what is given here would win."""
    named = "OTEL_SERVICE_NAME" in environ or "service.name" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {SERVICE_NAME: "oipserver"})


def _attributes(ended: Ended, position: int) -> Attributes:
    found: Attributes = {"oip.front": ended.front, "oip.code": ended.code}
    if ended.model:
        found |= {"oip.model": ended.model, "oip.version": ended.version}
    if ended.rows:
        found["oip.rows"] = ended.rows
    if ended.ids:
        found["oip.request_id"] = ended.ids[position]
    if ended.callers and ended.callers[position]:
        found["oip.caller"] = ended.callers[position]
    return found


def _context(traceparent: str) -> Context:
    """What a checked `traceparent` says; without one, an empty context, whatever this thread has."""
    if not traceparent:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _traceparent(span: Span) -> str:
    context = span.get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
