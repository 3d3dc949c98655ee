"""A real server whose models nobody controls by request: what SIGHUP does, and what is refused."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from oipserver.grpc._generated.open_inference_pb2 import (
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
)
from tests.reload import stored
from tests.reload.stored import SERVICE, ask, get, index, post
from tests.server_process import PATIENCE, ServerProcess


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reload") / "code.py"
    stored.write_code(path, 1)
    return path


@pytest.fixture(scope="module")
def server(path: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--runtime", "python", "--model-uri", str(path)) as server:
        yield server
    assert server.exit_code == 0, server.output
    assert "Traceback" not in server.output, server.output


def test_sighup_loads_again_what_is_stored(server: ServerProcess, path: Path) -> None:
    assert ask(server, "code") == 1
    path.write_text("no Python")
    server.signal(signal.SIGHUP)
    server.wait_for("model 'code' version '1' failed to load: .*; the one before serves on")
    assert ask(server, "code") == 1
    assert "cannot be imported" in get(server, "/v2/models/code/ready")[1]["reload_failed"]
    stored.write_code(path, 2)
    server.signal(signal.SIGHUP)
    server.wait_for("model 'code' version '1' was loaded again")
    assert ask(server, "code") == 2


def test_sighups_do_not_change_how_it_ends(path: Path) -> None:
    with ServerProcess("--runtime", "python", "--model-uri", str(path)) as server:
        for _ in range(100):
            server.signal(signal.SIGHUP)
        server.signal(signal.SIGTERM)
        while server.exit_code is None:
            server.signal(signal.SIGHUP)
    assert server.exit_code == 0, server.output


def test_a_server_that_was_not_ready_gets_ready(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text("no Python")
    server = ServerProcess("--runtime", "python", "--model-uri", str(path)).start()
    try:
        server.wait_for("running, but not ready: .*cannot be imported")
        with grpc.insecure_channel(server.grpc_target) as channel:
            health = HealthStub(channel)
            assert health.Check(HealthCheckRequest()).status == HealthCheckResponse.NOT_SERVING
            assert get(server, "/v2/health/ready")[0] == 503
            stored.write_code(path, 5)
            server.signal(signal.SIGHUP)
            server.wait_for("(?<!not )ready: ")
            assert health.Check(HealthCheckRequest()).status == HealthCheckResponse.SERVING
        assert get(server, "/v2/health/ready")[0] == 200
        assert ask(server, "code") == 5
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("action", ["load", "unload"])
def test_requests_control_nothing(server: ServerProcess, action: str) -> None:
    for model in ("code", "nothing"):
        status, told = post(server, f"/v2/repository/models/{model}/{action}")
        assert (status, told["error_code"]) == (400, "UNSUPPORTED")
        assert "--model-control explicit" in told["error"]
    kind = {"load": RepositoryModelLoadRequest, "unload": RepositoryModelUnloadRequest}[action]
    with grpc.insecure_channel(server.grpc_target) as channel:
        call = channel.unary_unary(
            f"{SERVICE}/RepositoryModel{action.capitalize()}",
            request_serializer=kind.SerializeToString,
            response_deserializer=bytes,
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(kind(model_name="code"), timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == told["error"]


def test_the_index_is_there_all_the_same(server: ServerProcess) -> None:
    assert index(server, "code") == {"name": "code", "version": "1", "state": "READY"}
    with grpc.insecure_channel(server.grpc_target) as channel:
        call = channel.unary_unary(
            f"{SERVICE}/RepositoryIndex",
            request_serializer=RepositoryIndexRequest.SerializeToString,
            response_deserializer=RepositoryIndexResponse.FromString,
        )
        [one] = call(RepositoryIndexRequest(), timeout=PATIENCE).models
    assert (one.name, one.version, one.state) == ("code", "1", "READY")
