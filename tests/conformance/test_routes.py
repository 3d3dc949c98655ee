"""Every route with every method: bodies, HEAD, OPTIONS, trailing slashes, request ids; the same over gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import orjson
import pytest
import sklearn

from oipserver.grpc._generated.open_inference_pb2 import (
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from tests.conformance.callers import document
from tests.conformance.system import EXTENSIONS, System
from tests.conformance.wires import Channel, Connection, ask, message, succeeded

FLOATS = {"name": "x", "datatype": "FP64", "shape": [-1, 2]}
DOUBLER: Mapping[str, Any] = {
    "name": "doubler",
    "versions": ["1"],
    "platform": "test",
    "inputs": [FLOATS],
    "outputs": [{**FLOATS, "name": "y"}],
    "parameters": {},
}
READY = {"name": "doubler", "ready": True}
BODIES: Mapping[str, Any] = {
    "/v2": {"name": "oipserver", "version": "0", "extensions": list(EXTENSIONS)},
    "/v2/health/live": {"live": True},
    "/v2/models/doubler": DOUBLER,
    "/v2/models/doubler/versions/1": DOUBLER,
    "/v2/models/doubler/ready": READY,
    "/v2/models/doubler/versions/1/ready": READY,
}
GET_ROUTES = (*BODIES, "/v2/models", "/metrics")
INFER_ROUTES = ("/v2/models/doubler/infer", "/v2/models/doubler/versions/1/infer")

host = pytest.mark.parametrize("host", ["ours", "h11", "httptools"])


@host
@pytest.mark.parametrize("slash", ["", "/", "//"])
@pytest.mark.parametrize("target", BODIES)
def test_a_get_is_answered_with_its_document(system: System, host: str, target: str, slash: str) -> None:
    answer = ask(system.ports[host], "GET", target + slash)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == BODIES[target]
    assert int(answer.headers["content-length"]) == len(answer.body)


@host
def test_query_strings_are_ignored(system: System, host: str) -> None:
    answer = ask(system.ports[host], "GET", "/v2/health/live?probe=1&x=%00")
    assert answer.json() == {"live": True}


def test_an_encoded_name_is_decoded_once(system: System) -> None:
    assert ask(system.ports["ours"], "GET", "/v2/models/d%6Fubler/ready").json() == READY


def test_a_ready_server_says_so(calm: System) -> None:
    answer = ask(calm.ports["ours"], "GET", "/v2/health/ready")
    assert (answer.status, answer.json()) == (200, {"live": True, "ready": True})


def test_models_are_listed_whether_they_serve_or_not(system: System) -> None:
    names = ask(system.ports["ours"], "GET", "/v2/models").json()["models"]
    assert {"doubler", "iris", "loading", "broken"} <= set(names)
    assert len(names) == len(set(names))


def test_the_metadata_of_a_real_model(system: System) -> None:
    metadata = ask(system.ports["ours"], "GET", "/v2/models/iris").json()
    assert metadata["platform"] == "sklearn"
    assert metadata["inputs"][0]["name"] == "input-0"
    assert metadata["inputs"][0]["shape"] == [-1, 4]
    assert [one["name"] for one in metadata["outputs"]] == ["predict"]
    optional = [one["name"] for one in metadata["parameters"]["optional_outputs"]]
    assert optional == ["predict_proba", "decision_function"]
    assert metadata["parameters"]["sklearn_version"] == sklearn.__version__


def test_metrics_are_in_the_text_format(system: System) -> None:
    answer = ask(system.ports["ours"], "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'oip_model_state{model="doubler",state="READY",version="1"} 1.0' in answer.body


@host
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("target", INFER_ROUTES)
def test_infer_with_and_without_a_slash_and_a_version(
    system: System, host: str, target: str, slash: str
) -> None:
    answer = ask(system.ports[host], "POST", target + slash, orjson.dumps(document()))
    assert answer.status == 200
    fields = answer.json()
    assert fields.keys() == {"model_name", "model_version", "id", "parameters", "outputs"}
    assert fields["parameters"] == {"content_type": "np"}
    assert fields["outputs"] == [
        {
            "name": "y",
            "shape": [1, 2],
            "datatype": "FP64",
            "parameters": {"content_type": "np"},
            "data": [2.0, 1.0],
        }
    ]


@host
@pytest.mark.parametrize("target", GET_ROUTES)
def test_head_is_get_without_the_body(system: System, host: str, target: str) -> None:
    get = ask(system.ports[host], "GET", target)
    with Connection(system.ports[host]) as connection:
        answer = connection.send(message("HEAD", target)).answer(has_body=False)
        assert answer.status == get.status == 200
        assert answer.headers["content-type"] == get.headers["content-type"]
        if target != "/metrics":  # counts between the two
            assert answer.headers["content-length"] == get.headers["content-length"]
        assert connection.ask(message("GET", "/v2/health/live")).json() == {"live": True}, "no body came"


@host
@pytest.mark.parametrize(
    ("target", "allowed"),
    [(target, {"GET", "HEAD", "OPTIONS"}) for target in GET_ROUTES]
    + [(target, {"POST", "OPTIONS"}) for target in INFER_ROUTES],
)
def test_options_lists_the_methods(system: System, host: str, target: str, allowed: set[str]) -> None:
    answer = ask(system.ports[host], "OPTIONS", target)
    assert (answer.status, answer.body) == (204, b"")
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert "content-type" not in answer.headers


def test_options_of_no_route_is_not_found(system: System) -> None:
    ask(system.ports["ours"], "OPTIONS", "/nowhere").error("NOT_FOUND")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize("target", GET_ROUTES)
def test_other_methods_are_refused_on_every_get_route(system: System, method: str, target: str) -> None:
    answer = ask(system.ports["ours"], method, target)
    answer.error("METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("target", INFER_ROUTES)
def test_other_methods_are_refused_on_every_infer_route(system: System, method: str, target: str) -> None:
    answer = ask(system.ports["ours"], method, target)
    answer.error("METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"


@host
@pytest.mark.parametrize("target", GET_ROUTES)
def test_every_answer_has_a_request_id(system: System, host: str, target: str) -> None:
    made = ask(system.ports[host], "GET", target).headers["x-request-id"]
    assert len(made) == 36
    assert ask(system.ports[host], "GET", target).headers["x-request-id"] != made
    given = ask(system.ports[host], "GET", target, headers={"X-Request-Id": "probe-1"})
    assert given.headers["x-request-id"] == "probe-1"


def test_an_id_in_the_body_is_the_request_id_where_it_is_fit_for_one(system: System) -> None:
    port, body = system.ports["ours"], orjson.dumps(document(id="body-1"))
    answer = ask(port, "POST", INFER_ROUTES[0], body)
    assert (answer.headers["x-request-id"], answer.json()["id"]) == ("body-1", "body-1")
    answer = ask(port, "POST", INFER_ROUTES[0], body, {"X-Request-Id": "head-1"})
    assert (answer.headers["x-request-id"], answer.json()["id"]) == ("head-1", "body-1")
    answer = ask(port, "POST", INFER_ROUTES[0], orjson.dumps(document()), {"X-Request-Id": "head-1"})
    assert answer.json()["id"] == "head-1"


def test_no_server_tells_its_name_and_every_answer_its_time(system: System) -> None:
    for target in GET_ROUTES:
        headers = ask(system.ports["ours"], "GET", target).headers
        assert "server" not in headers
        assert headers["date"].endswith(" GMT")


# --- gRPC --------------------------------------------------------------------------------------------------


def test_the_same_over_grpc(system: System, calm: System, channel: Channel) -> None:
    assert ServerLiveResponse.FromString(succeeded(channel.call("ServerLive", b""))).live
    assert not ServerReadyResponse.FromString(succeeded(channel.call("ServerReady", b""))).ready
    server = ServerMetadataResponse.FromString(succeeded(channel.call("ServerMetadata", b"")))
    assert (server.name, server.version, tuple(server.extensions)) == ("oipserver", "0", EXTENSIONS)
    for version in ("", "1"):
        ready = ModelReadyRequest(name="doubler", version=version).SerializeToString()
        assert ModelReadyResponse.FromString(succeeded(channel.call("ModelReady", ready))).ready
        wanted = ModelMetadataRequest(name="doubler", version=version).SerializeToString()
        metadata = ModelMetadataResponse.FromString(succeeded(channel.call("ModelMetadata", wanted)))
        assert (metadata.name, list(metadata.versions), metadata.platform) == ("doubler", ["1"], "test")
        [tensor] = metadata.inputs
        assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", "FP64", [-1, 2])


def test_a_ready_server_says_so_over_grpc(calm: System) -> None:
    channel = Channel(calm.ports["grpc"])
    try:
        assert ServerReadyResponse.FromString(succeeded(channel.call("ServerReady", b""))).ready
    finally:
        channel.close()


@pytest.mark.parametrize("rpc", ["ServerLive", "ServerReady", "ServerMetadata"])
def test_every_grpc_answer_has_a_request_id(channel: Channel, rpc: str) -> None:
    call = channel.start(rpc, b"", [("x-request-id", "probe-1")])
    call.result()
    assert dict(call.trailing_metadata())["x-request-id"] == "probe-1"
    assert call.code() is grpc.StatusCode.OK
