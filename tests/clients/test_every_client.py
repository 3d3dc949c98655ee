"""The same questions to every client: they may travel as they like, the answers are equal.

At the end, what KServe's clients and the generated ones are asked beyond that.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from oipserver import __version__
from tests.clients.conftest import CLIENTS, Clients
from tests.server_process import ServerProcess

# As the specification's tutorial writes them.
DOCUMENT = (
    '{"inputs":[{"name":"input-0","shape":[2,4],"datatype":"FP64",'
    '"data":[[5.1,3.5,1.4,0.2],[4.9,3.0,1.4,0.2]]}]}'
)
ANSWER = {"name": "predict", "datatype": "INT64", "shape": [2, 1], "data": [0, 0], "content_type": "np"}

HEALTH = {"live": True, "ready": True, "iris": True, "iris 1": True, "iris 7": False, "nobody": False}

NO_MODEL = "no model 'nobody'"
NO_VERSION = "model 'iris' has no version '7'; it has 0, 1"
UNKNOWN = {
    "metadata": NO_MODEL,
    "metadata of a version": NO_VERSION,
    "infer": NO_MODEL,
    "infer of a version": NO_VERSION,
}

# How each client spells 404.
NOT_FOUND = {
    "tritonclient_http": "404",
    "tritonclient_http_aio": "404",
    "tritonclient_grpc": "StatusCode.NOT_FOUND",
    "open_inference_openapi": 404,
    "open_inference_grpc": "NOT_FOUND",
}
VERSIONED = list(NOT_FOUND)

curl = shutil.which("curl")
browse = build_opener(ProxyHandler({})).open


def tensor(answer: Any) -> Any:
    """The only output of a JSON answer, in the form of ANSWER."""
    (output,) = answer["outputs"]
    return {"content_type": output.pop("parameters")["content_type"], **output}


@pytest.mark.parametrize("client", CLIENTS)
def test_the_document_is_answered(clients: Clients, client: str) -> None:
    assert clients.report(client)["document"] == ANSWER


def test_the_document_is_answered_to_urllib(server: ServerProcess) -> None:
    request = Request(f"{server.http_url}/v2/models/iris/infer", DOCUMENT.encode())
    with browse(request) as response:
        answer = json.load(response)
        assert response.headers["Content-Type"] == "application/json"
    assert tensor(answer) == ANSWER
    assert (answer["model_name"], answer["model_version"]) == ("iris", "1")
    assert answer["parameters"] == {"content_type": "np"}
    assert answer["id"]


@pytest.mark.skipif(curl is None, reason="curl is not installed")
def test_the_document_is_answered_to_curl(server: ServerProcess) -> None:
    """A plain `-d`, which calls the body a form."""
    command = [str(curl), "--silent", "--noproxy", "*", f"{server.http_url}/v2/models/iris/infer"]
    answer = subprocess.run([*command, "-d", DOCUMENT], capture_output=True, check=True)
    assert tensor(json.loads(answer.stdout)) == ANSWER


@pytest.mark.parametrize(
    ("model", "versions", "inputs"),
    [
        ("iris", ["0", "1"], ["input-0"]),
        ("species", ["3"], ["input-0"]),
        ("gaps", ["1"], ["input-0"]),
        ("scaler", ["1"], ["input-0"]),
        ("reviews", ["1"], ["input-0"]),
        ("people", ["1"], ["city", "age", "income"]),
        ("slow", ["1"], ["input-0"]),
    ],
)
def test_the_configuration_file_is_served(
    server: ServerProcess, model: str, versions: list[str], inputs: list[str]
) -> None:
    with browse(f"{server.http_url}/v2/models/{model}") as response:
        metadata = json.load(response)
    assert metadata["versions"] == versions
    assert [tensor["name"] for tensor in metadata["inputs"]] == inputs


@pytest.mark.parametrize("client", CLIENTS)
def test_health(clients: Clients, client: str) -> None:
    health = clients.report(client)["health"]
    # KServe's clients know no versions.
    assert health == (HEALTH if client in VERSIONED else {key: HEALTH[key] for key in health})
    assert len(health) >= 4


@pytest.mark.parametrize("client", VERSIONED)
def test_server_metadata(clients: Clients, client: str) -> None:
    metadata = clients.report(client)["server_metadata"]
    assert metadata["name"] == "oipserver"
    assert metadata["version"] == __version__
    assert "binary_tensor_data" in metadata["extensions"]


@pytest.mark.parametrize("client", VERSIONED)
@pytest.mark.parametrize(
    ("version", "versions", "output"),
    [("", ["0", "1"], "INT64"), ("1", ["1"], "INT64"), ("0", ["0"], "BYTES")],
)
def test_model_metadata(
    clients: Clients, client: str, version: str, versions: list[str], output: str
) -> None:
    metadata = clients.report(client)["model_metadata"][version]
    assert {key: metadata[key] for key in ("name", "versions", "platform", "inputs", "outputs")} == {
        "name": "iris",
        "versions": versions,
        "platform": "sklearn",
        "inputs": [{"name": "input-0", "datatype": "FP64", "shape": [-1, 4]}],
        "outputs": [{"name": "predict", "datatype": output, "shape": [-1, 1]}],
    }


@pytest.mark.parametrize("client", VERSIONED)
def test_unknown_models_and_versions(clients: Clients, client: str) -> None:
    unknown = clients.report(client)["unknown"]
    assert unknown == {call: [NOT_FOUND[client], text] for call, text in UNKNOWN.items()}


# --- KServe's clients --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "form"), [("kserve_rest", "dictionary"), ("kserve_rest", "binary"), ("kserve_grpc", "raw")]
)
def test_other_forms_of_the_document(clients: Clients, client: str, form: str) -> None:
    assert clients.report(client)[form] == ANSWER


def test_kserve_reads_our_error_over_rest(clients: Clients) -> None:
    status, text = clients.report("kserve_rest")["unknown"]
    assert status == 404
    assert text.startswith("no model 'nobody', '404 Not Found' for url ")


def test_kserve_reads_our_error_over_grpc(clients: Clients) -> None:
    assert clients.report("kserve_grpc")["unknown"] == ["NOT_FOUND", "no model 'nobody'"]


# --- those generated from the specification -----------------------------------------------------------------


@pytest.mark.parametrize("client", ["open_inference_openapi", "open_inference_grpc"])
def test_a_version_is_asked(clients: Clients, client: str) -> None:
    assert clients.report(client)["version"] == ["0", ["setosa", "setosa"]]
