"""What only some requests need is loaded with the first of them, and not by the event loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pytest
import zstandard
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from oipserver.http import bulk
from tests.server_process import QUICK, ServerProcess
from tests.tls.encrypted import MODEL, Client, grpc_infer

SERVE = """
import sys, threading

class Teller:
    @staticmethod
    def find_spec(name, path=None, target=None):
        print(f"<{threading.current_thread().name} loads {name}>", flush=True)

sys.meta_path.insert(0, Teller)
import oipserver.cli
sys.exit(oipserver.cli.main(sys.argv[1:]))
"""
FOR_SCRAPES = ["oipserver.metrics.shown", "prometheus_client", "http.server", "urllib.request", "wsgiref"]
FOR_REFLECTION = ["oipserver.grpc.reflected", "grpc_reflection.v1alpha", "google.protobuf.descriptor_pb2"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """It tells what it loads, and has answered and counted a request by both fronts."""
    path = tmp_path_factory.mktemp("model") / "model.py"
    path.write_text(MODEL)
    program = ["-c", SERVE, "serve", *QUICK, "--runtime=python", f"--model-uri={path}"]
    with ServerProcess(program=program) as server:
        with Client(server.http_port, None) as client:
            assert client.infer([[1.0]]) == [[2.0]]
        with grpc.insecure_channel(server.grpc_target) as channel:
            assert np.array_equal(grpc_infer(channel, np.array([[1.0]])), [[2.0]])
        yield server


def loaded(server: ServerProcess, module: str) -> bool:
    return f" loads {module}>" in server.output


def test_the_first_scrape_loads_the_client_library(server: ServerProcess) -> None:
    assert loaded(server, "oipserver.metrics.counted")
    assert [module for module in FOR_SCRAPES if loaded(server, module)] == []
    with urlopen(f"{server.http_url}/metrics", timeout=60) as answer:
        assert b'oip_requests_total{code="OK",front="http"' in answer.read()
    for module in FOR_SCRAPES:
        server.wait_for(f"<metrics loads {module}>")


def test_the_first_question_loads_reflection(server: ServerProcess) -> None:
    assert loaded(server, "oipserver.grpc.standard")
    assert [module for module in FOR_REFLECTION if loaded(server, module)] == []
    with grpc.insecure_channel(server.grpc_target) as channel:
        assert "inference.GRPCInferenceService" in ProtoReflectionDescriptorDatabase(channel).get_services()
    for module in FOR_REFLECTION:
        server.wait_for(f"<grpc-reflection\\S* loads {module}>")


def ask(server: ServerProcess, rows: int, **headers: str) -> tuple[Any, bytes]:
    """The headers and the body of the answer."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [rows, 1], "data": [0.5] * rows}
    body = json.dumps({"inputs": [tensor]}).encode()
    with urlopen(Request(f"{server.http_url}/v2/models/model/infer", body, headers), timeout=60) as answer:
        return answer.headers, answer.read()


def test_the_first_answer_in_zstd_loads_it(server: ServerProcess) -> None:
    assert not loaded(server, "zstandard")
    for _ in range(2):  # by a thread, and by the loop
        headers, body = ask(server, 1000, **{"Accept-Encoding": "zstd"})
        assert headers["content-encoding"] == "zstd"
        plain = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        assert json.loads(plain)["outputs"][0]["data"] == [1.0] * 1000
    server.wait_for("<uvloop_[0-9]+ loads zstandard>")


@pytest.mark.skipif(not bulk.AVAILABLE, reason="pysimdjson is not installed")
def test_the_first_large_body_loads_simdjson_and_does_not_wait_for_it(server: ServerProcess) -> None:
    assert not loaded(server, "csimdjson")
    assert json.loads(ask(server, 9000)[1])["outputs"][0]["data"] == [1.0] * 9000
    server.wait_for("<simdjson loads csimdjson>")
    assert json.loads(ask(server, 9000)[1])["outputs"][0]["data"] == [1.0] * 9000


def test_a_plain_address_needs_no_international_names(server: ServerProcess) -> None:
    assert not loaded(server, "encodings.idna")
