"""The scoring paths beside MLflow's own scoring server: one model, one request, one answer."""

from __future__ import annotations

import base64
import http.client
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow", reason="the mlflow extra is not installed")

from tests.runtimes import mlflow_models
from tests.runtimes.mlflow_models import COMPARED, FRAME, X, server_config
from tests.server_process import ServerProcess

JSON = "application/json"
CSV = "text/csv"
NAMES = list(FRAME.columns)
ROWS = X[[0, 60, 140]].tolist()
AB: dict[str, list[Any]] = {"columns": ["a", "b"], "data": [[1.0, 2.0], [3.5, 4.25]]}
AB_RECORDS = [{"a": 1.0, "b": 2.0}, {"a": 3.5, "b": 4.25}]
RAW = base64.b64encode(b"abc").decode()


def split(columns: list[str] | None, data: list[Any]) -> dict[str, Any]:
    return {"dataframe_split": {"data": data, **({"columns": columns} if columns else {})}}


def records(columns: list[str], data: list[Any]) -> dict[str, Any]:
    return {"dataframe_records": [dict(zip(columns, row, strict=True)) for row in data]}


def by_column(columns: list[str], data: list[Any]) -> dict[str, Any]:
    return {
        "inputs": {name: list(values) for name, values in zip(columns, zip(*data, strict=True), strict=True)}
    }


def by_row(columns: list[str], data: list[Any]) -> dict[str, Any]:
    return {"instances": [dict(zip(columns, row, strict=True)) for row in data]}


def csv(columns: list[str], data: list[Any]) -> str:
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in data)]) + "\n"


FORMS = (split, records, by_column, by_row)
CITY = ["city", "age", "rooms"]
CITY_ROWS = [["Rome", 3.5, 2], ["Oslo", 17.0, 4]]
IMAGES = [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[0.5, 0.5, 0.5], [0.25, 0.25, 0.25]]]
MOMENT = {"when": "2024-05-06T07:08:09", "raw": RAW, "who": {"name": "Ann", "marks": [1.5, 2.5]}}

# Model, content type, body.
EQUAL: list[tuple[str, str, Any]] = [
    *(("iris_frame", JSON, form(NAMES, ROWS)) for form in FORMS),
    *(("unsigned_iris", JSON, form(NAMES, ROWS)) for form in (split, records)),
    *(("cities", JSON, form(CITY, CITY_ROWS)) for form in FORMS),
    *((model, JSON, form(["a", "b"], AB["data"])) for model in ("table", "unsigned") for form in FORMS),
    *(
        (model, JSON, {"dataframe_split": AB})
        for model in (
            "series", "named_series", "list", "records", "scalar", "text", "nested", "missing", "matrix",
        )
    ),
    ("iris", JSON, split(None, ROWS)),
    ("iris", JSON, {"inputs": ROWS}),
    ("iris", JSON, {"instances": ROWS}),
    ("iris", "application/json; charset=utf-8", {"inputs": ROWS}),
    ("iris_frame", CSV, csv(NAMES, ROWS)),
    ("iris_frame", "text/csv; charset=UTF-8", csv(NAMES, ROWS)),
    ("iris_frame", JSON, split([*reversed(NAMES), "extra"], [[*reversed(row), 1] for row in ROWS])),
    ("unsigned_iris", CSV, csv(NAMES, ROWS)),
    ("unsigned_iris", JSON, {"inputs": ROWS}),
    ("cities", CSV, csv(CITY, CITY_ROWS)),
    ("cities", JSON, split(CITY[:2], [row[:2] for row in CITY_ROWS])),
    ("cities", JSON, records(CITY, [["Rome", 3.5, 2], [None, 17.0, 4]])),
    ("table", JSON, {"dataframe_split": AB, "params": {"factor": 3, "tag": "x", "list": [1, 2, 3]}}),
    ("table", JSON, {"dataframe_split": AB, "params": {"unknown": 1}}),
    ("table", JSON, {"dataframe_records": AB_RECORDS, "params": {}}),
    ("table", CSV, csv(["a", "b"], AB["data"])),
    ("moments", JSON, {"dataframe_records": [MOMENT, MOMENT]}),
    ("tensors", JSON, {"inputs": {"image": IMAGES, "bias": [0.5, 1.5]}}),
    ("tensors", JSON, {"instances": [{"image": each, "bias": 0.5} for each in IMAGES]}),
    ("unsigned", JSON, {"inputs": [[1, 2], [3, 4]]}),
    ("unsigned", JSON, split(["a", "t"], [[1, "x"], [None, "y"]])),
    ("hinted", JSON, {"inputs": ["a", "bé"]}),
]  # fmt: skip

