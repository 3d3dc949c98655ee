"""The OpenAPI documents: valid, complete, and true of what the server takes and answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.requests import Request
from starlette.routing import Route

from oipserver import FP64, ModelConfig, TensorMetadata
from oipserver.core.messages import Array
from oipserver.http.app import create_app
from oipserver.http.door import InferSettings
from oipserver.http.errors import STATUS
from oipserver.http.openapi.document import Access, Writer
from oipserver.http.openapi.endpoints import Documents
from oipserver.http.openapi.operations import OF_MODEL, OF_SCORING, OF_SERVER, OF_SHARED_MEMORY
from tests.conformance.system import Journal
from tests.openapi.conftest import NAMES
from tests.server_process import ServerProcess
from tests.support import Doubler, Plane, run

MODEL = "/v2/models/{model}"
VERSION = MODEL + "/versions/{version}"
JSON = "application/json"


def ask(server: ServerProcess, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.http_url + path, data)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def events(server: ServerProcess, path: str, body: Any) -> list[Any]:
    """The data of each answer's output."""
    request = urllib.request.Request(server.http_url + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        lines = [line for line in answer.read().splitlines() if line.startswith(b"data:")]
    return [json.loads(line.removeprefix(b"data:"))["outputs"][0]["data"] for line in lines]


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> Any:
    status, document = ask(server, "/v2/openapi.json")
    assert status == 200
    return document


def validator(document: Any, name: str) -> Draft202012Validator:
    """Of a schema among the document's components."""
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


def example(document: Any, model: str, route: str = "infer") -> Any:
    operation = document["paths"][f"/v2/models/{model}/{route}"]["post"]
    return operation["requestBody"]["content"][JSON]["example"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/openapi.json",
        "/openapi.json",
        *(f"/v2/models/{name}/openapi.json" for name in NAMES),
        "/v2/models/double/versions/2/openapi.json",
    ],
)
def test_is_valid(server: ServerProcess, path: str) -> None:
    status, document = ask(server, path)
    assert status == 200
    validate(document)
    assert document["openapi"].startswith("3.1")
    identifiers = [
        operation["operationId"] for item in document["paths"].values() for operation in item.values()
    ]
    assert len(identifiers) == len(set(identifiers)) > 0


def test_describes_each_model_where_no_version_is_named_and_versions_where_there_are_several(
    document: Any,
) -> None:
    infer = [path for path in document["paths"] if path.endswith("/infer")]
    versions = [f"/v2/models/double/versions/{version}/infer" for version in (1, 2)]
    assert sorted(infer) == sorted([*(f"/v2/models/{name}/infer" for name in NAMES), *versions])


def test_of_one_model_holds_its_routes_alone(server: ServerProcess) -> None:
    for path in ("/v2/models/total", "/v2/models/double/versions/2"):
        _, document = ask(server, f"{path}/openapi.json")
        assert f"{path}/infer" in document["paths"]
        assert all(each == path or each.startswith(f"{path}/") for each in document["paths"])


@pytest.mark.parametrize("path", ["/v2/models/none/openapi.json", "/v2/models/half/versions/7/openapi.json"])
def test_of_what_there_is_not(server: ServerProcess, path: str) -> None:
    status, body = ask(server, path)
    assert (status, body["error_code"]) == (404, "NOT_FOUND")


