"""Callers of one row over HTTP and gRPC, alike to a test: ask, wait, or walk away in the middle."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.conformance.doors import Ask, Given, grpc_message
from tests.conformance.wires import Answer, Channel, Connection, Status, ask, message, outcome, succeeded


def document(value: float = 1.0, **members: Any) -> dict[str, Any]:
    """A JSON request of one row for the models that take `x`; `members` are put over its own."""
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [value, 0.5]}], **members}


def infer(
    port: int,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    model: str = "doubler",
) -> Answer:
    """One infer request over HTTP on a connection of its own."""
    content = orjson.dumps(document()) if body is None else body
    return ask(port, "POST", f"/v2/models/{model}/infer", content, headers)


def protobuf(value: float = 1.0, model: str = "doubler") -> ModelInferRequest:
    """The same request for gRPC, raw."""
    return grpc_message(Ask(model, [Given("FP64", [1, 2], [value, 0.5])]))


def check_health(port: int, channel: Channel) -> None:
    """Both fronts give the right answer to a good request."""
    assert infer(port).json()["outputs"][0]["data"] == [2.0, 1.0]
    [raw] = ModelInferResponse.FromString(succeeded(channel.infer(protobuf()))).raw_output_contents
    assert raw == struct.pack("<2d", 2.0, 1.0)


class Pending(Protocol):
    """A request that is on its way."""

    def ended(self) -> str:
        """Wait: "OK", or the code of an error whose form was checked."""

    def leave(self) -> None:
        """Wait no more: close the connection, cancel the call."""


class Caller(Protocol):
    """Sends requests of one row."""

    front: str

    def start(self, model: str, value: float = 1.0, timeout: int | None = None) -> Pending:
        """A request that waits for its answer; `timeout` is the request parameter, in microseconds."""


class HttpCaller:
    """Over HTTP, each on a connection of its own."""

    front = "http"

    def __init__(self, port: int) -> None:
        self._port = port

    def start(self, model: str, value: float = 1.0, timeout: int | None = None) -> Pending:
        members = {} if timeout is None else {"parameters": {"timeout": timeout}}
        connection = Connection(self._port)
        body = orjson.dumps(document(value, **members))
        return _HttpPending(connection.send(message("POST", f"/v2/models/{model}/infer", body)), value)


class _HttpPending:
    def __init__(self, connection: Connection, value: float) -> None:
        self._connection = connection
        self._value = value

    def ended(self) -> str:
        with self._connection:
            answer = self._connection.answer()
        if answer.status == 200:
            assert answer.json()["outputs"][0]["data"] == [2 * self._value, 1.0]
            return "OK"
        code: str = answer.json()["error_code"]
        answer.error(code)
        return code

    def leave(self) -> None:
        self._connection.close()


class GrpcCaller:
    """Over one gRPC channel."""

    front = "grpc"

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def start(self, model: str, value: float = 1.0, timeout: int | None = None) -> Pending:
        request = protobuf(value, model)
        if timeout is not None:
            request.parameters["timeout"].int64_param = timeout
        return _GrpcPending(self._channel.start("ModelInfer", request.SerializeToString()))


class _GrpcPending:
    def __init__(self, call: Any) -> None:
        self._call = call

    def ended(self) -> str:
        result = outcome(self._call)
        if not isinstance(result, Status):
            return "OK"
        code = str(result.trailers["error-code"])
        result.error(code)
        return code

    def leave(self) -> None:
        self._call.cancel()
