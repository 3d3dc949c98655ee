"""Thousands of gRPC messages that are nearly right, and bytes that are none.

Never INTERNAL or UNKNOWN, never a hang, never another's answer; and a neighbour who behaves is always
answered right.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from oipserver.grpc._generated import open_inference_pb2 as protocol
from oipserver.grpc._generated.open_inference_pb2 import (
    DESCRIPTOR,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from tests.conformance.wires import Channel, Status, outcome
from tests.fuzz import mutations
from tests.fuzz.conftest import Rounds
from tests.fuzz.neighbour import Neighbour, message, right, row, same
from tests.server_process import ServerProcess
from tests.support import PATIENCE

STATUSES = frozenset(
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
)
SERVICE: ServiceDescriptor = DESCRIPTOR.services_by_name["GRPCInferenceService"]
# None of these may end what the next round asks.
UNARY = [each for each in SERVICE.methods if not each.client_streaming]


@pytest.fixture
def channel(server: ServerProcess) -> Any:
    opened = Channel(server.grpc_port)
    yield opened
    opened.close()


class Sent:
    """A message as bytes, and as what it is where it is one."""

    def __init__(self, chance: random.Random) -> None:
        self.name = chance.choice(("sum", "sum", "double", "say", "half"))
        made = _right(self.name, chance)
        for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
            mutations.message(made, chance)
        self.data = made.SerializeToString()
        if chance.random() < 0.15:
            self.data = mutations.scrambled(self.data, chance)
        self.request = parsed(self.data)

    def check(self, result: bytes | Status) -> None:
        """The answer, or the refusal, is one to this message."""
        if isinstance(result, Status):
            refused(result, self.data, timed=b"timeout" in self.data)
        else:
            self.check_answer(ModelInferResponse.FromString(result))

    def check_answer(self, answer: ModelInferResponse) -> None:
        """As `check`, of an answer."""
        request = self.request
        assert request is not None, (self.data, answer)
        if request.id:
            assert answer.id == request.id, (request, answer)
        assert answer.model_name == request.model_name
        expected = self._expected(request)
        if expected is not None:
            contents = answer.outputs[0].contents.fp64_contents
            raw = answer.raw_output_contents
            came = struct.unpack(f"<{len(raw[0]) // 8}d", raw[0]) if raw else contents
            assert same(list(came), expected), (request, answer)

    def _expected(self, request: ModelInferRequest) -> list[float] | None:
        if request.model_name not in ("sum", "double") or request.outputs or len(request.inputs) != 1:
            return None
        tensor = request.inputs[0]
        raw = request.raw_input_contents
        if tensor.datatype != "FP64" or (raw and len(raw[0]) % 8):
            return None
        typed = tensor.contents.fp64_contents
        values = list(struct.unpack(f"<{len(raw[0]) // 8}d", raw[0]) if raw else typed)
        if not all(abs(value) < 1e300 for value in values):
            return None
        width = 4 if request.model_name == "sum" else 2
        rows = [values[at : at + width] for at in range(0, len(values), width)]
        return [number for each in rows for number in right(request.model_name, each)]


def parsed(data: bytes) -> ModelInferRequest | None:
    try:
        return ModelInferRequest.FromString(data)
    except DecodeError:
        return None


def refused(status: Status, data: bytes, timed: bool = False) -> None:
    """Whose fault it is said to be: the caller's, in the words of the error contract."""
    allowed = STATUSES | ({grpc.StatusCode.DEADLINE_EXCEEDED} if timed else set())
    assert status.code in allowed, (status, data)
    if "error-code" not in status.trailers:  # grpc-core itself refuses what is too large and unknown RPCs
        assert status.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED), (
            status,
            data,
        )


