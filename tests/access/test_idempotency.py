"""Requests with an idempotency key: the model is called once, whoever asks again and when."""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest

from oipserver.config import AccessConfig
from oipserver.core.contract import Work
from oipserver.core.datatypes import FP64
from oipserver.core.errors import Conflict, DeadlineExceeded, Fault, InternalError, Overloaded
from oipserver.core.idempotency import Replays, Scope, digest_of
from oipserver.core.messages import InferenceRequest, InferenceResponse, Tensor
from oipserver.grpc._generated.open_inference_pb2 import ModelInferResponse
from tests.access.running import KeyedServer, entry, key, write
from tests.conformance.wires import Connection, message
from tests.grpc.running import failure, raw_request
from tests.support import PATIENCE, Doubler, GatedModel, run, until

T = TypeVar("T")

INFER = "/v2/models/m/infer"


def body(value: float, **members: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [value, value]}
    return {"inputs": [tensor], **members}


def begin(function: Callable[[], T]) -> Future[T]:
    """The result of a function that runs in a thread."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedServer]:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    write(keys, entry("a"), entry("b"), entry("reader", roles=["read"]))
    models = {"m": GatedModel({13.0: ValueError("unlucky")}), "other": Doubler()}
    with KeyedServer(AccessConfig(keys_file=str(keys)), models) as running:
        yield running


@pytest.fixture
def model(server: KeyedServer) -> GatedModel:
    """Its calls are counted from here."""
    found = server.models["m"]
    assert isinstance(found, GatedModel)
    found.gate.set()
    found.forget_warm_up()
    return found


@pytest.fixture
def once(request: pytest.FixtureRequest) -> str:
    """A key of this test alone."""
    return f"once-{request.node.name}"[:250]


def ask(server: KeyedServer, once: str, value: float = 1.0, caller: str = "a", **more: Any) -> Any:
    return server.ask("POST", INFER, body(value, **more), idempotency_key=once, x_api_key=key(caller))


def test_asked_again_it_is_answered_again(server: KeyedServer, model: GatedModel, once: str) -> None:
    first, second = ask(server, once, id="one"), ask(server, once, id="two")
    assert first.status == second.status == 200
    assert (first.json()["id"], second.json()["id"]) == ("one", "two")
    assert first.json()["outputs"] == second.json()["outputs"]
    assert first.json()["outputs"][0]["data"] == [2.0, 2.0]
    assert model.calls == [1]


def test_a_retry_that_is_the_same_byte_for_byte(server: KeyedServer, model: GatedModel, once: str) -> None:
    headers = {"x-api-key": key("a"), "idempotency-key": once}
    same = message("POST", INFER, json.dumps(body(1.0)).encode(), headers)
    for _ in range(3):
        with Connection(server.http_port) as connection:
            assert [connection.send(same).answer().status for _ in range(3)] == [200] * 3
    assert model.calls == [1]


def test_without_api_keys() -> None:
    """Heads that are known byte for byte take a short way, where nobody asks for the key again."""
    model = Doubler()
    with KeyedServer(AccessConfig(), {"m": model}) as server:
        plain = message("POST", INFER, json.dumps(body(1.0)).encode())
        once = message("POST", INFER, json.dumps(body(1.0)).encode(), {"Idempotency-Key": "once"})
        for sent, calls in ((plain, 4), (once, 5)):
            for _ in range(2):
                with Connection(server.http_port) as connection:
                    assert [connection.send(sent).answer().status for _ in range(2)] == [200] * 2
            assert len(model.calls) == calls


def test_over_grpc(server: KeyedServer, model: GatedModel, once: str) -> None:
    sent = raw_request(1.0).SerializeToString()
    answers = [
        ModelInferResponse.FromString(
            server.call("ModelInfer", sent, x_api_key=key("a"), idempotency_key=once)
        )
        for _ in range(3)
    ]
    assert {answer.raw_output_contents[0] for answer in answers} == {np.array([2.0, 2.0]).tobytes()}
    assert model.calls == [1]


def test_the_fronts_share_what_is_kept(server: KeyedServer, model: GatedModel, once: str) -> None:
    assert ask(server, once).status == 200
    sent = raw_request(1.0).SerializeToString()
    answer = server.call("ModelInfer", sent, x_api_key=key("a"), idempotency_key=once)
    assert ModelInferResponse.FromString(answer).raw_output_contents[0] == np.array([2.0, 2.0]).tobytes()
    assert model.calls == [1]


def test_those_who_ask_meanwhile_wait_for_the_one(server: KeyedServer, model: GatedModel, once: str) -> None:
    model.gate.clear()
    first = begin(lambda: ask(server, once, id="first"))
    assert model.entered.acquire(timeout=PATIENCE)
    others = [begin(lambda at=at: ask(server, once, id=f"other-{at}")) for at in range(8)]  # type: ignore[misc]
    others.append(
        begin(
            lambda: server.call(
                "ModelInfer", raw_request(1.0).SerializeToString(), x_api_key=key("a"), idempotency_key=once
            )
        )
    )
    inside = lambda: server.server._gate.in_flight == 10  # noqa: E731
    server.on_loop(until(inside))
    model.gate.set()
    assert first.result(PATIENCE).json()["id"] == "first"
    assert [other.result(PATIENCE).json()["id"] for other in others[:-1]] == [f"other-{n}" for n in range(8)]
    assert others[-1].result(PATIENCE)
    assert model.calls == [1]


def test_another_request_with_the_key_is_a_conflict(
    server: KeyedServer, model: GatedModel, once: str
) -> None:
    assert ask(server, once).status == 200
    ask(server, once, 2.0).error("CONFLICT")
    sent = raw_request(2.0).SerializeToString()
    status, _, trailers = failure(
        lambda: server.call("ModelInfer", sent, x_api_key=key("a"), idempotency_key=once)
    )
    assert (status, trailers["error-code"]) == (grpc.StatusCode.FAILED_PRECONDITION, "CONFLICT")
    assert ask(server, once).status == 200
    assert model.calls == [1]


def test_a_key_belongs_to_its_caller_and_its_model(server: KeyedServer, model: GatedModel, once: str) -> None:
    assert ask(server, once, 1.0, "a").json()["outputs"][0]["data"] == [2.0, 2.0]
    assert ask(server, once, 3.0, "b").json()["outputs"][0]["data"] == [6.0, 6.0]
    other = server.ask("POST", "/v2/models/other/infer", body(5.0), idempotency_key=once, x_api_key=key("a"))
    assert other.json()["outputs"][0]["data"] == [10.0, 10.0]
    assert model.calls == [1, 1]


def test_failures_are_not_kept(server: KeyedServer, model: GatedModel, once: str) -> None:
    ask(server, once, 13.0).error("INFERENCE_FAILED")
    ask(server, once, 13.0).error("INFERENCE_FAILED")
    assert model.calls == [1, 1]
    server.ask("POST", INFER, {"inputs": []}, idempotency_key=once, x_api_key=key("a")).error("BAD_REQUEST")
    assert ask(server, once, 1.0).status == 200


def test_the_answer_is_kept_for_a_caller_who_has_left(
    server: KeyedServer, model: GatedModel, once: str
) -> None:
    model.gate.clear()
    headers = {"x-api-key": key("a"), "idempotency-key": once}
    with Connection(server.http_port) as connection:
        connection.send(message("POST", INFER, json.dumps(body(1.0)).encode(), headers))
        assert model.entered.acquire(timeout=PATIENCE)
    server.on_loop(until(lambda: server.server._gate.in_flight == 0))
    model.gate.set()
    assert ask(server, once).status == 200
    assert model.calls == [1]


@pytest.mark.parametrize("bad", ["", "x" * 256])
def test_a_bad_key_is_refused(server: KeyedServer, model: GatedModel, bad: str) -> None:
    assert "idempotency key" in ask(server, bad).error("BAD_REQUEST")
    sent = raw_request(1.0).SerializeToString()
    status, text, _ = failure(
        lambda: server.call("ModelInfer", sent, x_api_key=key("a"), idempotency_key=bad)
    )
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert "idempotency key" in text
    assert model.calls == []


# --- what is kept, and for how long ------------------------------------------------------------------------


def work(value: float, size: int = 1) -> Work:
    return Work({"x": np.full((size, 1), value)}, ("y",), {}, size, 8 * size, None)


class Asked:
    """Replays, and a model that is computed by hand."""

    def __init__(self, **limits: Any) -> None:
        self.replays = Replays(**limits)
        self.begun: list[Callable[[InferenceResponse | Fault], None]] = []

    def ask(
        self, name: str, value: float = 1.0, seconds: float = PATIENCE
    ) -> list[InferenceResponse | Fault]:
        """What comes back, when it comes."""
        came: list[InferenceResponse | Fault] = []
        request = InferenceRequest("m", [], "id", time.monotonic() + seconds)
        scope: Scope = ("", "m", None, name)
        begin = lambda request, work, reply: self.begun.append(reply)  # noqa: E731
        self.last = self.replays.submit(scope, request, work(value), begin, came.append)
        return came

    def answer(self, size: int = 1) -> None:
        """The oldest computation ends well."""
        tensor = Tensor("y", FP64, np.zeros((size, 1)))
        self.begun.pop(0)(InferenceResponse("m", "1", "id", [tensor]))


def test_the_oldest_answers_go_first() -> None:
    async def scenario() -> None:
        asked = Asked(max_keys=3)
        for name in "abcd":
            asked.ask(name)
            asked.answer()
        assert len(asked.replays) == 3
        asked.ask("d")
        asked.ask("b")
        assert asked.begun == []
        asked.ask("a")
        assert len(asked.begun) == 1

    run(scenario())


def test_bytes_are_bounded_and_what_is_too_large_is_not_kept() -> None:
    async def scenario() -> None:
        asked = Asked(max_bytes=10_000)
        for at in range(100):
            asked.ask(str(at))
            asked.answer(size=100)
            assert asked.replays.nbytes <= 10_000
        assert len(asked.replays) == 10_000 // (1024 + 800)
        asked.ask("large")
        asked.answer(size=10_000)
        asked.ask("large")
        assert len(asked.begun) == 1

    run(scenario())


def test_a_slice_does_not_keep_its_batch() -> None:
    async def scenario() -> None:
        asked = Asked()
        asked.ask("a")
        batch = np.zeros((1000, 1))
        asked.begun.pop()(InferenceResponse("m", "1", "id", [Tensor("y", FP64, batch[3:4])]))
        came = asked.ask("a")
        await until(lambda: bool(came))
        assert isinstance(came[0], InferenceResponse)
        assert came[0].outputs[0].data.base is None

    run(scenario())


def test_answers_are_forgotten_in_time() -> None:
    async def scenario() -> None:
        asked = Asked(ttl=0.001)
        asked.ask("a")
        asked.answer()

        def over() -> bool:
            asked.ask("b")
            return len(asked.replays) == 0

        await until(over)
        assert asked.replays.nbytes == 0

    run(scenario())


def test_who_waits_has_a_deadline_of_its_own() -> None:
    async def scenario() -> None:
        asked = Asked()
        first = asked.ask("a")
        second = asked.ask("a", seconds=0.01)
        await until(lambda: bool(second))
        assert isinstance(second[0], DeadlineExceeded)
        assert first == []
        asked.answer()
        assert isinstance(first[0], InferenceResponse)
        assert len(second) == 1

    run(scenario())


def test_a_deadline_of_the_first_does_not_end_the_others() -> None:
    async def scenario() -> None:
        asked = Asked()
        first, second, third = asked.ask("a", seconds=0.0), asked.ask("a"), asked.ask("a")
        asked.begun.pop()(DeadlineExceeded("too late"))
        assert isinstance(first[0], DeadlineExceeded)
        assert second == third == []
        asked.answer()
        assert isinstance(second[0], InferenceResponse)
        assert isinstance(third[0], InferenceResponse)

    run(scenario())


def test_of_those_who_wait_nothing_is_kept_that_the_first_has_brought() -> None:
    """Or requests that wait for one computation would fill the memory, past every limit of the queue."""

    async def scenario() -> None:
        asked = Asked()
        asked.ask("a")
        brought = np.full((1, 1), 1.0)
        request = InferenceRequest("m", [Tensor("x", FP64, brought)], "id", time.monotonic() + PATIENCE)
        taken = Work({"x": brought}, ("y",), {}, 1, 8, None)
        came: list[InferenceResponse | Fault] = []
        waiter = asked.replays.submit(("", "m", None, "a"), request, taken, _not_begun, came.append)
        left = weakref.ref(brought)
        del brought, request, taken
        assert left() is None
        asked.answer()
        assert len(came) == 1
        assert waiter.line == {}

    run(scenario())


def test_who_leaves_waits_no_more() -> None:
    async def scenario() -> None:
        asked = Asked()
        first = asked.ask("a")
        for _ in range(100):
            asked.ask("a")
            asked.last.cancel()
        assert asked.last not in asked.last.line
        assert len(asked.last.line) == 1
        asked.answer()
        assert len(first) == 1

    run(scenario())


def _not_begun(request: InferenceRequest, work: Work, reply: object) -> None:
    raise AssertionError("it is computed already")


def test_a_refusal_is_everybodys_and_leaves_nothing() -> None:
    async def scenario() -> None:
        asked = Asked()
        first, second = asked.ask("a"), asked.ask("a")
        asked.begun.pop()(Overloaded("full"))
        assert isinstance(first[0], Overloaded)
        assert isinstance(second[0], Overloaded)
        asked.ask("a", 2.0)
        assert len(asked.begun) == 1
        with pytest.raises(Conflict):
            asked.ask("a", 1.0)

    run(scenario())


def test_a_broken_front_and_no_memory_spoil_nothing_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise LookupError("a bug")

    async def scenario() -> None:
        asked = Asked()
        request = InferenceRequest("m", [], "id", time.monotonic() + PATIENCE)
        begin = lambda request, work, reply: asked.begun.append(reply)  # noqa: E731
        asked.replays.submit(("", "m", None, "a"), request, work(1.0), begin, fails)
        came = asked.ask("a")
        with monkeypatch.context() as patched:
            patched.setattr(asked.replays, "_keep", fails)
            asked.answer()
        assert isinstance(came[0], InferenceResponse)

    run(scenario())


def test_for_whom_nothing_can_be_begun_again_is_told_so() -> None:
    def fails(*_: object) -> None:
        raise LookupError("a bug")

    async def scenario() -> None:
        asked = Asked()
        asked.ask("a")
        asked.last.cancel()
        came: list[InferenceResponse | Fault] = []
        request = InferenceRequest("m", [], "id", time.monotonic() + PATIENCE)
        asked.replays.submit(("", "m", None, "a"), request, work(1.0), fails, came.append)
        asked.begun.pop()(DeadlineExceeded("too late"))
        assert isinstance(came[0], InternalError)

    run(scenario())


def test_who_is_answered_again_is_no_inference_more(
    server: KeyedServer, model: GatedModel, once: str
) -> None:
    def numbers() -> list[int]:
        answer = server.ask("GET", "/v2/models/m/stats", x_api_key=key("reader")).json()
        [found] = answer["model_stats"]
        return [
            found["inference_count"],
            found["execution_count"],
            found["inference_stats"]["success"]["count"],
        ]

    before = numbers()
    for _ in range(3):
        assert ask(server, once).status == 200
    sent = raw_request(1.0).SerializeToString()
    assert server.call("ModelInfer", sent, x_api_key=key("a"), idempotency_key=once)
    end = time.monotonic() + PATIENCE
    while (more := [now - then for now, then in zip(numbers(), before, strict=True)]) != [1, 1, 4]:
        assert time.monotonic() < end, more  # an answer may be there before it is counted


def test_a_caller_who_has_left_gets_nothing() -> None:
    async def scenario() -> None:
        asked = Asked()
        first = asked.ask("a")
        asked.last.cancel()
        second = asked.ask("a")
        asked.answer()
        assert first == []
        assert len(second) == 1

    run(scenario())


@pytest.mark.parametrize(
    "other",
    [
        Work({"x": np.array([[1.5]])}, ("y",), {}, 1, 8, None),
        Work({"z": np.array([[1.0]])}, ("y",), {}, 1, 8, None),
        Work({"x": np.array([[1.0]], np.float32)}, ("y",), {}, 1, 8, None),
        Work({"x": np.array([1.0])}, ("y",), {}, 1, 8, None),
        Work({"x": np.array([[1.0]])}, ("y", "z"), {}, 1, 8, None),
        Work({"x": np.array([[1.0]])}, ("y",), {"a": 1}, 1, 8, None),
        Work({"x": np.array([[b"a", b"bc"]], object)}, ("y",), {}, 1, 8, None),
        Work({"x": np.array([[b"ab", b"c"]], object)}, ("y",), {}, 1, 8, None),
    ],
)
def test_whatever_the_model_sees_tells_requests_apart(other: Work) -> None:
    one = Work({"x": np.array([[1.0]])}, ("y",), {}, 1, 8, None)
    bytes_ = Work({"x": np.array([[b"abc", b""]], object)}, ("y",), {}, 1, 8, None)
    assert digest_of(other) not in (digest_of(one), digest_of(bytes_))
    assert digest_of(other) == digest_of(other)
    strided = np.ones((2, 2))[:, ::2]
    assert digest_of(Work({"x": strided}, (), {}, 2, 16, None)) == digest_of(
        Work({"x": strided.copy()}, (), {}, 2, 16, None)
    )
