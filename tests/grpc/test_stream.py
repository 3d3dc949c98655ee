"""ModelStreamInfer over a socket: every request of a stream is an inference of its own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest

from oipserver.core.errors import NotReady
from oipserver.grpc import stream as stream_module
from oipserver.grpc._generated.open_inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from oipserver.grpc.stream import MAX_OUTSTANDING, MAX_STREAMS
from tests.grpc.running import Greeter, Halver, Held, Running, failure, parameter, raw_request
from tests.streaming import ENDLESS, Counter
from tests.support import PATIENCE, Doubler, GatedModel, until

Serve = Callable[..., Running]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers: `serve({"m": model}, **options of GrpcServer)`."""
    running: list[Running] = []

    def start(models: dict[str, Any], **options: Any) -> Running:
        running.append(Running(models, **options))
        return running[-1]

    yield start
    for each in running:
        each.close()


def open_stream(server: Running, requests: Any, **options: Any) -> Any:
    """The call, which is an iterator of serialized answers."""
    call = server.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer", None, None)
    return call(requests, **{"timeout": PATIENCE, **options})


def ask(server: Running, *requests: ModelInferRequest) -> list[ModelStreamInferResponse]:
    """All answers to a stream of requests."""
    bodies = iter([request.SerializeToString() for request in requests])
    return [ModelStreamInferResponse.FromString(answer) for answer in open_stream(server, bodies)]


def read(call: Any) -> ModelStreamInferResponse:
    return ModelStreamInferResponse.FromString(next(call))


def value(answer: ModelStreamInferResponse | ModelInferResponse) -> float:
    """The first number of the first output, and no error."""
    if isinstance(answer, ModelStreamInferResponse):
        assert not answer.error_message
        answer = answer.infer_response
    datatype = {"INT64": "<i8", "FP64": "<f8"}[answer.outputs[0].datatype]
    return float(np.frombuffer(answer.raw_output_contents[0], datatype)[0])


def is_final(answer: ModelStreamInferResponse) -> bool:
    return answer.infer_response.parameters["triton_final_response"].bool_param


def wait_empty(server: Running) -> None:
    """Return when nothing is inside, no slot is taken and no stream is open."""

    def empty() -> bool:
        gate, streams = server.plane.gate, server.server._inferences
        versions = server.plane.registry.versions()
        busy = sum(version.streams.running for version in versions if version.streams is not None)
        return not (gate.in_flight or busy or streams._open) and streams.slots._value == MAX_STREAMS

    server.run(until, empty)


def test_100_requests_get_100_answers_with_their_ids(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    answers = ask(server, *(raw_request(float(number), id=f"id {number}") for number in range(100)))
    assert {answer.infer_response.id: value(answer) for answer in answers} == {
        f"id {number}": 2.0 * number for number in range(100)
    }
    assert len(answers) == 100
    assert all(map(is_final, answers))
    assert server.log.ended == [("m", "OK")] * 100
    wait_empty(server)


def test_100_requests_to_a_model_that_streams(serve: Serve) -> None:
    server = serve({"m": Counter()})
    answers = ask(server, *(raw_request(3.0, id=str(number)) for number in range(100)))
    for number in range(100):
        mine = [value(answer) for answer in answers if answer.infer_response.id == str(number)]
        assert mine == [0.0, 1.0, 2.0]
    assert len(answers) == 300
    wait_empty(server)


def test_requests_of_one_stream_are_batched(serve: Serve) -> None:
    model = GatedModel()
    server = serve({"m": model})
    model.gate.clear()
    requests = Held()
    call = open_stream(server, iter(requests))
    requests.send(raw_request(0.0).SerializeToString())
    assert model.entered.acquire(timeout=PATIENCE)
    for number in range(1, 21):
        requests.send(raw_request(float(number)).SerializeToString())
    [version] = server.plane.registry.versions()
    server.run(until, lambda: version.depth == 20)
    model.gate.set()
    requests.send(None)
    assert sorted(value(ModelStreamInferResponse.FromString(answer)) for answer in call) == [
        2.0 * number for number in range(21)
    ]
    assert model.calls == [1, 20]


def test_an_answer_is_the_same_as_to_model_infer(serve: Serve) -> None:
    server = serve({"m": Halver(), "g": Greeter()})
    typed = {"name": "who", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"me"]}}
    for request in (
        raw_request(1.5, 2.0, id="raw", outputs=[{"name": "half"}, {"name": "y"}]),
        ModelInferRequest(model_name="g", id="typed", inputs=[typed]),
    ):
        [answer] = ask(server, request)
        del answer.infer_response.parameters["triton_final_response"]
        assert answer.infer_response == ModelInferResponse.FromString(server.infer(request))
        assert not answer.error_message


