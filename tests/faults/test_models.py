"""Models that fail, lie and hang in a real process, asked over both fronts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.conformance.wires import SERVICE, ask
from tests.faults.troubled import ANSWERS, GUILTY, HANGS, RAISED
from tests.server_process import PATIENCE, ServerProcess

FILE = Path(__file__).parent / "troubled.py"
# How long callers wait for each other, so that they share a batch.
COMPANY = 100_000
FRONTS = ("http", "grpc")
# Seconds; a machine that stands still for so long makes any call one that hangs.
HANG = 1.0


class Asked:
    """A server to which both fronts are asked alike."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self._channel = grpc.insecure_channel(server.grpc_target)
        self._infer = self._channel.unary_unary(f"/{SERVICE}/ModelInfer", None, None)

    def close(self) -> None:
        self._channel.close()

    def infer(self, front: str, model: str, value: float, microseconds: int = 0) -> tuple[str, float]:
        """The code, and the answer's number or NaN."""
        over = self._over_http if front == "http" else self._over_grpc
        return over(model, value, microseconds)

    def _over_http(self, model: str, value: float, microseconds: int) -> tuple[str, float]:
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [value]}
        body = json.dumps({"inputs": [tensor], "parameters": {"timeout": microseconds}}).encode()
        answer = ask(self.server.http_port, "POST", f"/v2/models/{model}/infer", body)
        document = answer.json()
        if answer.status != 200:
            answer.error(document["error_code"])
            return document["error_code"], np.nan
        return "OK", document["outputs"][0]["data"][0]

    def _over_grpc(self, model: str, value: float, microseconds: int) -> tuple[str, float]:
        request = ModelInferRequest(model_name=model, raw_input_contents=[np.float64(value).tobytes()])
        request.inputs.add(name="x", datatype="FP64", shape=[1, 1])
        request.parameters["timeout"].int64_param = microseconds
        try:
            answer = ModelInferResponse.FromString(self._infer(request.SerializeToString(), timeout=PATIENCE))
        except grpc.RpcError as error:
            trailers: Any = error.trailing_metadata()
            return dict(trailers)["error-code"], np.nan
        return "OK", float(np.frombuffer(answer.raw_output_contents[0])[0])

    def get(self, path: str) -> tuple[int, Any]:
        answer = ask(self.server.http_port, "GET", path)
        return answer.status, answer.json()

    def metric(self, name: str, label: str = "") -> float:
        """The value of a metric that is there once with this label."""
        text = ask(self.server.http_port, "GET", "/metrics").body.decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines()]
        [value] = [line[1] for line in lines if line[0].partition("{")[0] == name and label in line[0]]
        return float(value)


