"""A real server with `--model-control explicit`: reloads under load, bad versions, unloads, and who errs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from oipserver.grpc._generated.open_inference_pb2 import (
    ModelRepositoryParameter,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelUnloadRequest,
)
from tests.reload import stored
from tests.reload.stored import SERVICE, Asking, ask, get, index, post
from tests.server_process import PATIENCE, ServerProcess

RELOADS = 50  # of each of two models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reload")
    stored.write_code(folder / "code.py", 0)
    stored.write_estimator(folder / "estimator.joblib", 0)
    (folder / "models.yaml").write_text(
        "model_control: explicit\n"
        "models:\n"
        "  - {name: code, runtime: python, model_uri: code.py}\n"
        "  - {name: estimator, runtime: sklearn, model_uri: estimator.joblib}\n"
    )
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--config", str(folder / "models.yaml")) as server:
        yield server
    assert server.exit_code == 0, server.output
    assert "Traceback" not in server.output, server.output


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_target) as channel:
        yield channel


def load(server: ServerProcess, model: str) -> tuple[int, Any]:
    return post(server, f"/v2/repository/models/{model}/load")


def remote(channel: grpc.Channel, name: str, request: Any) -> bytes:
    """What a call answers."""
    call = channel.unary_unary(
        f"{SERVICE}/{name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=bytes,
    )
    answer: bytes = call(request, timeout=PATIENCE)
    return answer


def refusal(channel: grpc.Channel, name: str, request: Any) -> tuple[grpc.StatusCode, str]:
    """How a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        remote(channel, name, request)
    return caught.value.code(), caught.value.details() or ""


# ------------------------------------------------------------------------------------------ under load


def test_a_hundred_reloads_under_load(server: ServerProcess, folder: Path, channel: grpc.Channel) -> None:
    asking = Asking()
    with ExitStack() as stack:
        for model in ("code", "estimator"):
            asking.start(stored.over_http(stack.enter_context(stored.connected(server)), model))
            asking.start(stored.over_grpc(channel, model))
        for generation in range(1, RELOADS + 1):
            stored.write_code(folder / "code.py", generation)
            assert load(server, "code") == (200, None)
            stored.write_estimator(folder / "estimator.joblib", generation)
            remote(channel, "RepositoryModelLoad", RepositoryModelLoadRequest(model_name="estimator"))
            if generation % 5 == 0:
                asking.wait_for(generation)
        asking.end()
    assert asking.failures == []
    for seen in asking.seen:
        # A caller never meets the version before again.
        assert all(before <= after for before, after in pairwise(seen))
        assert seen[0] == 0
        assert len(set(seen)) > RELOADS // 5
    assert ask(server, "code") == ask(server, "estimator") == RELOADS


def test_a_body_that_comes_half_before_and_half_behind_the_swap(server: ServerProcess, folder: Path) -> None:
    stored.write_code(folder / "code.py", 61)
    assert load(server, "code") == (200, None)
    body = json.dumps(stored.BODY).encode()
    with stored.connected(server) as connection:
        connection.putrequest("POST", "/v2/models/code/infer")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body[:20])
        ask(server, "code")  # whatever was sent before is read by now
        stored.write_code(folder / "code.py", 62)
        assert load(server, "code") == (200, None)
        connection.send(body[20:])
        answer = connection.getresponse()
        numbers = json.load(answer)["outputs"][0]["data"]
    assert (answer.status, stored.generation_of(numbers)) == (200, 62)


# ------------------------------------------------------------------------------------ bad new versions

GOLDEN = {
    "rows": [
        {
            "inputs": [{"name": "input-0", "datatype": "FP64", "shape": [1, 1], "data": [0.0]}],
            "outputs": [{"name": "predict", "datatype": "FP64", "shape": [1, 1], "data": [-1.0]}],
        }
    ]
}


def corrupted(folder: Path) -> None:
    (folder / "estimator.joblib").write_bytes(b"\x80\x05no pickle" * 100)


def empty(folder: Path) -> None:
    (folder / "estimator.joblib").write_bytes(b"")