def test_every_route_of_the_application_is_described() -> None:
    """But for the pages, which are for people, and for CUDA's memory, of which there is none."""
    plane = Plane({"m": Doubler()})
    app: Any = create_app(plane.data, InferSettings(1000, 1000, 1.0), Journal().exposition)
    while not hasattr(app, "router"):
        app = getattr(app, "_rest", None) or app._app
    described = {*OF_SERVER, *OF_SCORING, *OF_SHARED_MEMORY, ("POST", "/invocations")}
    described |= {(method, prefix + path) for method, path in OF_MODEL for prefix in (MODEL, VERSION)}
    routes = [route for route in app.router.routes if isinstance(route, Route)]
    served = {(method, route.path) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    beside = ("/v2/docs", "/console", "/v2/cudasharedmemory/")
    undescribed = {each for each in served - described if not each[1].startswith(beside)}
    assert undescribed == {("GET", "/")}


@pytest.mark.parametrize("model", NAMES)
def test_the_example_is_as_described_and_is_answered_as_described(
    server: ServerProcess, document: Any, model: str
) -> None:
    request = example(document, model, "generate_stream" if model == "count" else "infer")
    validator(document, f"{model}.{2 if model == 'double' else 1}.request").validate(request)
    if model == "count":  # it streams
        assert events(server, "/v2/models/count/generate_stream", request) == [[0], [1]]
        return
    status, answer = ask(server, f"/v2/models/{model}/infer", request)
    assert status == 200
    validator(document, f"{model}.{answer['model_version']}.response").validate(answer)


def test_a_classified_answer_is_as_described(server: ServerProcess, document: Any) -> None:
    request = {
        **example(document, "limited"),
        "outputs": [{"name": "y", "parameters": {"classification": 1}}],
    }
    validator(document, "limited.1.request").validate(request)
    status, answer = ask(server, "/v2/models/limited/infer", request)
    assert (status, answer["outputs"][0]["datatype"]) == (200, "BYTES")
    validator(document, "limited.1.response").validate(answer)


def changed(request: Any, tensor: int, **members: Any) -> Any:
    """The request with other members in one of its tensors."""
    inputs = [dict(each) for each in request["inputs"]]
    inputs[tensor] |= members
    return {**request, "inputs": inputs}


@pytest.mark.parametrize(
    ("model", "tensor", "members", "code"),
    [
        ("limited", 0, {"data": [0.25, 1.0]}, "UNPROCESSABLE"),
        ("limited", 0, {"data": [1.0, 10.5]}, "UNPROCESSABLE"),
        ("limited", 0, {"data": [1.0, "x"]}, "BAD_REQUEST"),
        ("limited", 0, {"shape": [1, 3], "data": [1.0, 1.0, 1.0]}, "BAD_REQUEST"),
        ("limited", 0, {"shape": [0, 2], "data": []}, "BAD_REQUEST"),
        ("limited", 0, {"datatype": "BYTES"}, "BAD_REQUEST"),
        ("limited", 0, {"data": None}, "BAD_REQUEST"),
        ("say", 0, {"data": ["x" * 9]}, "UNPROCESSABLE"),
        ("say", 1, {"data": ["blue"]}, "UNPROCESSABLE"),
        ("say", 1, {"name": "colour"}, "BAD_REQUEST"),
        ("say", 2, {"data": [4]}, "UNPROCESSABLE"),
        ("say", 2, {"data": [1.5]}, "BAD_REQUEST"),
        ("total", 0, {"shape": [3, 2, 2]}, "BAD_REQUEST"),
        ("half", 0, {"datatype": "FP16"}, "BAD_REQUEST"),
    ],
)
def test_what_the_schema_forbids_the_server_refuses(
    server: ServerProcess, document: Any, model: str, tensor: int, members: dict[str, Any], code: str
) -> None:
    request = changed(example(document, model), tensor, **members)
    assert not validator(document, f"{model}.1.request").is_valid(request)
    status, body = ask(server, f"/v2/models/{model}/infer", request)
    assert (status, body["error_code"]) == (STATUS[code], code)
    validator(document, "Error").validate(body)
    responses = document["paths"][f"/v2/models/{model}/infer"]["post"]["responses"]
    assert str(status) in responses


@pytest.mark.parametrize(
    ("model", "tensor", "members"),
    [
        ("limited", 0, {"data": [[0.5, 10]]}),
        ("limited", 0, {"shape": [3, 2], "data": [1, 2, 3, 4, 5, 6]}),
        ("limited", 0, {"datatype": "INT8", "data": [1, 2]}),
        ("limited", 0, {"name": "input-0"}),
        ("double", 0, {"data": [None, -1e300]}),
        ("say", 0, {"data": ["éé"]}),
        ("total", 0, {"data": [[[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]]]}),
    ],
)
def test_what_the_schema_allows_the_server_takes(
    server: ServerProcess, document: Any, model: str, tensor: int, members: dict[str, Any]
) -> None:
    request = changed(example(document, model), tensor, **members)
    version = 2 if model == "double" else 1
    validator(document, f"{model}.{version}.request").validate(request)
    status, answer = ask(server, f"/v2/models/{model}/infer", request)
    assert status == 200, answer
    validator(document, f"{model}.{version}.response").validate(answer)


def test_every_error_has_its_body_and_its_codes(document: Any) -> None:
    responses = document["components"]["responses"]
    listed = [
        (int(name.removeprefix("Status")), code)
        for name, response in responses.items()
        for code in response["content"][JSON]["schema"]["allOf"][1]["properties"]["error_code"]["enum"]
    ]
    assert sorted(listed) == sorted((status, code) for code, status in STATUS.items() if status != 499)
    assert "Retry-After" in responses["Status503"]["headers"]


def test_keys_are_asked_for_where_callers_need_one() -> None:
    routes = [("GET", "/v2"), ("GET", "/v2/health/live")]
    access = Access("x-my-key", frozenset(("/v2/health/live",)))
    closed = json.loads(Writer(routes, "oipserver", "0", access).of_server([], []))
    validate(closed)
    assert closed["components"]["securitySchemes"]["key"]["name"] == "x-my-key"
    assert closed["security"] == [{"bearer": []}, {"key": []}]
    assert closed["paths"]["/v2/health/live"]["get"]["security"] == []
    assert "security" not in closed["paths"]["/v2"]["get"]
    answers = set(closed["paths"]["/v2"]["get"]["responses"])
    open_to_all = json.loads(Writer(routes, "oipserver", "0", Access()).of_server([], []))
    assert "security" not in open_to_all
    needed = {str(status) for status in (401, 403, 429)} & {str(status) for status in STATUS.values()}
    assert answers - set(open_to_all["paths"]["/v2"]["get"]["responses"]) == needed


class Large(Doubler):
    """Its example is not for reading."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.example = {"x": zeros(rows)}


def zeros(rows: int) -> Array:
    return np.zeros((rows, 2))


def test_an_example_is_one_row() -> None:
    async def written() -> Any:
        plane = Plane({"m": Large(3)})
        async with plane:
            contract = plane.data.serving("m", None).contract
            return json.loads(Writer([("POST", f"{MODEL}/infer")], "", "0", Access()).of_model(contract, "1"))

    assert example(run(written()), "m")["inputs"][0]["shape"] == [1, 2]


class Wider(Doubler):
    inputs = (TensorMetadata("x", FP64, (-1, 3)),)
    outputs = (TensorMetadata("y", FP64, (-1, 3)),)


def test_a_document_is_written_anew_when_the_model_was_loaded_anew() -> None:
    async def widths() -> list[int]:
        async with Plane({"m": Doubler()}) as plane:
            documents = Documents(plane.data)
            documents.describe(documents.routes())
            request = Request({"type": "http", "path_params": {"model": "m"}})
            texts = [(await documents.of_model(request)).body, (await documents.of_model(request)).body]
            assert texts[0] is texts[1]
            plane.models["m"] = Wider()
            await plane.registry.load(ModelConfig(name="m", runtime="test"))
            texts.append((await documents.of_model(request)).body)
            return [width(json.loads(bytes(text))) for text in texts]

    assert run(widths()) == [2, 2, 3]


def width(document: Any) -> int:
    schema = document["components"]["schemas"]["m.1.request"]
    size: int = schema["properties"]["inputs"]["items"]["properties"]["shape"]["prefixItems"][1]["const"]
    return size