def configured(directory: Path, **troubled: Any) -> str:
    """The flag for a server of both models."""
    common = {"runtime": "python"}
    models = [
        {"name": "troubled", "model_uri": f"{FILE}:troubled", **common, **troubled},
        {"name": "slow", "model_uri": f"{FILE}:slow", **common},
    ]
    path = directory / "server.json"
    path.write_text(json.dumps({"models": models}))
    return f"--config={path}"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For which the slow model waits."""
    path = tmp_path_factory.mktemp("pipe") / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, pipe: Path) -> Iterator[Asked]:
    batching = {"dynamic_batching": {"max_queue_delay_microseconds": COMPANY}}
    flag = configured(tmp_path_factory.mktemp("troubled"), **batching)
    with ServerProcess(flag, environ={"TROUBLED_PIPE": str(pipe)}) as server:
        asked = Asked(server)
        yield asked
        asked.close()


def together(asked: Asked, values: Sequence[float]) -> list[tuple[str, float]]:
    """The answers to callers of both fronts who ask at the same time."""
    with ThreadPoolExecutor(len(values)) as pool:
        calls = [
            pool.submit(asked.infer, FRONTS[number % 2], "troubled", value)
            for number, value in enumerate(values)
        ]
        return [call.result() for call in calls]


# --- faults 1, 2, 4: a guilty one fails alone ---


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("number", range(len(RAISED) + len(ANSWERS)))
def test_whatever_a_model_does_is_one_500(asked: Asked, front: str, number: int) -> None:
    assert asked.infer(front, "troubled", GUILTY + number)[0] == "INFERENCE_FAILED"
    assert asked.infer(front, "slow", 0.0)[0] == "OK"


@pytest.mark.parametrize("number", [0, 1, 2, len(RAISED), len(RAISED) + 1, len(RAISED) + 10])
def test_mates_of_a_guilty_one_get_their_own_answers(asked: Asked, number: int) -> None:
    """Of each front; the guilty one comes over HTTP."""
    values = [GUILTY + number, *map(float, range(1, 8))]
    (guilty, _), *mates = together(asked, values)
    assert guilty == "INFERENCE_FAILED"
    assert mates == [("OK", 2.0 * value) for value in values[1:]]


def test_mates_of_bad_data_get_their_own_answers(asked: Asked) -> None:
    (guilty, _), *mates = together(asked, [-1.0, *map(float, range(1, 8))])
    assert guilty == "UNPROCESSABLE"
    assert mates == [("OK", 2.0 * value) for value in range(1, 8)]


def test_the_log_says_what_was_wrong_and_the_caller_is_not_told(asked: Asked) -> None:
    asked.infer("http", "troubled", GUILTY)
    asked.infer("http", "troubled", GUILTY + len(RAISED) + 1)
    asked.server.wait_for("RuntimeError: secret")
    asked.server.wait_for("returned 2 rows for 1|2 rows, expected 1|rows")


# --- fault 6: a deadline in the queue ---


@pytest.mark.parametrize("front", FRONTS)
def test_a_deadline_in_the_queue_is_kept_and_the_model_not_called(
    asked: Asked, pipe: Path, front: str
) -> None:
    """Several tries, for a machine that is busy answers some of them late."""
    _, before = asked.infer(front, "slow", 0.0)
    with ThreadPoolExecutor(1) as pool:
        blocking = pool.submit(asked.infer, front, "slow", 1.0)
        with pipe.open("wb"):  # which waits until the model reads
            in_time(asked, front, "slow", 0.0, 0.1)
        assert blocking.result()[0] == "OK"
    assert asked.infer(front, "slow", 0.0)[1] == before + 2


def in_time(asked: Asked, front: str, model: str, value: float, deadline: float) -> None:
    """The model does not answer, but it is told so at the deadline."""
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        assert asked.infer(front, model, value, microseconds=round(deadline * 1e6))[0] == "TIMEOUT"
        seconds.append(time.monotonic() - started)
    assert min(seconds) >= deadline
    assert sorted(seconds)[2] < deadline + 0.5


# --- fault 3: models that hang ---


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Asked]:
    """A server that gives up soon."""
    with ServerProcess(configured(tmp_path), f"--limits-hang-timeout={HANG}") as server:
        asked = Asked(server)
        yield asked
        asked.close()


@pytest.mark.parametrize("front", FRONTS)
def test_who_asks_a_hanging_model_is_answered_at_its_deadline(asked: Asked, front: str) -> None:
    """The last test but one with this server, for the model hangs from now on."""
    in_time(asked, front, "troubled", HANGS, 0.2)
    assert asked.infer(front, "slow", 0.0)[0] == "OK"


def test_a_model_that_goes_on_hanging_is_failed_and_nothing_else(short: Asked) -> None:
    assert short.infer("http", "troubled", 1.0) == ("OK", 2.0)
    for lost in range(4):
        assert short.metric("oip_threads_lost", 'model="troubled"') == lost
        assert short.infer(FRONTS[lost % 2], "troubled", HANGS)[0] == "TIMEOUT"
    for front in FRONTS:
        assert short.infer(front, "troubled", 1.0)[0] == "NOT_READY"
        assert short.infer(front, "slow", 0.0)[0] == "OK"
    assert short.metric("oip_threads_lost", 'model="troubled"') == 4
    status, body = short.get("/v2/models/troubled/ready")
    assert (status, body["error"]) == (
        503,
        "model 'troubled' is FAILED (4 of its calls have each taken more than 1 s and go on)",
    )
    assert short.get("/v2/health/live")[0] == 200
    assert short.get("/v2/health/ready")[0] == 503
    assert short.server.stop() == 0  # the threads that hang do not keep it


def test_the_process_leaves_when_it_is_told_to(tmp_path: Path) -> None:
    flags = (configured(tmp_path), "--limits-hang-timeout=0.3", "--limits-exit-on-hang=true")
    with ServerProcess(*flags) as server:
        asked = Asked(server)
        for _ in range(4):
            assert asked.infer("http", "troubled", HANGS)[0] == "TIMEOUT"
        assert server.wait() == 1
        asked.close()
        server.wait_for("leaving")
