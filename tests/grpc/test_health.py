"""Health.Watch: every peer is told on its own, and none can hold up another one or the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from oipserver.grpc.patience import Patience
from oipserver.grpc.standard import Health, Streams
from oipserver.grpc.threads import Threads
from tests.grpc.conftest import Serve
from tests.grpc.running import Held, Running, failure
from tests.support import PATIENCE, Doubler, until

STATUS = health_pb2.HealthCheckResponse
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


def watch(channel: grpc.Channel, service: str = "") -> Any:
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    return channel.unary_stream(WATCH, None, STATUS.FromString)(request, timeout=PATIENCE)


def watchers(server: Running) -> int:
    return len(server.server._health._watchers)


def stalled(server: Running, path: str, count: int) -> list[Any]:
    """Calls whose message does not come, when so many of them have a thread that waits for it."""
    method = server.channel.stream_stream(path, None, None)
    calls = [method(iter(Held()), timeout=PATIENCE) for _ in range(count)]
    server.run(until, lambda: len(server.server._patience._until) == count)
    return calls


def test_changes_are_told_and_repetitions_are_not(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    statuses = watch(server.channel, "inference.GRPCInferenceService")
    assert next(statuses).status == STATUS.NOT_SERVING
    for serving, told in [(True, STATUS.SERVING), (False, STATUS.NOT_SERVING), (True, STATUS.SERVING)]:
        for _ in range(2):
            server.on_loop(partial(server.server.set_serving, serving))
        assert next(statuses).status == told
    statuses.cancel()
    server.run(until, lambda: watchers(server) == 0)


def test_an_unknown_service_is_told_so_and_not_remembered(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    statuses = watch(server.channel, "other")
    assert next(statuses).status == STATUS.SERVICE_UNKNOWN
    assert watchers(server) == 0
    assert statuses.is_active()
    statuses.cancel()
    server.run(until, lambda: not server.server._streams._open)


def test_a_watcher_with_a_message_that_is_none(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    call: Any = server.channel.unary_stream(WATCH, None, None)(b"\xff", timeout=PATIENCE)
    status, _, trailers = failure(lambda: next(call))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST")


def test_a_watcher_who_never_sends_is_given_up(serve: Serve) -> None:
    [call] = stalled(serve({"m": Doubler()}), WATCH, 1)
    assert call.code() is grpc.StatusCode.CANCELLED


def test_watchers_that_come_and_go_at_the_same_time(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    ended: list[int] = []

    def come_and_go() -> None:
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            for _ in range(50):
                statuses = watch(channel)
                ended.append(next(statuses).status)
                statuses.cancel()

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert ended == [STATUS.NOT_SERVING] * 400
    assert server.method("ServerLive")(b"", timeout=PATIENCE)
    server.run(until, lambda: watchers(server) == 0)


class Context:
    """As much of grpcio's context as a watcher sees; `end` is what grpcio's reading thread does."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return True

    def end(self) -> None:
        for callback in self._callbacks:
            callback()


@pytest.fixture
def pool() -> Iterator[Threads]:
    with Threads(2, "test") as threads:
        yield threads


def test_a_watcher_may_end_while_another_is_written_to(pool: Threads) -> None:
    health = Health(Patience(), pool, pool, Streams())
    request = health_pb2.HealthCheckRequest().SerializeToString()
    first, second = Context(), Context()

    def wait_for_the_reading_thread(_: bytes | None) -> None:
        """It says when a message is written, and has the first watcher's end to report before."""
        reading = threading.Thread(target=first.end, daemon=True)
        reading.start()
        reading.join(PATIENCE)
        written.append(not reading.is_alive())

    written: list[bool] = []
    health._watch(iter([request]), first, lambda _: None)  # type: ignore[arg-type]
    health._watch(iter([request]), second, wait_for_the_reading_thread)  # type: ignore[arg-type]
    assert written == [True]
    assert len(health._watchers) == 1
    second.end()
    assert not health._watchers


def test_news_wait_for_the_message_that_is_being_written(pool: Threads) -> None:
    health = Health(Patience(), pool, pool, Streams())
    writing, go_on, done = threading.Event(), threading.Event(), threading.Event()
    told: list[int] = []

    def send(body: bytes | None) -> None:
        told.append(STATUS.FromString(body or b"").status)
        if len(told) == 1:
            writing.set()
            assert go_on.wait(PATIENCE)
        else:
            done.set()

    pool.submit(health._watch, iter([b""]), Context(), send)  # type: ignore[arg-type]
    assert writing.wait(PATIENCE)
    health.set_serving(True)
    pool.submit(go_on.set)  # after the news in the one thread that is left
    assert done.wait(PATIENCE)
    assert told == [STATUS.NOT_SERVING, STATUS.SERVING]


def test_reflection_does_not_hold_up_the_news(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    statuses = watch(server.channel)
    assert next(statuses).status == STATUS.NOT_SERVING
    calls = stalled(server, REFLECTION, 4)
    server.on_loop(lambda: server.server.set_serving(True))
    assert next(statuses).status == STATUS.SERVING
    assert all(call.is_active() for call in calls)


def test_checks_do_not_wait_for_calls_that_bring_no_message(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    calls = stalled(server, "/inference.GRPCInferenceService/ModelReady", 32)
    answer = server.channel.unary_unary(CHECK, None, STATUS.FromString)(b"", timeout=PATIENCE)
    assert answer.status == STATUS.NOT_SERVING
    assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}