def test_a_quick_answer_overtakes_a_slow_one(serve: Serve) -> None:
    slow = GatedModel()
    server = serve({"slow": slow, "m": Doubler()})
    slow.gate.clear()
    bodies = iter([raw_request(1.0, model=name, id=name).SerializeToString() for name in ("slow", "m")])
    call = open_stream(server, bodies)
    assert read(call).infer_response.id == "m"
    slow.gate.set()
    assert read(call).infer_response.id == "slow"
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def test_each_answer_of_a_stream_comes_as_it_is_made(serve: Serve) -> None:
    model = Counter(gated=True)
    server = serve({"m": model})
    call = open_stream(server, iter([raw_request(3.0, id="mine").SerializeToString()]))
    for number in range(3):
        model.permits.release()  # the next cannot be made before this one was read
        answer = read(call)
        assert (value(answer), answer.infer_response.id, is_final(answer)) == (number, "mine", False)
        assert answer.infer_response.model_name == "m"
        assert answer.infer_response.model_version == "1"
    assert list(call) == []


def test_an_empty_final_answer_for_those_who_want_it(serve: Serve) -> None:
    server = serve({"m": Counter(), "d": Doubler()})
    wanted = {"triton_enable_empty_final_response": parameter(True)}
    *answers, last = ask(server, raw_request(2.0, id="mine", parameters=wanted))
    assert [(value(answer), is_final(answer)) for answer in answers] == [(0.0, False), (1.0, False)]
    assert is_final(last)
    assert not last.error_message
    response = last.infer_response
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "mine")
    assert not response.outputs
    [only] = ask(server, raw_request(2.0, model="d", parameters=wanted))
    assert (value(only), is_final(only)) == (4.0, True)