REFUSED: list[tuple[str, str, Any]] = [
    ("iris", JSON, ""),
    ("iris", JSON, "[1]"),
    ("iris", JSON, "{"),
    ("iris", JSON, b'{"inputs": "\xff"}'),
    ("iris", JSON, {}),
    ("iris", JSON, {"rows": ROWS}),
    ("iris", JSON, {"inputs": ROWS, "instances": ROWS}),
    ("iris", JSON, {"inputs": [[1, 2, 3]]}),
    ("iris", JSON, {"inputs": [[1, 2, 3, 4], [1]]}),
    ("iris", JSON, {"inputs": "text"}),
    ("iris", JSON, {"inputs": [["a", "b", "c", "d"]]}),
    ("iris", JSON, {"inputs": []}),
    ("iris", JSON, {"inputs": [[math.nan, 1, 1, 1]]}),
    ("iris", JSON, {"dataframe_split": [1]}),
    ("iris", JSON, {"dataframe_records": {"a": 1}}),
    ("iris", JSON, {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}),
    ("iris", "text/plain", "1"),
    ("iris", "text/csv; charset=latin-1", "a\n1\n"),
    ("iris", "application/json; version=1", {"inputs": ROWS}),
    ("iris", CSV, csv(["p", "q", "r", "s"], ROWS)),
    ("iris_frame", CSV, b"\xff\xfe"),
    ("iris_frame", CSV, ""),
    ("iris_frame", JSON, split(NAMES[:3], [row[:3] for row in ROWS])),
    ("iris_frame", JSON, split(NAMES, [["a", 1, 2, 3]])),
    ("iris_frame", CSV, csv(NAMES[:2], [[1, 2]])),
    ("cities", JSON, split(CITY, [["Atlantis", 3.5, 2]])),
    ("table", JSON, {"dataframe_split": AB, "params": {"factor": "much"}}),
    ("table", JSON, {"dataframe_split": AB, "params": [1]}),
    ("moments", JSON, {"dataframe_records": [{**MOMENT, "when": "yesterday evening"}]}),
    ("moments", JSON, {"dataframe_records": [{**MOMENT, "who": {"marks": []}}]}),
    ("tensors", JSON, {"inputs": {"image": IMAGES}}),
    ("tensors", JSON, {"inputs": {"image": [[1.0]], "bias": [1.0]}}),
    ("hinted", JSON, {"dataframe_split": AB}),
    ("hinted", JSON, {"inputs": [1]}),
]


class Servers:
    """MLflow's server and ours, with the same models."""

    def __init__(self, theirs: ServerProcess, ours: ServerProcess) -> None:
        self._theirs = int(theirs.wait_for(r"theirs on port (\d+)", timeout=120)[1])
        self._ours = ours.http_port

    def ask_theirs(self, model: str, content_type: str, body: Any) -> tuple[int, bytes]:
        return post(self._theirs, f"/{model}/invocations", content_type, body)

    def ask_ours(self, model: str, content_type: str, body: Any) -> tuple[int, bytes]:
        return post(self._ours, f"/v2/models/{model}/invocations", content_type, body)


def post(port: int, path: str, content_type: str, body: Any) -> tuple[int, bytes]:
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        "POST", path, data.encode() if isinstance(data, str) else data, {"Content-Type": content_type}
    )
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("models")
    for name, make in COMPARED.items():
        make(folder / name)
    config = tmp_path_factory.mktemp("config") / "server.json"
    config.write_text(server_config(folder))
    program = (str(Path(mlflow_models.__file__)), str(folder))
    ours = ServerProcess("--config", str(config)).start()
    theirs = ServerProcess(program=program).start()
    try:
        ours.wait_for(r" ready: ", timeout=120)  # two imports of MLflow at once
        yield Servers(theirs, ours)
    finally:
        theirs.kill()
        ours.stop()


def plain(document: bytes) -> Any:
    """NaN is written by MLflow, null by us."""
    return json.loads(document, parse_constant=lambda _: None)


@pytest.mark.parametrize(("model", "content_type", "body"), EQUAL)
def test_the_answer_is_mlflows(servers: Servers, model: str, content_type: str, body: Any) -> None:
    status, expected = servers.ask_theirs(model, content_type, body)
    assert status == 200, expected
    assert servers.ask_ours(model, content_type, body)[0] == 200, servers.ask_ours(model, content_type, body)
    assert plain(servers.ask_ours(model, content_type, body)[1]) == plain(expected)


@pytest.mark.parametrize(("model", "content_type", "body"), REFUSED)
def test_what_mlflow_refuses_is_refused_in_our_words(
    servers: Servers, model: str, content_type: str, body: Any
) -> None:
    theirs, _ = servers.ask_theirs(model, content_type, body)
    status, answer = servers.ask_ours(model, content_type, body)
    assert 400 <= theirs < 500
    assert 400 <= status < 500, answer
    fault = json.loads(answer)
    assert fault.keys() == {"error", "error_code", "message", "request_id"}
    assert len(fault["message"]) < 500
    assert "mlflow.org" not in fault["message"]
