"""Limits, overload, health, reflection, start and stop."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import grpc
import pytest
from grpc import _server
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from oipserver.grpc import reply, wire
from oipserver.grpc._generated.open_inference_pb2 import DESCRIPTOR, ModelInferRequest, ModelInferResponse
from oipserver.grpc.access import REFLECTION
from oipserver.grpc.call import Call
from oipserver.grpc.inside import Inside, find_inside
from oipserver.grpc.server import GrpcServer
from tests.grpc.conftest import Serve
from tests.grpc.running import Greeter, Held, Running, failure, raw_request
from tests.support import PATIENCE, Doubler, GatedModel, Plane, run, until

HEALTH = "/grpc.health.v1.Health"


def begin_infer(server: Running, model: str = "m") -> Any:
    body = raw_request(1.0, model=model).SerializeToString()
    return server.method("ModelInfer").future(body, timeout=PATIENCE)


def hold(server: Running, gated: GatedModel, model: str = "m") -> Any:
    """A call that has reached the model and stays there until the gate opens."""
    gated.gate.clear()
    call = begin_infer(server, model)
    assert gated.entered.acquire(timeout=PATIENCE)
    return call


# --- overload ----------------------------------------------------------------------------------------------


def test_more_calls_than_allowed_are_refused_at_once(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated, "n": Doubler()}, max_concurrent_rpcs=1)
    held = hold(server, gated)
    status, text, trailers = failure(lambda: server.infer(raw_request(1.0, model="n")))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
    assert "too many" in text
    assert server.method("ServerLive")(b"", timeout=PATIENCE)
    gated.gate.set()
    held.result(PATIENCE)
    assert sorted(server.log.ended) == [("", "OVERLOADED"), ("m", "OK")]


def test_a_refusal_does_not_wait_for_the_body(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated}, max_concurrent_rpcs=1)
    held = hold(server, gated)
    body = Held()
    stream = server.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
    status, _, _ = failure(lambda: stream(iter(body), timeout=PATIENCE))
    assert status is grpc.StatusCode.UNAVAILABLE
    body.send(None)
    gated.gate.set()
    held.result(PATIENCE)


def test_one_model_leaves_room_for_the_others(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"slow": gated, "m": Doubler()}, max_concurrent_rpcs=8)
    held = [hold(server, gated, "slow")] + [begin_infer(server, "slow") for _ in range(6)]
    server.run(until, lambda: server.plane.gate.in_flight == 7)
    status, text, trailers = failure(lambda: server.infer(raw_request(1.0, model="slow")))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
    assert text.startswith("model 'slow' has 7")
    assert ModelInferResponse.FromString(server.infer(raw_request(1.0))).model_name == "m"
    gated.gate.set()
    for call in held:
        call.result(PATIENCE)


def test_slots_come_back(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_concurrent_rpcs=1)
    for _ in range(200):
        server.infer(raw_request(1.0))
        failure(lambda: server.method("ModelInfer")(b"\xff", timeout=PATIENCE))
    assert server.log.ended == [("m", "OK"), ("", "BAD_REQUEST")] * 200


def test_a_caller_who_never_sends_is_given_up(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_concurrent_rpcs=1)
    body = Held()
    stream = server.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
    call = stream.future(iter(body), timeout=PATIENCE)
    patience = server.server._patience
    server.run(until, lambda: bool(patience._until))
    assert failure(lambda: server.infer(raw_request(1.0)))[0] is grpc.StatusCode.UNAVAILABLE
    server.on_loop(lambda: patience.cancel_late(time.monotonic() + 3600.0))
    assert call.code() is grpc.StatusCode.CANCELLED
    body.send(None)
    server.run(until, lambda: not patience._until)
    wait_for_a_slot(server)


def wait_for_a_slot(server: Running) -> None:
    """The client may know that a call is over shortly before the server does."""
    until_then = time.monotonic() + PATIENCE
    while True:
        try:
            server.infer(raw_request(1.0))
        except grpc.RpcError:
            assert time.monotonic() < until_then
        else:
            return


def test_one_connection_leaves_room_for_the_others(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_concurrent_rpcs=80)
    stream = server.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
    calls = [stream.future(iter(Held()), timeout=PATIENCE) for _ in range(90)]
    server.run(until, lambda: len(server.server._patience._until) == 70)
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as other:
        method = other.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        assert method(raw_request(1.0).SerializeToString(), timeout=PATIENCE)
    for call in calls:
        call.cancel()  # type: ignore[no-untyped-call]


# --- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_message_over_the_limit(serve: Serve, compression: grpc.Compression | None) -> None:
    server = serve({"m": Doubler()}, max_message_bytes=100_000)
    large = raw_request(*[0.0] * 10_000)
    status, _, _ = failure(lambda: server.infer(large, compression=compression))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    server.infer(raw_request(1.0))


# --- start and stop ----------------------------------------------------------------------------------------


def test_a_port_in_use() -> None:
    async def scenario() -> None:
        async with Plane({"m": Doubler()}) as plane:
            with socket.create_server(("127.0.0.1", 0)) as other:
                address = f"127.0.0.1:{other.getsockname()[1]}"
                server = GrpcServer(plane.data, asyncio.get_running_loop(), address=address)
                with pytest.raises(OSError, match=address):
                    server.start()

    run(scenario())


def test_a_port_is_not_shared(serve: Serve) -> None:
    first = serve({"m": Doubler()})
    with pytest.raises(OSError, match=first.address):
        serve({"m": Doubler()}, address=first.address)


def test_draining_refuses_at_once_and_finishes_what_is_inside(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated})
    held = hold(server, gated)
    drained = server.begin(server.plane.gate.drain)
    server.method("ServerLive")(b"")  # the loop has begun to drain
    status, _, trailers = failure(lambda: server.infer(raw_request(1.0)))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.UNAVAILABLE, "NOT_READY")
    assert not drained.done()
    gated.gate.set()
    held.result(PATIENCE)
    drained.result(PATIENCE)


def test_stop_lets_calls_finish(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated})
    held = hold(server, gated)
    stopped = server.begin(server.server.stop, PATIENCE)
    server.on_loop(lambda: None)  # the loop has begun to stop
    gated.gate.set()
    assert ModelInferResponse.FromString(held.result(PATIENCE)).model_name == "m"
    stopped.result(PATIENCE)


def test_stop_cancels_calls_when_the_grace_is_over(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated})
    held = hold(server, gated)
    server.run(server.server.stop, 0.0)
    assert held.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    server.run(until, lambda: bool(server.log.ended))
    assert server.log.ended == [("m", "CANCELLED")]


def test_stop_does_not_wait_for_watchers(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    statuses = watch(server)
    next(statuses)
    started = time.monotonic()
    server.run(server.server.stop, PATIENCE)
    assert time.monotonic() - started < PATIENCE / 2


@pytest.mark.parametrize("pool", ["infer", "health"])
def test_stop_does_not_wait_for_a_thread_that_is_stuck(serve: Serve, pool: str) -> None:
    server = serve({"m": Doubler()})
    stuck = threading.Event()
    getattr(server.server._pools, pool).submit(stuck.wait)
    try:
        server.run(server.server.stop, 0.0)
    finally:
        stuck.set()


# --- health and reflection ---------------------------------------------------------------------------------


def check(server: Running, service: str) -> int:
    method = server.channel.unary_unary(f"{HEALTH}/Check", None, None)
    body = method(health_pb2.HealthCheckRequest(service=service).SerializeToString())
    status: int = health_pb2.HealthCheckResponse.FromString(body).status
    return status


def watch(server: Running) -> Any:
    method = server.channel.unary_stream(f"{HEALTH}/Watch", None, health_pb2.HealthCheckResponse.FromString)
    return method(b"", timeout=PATIENCE)


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_health(serve: Serve, service: str) -> None:
    server = serve({"m": Doubler()})
    status = health_pb2.HealthCheckResponse
    assert check(server, service) == status.NOT_SERVING
    server.on_loop(lambda: server.server.set_serving(True))
    assert check(server, service) == status.SERVING
    server.on_loop(lambda: server.server.set_serving(False))
    assert check(server, service) == status.NOT_SERVING


def test_health_of_an_unknown_service(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    status, _, _ = failure(lambda: check(server, "other"))
    assert status is grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_service(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    database = ProtoReflectionDescriptorDatabase(server.channel)
    assert set(database.get_services()) == {
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    file = database.FindFileContainingSymbol("inference.GRPCInferenceService")
    assert [method.name for method in file.service[0].method] == [
        method.name for method in DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    ]
    assert database.FindFileContainingSymbol("grpc.health.v1.Health").package == "grpc.health.v1"


def test_a_question_that_is_no_message_is_refused(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    ask = server.channel.stream_stream(f"/{REFLECTION}/ServerReflectionInfo", None, None)
    status, _, trailers = failure(lambda: list(ask(iter([b"\xff"]), timeout=PATIENCE)))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST")


# --- grpcio's inside ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_status", "_receive_message", "_stream_response_in_pool", "_Context"])
def test_another_grpcio_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert find_inside() is not None
    monkeypatch.setattr(_server, name, lambda event, body: None)
    assert find_inside() is None
    monkeypatch.delattr(_server, name)
    assert find_inside() is None


@pytest.mark.parametrize("name", ["_RECEIVE_MESSAGE_TOKEN", "_RPCState"])
def test_less_of_grpcio_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(_server, name)
    assert find_inside() is None


def test_another_state_of_an_rpc_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "_RPCState", object)
    assert find_inside() is None


def fail(*_: object) -> Any:
    raise TypeError("not as expected")


def test_a_way_of_sending_that_fails_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inside, "end", lambda *_: fail)
    server = Running({"m": Doubler()})
    status, _, _ = failure(lambda: server.infer(raw_request(1.0)))
    assert status is grpc.StatusCode.CANCELLED
    server.close()


def test_a_way_of_receiving_that_fails_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inside, "receive", fail)
    server = Running({"m": Doubler()}, max_concurrent_rpcs=1)
    for _ in range(3):  # each has had its slot back
        status, text, _ = failure(lambda: server.infer(raw_request(1.0), timeout=PATIENCE))
        assert (status, text) == (grpc.StatusCode.INTERNAL, "internal error")
    assert server.log.ended == [("", "INTERNAL")] * 3
    server.close()


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (Inside, "context", grpc.StatusCode.CANCELLED),
        (Call, "__init__", grpc.StatusCode.CANCELLED),
        (Call, "open", grpc.StatusCode.INTERNAL),
    ],
)
def test_a_call_that_cannot_begin_does_not_end_all_others(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, expected: grpc.StatusCode
) -> None:
    server = Running({"m": Doubler()}, max_concurrent_rpcs=1)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        for _ in range(3):  # each has had its slot back
            assert failure(lambda: server.infer(raw_request(1.0), timeout=PATIENCE))[0] is expected
    assert server.infer(raw_request(1.0), timeout=PATIENCE)
    server.close()


@pytest.mark.parametrize("model", ["m", "unknown"])
def test_an_answer_that_cannot_be_prepared_leaves_nobody_waiting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    server = serve({"m": Doubler()}, max_concurrent_rpcs=1)
    with monkeypatch.context() as patch:
        patch.setattr(reply, "_prepare", fail)
        status, _, _ = failure(lambda: server.infer(raw_request(1.0, model=model), timeout=PATIENCE))
        assert status is grpc.StatusCode.CANCELLED
    assert server.infer(raw_request(1.0), timeout=PATIENCE)


def infer_threads() -> set[threading.Thread]:
    """Those of all servers in this process."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("grpc-infer")}