def half(folder: Path) -> None:
    whole = (folder / "estimator.joblib").read_bytes()
    (folder / "estimator.joblib").write_bytes(whole[: len(whole) // 2])


def missing(folder: Path) -> None:
    (folder / "estimator.joblib").unlink()


def no_model(folder: Path) -> None:
    stored.write_object(folder / "estimator.joblib", {"a": "dictionary"})


def refused_by_metrics(server: ServerProcess) -> float:
    with urlopen(f"{server.http_url}/metrics", timeout=PATIENCE) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    [value] = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "oip_model_reload_refused" and sample.labels["model"] == "estimator"
    ]
    return float(value)


def other_answers(folder: Path) -> None:
    (folder / "estimator.golden.json").write_text(json.dumps(GOLDEN))


@pytest.mark.parametrize("spoil", [corrupted, empty, half, missing, no_model, other_answers])
def test_a_bad_version_is_told_and_the_old_one_serves(
    server: ServerProcess, folder: Path, channel: grpc.Channel, spoil: Any
) -> None:
    stored.write_estimator(folder / "estimator.joblib", 80)
    assert load(server, "estimator") == (200, None)
    spoil(folder)

    status, told = load(server, "estimator")
    assert (status, told["error_code"]) == (503, "NOT_READY")
    assert "model 'estimator' version '1' failed to load: " in told["error"]
    reason = told["error"].partition(" failed to load: ")[2]
    assert reason
    code, details = refusal(
        channel, "RepositoryModelLoad", RepositoryModelLoadRequest(model_name="estimator")
    )
    assert (code, details) == (grpc.StatusCode.UNAVAILABLE, told["error"])

    assert ask(server, "estimator") == 80
    assert get(server, "/v2/health/ready")[0] == 200
    ready = get(server, "/v2/models/estimator/ready")
    assert ready == (200, {"name": "estimator", "ready": True, "reload_failed": reason})
    assert get(server, "/v2/models/estimator")[1]["parameters"]["reload_failed"] == reason
    entry = index(server, "estimator")
    assert (entry["state"], entry["reason"].endswith(reason)) == ("READY", True)
    server.wait_for("model 'estimator' version '1' failed to load: .*; the one before serves on")
    assert refused_by_metrics(server) == 1.0

    (folder / "estimator.golden.json").unlink(missing_ok=True)
    stored.write_estimator(folder / "estimator.joblib", 81)
    assert load(server, "estimator") == (200, None)
    assert ask(server, "estimator") == 81
    assert refused_by_metrics(server) == 0.0
    assert index(server, "estimator") == {"name": "estimator", "version": "1", "state": "READY"}
    assert get(server, "/v2/models/estimator/ready") == (200, {"name": "estimator", "ready": True})


# -------------------------------------------------------------------------------------------- unloading


def test_unload_and_load(server: ServerProcess, folder: Path, channel: grpc.Channel) -> None:
    stored.write_code(folder / "code.py", 90)
    assert post(server, "/v2/repository/models/code/unload", {"parameters": {"unload_dependents": True}}) == (
        200,
        None,
    )
    status, told = post(server, "/v2/models/code/infer", stored.BODY)
    assert (status, told["error_code"]) == (503, "NOT_READY")
    assert told["error"] == "model 'code' version '1' is UNLOADED"
    assert get(server, "/v2/models/code/ready")[0] == 503
    assert get(server, "/v2/health/ready")[0] == 200  # it was wanted so
    assert index(server, "code") == {
        "name": "code",
        "version": "1",
        "state": "UNAVAILABLE",
        "reason": "unloaded",
    }
    raw = remote(channel, "RepositoryIndex", RepositoryIndexRequest(ready=True))
    assert [one.name for one in RepositoryIndexResponse.FromString(raw).models] == ["estimator"]
    assert [one["name"] for one in post(server, "/v2/repository/index", {"ready": True})[1]] == ["estimator"]

    assert remote(channel, "RepositoryModelLoad", RepositoryModelLoadRequest(model_name="code")) == b""
    assert ask(server, "code") == 90
    assert remote(channel, "RepositoryModelUnload", RepositoryModelUnloadRequest(model_name="code")) == b""
    assert index(server, "code")["state"] == "UNAVAILABLE"
    # As KServe's own numbers put it.
    assert remote(channel, "RepositoryModelLoad", RepositoryModelLoadRequest(repository_name="code")) == b""
    raw = remote(channel, "RepositoryIndex", RepositoryIndexRequest())
    assert [
        (one.name, one.version, one.state, one.reason)
        for one in RepositoryIndexResponse.FromString(raw).models
    ] == [
        ("code", "1", "READY", ""),
        ("estimator", "1", "READY", ""),
    ]


# -------------------------------------------------------------------------------------------- who errs


@pytest.mark.parametrize(
    "parameters",
    [
        {"config": '{"name": "code"}'},
        {"file:1/model.py": "aW1wb3J0IG9z"},
        {"model_uri": "/etc/passwd"},
    ],
)
def test_a_load_brings_nothing_with_it(
    server: ServerProcess, channel: grpc.Channel, parameters: dict[str, str]
) -> None:
    status, told = post(server, "/v2/repository/models/code/load", {"parameters": parameters})
    assert (status, told["error_code"]) == (400, "UNSUPPORTED")
    [name] = parameters
    assert told["error"].startswith(f"parameter '{name}': a load takes no parameters")
    request = RepositoryModelLoadRequest(model_name="code")
    request.parameters[name].CopyFrom(ModelRepositoryParameter(string_param=parameters[name]))
    code, details = refusal(channel, "RepositoryModelLoad", request)
    assert (code, details) == (grpc.StatusCode.UNIMPLEMENTED, told["error"])


@pytest.mark.parametrize("action", ["load", "unload"])
def test_only_what_is_configured(server: ServerProcess, channel: grpc.Channel, action: str) -> None:
    status, told = post(server, f"/v2/repository/models/nothing/{action}")
    assert (status, told["error_code"]) == (404, "NOT_FOUND")
    assert told["error"] == "no model 'nothing' is configured"
    kind = {"load": RepositoryModelLoadRequest, "unload": RepositoryModelUnloadRequest}[action]
    code, details = refusal(channel, f"RepositoryModel{action.capitalize()}", kind(model_name="nothing"))
    assert (code, details) == (grpc.StatusCode.NOT_FOUND, told["error"])


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("index", b"{", 400, "the body is no JSON"),
        ("index", b"[]", 400, "expected a JSON object"),
        ("index", b'{"ready": 1}', 400, "'ready': expected true or false, got 1"),
        ("models/code/load", b'{"parameters": []}', 400, "'parameters': expected an object"),
        ("models/code/unload", b'{"parameters": 7}', 400, "'parameters': expected an object, got 7"),
        ("models/code/load", b" " * 70_000, 413, "more than 65536 bytes"),
        ("models/code/reload", b"", 404, "no route"),
    ],
)
def test_bodies_that_are_no_good(
    server: ServerProcess, path: str, body: bytes, status: int, text: str
) -> None:
    came, told = stored.call(server, "POST", f"/v2/repository/{path}", body)
    assert came == status
    assert text in told["error"]


def test_other_methods(server: ServerProcess) -> None:
    for path in ("index", "models/code/load", "models/code/unload"):
        status, told = get(server, f"/v2/repository/{path}")
        assert (status, told["error_code"]) == (405, "METHOD_NOT_ALLOWED")
