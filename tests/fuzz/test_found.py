"""What the fuzzers found, once, and what is right instead."""

from __future__ import annotations

import socket

import pytest

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelStreamInferResponse
from tests.conformance.wires import Channel
from tests.server_process import PATIENCE, ServerProcess


@pytest.mark.parametrize(
    "path", ["/v2/repository/index", "/v2/repository/models/sum/load", "/v2/repository/models/sum/unload"]
)
def test_a_caller_who_leaves_in_the_body_of_an_administrators_route_is_no_failure(
    server: ServerProcess, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nX-Request-Id: left{path.count('/')}{path[-4:]}\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=PATIENCE) as sock:
        sock.sendall(head.encode() + b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n{")
        assert sock.recv(1000).startswith(b"HTTP/1.1 100")  # the handler reads
    line = server.wait_for(rf".*left{path.count('/')}{path[-4:]}.*")[0]
    assert "CANCELLED" in line
    assert "ERROR" not in line


def test_of_several_ids_in_a_message_the_last_one_counts_in_refusals_too(server: ServerProcess) -> None:
    first, second = (ModelInferRequest(model_name="sum", id=name) for name in ("first", "second"))
    body = first.SerializeToString() + second.SerializeToString() + b"\x2a\x7f"  # and a cut tensor
    channel = Channel(server.grpc_port)
    try:
        (answer,) = map(ModelStreamInferResponse.FromString, channel.stream("ModelStreamInfer", body))
    finally:
        channel.close()
    assert answer.error_message
    assert answer.infer_response.id == "second"