def test_callers_who_wait_for_a_model_hold_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    gated = GatedModel()
    before = infer_threads()
    server = Running({"m": gated}, max_concurrent_rpcs=64)
    held = [hold(server, gated)] + [begin_infer(server) for _ in range(40)]
    server.run(until, lambda: server.plane.gate.in_flight == 41)
    taken = infer_threads() - before
    gated.gate.set()
    assert len(taken) == 1
    for call in held:
        call.result(PATIENCE)
    server.close()


def test_a_caller_who_sends_nothing_holds_no_thread() -> None:
    before = infer_threads()
    server = Running({"m": Doubler()}, max_concurrent_rpcs=64)
    stream = server.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
    calls = [stream.future(iter(Held()), timeout=PATIENCE) for _ in range(40)]
    server.run(until, lambda: len(server.server._patience._until) == 40)
    assert len(infer_threads() - before) == 1
    for call in calls:
        call.cancel()  # type: ignore[no-untyped-call]
    server.run(until, lambda: len(server.log.ended) == 40)
    # Without a message from the beginning, or because the caller left: whichever is learnt first.
    assert {code for _, code in server.log.ended} <= {"CANCELLED", "BAD_REQUEST"}
    server.close()


def test_long_strings_are_not_encoded_on_the_loop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    encode = wire.encode_response

    def note(*arguments: Any) -> bytes:
        threads.append(threading.current_thread().name)
        return encode(*arguments)

    server = serve({"m": Greeter()})
    monkeypatch.setattr(wire, "encode_response", note)
    tensor = {
        "name": "who",
        "datatype": "BYTES",
        "shape": [1],
        "contents": {"bytes_contents": [b"x" * 2**17]},
    }
    server.infer(ModelInferRequest(model_name="m", inputs=[tensor]))
    [name] = threads
    assert name.startswith("grpc-send")


