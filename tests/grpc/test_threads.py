"""The pools that grpcio hands its calls to."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from oipserver.grpc.threads import Threads
from tests.grpc.conftest import Serve
from tests.grpc.running import raw_request
from tests.support import PATIENCE, Doubler


def start_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the system has no thread for a pool of ours."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("grpc-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_without_further_threads_the_first_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, done = threading.Event(), threading.Event()
    with Threads(4, "grpc-test") as pool:
        start_none(monkeypatch)
        pool.submit(go_on.wait, PATIENCE)
        pool.submit(done.set)
        go_on.set()
        assert done.wait(PATIENCE)


def test_after_the_end_nothing_is_raised() -> None:
    pool = Threads(1, "grpc-test")
    pool.shutdown()
    assert pool.submit(int).cancelled()


def test_a_server_without_further_threads_answers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve({"m": Doubler()})
    body = raw_request(1.0).SerializeToString()
    with monkeypatch.context() as patch:
        start_none(patch)
        calls: list[Any] = [server.method("ModelInfer").future(body, timeout=PATIENCE) for _ in range(8)]
        assert all(call.result() for call in calls)
        assert server.method("ServerLive")(b"", timeout=PATIENCE)
