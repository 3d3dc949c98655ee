"""Spans: their tree, times and links in memory, and from a real process to a real collector's door."""

from __future__ import annotations

import asyncio
import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from oipserver.config import ServerConfig
from oipserver.config.schema import TracingConfig
from oipserver.core.ids import valid_traceparent
from oipserver.core.observer import Ended, Phases, SilentObserver
from oipserver.listeners import Listeners, TracingError
from oipserver.requestlog import FAILURES
from oipserver.tracing import Traces
from tests.observability.served import Http, call, document, logged, message, serving
from tests.server_process import PATIENCE

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
NOT_SAMPLED = f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    return InMemorySpanExporter()


@pytest.fixture
def traces(memory: InMemorySpanExporter) -> Traces:
    return Traces(SimpleSpanProcessor(memory), FAILURES)


def ended(*traces: str, code: str = "OK", started: float | None = None) -> Ended:
    """As many requests as there are traces, computed together 0.5 s ago."""
    begun = time.monotonic() - 0.5 if started is None else started
    count = max(1, len(traces))
    return Ended(
        "http",
        "/v2/models/{model}/infer",
        "m",
        "1",
        code,
        [1.0] * count,
        [f"id-{number}" for number in range(count)],
        (),
        Phases(0.1, 0.2, 0.3, 0.05, 4, begun),
        2,
        (10,) * count,
        traces,
    )


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def named(spans: tuple[ReadableSpan, ...], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def test_a_request_is_a_span_with_a_child_for_each_phase(
    traces: Traces, memory: InMemorySpanExporter
) -> None:
    traces.requests(ended(SAMPLED))
    spans = memory.get_finished_spans()
    (server,) = named(spans, "POST /v2/models/{model}/infer")
    assert {span.name: round(seconds(span), 3) for span in spans} == {
        server.name: 1.0,
        "decode": 0.1,
        "queue": 0.2,
        "compute": 0.3,
        "encode": 0.05,
    }
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == PARENT
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    children = [span for span in spans if span is not server]
    assert {span.parent.span_id for span in children if span.parent} == {server.context.span_id}
    assert dict(server.attributes or {}) == {
        "oip.front": "http",
        "oip.code": "OK",
        "oip.model": "m",
        "oip.version": "1",
        "oip.rows": 2,
        "oip.request_id": "id-0",
    }
    (queue,), (compute,) = named(spans, "queue"), named(spans, "compute")
    assert queue.end_time == compute.start_time
    assert compute.attributes == {"oip.batch_rows": 4}
    assert server.start_time <= queue.start_time  # type: ignore[operator]
    assert compute.end_time <= server.end_time  # type: ignore[operator]
    assert server.resource.attributes["service.name"] == "oipserver"


def test_those_computed_together_are_linked_across_reports(
    traces: Traces, memory: InMemorySpanExporter
) -> None:
    begun = time.monotonic() - 0.5
    traces.requests(ended(SAMPLED, SAMPLED, started=begun))
    traces.requests(ended(SAMPLED, started=begun))
    traces.requests(ended(SAMPLED, started=begun + 0.1))
    first, *others, foreign = named(memory.get_finished_spans(), "compute")
    assert list(first.links) == list(foreign.links) == []
    assert [[link.context.span_id for link in other.links] for other in others] == [
        [first.context.span_id],
        [first.context.span_id],
    ]


def test_the_caller_decides_what_is_sampled(traces: Traces, memory: InMemorySpanExporter) -> None:
    traces.requests(ended(NOT_SAMPLED))
    assert memory.get_finished_spans() == ()


def test_without_a_caller_s_trace_one_is_begun_and_told_to_the_other_listeners(
    traces: Traces, memory: InMemorySpanExporter
) -> None:
    event = ended()
    traces.requests(event)
    (server,) = [span for span in memory.get_finished_spans() if span.parent is None]
    (told,) = event.traces
    assert told.startswith(f"00-{server.context.trace_id:032x}-{server.context.span_id:016x}-0")


def test_the_variables_of_opentelemetry_hold(
    memory: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    traces = Traces(SimpleSpanProcessor(memory), FAILURES)
    traces.requests(event := ended())
    assert memory.get_finished_spans() == ()
    assert list(event.traces) == [""]
    traces.requests(ended(SAMPLED))
    spans = memory.get_finished_spans()
    assert {span.resource.attributes["service.name"] for span in spans} == {"shop"}


@pytest.mark.parametrize(("code", "is_error"), [("INFERENCE_FAILED", True), ("BAD_REQUEST", False)])
def test_only_failures_are_errors(
    traces: Traces, memory: InMemorySpanExporter, code: str, is_error: bool
) -> None:
    event = ended(SAMPLED, code=code)
    event.phases = None
    traces.requests(event)
    (span,) = memory.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (not is_error, code if is_error else None)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (SAMPLED, SAMPLED),
        (f"01-{TRACE}-{PARENT}-09-more", f"01-{TRACE}-{PARENT}-09"),
        (f"{SAMPLED}-more", ""),
        (f"01-{TRACE}-{PARENT}-01more", ""),
        (SAMPLED.upper(), ""),
        (f"ff-{TRACE}-{PARENT}-01", ""),
        (f"00-{'0' * 32}-{PARENT}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (SAMPLED[:-1], ""),
        ("", ""),
    ],
)
def test_what_a_traceparent_is(text: str, valid: str) -> None:
    assert valid_traceparent(text) == valid


def test_a_missing_library_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "oipserver.tracing", None)
    config = ServerConfig(tracing=TracingConfig("http://127.0.0.1:1"))
    with pytest.raises(TracingError, match=r'pip install "oipserver\[tracing\]"'):
        Listeners(config, (SilentObserver(),), None)