def test_large_messages_are_not_decoded_on_the_loop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    decode = wire.decode_request

    def note(*arguments: Any) -> wire.Question:
        threads.append(threading.current_thread().name)
        return decode(*arguments)

    server = serve({"m": Doubler()})
    monkeypatch.setattr(wire, "decode_request", note)
    server.infer(raw_request(1.0))
    server.infer(raw_request(*[1.0] * 1500))
    small, large = threads
    assert small == server.on_loop(lambda: threading.current_thread().name)
    assert large.startswith("grpc-decode")


def test_a_large_message_that_is_refused(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_concurrent_rpcs=1)
    broken = raw_request(*[1.0] * 1500)
    broken.inputs[0].shape[0] += 1
    for _ in range(3):  # each has had its slot back
        status, text, trailers = failure(lambda: server.infer(broken))
        assert (status, trailers["error-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST")
        assert text.startswith("tensor 'x'")


def test_an_answer_that_cannot_be_encoded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise TypeError("a secret")

    server = serve({"m": Doubler()})
    monkeypatch.setattr(wire, "encode_response", fail)
    status, text, trailers = failure(lambda: server.infer(raw_request(1.0)))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in text


def test_a_request_that_breaks_the_decoder(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> wire.Question:
        raise TypeError("a secret")

    server = serve({"m": Doubler()}, max_concurrent_rpcs=1)
    monkeypatch.setattr(wire, "decode_request", fail)
    for _ in range(3):
        status, text, trailers = failure(lambda: server.infer(raw_request(1.0)))
        assert (status, trailers["error-code"]) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "secret" not in text