def test_model_infer_reads_the_same_parameter(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    wanted = {"triton_enable_empty_final_response": parameter(True)}
    assert value(ModelInferResponse.FromString(server.infer(raw_request(2.0, parameters=wanted)))) == 4.0
    wrong = {"triton_enable_empty_final_response": parameter("yes")}
    code, text, _ = failure(lambda: server.infer(raw_request(2.0, parameters=wrong)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "parameter 'triton_enable_empty_final_response' must be true or false, got 'yes'"


def test_model_infer_of_a_model_that_streams_is_its_predict(serve: Serve) -> None:
    assert value(ModelInferResponse.FromString(serve({"m": Counter()}).infer(raw_request(5.0)))) == 0.0


def test_a_bad_request_is_an_answer_and_the_stream_goes_on(serve: Serve) -> None:
    server = serve({"m": Doubler(), "c": Counter()})
    bad = [
        (raw_request(1.0, id="model", model="nobody"), "no model 'nobody'", "NOT_FOUND"),
        (raw_request(id="rows"), "input 'x' of model 'm' holds no rows", "BAD_REQUEST"),
        (raw_request(1.0, id="output", outputs=[{"name": "z"}]), "has no output 'z'", "BAD_REQUEST"),
        (ModelInferRequest(id="no model"), "model_name is missing", "BAD_REQUEST"),
        (raw_request(-1.0, id="value", model="c"), "negative numbers cannot be counted to", "UNPROCESSABLE"),
        (raw_request(-0.5, id="raises", model="c"), "the model failed to compute", "INFERENCE_FAILED"),
    ]
    answers = ask(server, *(request for request, _, _ in bad), raw_request(4.0, id="good"))
    found = {answer.infer_response.id: answer for answer in answers}
    assert len(answers) == len(found) == len(bad) + 1
    for request, text, code in bad:
        answer = found[request.id]
        assert text in answer.error_message
        assert answer.infer_response.parameters["error_code"] == parameter(code)
        assert is_final(answer)
    assert value(found["good"]) == 8.0
    assert sorted(code for _, code in server.log.ended) == sorted(["OK", *(code for _, _, code in bad)])


@pytest.mark.parametrize(
    "body", [b"\x0a", b"\xff" * 40, ModelInferRequest(id="x" * 70_000).SerializeToString()]
)
def test_bytes_that_are_no_request(serve: Serve, body: bytes) -> None:
    server = serve({"m": Doubler()})
    call = open_stream(server, iter([body, raw_request(1.0, id="good").SerializeToString()]))
    answers = [ModelStreamInferResponse.FromString(answer) for answer in call]
    assert sorted(bool(answer.error_message) for answer in answers) == [False, True]
    assert all(answer.infer_response.id for answer in answers)


def test_a_fault_after_some_answers(serve: Serve) -> None:
    server = serve({"m": Counter()})
    *answers, fault = ask(server, raw_request(2.5, id="mine"))
    assert [value(answer) for answer in answers] == [0.0, 1.0]
    assert fault.error_message == "the model returned an answer that is not what it announces"
    assert fault.infer_response.id == "mine"
    assert is_final(fault)
    assert server.log.ended == [("m", "INFERENCE_FAILED")]
    wait_empty(server)


def test_a_deadline_ends_a_request_not_the_stream(serve: Serve) -> None:
    model = Counter(gated=True)
    server = serve({"m": model, "d": Doubler()})
    late = raw_request(ENDLESS, id="late", parameters={"timeout": parameter(100_000)})
    requests = Held()
    call = open_stream(server, iter(requests))
    requests.send(late.SerializeToString())
    answer = read(call)
    assert "deadline passed" in answer.error_message
    assert answer.infer_response.parameters["error_code"] == parameter("TIMEOUT")
    requests.send(raw_request(1.0, model="d").SerializeToString())
    assert value(read(call)) == 2.0
    requests.send(None)
    assert list(call) == []
    model.permits.release()
    wait_empty(server)


def test_cancel_stops_the_generators_and_frees_every_slot(serve: Serve) -> None:
    model = Counter()
    server = serve({"m": model})
    requests = Held()
    call = open_stream(server, iter(requests))
    for number in range(3):
        requests.send(raw_request(ENDLESS, id=str(number)).SerializeToString())
    seen: set[str] = set()
    while len(seen) < 3:  # until all three are in the midst of it
        seen.add(read(call).infer_response.id)
    call.cancel()
    for _ in range(3):
        model.wait_ended()
    assert model.closed_early == 3
    wait_empty(server)
    assert server.log.ended == [("m", "CANCELLED")] * 3
    requests.send(None)


def test_cancel_while_requests_wait_for_a_model(serve: Serve) -> None:
    model = GatedModel()
    server = serve({"m": model})
    model.gate.clear()
    endless = itertools.repeat(raw_request(1.0).SerializeToString())
    call = open_stream(server, endless)
    server.run(until, lambda: server.plane.gate.in_flight == MAX_OUTSTANDING)
    call.cancel()
    server.run(until, lambda: server.plane.gate.in_flight == 0)
    model.gate.set()
    wait_empty(server)
    assert server.log.ended == [("m", "CANCELLED")] * MAX_OUTSTANDING


def test_a_reader_who_does_not_read_is_not_read_from(serve: Serve) -> None:
    """The generator stands still, and so does the caller's stream of requests."""
    model = Counter()
    server = serve({"m": model, "d": Doubler()})
    sent = 0

    def requests() -> Iterator[bytes]:
        nonlocal sent
        yield raw_request(ENDLESS).SerializeToString()
        rows = raw_request(*range(20_000), model="d").SerializeToString()
        for _ in range(1000):
            yield rows
            sent += 1

    call = open_stream(server, requests())
    channels = server.server._inferences._open
    server.run(until, lambda: any(one._outstanding == MAX_OUTSTANDING for one in channels.copy()))
    other = open_stream(server, iter([raw_request(100.0).SerializeToString()]))
    assert len(list(other)) == 100  # which the sleeper does not hold up
    # What the two transports hold besides grows with how slow the machine seems to them.
    assert sent <= 4 * MAX_OUTSTANDING
    call.cancel()
    model.wait_ended()
    wait_empty(server)
    assert model.made < 10_000


def test_a_reader_who_never_reads_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "READ_SECONDS", 0.2)
    model = Doubler()
    server = serve({"m": model})
    rows = raw_request(*range(20_000)).SerializeToString()
    call = open_stream(server, itertools.repeat(rows, 2 * MAX_OUTSTANDING))
    server.run(until, lambda: bool(model.calls))
    wait_empty(server)
    code, _, _ = failure(lambda: list(call))
    assert code is grpc.StatusCode.CANCELLED


def test_streams_are_bounded_and_leave_other_calls_alone(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    requests = [Held() for _ in range(MAX_STREAMS)]
    calls = [open_stream(server, iter(one)) for one in requests]
    for one, call in zip(requests, calls, strict=True):
        one.send(raw_request(1.0).SerializeToString())
        assert value(read(call)) == 2.0
    code, text, trailers = failure(lambda: ask(server, raw_request(1.0)))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert text == f"{MAX_STREAMS} streams are open, no more are served at the same time"
    assert trailers["error-code"] == "OVERLOADED"
    assert value(ModelInferResponse.FromString(server.infer(raw_request(3.0)))) == 6.0
    server.method("ServerLive")(b"", timeout=PATIENCE)
    for one, call in zip(requests, calls, strict=True):
        one.send(None)
        assert list(call) == []
    wait_empty(server)
    assert value(ask(server, raw_request(1.0))[0]) == 2.0


def test_streams_that_are_broken_off_at_any_time_leave_nothing(serve: Serve) -> None:
    server = serve({"m": Doubler(), "c": Counter()})
    body = raw_request(ENDLESS, model="c").SerializeToString()
    for turn in range(300):
        call = open_stream(server, iter([body, body][: turn % 3]), wait_for_ready=True)
        if turn % 5 == 4 and turn % 3:
            with suppress(grpc.RpcError):  # or there are too many already
                next(call)
        call.cancel()
    wait_empty(server)
    assert value(ask(server, raw_request(1.0))[0]) == 2.0


def test_a_stream_without_a_request_ends_well(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    call = open_stream(server, iter([]), metadata=[("x-request-id", "my-stream")])
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK
    assert {item.key: item.value for item in call.trailing_metadata()}["x-request-id"] == "my-stream"
    wait_empty(server)


def test_nothing_accepted_is_lost_at_the_end(serve: Serve) -> None:
    """What is inside is finished; new requests are refused; the stream ends when the server stops."""
    model = Counter(gated=True)
    server = serve({"m": model})
    requests = Held()
    call = open_stream(server, iter(requests))
    requests.send(raw_request(3.0, id="before").SerializeToString())
    model.permits.release()
    assert value(read(call)) == 0.0
    draining = server.begin(server.plane.gate.drain)
    server.run(until, lambda: server.plane.gate.draining)
    requests.send(raw_request(3.0, id="after").SerializeToString())
    refused = read(call)
    assert (refused.infer_response.id, refused.error_message) == ("after", "the server is shutting down")
    assert refused.infer_response.parameters["error_code"] == parameter("NOT_READY")
    assert not draining.done()
    model.permits.release(2)
    assert [value(read(call)) for _ in range(2)] == [1.0, 2.0]
    draining.result(PATIENCE)
    code, _, _ = failure(lambda: ask(server, raw_request(1.0)))
    assert code is grpc.StatusCode.UNAVAILABLE
    stopped = server.begin(server.server.stop, PATIENCE)
    code, text, trailers = failure(lambda: list(call))
    assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
    assert trailers["error-code"] == "NOT_READY"
    stopped.result(PATIENCE)
    assert server.log.ended == [("m", "OK")]


def test_abandoned_requests_are_told(serve: Serve) -> None:
    model = Counter()
    server = serve({"m": model})
    requests = Held()
    call = open_stream(server, iter(requests))
    requests.send(raw_request(ENDLESS).SerializeToString())
    read(call)
    server.on_loop(lambda: server.plane.registry.abandon(NotReady("the server is shutting down")))
    while not (answer := read(call)).error_message:
        continue
    assert answer.error_message == "the server is shutting down"
    requests.send(None)
    assert list(call) == []
    wait_empty(server)


def test_many_streams_at_once(serve: Serve) -> None:
    server = serve({"m": Doubler(), "c": Counter()})
    found: list[bool] = []

    def caller(first: int) -> None:
        numbers = range(first, first + 200)
        answers = ask(server, *(raw_request(float(number), id=str(number)) for number in numbers))
        mine = {answer.infer_response.id: value(answer) for answer in answers}
        found.append(mine == {str(number): 2.0 * number for number in numbers})

    threads = [threading.Thread(target=caller, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [True] * 8
    wait_empty(server)
