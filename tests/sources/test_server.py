"""A real server process whose model lies elsewhere."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.tree import DecisionTreeClassifier

from tests.server_process import ServerProcess
from tests.sources.scripted import Answer, Server, broken, status, trickling_body, whole


class Hostile:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, made: Path) -> None:
        self._made = made

    def __reduce__(self) -> Any:
        return (Path.touch, (self._made,))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tree") / "tree.joblib"
    joblib.dump(DecisionTreeClassifier().fit([[0.0, 0.0], [1.0, 1.0]], [0, 7]), path)
    return path.read_bytes()


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that must not be loaded."""
    path = tmp_path / "hostile.joblib"
    joblib.dump(Hostile(tmp_path / "made"), path)
    yield path.read_bytes()
    assert not (tmp_path / "made").exists()


def serving(server: Server, tmp_path: Path, *flags: str) -> ServerProcess:
    uri = server.uri("/models/tree.joblib?signature=s3cret")
    where = (f"--sources-cache-dir={tmp_path / 'cache'}", "--sources-allow-hosts=127.0.0.1,localhost")
    return ServerProcess("--runtime=sklearn", f"--model-uri={uri}", *where, *flags)


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def reason_why_not_ready(server: Server, tmp_path: Path, *flags: str) -> str:
    """What a live server says that never gets ready."""
    process = serving(server, tmp_path, *flags)
    process.start()
    try:
        reason = process.wait_for("running, but not ready: (.*); Ctrl-C")[1]
        assert ask(process.http_url + "/v2/health/live")[0] == 200
        assert ask(process.http_url + "/v2/health/ready")[0] == 503
        assert ask(process.http_url + "/v2/models/tree/ready")[0] == 503
        assert "s3cret" not in process.output
        assert "Traceback" not in process.output
    finally:
        assert process.stop() == 0
    return reason


@pytest.mark.parametrize("first", ["resets", "is busy"])
def test_a_pinned_model_is_served_although_the_store_stumbles(
    model: bytes, tmp_path: Path, first: str
) -> None:
    fault: Answer = broken(model, 100) if first == "resets" else status(503)
    pin = hashlib.sha256(model).hexdigest()
    with Server(fault, whole(model)) as store, serving(store, tmp_path, f"--model-sha256={pin}") as server:
        body = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [0, 0, 1, 1]}]}
        code, answer = ask(server.http_url + "/v2/models/tree/infer", body)
        assert (code, answer["outputs"][0]["data"]) == (200, [0, 7])
        assert "s3cret" not in server.output


def test_a_wrong_pin_is_live_and_not_ready_and_says_both(hostile: bytes, tmp_path: Path) -> None:
    with Server(whole(hostile)) as store:
        reason = reason_why_not_ready(store, tmp_path, f"--model-sha256={'0' * 64}")
    assert f"its sha256 is {hashlib.sha256(hostile).hexdigest()[:12]}…" in reason
    assert "pinned to 000000000000…" in reason
    assert not list((tmp_path / "cache").rglob("*.joblib"))


def test_a_pickle_without_a_pin_is_not_loaded(hostile: bytes, tmp_path: Path) -> None:
    with Server(whole(hostile)) as store:
        assert "is a pickle" in reason_why_not_ready(store, tmp_path)


def test_trust_lets_a_pickle_in(model: bytes, tmp_path: Path) -> None:
    with Server(whole(model)) as store, serving(store, tmp_path, "--trust-pickle") as server:
        assert ask(server.http_url + "/v2/models/tree/ready")[0] == 200


def test_an_address_that_is_not_public_is_the_reason(model: bytes, tmp_path: Path) -> None:
    with Server(whole(model)) as store:
        reason = reason_why_not_ready(store, tmp_path, "--sources-allow-hosts=example.org")
    assert "127.0.0.1, which is not a public address" in reason
    assert store.requests == []


def test_a_store_that_is_gone_is_the_reason(tmp_path: Path) -> None:
    with Server(status(500)) as store:
        reason = reason_why_not_ready(store, tmp_path, "--sources-retries=1")
    assert "answered 500 Internal Server Error (tried 2 times)" in reason


def test_a_slow_store_does_not_hold_up_health_or_the_end(tmp_path: Path) -> None:
    with Server(trickling_body) as store:
        process = serving(store, tmp_path)
        process.start()
        process.wait_for("fetching http")
        assert ask(process.http_url + "/v2/health/live")[0] == 200
        assert ask(process.http_url + "/v2/health/ready")[0] == 503
        assert process.stop() == 0
