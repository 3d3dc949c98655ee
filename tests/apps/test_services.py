"""The user's gRPC services beside ours, over real channels."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import grpc
import pytest

from oipserver import App, InvalidInput, Models
from oipserver.apps.loading import AppError
from oipserver.grpc._generated.open_inference_pb2 import ServerLiveRequest, ServerLiveResponse
from oipserver.grpc.custom import THREADS
from tests.apps.running import AppServer, row
from tests.conformance.system import Ended
from tests.grpc.running import Held, failure
from tests.support import PATIENCE

PROTO = """
syntax = "proto3";
package toxicity;
message Text { string text = 1; }
message Score { double score = 1; }
service Toxicity {
  rpc Rate(Text) returns (Score);
  rpc RateAll(stream Text) returns (stream Score);
  rpc Count(stream Text) returns (Score);
  rpc Spell(Text) returns (stream Text);
}
"""


class Gate:
    open = threading.Event()
    entered = threading.Semaphore(0)


def unary(name: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        result: bytes = BEHAVIOURS[name](message, context)
        return result

    return answer


def aborts(message: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("mine", "kept"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
    raise AssertionError


def raises(error: BaseException) -> Callable[..., bytes]:
    def behave(message: bytes, context: grpc.ServicerContext) -> bytes:
        raise error

    return behave


def sets_a_status(message: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_code(grpc.StatusCode.UNAVAILABLE)
    context.set_details("later")
    return b""


def waits(message: bytes, context: grpc.ServicerContext) -> bytes:
    Gate.entered.release()
    assert Gate.open.wait(PATIENCE)
    return b"done"


BEHAVIOURS: dict[str, Callable[..., Any]] = {
    "Echo": lambda message, context: message,
    "Fails": raises(ValueError("my secret")),
    "Exits": raises(SystemExit(3)),
    "Invalid": raises(InvalidInput("too old")),
    "Aborts": aborts,
    "SetsAStatus": sets_a_status,
    "Nothing": lambda message, context: None,
    "Waits": waits,
}


def several(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for message in messages:
        if message == b"fail":
            raise ValueError("my secret")
        yield message * 2


def an_app() -> App:
    app = App()

    @app.grpc
    def services(models: Models) -> Any:
        def gated(message: bytes, context: grpc.ServicerContext) -> bytes:
            return models.infer_sync("gated", {"x": row(float(message))})["y"].tobytes()

        handlers = {name: grpc.unary_unary_rpc_method_handler(unary(name)) for name in BEHAVIOURS}
        handlers["Gated"] = grpc.unary_unary_rpc_method_handler(gated)
        handlers["Several"] = grpc.stream_stream_rpc_method_handler(several)
        return [grpc.method_handlers_generic_handler("mine.Service", handlers)]

    return app


@pytest.fixture(scope="module")
def server() -> Iterator[AppServer]:
    with AppServer(an_app(), max_rpcs=THREADS + 8) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server: AppServer) -> Iterator[Any]:
    with server.channel() as channel:
        yield channel


def call(channel: Any, name: str, message: bytes = b"x", **more: Any) -> Any:
    return channel.unary_unary(f"/mine.Service/{name}")(message, **{"timeout": PATIENCE, **more})


def test_a_handler_answers_with_our_trailer(channel: Any) -> None:
    mine = (("x-request-id", "me-1"),)
    answer, done = channel.unary_unary("/mine.Service/Echo").with_call(b"hello", PATIENCE, metadata=mine)
    assert answer == b"hello"
    assert dict(done.trailing_metadata()) == {"x-request-id": "me-1"}


@pytest.mark.parametrize(
    ("name", "status", "details", "code"),
    [
        ("Fails", grpc.StatusCode.INTERNAL, "internal error", "INTERNAL"),
        ("Exits", grpc.StatusCode.INTERNAL, "internal error", "INTERNAL"),
        ("Nothing", grpc.StatusCode.INTERNAL, "internal error", "INTERNAL"),
        ("Invalid", grpc.StatusCode.INVALID_ARGUMENT, "too old", "UNPROCESSABLE"),
        ("Aborts", grpc.StatusCode.NOT_FOUND, "no such thing", "NOT_FOUND"),
    ],
)
def test_failures_have_our_trailers(
    server: AppServer, channel: Any, name: str, status: grpc.StatusCode, details: str, code: str
) -> None:
    server.journal.clear()
    came, text, trailers = failure(lambda: call(channel, name))
    assert (came, text, trailers["error-code"]) == (status, details, code)
    assert trailers["x-request-id"]
    assert trailers.get("mine") == ("kept" if name == "Aborts" else None)
    server.journal.wait_for(Ended("app-grpc", "", code))
    assert call(channel, "Echo") == b"x"


def test_a_status_that_the_handler_sets_is_kept(channel: Any) -> None:
    status, text, trailers = failure(lambda: call(channel, "SetsAStatus"))
    assert (status, text) == (grpc.StatusCode.UNAVAILABLE, "later")
    assert trailers["x-request-id"]


def test_streams(channel: Any) -> None:
    several = channel.stream_stream("/mine.Service/Several")
    assert list(several(iter([b"a", b"b"]), timeout=PATIENCE)) == [b"aa", b"bb"]
    answers = several(iter([b"a", b"fail"]), timeout=PATIENCE)
    assert next(answers) == b"aa"
    status, text, trailers = failure(lambda: next(answers))
    assert (status, text, trailers["error-code"]) == (grpc.StatusCode.INTERNAL, "internal error", "INTERNAL")


def test_a_stream_that_is_left_ends(server: AppServer, channel: Any) -> None:
    held = Held()
    answers = channel.stream_stream("/mine.Service/Several")(iter(held), timeout=PATIENCE)
    held.send(b"a")
    assert next(answers) == b"aa"
    answers.cancel()
    held.send(None)
    server.until(lambda: server.plane.gate.in_flight == 0)


def test_an_unknown_method_is_unimplemented(channel: Any) -> None:
    assert failure(lambda: call(channel, "Unknown"))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_deadlines_reach_the_model(server: AppServer, channel: Any) -> None:
    server.gated.gate.clear()
    server.gated.forget_warm_up()
    try:
        first = channel.unary_unary("/mine.Service/Gated").future(b"1", timeout=PATIENCE)
        assert server.gated.entered.acquire(timeout=PATIENCE)
        server.journal.clear()
        status, _, _ = failure(lambda: call(channel, "Gated", b"2", timeout=0.2))
        assert status is grpc.StatusCode.DEADLINE_EXCEEDED
        server.until(lambda: server.waiting("gated") == 0)  # the second does not wait any more
        third = channel.unary_unary("/mine.Service/Gated").future(b"3", timeout=PATIENCE)
        server.until(lambda: server.waiting("gated") == 1)
        third.cancel()
        server.until(lambda: server.waiting("gated") == 0)
    finally:
        server.gated.gate.set()
    assert first.result(PATIENCE)
    assert server.gated.calls == [1]


def test_slow_handlers_hold_up_nobody_else(server: AppServer, channel: Any) -> None:
    Gate.open.clear()
    waits = channel.unary_unary("/mine.Service/Waits")
    calls = []
    try:
        calls = [waits.future(b"", timeout=PATIENCE) for _ in range(THREADS)]
        for _ in range(THREADS):
            assert Gate.entered.acquire(timeout=PATIENCE)
        live = channel.unary_unary(
            "/inference.GRPCInferenceService/ServerLive",
            ServerLiveRequest.SerializeToString,
            ServerLiveResponse.FromString,
        )
        assert live(ServerLiveRequest(), timeout=PATIENCE).live
        assert server.ask("GET", "/v2/health/live").status == 200
        more = [waits.future(b"", timeout=PATIENCE) for _ in range(20)]
        over = threading.Semaphore(0)
        for each in more:
            each.add_done_callback(lambda _: over.release())
        for _ in range(12):  # 32 have a thread, 8 wait for one
            assert over.acquire(timeout=PATIENCE)
        refused = [each.code() for each in more if each.done()]
        assert refused == [grpc.StatusCode.UNAVAILABLE] * 12
    finally:
        Gate.open.set()
    assert {each.result(PATIENCE) for each in calls} == {b"done"}
    assert [each.code() for each in more].count(grpc.StatusCode.OK) == 8
    while Gate.entered.acquire(blocking=False):
        continue


def test_draining_refuses_and_waits() -> None:
    Gate.open.clear()
    with AppServer(an_app()) as other, other.channel() as channel:
        inside = channel.unary_unary("/mine.Service/Waits").future(b"", timeout=PATIENCE)
        assert Gate.entered.acquire(timeout=PATIENCE)

        async def drain() -> Any:
            return asyncio.ensure_future(other.plane.gate.drain())

        drained = other.run(drain())
        status, _, trailers = failure(lambda: call(channel, "Echo"))
        assert (status, trailers["error-code"]) == (grpc.StatusCode.UNAVAILABLE, "NOT_READY")
        assert not drained.done()
        Gate.open.set()
        assert inside.result(PATIENCE) == b"done"
        other.until(drained.done)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    folder = tmp_path_factory.mktemp("generated")
    (folder / "toxicity.proto").write_text(PROTO)
    arguments = [
        "-m",
        "grpc_tools.protoc",
        f"-I{folder}",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
    ]
    subprocess.run([sys.executable, *arguments, str(folder / "toxicity.proto")], check=True)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("toxicity_pb2"), importlib.import_module("toxicity_pb2_grpc")
    sys.path.remove(str(folder))


def test_generated_servicers(generated: tuple[ModuleType, ModuleType]) -> None:
    messages, code = generated
    app = App()

    class Toxicity(code.ToxicityServicer):  # type: ignore[name-defined,misc]
        def __init__(self, models: Models) -> None:
            self.models = models

        def Rate(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
            value = float(len(request.text))
            return messages.Score(score=self.models.infer_sync("m", {"x": row(value)})["y"][0, 0])

        def RateAll(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
            for request in request_iterator:
                yield self.Rate(request, context)

        def Spell(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
            return (messages.Text(text=letter) for letter in request.text)

    @app.grpc
    def services(models: Models, server: Any) -> None:
        code.add_ToxicityServicer_to_server(Toxicity(models), server)

    with AppServer(app) as server, server.channel() as channel:
        stub = code.ToxicityStub(channel)
        assert stub.Rate(messages.Text(text="abc"), timeout=PATIENCE).score == 6.0
        texts = [messages.Text(text="a" * n) for n in range(1, 4)]
        assert [each.score for each in stub.RateAll(iter(texts), timeout=PATIENCE)] == [2.0, 4.0, 6.0]
        assert [each.text for each in stub.Spell(messages.Text(text="no"), timeout=PATIENCE)] == ["n", "o"]
        # What the servicer leaves out is unimplemented, and what cannot be parsed is the caller's mistake.
        status, _, trailers = failure(lambda: stub.Count(iter(texts), timeout=PATIENCE))
        assert (status, trailers["error-code"]) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED")
        raw = channel.unary_unary("/toxicity.Toxicity/Rate")
        status, text, _ = failure(lambda: raw(b"\xff\xff", timeout=PATIENCE))
        assert (status, text) == (grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be parsed")


def handlers_of(service: str) -> Any:
    return grpc.method_handlers_generic_handler(service, {})


@pytest.mark.parametrize(
    ("factory", "complaint"),
    [
        (lambda models: handlers_of("inference.GRPCInferenceService"), "package 'inference' is reserved"),
        (lambda models: handlers_of("inference.Mine"), "package 'inference' is reserved"),
        (lambda models: handlers_of("grpc.health.v1.Health"), "package 'grpc' is reserved"),
        (lambda models: [handlers_of("a.B"), handlers_of("a.B")], "gRPC service 'a.B' is there already"),
        (lambda models: None, "brought no handler"),
        (lambda models: 7, "expected grpc.GenericRpcHandler, got a int"),
        (lambda channel: None, "takes 'channel', expected only models, server"),
        (lambda models: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_services_that_cannot_be_are_refused(factory: Any, complaint: str) -> None:
    app = App()
    app.grpc(factory)
    with pytest.raises(AppError, match=re.escape("app app0.py: ") + ".*" + re.escape(complaint)):
        AppServer(app)


class TakesEverything(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A handler that does not tell which service it serves."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        self.asked.append(handler_call_details.method)
        if handler_call_details.method.endswith("/Broken"):
            raise ValueError("on purpose")
        return grpc.unary_unary_rpc_method_handler(lambda message, context: b"mine")


def test_a_handler_that_takes_everything_gets_nothing_of_ours() -> None:
    app, handler = App(), TakesEverything()
    app.grpc(lambda: handler)
    with AppServer(app) as server, server.channel() as channel:
        assert channel.unary_unary("/any.Thing/Else")(b"", timeout=PATIENCE) == b"mine"
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=PATIENCE)
        assert ServerLiveResponse.FromString(live).live
        for method in ("/grpc.testing.Foo/Bar", "/inference.Other/X", "/any.Thing/Broken"):
            call = partial(channel.unary_unary(method), b"", timeout=PATIENCE)
            assert failure(call)[0] is grpc.StatusCode.UNIMPLEMENTED
    assert handler.asked == ["/any.Thing/Else", "/any.Thing/Broken"]
