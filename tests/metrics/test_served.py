"""The metrics of a real process: what two fronts, a scraper and scanners find there."""

from __future__ import annotations

import http.client
import json
import random
import shutil
import subprocess
from collections.abc import Iterator

import grpc
import joblib
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest
from tests.server_process import ServerProcess

OPEN = "application/openmetrics-text; version=1.0.0"
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    path = tmp_path_factory.mktemp("metrics") / "iris.joblib"
    features, target = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, target), path)
    promised = ("--slo-latency=5", "--slo-target=0.9", "--slo-availability=0.99")
    flags = ("--runtime=sklearn", f"--model-uri={path}", "--metrics-triton-names=true", *promised)
    with ServerProcess(*flags) as server:
        yield server


def ask(
    server: ServerProcess, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def scrape(server: ServerProcess, accept: str = "text/plain") -> str:
    status, _, text = ask(server, "GET", "/metrics", accept=accept)
    assert status == 200
    return text.decode()


def value(server: ServerProcess, name: str, **labels: str) -> float:
    found = [
        sample.value
        for family in parse_plain(scrape(server))
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert found, f"no {name} with {labels}"
    return sum(found)


def infer(server: ServerProcess, body: object = BODY, model: str = "iris", **headers: str) -> int:
    return ask(server, "POST", f"/v2/models/{model}/infer", json.dumps(body).encode(), **headers)[0]


def infer_grpc(server: ServerProcess, model: str = "iris", elements: int = 4) -> grpc.StatusCode:
    request = ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP64", shape=[1, 4]).contents.fp64_contents.extend(
        [1.0] * elements
    )
    with grpc.insecure_channel(server.grpc_target) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        return method.future(request.SerializeToString(), timeout=30).code()


@pytest.mark.parametrize("front", ["http", "grpc"])
def test_a_good_request_is_in_every_histogram(server: ServerProcess, front: str) -> None:
    at_door = {f"oip_{phase}_duration_seconds_count" for phase in ("request", "decode", "encode")}
    in_model = {
        "oip_queue_duration_seconds_count",
        "oip_compute_duration_seconds_count",
        "oip_batch_rows_count",
    }

    def counts() -> dict[str, float]:
        found = dict.fromkeys(sorted(at_door | in_model | {"oip_requests_total"}), 0.0)
        for family in parse_plain(scrape(server)):
            for sample in family.samples:
                labels = {"front": front, "model": "iris", "code": "OK"} | sample.labels
                if sample.name in found and labels["front"] == front and labels["code"] == "OK":
                    found[sample.name] += sample.value
        return found

    before = counts()
    if front == "http":
        assert infer(server) == 200
    else:
        assert infer_grpc(server) is grpc.StatusCode.OK
    assert counts() == {name: count + 1 for name, count in before.items()}
    assert value(server, "oip_request_bytes_total", front=front, model="iris") > 0


def test_an_exemplar_leads_from_a_bucket_to_a_request(server: ServerProcess) -> None:
    assert infer(server, X_Request_Id="found-in-the-bucket") == 200
    shown = [
        sample.exemplar.labels
        for family in parse_open(scrape(server, OPEN))  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar
    ]
    assert {"request_id": "found-in-the-bucket"} in shown


def test_the_process_and_the_build_are_shown(server: ServerProcess) -> None:
    text = scrape(server)
    assert value(server, "process_resident_memory_bytes") > 2**20
    assert value(server, "process_open_fds") > 3
    assert value(server, "oip_threads") > 1
    assert value(server, "oip_requests_in_flight") == 0
    assert value(server, "oip_queue_depth", model="iris") == 0
    assert value(server, "oip_threads_lost", model="iris") == 0
    assert value(server, "oip_model_reload_refused", model="iris") == 0
    assert value(server, "oip_log_lines_dropped_total") == 0
    assert 'oip_build_info{python="3.' in text
    assert value(server, "python_info") == 1
    states = {
        sample.labels["state"]: sample.value
        for family in parse_plain(text)
        for sample in family.samples
        if sample.name == "oip_model_state"
    }
    assert states.pop("READY") == 1
    assert set(states.values()) == {0}


def test_a_promise_is_watched(server: ServerProcess) -> None:
    before = value(server, "oip_slo_good_requests_total", objective="latency")
    assert infer(server) == 200
    assert value(server, "oip_slo_good_requests_total", objective="latency") == before + 1
    assert value(server, "oip_slo_target", objective="availability") == 0.99
    assert value(server, "oip_slo_burn_rate", objective="latency", window="1h") == 0


def test_triton_names_are_served(server: ServerProcess) -> None:
    assert infer(server) == 200
    assert value(server, "nv_inference_request_success", model="iris", version="1") >= 1
    assert value(server, "nv_inference_count", model="iris") >= 1
    assert value(server, "nv_inference_pending_request_count", model="iris") == 0
    assert value(server, "nv_inference_request_failure", model="iris", reason="BACKEND") == 0


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing(server: ServerProcess) -> None:
    assert infer(server) == 200
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape(server), capture_output=True, text=True, check=False
    )
    # Triton's names are Triton's, and the client library names Python's own.
    ours = [line for line in done.stderr.splitlines() if not line.startswith(("nv_", "python_"))]
    assert ours == []


# --- scanners (robustness: metrics cannot be blown up) ---


def series(server: ServerProcess) -> set[tuple[str, ...]]:
    return {
        (sample.name, *(f"{name}={text}" for name, text in sorted(sample.labels.items())))
        for family in parse_plain(scrape(server))
        for sample in family.samples
    }


def test_scanners_make_no_series(server: ServerProcess) -> None:
    numbers = random.Random(7)

    def scan() -> None:
        word = "".join(numbers.choices("abcdefghijklmnop", k=9))
        for path in (
            f"/{word}",
            f"/v2/models/{word}",
            f"/v2/models/iris/versions/{word}/ready",
            f"/v2/{word}",
        ):
            assert ask(server, "GET", path, user_agent=word)[0] == 404
        for model in (word, f"iris/versions/{word}"):
            assert infer(server, model=model, X_Request_Id=word) == 404
        assert ask(server, word.upper(), "/v2/models/iris/infer")[0] in (400, 405)
        assert infer(server, {"inputs": [], word: word, "id": word}) == 400
        assert infer(server, BODY | {"parameters": {word: word}, "id": word}) == 200
        assert infer_grpc(server, word) is grpc.StatusCode.NOT_FOUND
        assert infer_grpc(server, elements=3) is grpc.StatusCode.INVALID_ARGUMENT

    scan()
    before = series(server)
    for _ in range(10):
        scan()
    assert series(server) == before
    labels = {text.split("=", 1)[0] for name, *texts in before for text in texts if name.startswith("oip_")}
    ours = ("front", "route", "model", "version", "code", "le", "state", "objective", "window", "python")
    assert labels <= set(ours)
