"""Where the time of an answer went, told with the answer itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from oipserver.grpc._generated.open_inference_pb2 import ModelInferResponse
from tests.observability.served import Http, document, message, serving
from tests.server_process import PATIENCE, ServerProcess

HEADER = re.compile(
    r"decode;dur=(\d+\.\d{3}), queue;dur=(\d+\.\d{3}), compute;dur=(\d+\.\d{3}), encode;dur=(\d+\.\d{3}), "
    r'batch;desc="(\d+)"'
)
PATH = "/v2/models/double/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("timing")) as server:
        yield server


def test_good_answers_say_where_their_time_went(server: ServerProcess) -> None:
    with Http(server) as http:
        for _ in range(3):  # the first is read anew, the others are known
            status, headers, _ = http.ask("POST", PATH, document(1.0, 2.0))
            found = HEADER.fullmatch(headers["server-timing"])
            assert status == 200
            assert found
            assert found[5] == "2"
            assert float(found[3]) > 0


def test_requests_taken_together_say_it_as_well(server: ServerProcess) -> None:
    body = document(1.0)
    packet = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    connections = [Http(server) for _ in range(20)]
    for _ in range(3):
        for connection in connections:
            connection.send(packet)
        for connection in connections:
            status, headers, _ = connection.answer()
            assert status == 200
            assert HEADER.fullmatch(headers["server-timing"])
    for connection in connections:
        connection.close()


def test_refusals_and_other_routes_do_not(server: ServerProcess) -> None:
    with Http(server) as http:
        assert "server-timing" not in http.ask("POST", PATH, b"{")[1]
        assert "server-timing" not in http.ask("GET", "/v2")[1]


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with serving(tmp_path, "--http-server-timing=false") as server, Http(server) as http:
        for _ in range(3):
            status, headers, _ = http.ask("POST", PATH, document(1.0))
            assert (status, "server-timing" in headers) == (200, False)


def test_a_parameter_asks_for_it_in_the_document(server: ServerProcess) -> None:
    seen = set()
    with Http(server) as http:
        for _ in range(3):
            _, _, body = http.ask("POST", PATH, document(1.0, 2.0, parameters={"server_timing": True}))
            told = json.loads(body)["parameters"]
            assert told["batch_rows"] == 2
            seen.add((told["queue_seconds"], told["compute_seconds"]))
            assert told["compute_seconds"] > 0
        assert len(seen) == 3  # each its own
        for value in (False, None):
            _, _, body = http.ask("POST", PATH, document(1.0, parameters={"server_timing": value}))
            assert "batch_rows" not in json.loads(body)["parameters"]


def test_a_parameter_asks_for_it_over_grpc(server: ServerProcess) -> None:
    asked = message("echo", "a", "b")
    asked.parameters["server_timing"].bool_param = True
    with grpc.insecure_channel(server.grpc_target) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        answer = ModelInferResponse.FromString(ask(asked.SerializeToString(), timeout=PATIENCE))
    assert answer.parameters["batch_rows"].int64_param == 2
    assert answer.parameters["compute_seconds"].double_param > 0
    assert answer.parameters["queue_seconds"].double_param >= 0
