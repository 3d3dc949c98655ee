"""tritonclient over HTTP and gRPC: what it can, and what it is told when it errs."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any
from urllib.request import Request

import joblib
import numpy as np
import pandas
import pytest

from tests.clients.conftest import Clients
from tests.clients.test_every_client import ANSWER, browse
from tests.server_process import ServerProcess

BOTH = ["tritonclient_http", "tritonclient_grpc"]
HTTP = ["tritonclient_http", "tritonclient_http_aio"]
ALL = [*HTTP, "tritonclient_grpc"]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [4.9, 3.0, 1.4, 0.2]])
HOLED = np.where(ROWS > 4, np.nan, ROWS)
WORDS = ["a great film", "dull, far too long"]
PEOPLE = pandas.DataFrame(
    {
        "city": ["Oslo", "Bern", "Rome", "Rome"],
        "age": [34.0, 21.0, 50.0, 30.0],
        "income": [42.0, 18.5, 60.0, 10.0],
    }
)

# The same fault in the words of each transport.
CODES = {
    "tritonclient_http": {"BAD_REQUEST": "400", "UNPROCESSABLE": "422", "TIMEOUT": "504"},
    "tritonclient_grpc": {
        "BAD_REQUEST": "StatusCode.INVALID_ARGUMENT",
        "UNPROCESSABLE": "StatusCode.INVALID_ARGUMENT",
        "TIMEOUT": "StatusCode.DEADLINE_EXCEEDED",
    },
}
# What was wrong, and what the text has to name: whose it is, what was expected and what came.
MISTAKES = {
    "columns": ("BAD_REQUEST", ["'input-0'", "'iris'", "[-1, 4]", "[2, 3]"]),
    "datatype": ("BAD_REQUEST", ["'input-0'", "FP64", "BOOL"]),
    "output": ("BAD_REQUEST", ["'iris'", "'nothing'", "'predict', 'predict_proba'"]),
    "no rows": ("BAD_REQUEST", ["'iris'", "no rows"]),
    "nan": ("UNPROCESSABLE", ["'input-0'", "'iris'", "NaN"]),
    "column names": ("BAD_REQUEST", ["'people'", "'town'", "'city', 'age', 'income'"]),
}


def estimator(folder: Path, name: str) -> Any:
    return joblib.load(folder / f"{name}.joblib")


def output(name: str, array: Any) -> dict[str, Any]:
    """An answer as the scripts report it; a list of labels is BYTES."""
    answer = np.asarray(array)
    datatype = {"i": "INT64", "f": "FP64"}.get(answer.dtype.kind, "BYTES")
    shape = answer.shape if answer.ndim > 1 else (len(answer), 1)
    data = [str(value) if datatype == "BYTES" else value for value in answer.ravel().tolist()]
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data, "content_type": "np"}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("back", [False, True])
def test_json_and_binary_there_and_back(clients: Clients, there: bool, back: bool) -> None:
    assert clients.report("tritonclient_http")["forms"][f"binary {there} {back}"] == ANSWER


def test_json_called_octet_stream(clients: Clients) -> None:
    assert clients.report("tritonclient_http_aio")["json_document"] == ANSWER


@pytest.mark.parametrize("client", BOTH)
def test_single_precision_is_widened(clients: Clients, client: str) -> None:
    assert clients.report(client)["single_precision"] == ANSWER


@pytest.mark.parametrize("client", BOTH)
def test_versions(clients: Clients, client: str) -> None:
    assert clients.report(client)["versions"] == [[0, 0], ["setosa", "setosa"], [0, 0]]


@pytest.mark.parametrize("client", BOTH)
def test_two_outputs_in_the_order_asked(clients: Clients, folder: Path, client: str) -> None:
    probabilities, labels = clients.report(client)["probabilities"]
    assert probabilities == output("predict_proba", estimator(folder, "iris").predict_proba(ROWS))
    assert labels == ANSWER


@pytest.mark.parametrize("client", BOTH)
def test_gaps_are_data_to_a_model_that_takes_them(clients: Clients, folder: Path, client: str) -> None:
    expected = output("predict_proba", estimator(folder, "gaps").predict_proba(HOLED))
    assert clients.report(client)["gaps"] == [expected]


def test_gaps_in_json(clients: Clients, folder: Path) -> None:
    report = clients.report("tritonclient_http")
    expected = output("predict_proba", estimator(folder, "gaps").predict_proba(HOLED))
    assert report["json_nan"]["accepted"] == expected
    assert report["json_nan"]["refused"] == report["mistakes"]["nan"]


@pytest.mark.parametrize("client", BOTH)
def test_text_goes_in_and_comes_out(clients: Clients, folder: Path, client: str) -> None:
    expected = output("predict", estimator(folder, "reviews/model").predict(WORDS))
    assert expected["data"] == ["good", "bad"]
    assert clients.report(client)["text"] == [expected]


def test_text_in_json(clients: Clients) -> None:
    report = clients.report("tritonclient_http")
    assert [report["json_text"]] == report["text"]


@pytest.mark.parametrize("client", BOTH)
def test_labels_are_text(clients: Clients, client: str) -> None:
    assert clients.report(client)["text_labels"] == [output("predict", ["setosa", "setosa"])]


@pytest.mark.parametrize("client", BOTH)
def test_one_input_per_column(clients: Clients, folder: Path, client: str) -> None:
    model = estimator(folder, "people")
    labels, probabilities = clients.report(client)["columns"]
    assert labels == output("predict", model.predict(PEOPLE))
    assert probabilities == output("predict_proba", model.predict_proba(PEOPLE))


def test_inputs_and_outputs_of_both_kinds_in_one_request(clients: Clients, folder: Path) -> None:
    model = estimator(folder, "people")
    labels, probabilities = clients.report("tritonclient_http")["mixed"]
    assert labels == output("predict", model.predict(PEOPLE[:1]))
    assert probabilities == output("predict_proba", model.predict_proba(PEOPLE[:1]))


@pytest.mark.parametrize("client", BOTH)
def test_a_request_id_comes_back(clients: Clients, client: str) -> None:
    assert clients.report(client)["request_id"] == {"own": "käse 7/α", "made": True}


@pytest.mark.parametrize("client", BOTH)
def test_what_a_stateless_model_ignores(clients: Clients, client: str) -> None:
    assert clients.report(client)["schedule"] == ANSWER


@pytest.mark.parametrize("client", BOTH)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_explained(clients: Clients, client: str, mistake: str) -> None:
    code, named = MISTAKES[mistake]
    status, text = clients.report(client)["mistakes"][mistake]
    assert status == CODES[client][code]
    assert [fact for fact in named if fact not in text] == [], text


def test_mistakes_have_the_same_words_on_both_fronts(clients: Clients) -> None:
    http, grpc = (clients.report(client)["mistakes"] for client in BOTH)
    assert {mistake: text for mistake, (_, text) in http.items()} == {
        mistake: text for mistake, (_, text) in grpc.items()
    }


@pytest.mark.parametrize("client", BOTH)
def test_a_request_runs_out_of_time(clients: Clients, client: str) -> None:
    status, text = clients.report(client)["out_of_time"]
    assert status == CODES[client]["TIMEOUT"]
    assert "deadline" in text


def test_a_caller_runs_out_of_time(clients: Clients) -> None:
    status, text = clients.report("tritonclient_grpc")["client_timeout"]
    assert status == "StatusCode.DEADLINE_EXCEEDED"
    assert text


@pytest.mark.parametrize("client", ALL)
def test_compression(clients: Clients, client: str) -> None:
    equal = clients.report(client)["compression"]
    assert len(equal) == {"tritonclient_http": 9, "tritonclient_http_aio": 18, "tritonclient_grpc": 3}[client]
    assert all(equal.values()), equal


@pytest.mark.parametrize(("coding", "window"), [("gzip", 31), ("deflate", 15)])
def test_a_compressed_answer_is_smaller(server: ServerProcess, coding: str, window: int) -> None:
    """The clients do not show what has travelled."""
    tensor = {"name": "input-0", "shape": [400, 4], "datatype": "FP64", "data": ROWS.tolist() * 200}
    body = json.dumps({"inputs": [tensor], "id": "same"}).encode()
    url = f"{server.http_url}/v2/models/scaler/infer"
    with browse(Request(url, body)) as response:
        assert response.headers["Content-Encoding"] is None
        plain = response.read()
    with browse(Request(url, body, {"Accept-Encoding": coding})) as response:
        assert response.headers["Content-Encoding"] == coding
        compressed = response.read()
    assert len(compressed) < len(plain) / 2
    assert zlib.decompress(compressed, window) == plain


@pytest.mark.parametrize("client", ALL)
def test_64_in_flight_get_their_own_answers(clients: Clients, folder: Path, client: str) -> None:
    rows = np.repeat(np.arange(64.0)[:, np.newaxis], 4, axis=1)
    assert clients.report(client)["many"] == estimator(folder, "scaler").transform(rows).tolist()


@pytest.mark.parametrize("client", BOTH)
def test_16_megabytes_there_and_back(clients: Clients, folder: Path, client: str) -> None:
    rows = np.load(folder / "large.npy")
    assert rows.nbytes == 16_000_000
    assert clients.report(client)["large"] == list(rows.shape)
    answer = np.load(folder / f"{client.replace('_', '.', 1)}.npy")
    assert np.array_equal(answer, estimator(folder, "scaler").transform(rows))