def _right(name: str, chance: random.Random) -> ModelInferRequest:
    """A request that is answered, typed or raw."""
    if name == "half":
        made = ModelInferRequest(model_name=name, raw_input_contents=[b"\x00\x3c\x00\x40"])
        made.inputs.add(name="h", datatype="FP16", shape=[1, 2])
    elif name == "say":
        made = ModelInferRequest(model_name=name)
        made.inputs.add(name="text", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(b"ab")
        made.inputs.add(name="color", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(b"red")
        made.inputs.add(name="count", datatype="INT32", shape=[1, 1]).contents.int_contents.append(2)
        made.outputs.add(name="said")
    else:
        values = row(chance.randrange(10**6), name)
        made = message(name, values)
        made.id = f"fuzz-{chance.randrange(10**9)}" if chance.random() < 0.6 else ""
        if chance.random() < 0.5:
            made.inputs[0].ClearField("contents")
            made.raw_input_contents.append(struct.pack(f"<{len(values)}d", *values))
    if chance.random() < 0.2:
        made.parameters["priority"].int64_param = 1
    return made


def test_infer(server: ServerProcess, channel: Channel, rounds: Rounds) -> None:
    """Several at a time, so that they are computed together."""
    with Neighbour(server) as neighbour:
        for chance in rounds:
            batch = [Sent(chance) for _ in range(chance.choice((1, 2, 8, 30)))]
            calls = [channel.start("ModelInfer", sent.data, timeout=PATIENCE) for sent in batch]
            if chance.random() < 0.2:
                channel.start("ModelInfer", batch[0].data, timeout=PATIENCE).cancel()
            for sent, call in zip(batch, calls, strict=True):
                sent.check(outcome(call))
            neighbour.check()


def test_streams(server: ServerProcess, channel: Channel, rounds: Rounds) -> None:
    """Each message of a stream has one answer, good or bad, and the stream goes on."""
    with Neighbour(server) as neighbour:
        for chance in rounds:
            batch = [Sent(chance) for _ in range(chance.choice((1, 3, 12)))]
            if not all(_once(sent.request) for sent in batch):
                continue
            answers = stream(channel, [sent.data for sent in batch])
            if isinstance(answers, Status):
                refused(answers, batch[0].data)
                continue
            assert len(answers) == len(batch), batch
            for answer in answers:
                of = [sent for sent in batch if _is_of(sent, answer)]
                ids = [sent.request.id for sent in batch if sent.request]
                assert of, (answer.infer_response.id, ids, answer)
                if not answer.error_message and len(of) == 1:
                    of[0].check_answer(answer.infer_response)
            neighbour.check()


def _once(request: ModelInferRequest | None) -> bool:
    """Whether it has one answer in a stream: an empty last one is sent where it is wished for."""
    return request is not None and "triton_enable_empty_final_response" not in request.parameters


def _is_of(sent: Sent, answer: ModelStreamInferResponse) -> bool:
    assert sent.request is not None
    return not sent.request.id or sent.request.id == answer.infer_response.id


def stream(channel: Channel, requests: Sequence[bytes]) -> list[ModelStreamInferResponse] | Status:
    try:
        answers = channel.stream("ModelStreamInfer", *requests)
    except grpc.RpcError as error:
        call: Any = error
        return Status(call.code(), call.details(), dict(call.trailing_metadata() or ()))
    return [ModelStreamInferResponse.FromString(answer) for answer in answers]


def test_every_rpc(server: ServerProcess, channel: Channel, rounds: Rounds) -> None:
    """With the wrong message, or with bytes that are none."""
    with Neighbour(server) as neighbour:
        for chance in rounds:
            method = chance.choice(UNARY)
            made: Message = getattr(protocol, method.input_type.name)()
            for _ in range(chance.choice((0, 1, 3))):
                mutations.message(made, chance)
            data = made.SerializeToString()
            if chance.random() < 0.3:
                data = mutations.scrambled(data + bytes(chance.randrange(256) for _ in range(20)), chance)
            name = (
                mutations.scrambled(method.name.encode(), chance).hex()
                if chance.random() < 0.05
                else method.name
            )
            result = channel.call(name, data, timeout=PATIENCE)
            if isinstance(result, Status):
                refused(result, data, timed=b"timeout" in data)
            neighbour.check()


def test_bytes_that_are_no_http2(server: ServerProcess, rounds: Rounds) -> None:
    """A connection that sends nonsense is ended, or ignored; the others go on."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with Neighbour(server) as neighbour:
        for chance in rounds:
            data = preface
            for _ in range(chance.randrange(6)):
                payload = bytes(chance.randrange(256) for _ in range(chance.choice((0, 1, 8, 64))))
                length = chance.choice((len(payload),) * 3 + (0, 2**24 - 1))
                kind, flags, number = (
                    chance.randrange(12),
                    chance.randrange(256),
                    chance.choice((0, 1, 3, 2**31 - 1)),
                )
                data += length.to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload
            if chance.random() < 0.3:
                data = mutations.scrambled(data, chance)
            with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=PATIENCE) as sock:
                sock.sendall(data)
            neighbour.check()
        neighbour.ask_anew()
