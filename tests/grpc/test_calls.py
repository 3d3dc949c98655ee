"""The six calls over a socket."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from oipserver.core.errors import InvalidInput
from oipserver.grpc._generated.open_inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from tests.grpc.conftest import Serve
from tests.grpc.running import Greeter, Halver, Running, failure, parameter, raw_request
from tests.support import PATIENCE, Doubler, GatedModel, until


def infer(server: Running, request: ModelInferRequest) -> ModelInferResponse:
    return ModelInferResponse.FromString(server.infer(request))


# --- inference ---------------------------------------------------------------------------------------------


def test_raw_to_raw(serve: Serve) -> None:
    answer = infer(serve({"m": Doubler()}), raw_request(1.0, -2.5, id="my id"))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "my id")
    assert answer.parameters["content_type"] == parameter("np")
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "FP64", [2, 2])
    assert output.parameters["content_type"] == parameter("np")
    assert np.frombuffer(answer.raw_output_contents[0]).tolist() == [2.0, 2.0, -5.0, -5.0]


def test_typed_to_typed(serve: Serve) -> None:
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "contents": {"fp64_contents": [1.0, 2.0]}}
    answer = infer(serve({"m": Doubler()}), ModelInferRequest(model_name="m", inputs=[tensor]))
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.fp64_contents) == [2.0, 4.0]


def test_bytes_and_integers_typed(serve: Serve) -> None:
    tensor = {"name": "who", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"a", b""]}}
    answer = infer(serve({"m": Greeter()}), ModelInferRequest(model_name="m", inputs=[tensor]))
    text, length = answer.outputs
    assert list(text.contents.bytes_contents) == [b"\xff hello a", b"\xff hello "]
    assert list(length.contents.int64_contents) == [9, 8]


def test_outputs_come_in_the_order_asked_for(serve: Serve) -> None:
    request = raw_request(8.0, outputs=[{"name": "half"}, {"name": "y"}])
    answer = infer(serve({"m": Halver()}), request)
    assert [output.name for output in answer.outputs] == ["half", "y"]
    assert np.frombuffer(answer.raw_output_contents[0], dtype="<f2").tolist() == [4.0, 4.0]


def test_a_large_answer(serve: Serve) -> None:
    values = np.random.default_rng(1).random(10_000)
    answer = infer(serve({"m": Doubler()}), raw_request(*values))
    rows = np.frombuffer(answer.raw_output_contents[0]).reshape(-1, 2)
    assert (rows[:, 0] == values * 2).all()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(serve: Serve, compression: grpc.Compression) -> None:
    body = serve({"m": Doubler()}).infer(raw_request(1.0), compression=compression)
    assert np.frombuffer(ModelInferResponse.FromString(body).raw_output_contents[0]).tolist() == [2.0, 2.0]


def test_many_callers_get_their_own_answers(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_concurrent_rpcs=512)
    method = server.method("ModelInfer")
    calls = [
        method.future(raw_request(float(number)).SerializeToString(), timeout=PATIENCE)
        for number in range(300)
    ]
    for number, call in enumerate(calls):
        answer = ModelInferResponse.FromString(call.result())
        assert np.frombuffer(answer.raw_output_contents[0]).tolist() == [2.0 * number] * 2
    # An answer that is sent by a thread may be here before it is counted.
    server.run(until, lambda: len(server.log.ended) == 300)
    assert server.log.ended == [("m", "OK")] * 300


# --- request ids -------------------------------------------------------------------------------------------


def test_the_callers_request_id_comes_back(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    for name, body in [("ModelInfer", raw_request(1.0).SerializeToString()), ("ServerLive", b"")]:
        _, call = server.method(name).with_call(body, metadata=(("x-request-id", "Abc-1._"),))
        assert dict(call.trailing_metadata()) == {"x-request-id": "Abc-1._"}


def test_a_request_id_that_is_no_label_is_replaced(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    for metadata in [(("x-request-id", "two words"),), (("x-request-id", "x" * 65),), ()]:
        _, call = server.method("ServerLive").with_call(b"", metadata=metadata)
        assert len(dict(call.trailing_metadata())["x-request-id"]) == 36


def test_failures_carry_code_and_request_id(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    metadata = (("x-request-id", "mine"),)
    _, _, trailers = failure(lambda: server.infer(raw_request(1.0, model="other"), metadata=metadata))
    assert trailers == {"error-code": "NOT_FOUND", "x-request-id": "mine"}


# --- failures ----------------------------------------------------------------------------------------------


def changed(**more: Any) -> ModelInferRequest:
    request = raw_request(1.0)
    request.MergeFrom(ModelInferRequest(**more))
    return request


@pytest.mark.parametrize(
    ("request_", "status", "code", "model"),
    [
        (raw_request(1.0, model="other"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND", ""),
        (raw_request(1.0, model="../../etc"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND", ""),
        (raw_request(1.0, model_version="2"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND", ""),
        (raw_request(), grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST", "m"),
        (changed(outputs=[{"name": "z"}]), grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST", "m"),
        (changed(raw_input_contents=[b""]), grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST", ""),
        (ModelInferRequest(model_name="m"), grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST", "m"),
        (
            changed(parameters={"timeout": parameter("x")}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "BAD_REQUEST",
            "",
        ),
    ],
)
def test_refused_requests(
    serve: Serve, request_: ModelInferRequest, status: grpc.StatusCode, code: str, model: str
) -> None:
    server = serve({"m": Doubler()})
    got, text, trailers = failure(lambda: server.infer(request_))
    assert (got, trailers["error-code"]) == (status, code)
    assert text
    assert server.log.ended == [(model, code)]
    assert infer(server, raw_request(1.0)).model_name == "m"


def test_unparsable_bytes(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    for name in ("ModelInfer", "ModelReady", "ModelMetadata"):
        status, text, trailers = failure(lambda name=name: server.method(name)(b"\xff\xff"))  # type: ignore[misc]
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert text == "the request is not a valid protobuf message of this call"
        assert trailers["error-code"] == "BAD_REQUEST"


def test_an_invalid_value_is_told_and_a_failing_model_is_not(serve: Serve) -> None:
    server = serve(
        {"m": Doubler({3.0: InvalidInput("three is not accepted"), 4.0: RuntimeError("a secret")})}
    )
    status, text, trailers = failure(lambda: server.infer(raw_request(3.0)))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "UNPROCESSABLE")
    assert "three is not accepted" in text
    status, text, trailers = failure(lambda: server.infer(raw_request(4.0)))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.INTERNAL, "INFERENCE_FAILED")
    assert "secret" not in text


def test_long_names_do_not_break_the_status(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    status, text, _ = failure(lambda: server.infer(raw_request(1.0, model="\N{GRINNING FACE}" * 60_000)))
    assert status is grpc.StatusCode.NOT_FOUND
    assert len(text.encode()) <= 1024


def test_unknown_calls(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    status, _, trailers = failure(lambda: server.method("TraceSetting")(b""))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED")
    status, _, _ = failure(lambda: server.channel.unary_unary("/other.Service/Call", None, None)(b""))
    assert status is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_without_a_message(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    silent = server.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
    status, text, trailers = failure(lambda: silent(iter(()), timeout=PATIENCE))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST")
    assert text == "the call brought no message"


# --- deadlines and callers who leave -----------------------------------------------------------------------


def test_the_timeout_parameter_ends_a_waiting_call(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated})
    gated.gate.clear()
    request = raw_request(1.0, parameters={"timeout": parameter(50_000)})
    status, _, trailers = failure(lambda: server.infer(request))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.DEADLINE_EXCEEDED, "TIMEOUT")
    assert server.log.ended == [("m", "TIMEOUT")]


def test_the_default_timeout(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated}, default_timeout_seconds=0.05)
    gated.gate.clear()
    status, _, trailers = failure(lambda: server.infer(raw_request(1.0)))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.DEADLINE_EXCEEDED, "TIMEOUT")


def test_the_deadline_of_the_call(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated})
    gated.gate.clear()
    status, _, _ = failure(lambda: server.infer(raw_request(1.0), timeout=0.05))
    assert status is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_caller_who_leaves_frees_everything(serve: Serve) -> None:
    gated = GatedModel()
    server = serve({"m": gated}, max_concurrent_rpcs=1)
    gated.gate.clear()
    call = server.method("ModelInfer").future(raw_request(1.0).SerializeToString(), timeout=PATIENCE)
    assert gated.entered.acquire(timeout=PATIENCE)
    ended = server.begin(server.plane.gate.drain)  # returns when nobody is inside any more
    server.method("ServerLive")(b"")  # the loop has begun to drain
    call.cancel()
    ended.result(PATIENCE)
    assert server.log.ended == [("m", "CANCELLED")]


# --- the server and its models -----------------------------------------------------------------------------


def test_live_ready_and_metadata(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    assert ServerLiveResponse.FromString(server.method("ServerLive")(b"")).live
    assert ServerReadyResponse.FromString(server.method("ServerReady")(b"")).ready
    metadata = ServerMetadataResponse.FromString(server.method("ServerMetadata")(b""))
    assert metadata.name == "oipserver"


def test_not_ready_without_models(serve: Serve) -> None:
    server = serve({})
    assert ServerLiveResponse.FromString(server.method("ServerLive")(b"")).live
    assert not ServerReadyResponse.FromString(server.method("ServerReady")(b"")).ready


@pytest.mark.parametrize(
    ("name", "version", "ready"), [("m", "", True), ("m", "1", True), ("m", "2", False), ("n", "", False)]
)
def test_model_ready(serve: Serve, name: str, version: str, ready: bool) -> None:
    body = ModelReadyRequest(name=name, version=version).SerializeToString()
    answer = serve({"m": Doubler()}).method("ModelReady")(body)
    assert ModelReadyResponse.FromString(answer).ready is ready


def test_model_metadata(serve: Serve) -> None:
    server = serve({"m": Halver()})
    body = server.method("ModelMetadata")(ModelMetadataRequest(name="m").SerializeToString())
    metadata = ModelMetadataResponse.FromString(body)
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("m", ["1"], "test")
    assert [tensor.name for tensor in metadata.outputs] == ["y"]
    assert not metadata.properties


@pytest.mark.parametrize(("name", "version"), [("other", ""), ("m", "2")])
def test_metadata_of_an_unknown_model(serve: Serve, name: str, version: str) -> None:
    body = ModelMetadataRequest(name=name, version=version).SerializeToString()
    server = serve({"m": Doubler()})
    status, _, trailers = failure(lambda: server.method("ModelMetadata")(body))
    assert (status, trailers["error-code"]) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
