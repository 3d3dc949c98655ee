"""Clients that hide nothing: bytes on a socket, and gRPC calls whose messages are bytes."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import orjson

from oipserver.grpc._generated.open_inference_pb2 import DESCRIPTOR, ModelInferRequest
from tests.support import PATIENCE

SERVICE: str = DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

# The error contract, once more and by hand: symbolic code, HTTP status, gRPC status.
CONTRACT: Mapping[str, tuple[int, grpc.StatusCode]] = {
    "BAD_REQUEST": (400, grpc.StatusCode.INVALID_ARGUMENT),
    "UNPROCESSABLE": (422, grpc.StatusCode.INVALID_ARGUMENT),
    "UNAUTHORIZED": (401, grpc.StatusCode.UNAUTHENTICATED),
    "FORBIDDEN": (403, grpc.StatusCode.PERMISSION_DENIED),
    "NOT_FOUND": (404, grpc.StatusCode.NOT_FOUND),
    "METHOD_NOT_ALLOWED": (405, grpc.StatusCode.UNIMPLEMENTED),
    "REQUEST_TIMEOUT": (408, grpc.StatusCode.DEADLINE_EXCEEDED),
    "CONFLICT": (409, grpc.StatusCode.FAILED_PRECONDITION),
    "ALREADY_EXISTS": (400, grpc.StatusCode.ALREADY_EXISTS),
    "RATE_LIMIT": (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "UNSUPPORTED": (400, grpc.StatusCode.UNIMPLEMENTED),
    "PAYLOAD_TOO_LARGE": (413, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "URI_TOO_LONG": (414, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "HEADERS_TOO_LARGE": (431, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "UNSUPPORTED_MEDIA_TYPE": (415, grpc.StatusCode.UNIMPLEMENTED),
    "INFERENCE_FAILED": (500, grpc.StatusCode.INTERNAL),
    "NOT_READY": (503, grpc.StatusCode.UNAVAILABLE),
    "OVERLOADED": (503, grpc.StatusCode.UNAVAILABLE),
    "TIMEOUT": (504, grpc.StatusCode.DEADLINE_EXCEEDED),
}


# --- HTTP --------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """A response as it came; header names in lower case, each of them once."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which must be JSON."""
        return orjson.loads(self.body)

    def error(self, code: str) -> str:
        """The message of an error with this code; whatever belongs to the error contract is checked here."""
        document = self.json()
        assert document.keys() == {"error", "error_code", "message", "request_id"}
        assert (document["error_code"], self.status) == (code, CONTRACT[code][0]), document
        assert document["error"] == document["message"]
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"] == document["request_id"]
        assert "content-encoding" not in self.headers
        assert int(self.headers["content-length"]) == len(self.body)
        assert ("retry-after" in self.headers) == (self.status in (429, 503))
        message: str = document["message"]
        assert 0 < len(message) <= 1025
        assert message.isprintable()
        return message


def head(method: str, target: str, headers: Headers = (), host: bool = True) -> bytes:
    """A request head, byte for byte as given."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = [f"{method} {target} HTTP/1.1", *(["Host: test"] if host else [])]
    lines += [f"{name}: {value}" for name, value in pairs]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def message(method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole request with its Content-Length."""
    return head(method, target, {"Content-Length": str(len(body)), **(headers or {})}) + body


def chunked(pieces: Iterable[bytes]) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Connection:
    """One TCP connection: raw bytes in, answers out."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave at once."""
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> Connection:
        """Send everything, or as much as the server wants to have."""
        with suppress(BrokenPipeError, ConnectionResetError):  # the answer is there and still to be read
            self.sock.sendall(data)
        return self

    def answer(self, has_body: bool = True) -> Answer:
        """The next answer; `has_body` is False for the answer to a HEAD."""
        start = self._file.readline()
        assert start.startswith(b"HTTP/1.1 "), start
        headers: dict[str, str] = {}
        while line := self._file.readline().rstrip(b"\r\n"):
            name, value = line.decode("latin-1").split(": ", 1)
            assert name.lower() not in headers, f"two {name}"
            headers[name.lower()] = value
        size = int(headers.get("content-length", "0")) if has_body else 0
        return Answer(int(start.split()[1]), headers, self._file.read(size))

    def ask(self, data: bytes) -> Answer:
        """Send, and the next answer."""
        return self.send(data).answer()

    def rest(self) -> bytes:
        """Everything that comes until the server closes."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def at_end(self) -> bool:
        """Whether the server has closed and nothing more came; waits for it."""
        return self.rest() == b""


def ask(
    port: int, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Answer:
    """One request on a connection of its own."""
    with Connection(port) as connection:
        return connection.send(message(method, target, body, headers)).answer(has_body=method != "HEAD")


# --- gRPC --------------------------------------------------------------------------------------------------


@dataclass
class Status:
    """How a gRPC call ended that did not end well."""

    code: grpc.StatusCode
    details: str
    trailers: dict[str, str | bytes]

    def error(self, code: str) -> str:
        """The message of an error with this code; whatever belongs to the error contract is checked here."""
        assert (self.trailers.get("error-code"), self.code) == (code, CONTRACT[code][1]), self
        assert self.trailers["x-request-id"]
        assert 0 < len(self.details) <= 1025
        return self.details


class Channel:
    """A gRPC channel that leaves the messages as they are."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{port}",
            options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)],
        )

    def close(self) -> None:
        """End it and every call on it."""
        self._channel.close()

    def start(
        self, rpc: str, request: bytes, metadata: Sequence[tuple[str, str]] = (), timeout: float = PATIENCE
    ) -> Any:
        """A call that runs: `result()`, `cancel()`."""
        path = rpc if rpc.startswith("/") else f"/{SERVICE}/{rpc}"
        call = self._channel.unary_unary(path, None, None)
        return call.future(request, timeout=timeout, metadata=tuple(metadata))

    def call(
        self, rpc: str, request: bytes, metadata: Sequence[tuple[str, str]] = (), timeout: float = PATIENCE
    ) -> bytes | Status:
        """The answer's bytes, or how the call failed."""
        return outcome(self.start(rpc, request, metadata, timeout))

    def infer(self, request: ModelInferRequest, timeout: float = PATIENCE) -> bytes | Status:
        """ModelInfer."""
        return self.call("ModelInfer", request.SerializeToString(), timeout=timeout)

    def stream(self, rpc: str, *requests: bytes) -> list[bytes]:
        """All answers of a call that is a stream."""
        call = self._channel.stream_stream(f"/{SERVICE}/{rpc}", None, None)
        return list(call(iter(requests), timeout=PATIENCE))

    def refused(self, request: ModelInferRequest) -> Status:
        """ModelInfer, which must not succeed."""
        return failed(self.infer(request))


def outcome(call: Any) -> bytes | Status:
    """What a running call comes to."""
    try:
        answer: bytes = call.result()
    except grpc.RpcError:
        return Status(call.code(), call.details(), dict(call.trailing_metadata() or ()))
    return answer


def failed(result: bytes | Status) -> Status:
    """The status of a call that must not have succeeded."""
    assert isinstance(result, Status), "the call succeeded"
    return result


def succeeded(result: bytes | Status) -> bytes:
    """The answer of a call that must have succeeded."""
    assert isinstance(result, bytes), result
    return result