def test_nothing_of_it_is_imported_when_it_is_off() -> None:
    program = (
        "import sys; from oipserver.config import ServerConfig\n"
        "from oipserver.core.observer import SilentObserver; from oipserver.listeners import Listeners\n"
        "Listeners(ServerConfig(), (SilentObserver(),), None)\n"
        "print(*[name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_last_spans_are_not_waited_for_for_ever(memory: InMemorySpanExporter) -> None:
    gate = threading.Event()

    class Stuck(SimpleSpanProcessor):
        def shutdown(self) -> None:
            gate.wait(PATIENCE)

    async def close() -> None:
        async with asyncio.timeout(0.05):
            await Traces(Stuck(memory), FAILURES).close()

    with pytest.raises(TimeoutError):
        asyncio.run(close())
    gate.set()


# --- a real process, and what a collector would get ---


class Collector:
    """The door of an OpenTelemetry collector: OTLP over HTTP."""

    def __init__(self) -> None:
        self._spans: list[Sent] = []
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        sent = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self._spans += [
                span
                for resource in sent.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            self._changed.notify_all()

    def spans_of(self, request_id: str) -> dict[str, Sent]:
        """The spans of one request by name, once they have come."""

        def find() -> dict[str, Sent]:
            for span in self._spans:
                if any(each.value.string_value == request_id for each in span.attributes):
                    inside = [each for each in self._spans if each.parent_span_id == span.span_id]
                    return {"server": span, **{each.name: each for each in inside}}
            return {}

        with self._changed:
            assert self._changed.wait_for(lambda: len(find()) == 5, PATIENCE), self._spans
            return find()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.mark.parametrize("by_variable", [False, True])
def test_an_id_goes_through_answer_log_and_trace_on_both_fronts(
    tmp_path: Path, collector: Collector, by_variable: bool
) -> None:
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
    flags = () if by_variable else (f"--tracing-endpoint={collector.url}",)
    environ = quick | ({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} if by_variable else {})
    with serving(tmp_path, *flags, **environ) as server:
        with Http(server) as http:
            _, headers, _ = http.ask(
                "POST", "/v2/models/double/infer", document(1.0), x_request_id="a", traceparent=SAMPLED
            )
            http.ask("POST", "/v2/models/double/infer", document(1.0), x_request_id="mine")
        with grpc.insecure_channel(server.grpc_target) as channel:
            _, trailers = call(
                channel,
                "/inference.GRPCInferenceService/ModelInfer",
                message("echo", "a").SerializeToString(),
                ("x-request-id", "b"),
                ("traceparent", SAMPLED),
            )
        assert (headers["x-request-id"], trailers["x-request-id"]) == ("a", "b")
        for request_id in ("a", "b"):
            assert logged(server, request_id)["trace_id"] == TRACE
            spans = collector.spans_of(request_id)
            assert spans.keys() == {"server", "decode", "queue", "compute", "encode"}
            assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
            assert spans["server"].parent_span_id.hex() == PARENT
        assert logged(server, "mine")["trace_id"] == collector.spans_of("mine")["server"].trace_id.hex()
    assert server.exit_code == 0


@pytest.mark.parametrize("there", [False, True])
def test_a_collector_that_does_not_answer_holds_up_nobody(tmp_path: Path, there: bool) -> None:
    patient = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600"}  # much longer than the end is waited for
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if there else 9
        with serving(tmp_path, f"--tracing-endpoint=http://127.0.0.1:{port}", **patient) as server:
            with Http(server) as http:
                for _ in range(50):
                    assert http.ask("POST", "/v2/models/double/infer", document(1.0))[0] == 200
            server.stop()
        assert server.exit_code == 0
        assert ("the last spans could not be sent" in server.output) or not there
