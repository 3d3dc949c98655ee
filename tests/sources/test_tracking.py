"""Models of an MLflow tracking server: a real one, in its own process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oipserver.sources import SourceError
from tests.sources.scripted import Handler, Server, get, left_in
from tests.support import PATIENCE

MODEL = {"MLmodel": b"flavors:\n", "data/model.bin": b"weights" * 1000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that keeps everything in a folder, and answers."""
    folder = tmp_path_factory.mktemp("mlflow")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--workers",
        "1",
    ]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder),
    ]
    # Its runner of jobs is eight processes more, and serves nothing that is asked here.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environ = {**os.environ, **quiet}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"Uvicorn running on (http://\S+)", line):
            break
    else:
        raise AssertionError("".join(lines))
    drain = threading.Thread(target=process.stdout.read, daemon=True)  # a full pipe would hold the server up
    drain.start()
    yield found[1]
    os.killpg(process.pid, 15)
    process.wait(PATIENCE)
    drain.join(PATIENCE)
    process.stdout.close()


@pytest.fixture(scope="module")
def logged(server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A run with a model, registered as version 1 of "iris" with an alias."""
    mlflow: Any = pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("model")
    for name, data in MODEL.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    client = mlflow.MlflowClient(tracking_uri=server, registry_uri=server)
    os.environ["MLFLOW_TRACKING_URI"] = server
    try:
        run = client.create_run("0").info.run_id
        client.log_artifacts(run, str(folder), "classifier")
        client.create_registered_model("iris")
        client.create_model_version("iris", f"runs:/{run}/classifier", run)
        client.set_registered_model_alias("iris", "champion", "1")
    finally:
        del os.environ["MLFLOW_TRACKING_URI"]
    return {"run": run}


@pytest.fixture
def tracking(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("runs:/{run}/classifier", "classifier"),
        ("models:/iris/1", "iris"),
        ("models:/iris/latest", "iris"),
        ("models:/iris@champion", "iris"),
    ],
)
def test_a_model_arrives(logged: dict[str, str], tmp_path: Path, uri: str, name: str) -> None:
    fetched = get(uri.format(**logged), tmp_path)
    found = files(fetched.path)
    found.pop("registered_model_meta", None)  # MLflow's own, beside a registered model
    assert (fetched.path.name, found) == (name, MODEL)
    assert (fetched.local, fetched.pinned, fetched.trusted) == (False, False, False)
    assert get(uri.format(**logged), tmp_path) == fetched


@pytest.mark.usefixtures("tracking")
def test_one_file_and_all_artifacts_of_a_run(logged: dict[str, str], tmp_path: Path) -> None:
    one = get(f"runs:/{logged['run']}/classifier/MLmodel", tmp_path)
    assert (one.path.name, one.path.read_bytes()) == ("MLmodel", MODEL["MLmodel"])
    whole = get(f"runs:/{logged['run']}/", tmp_path)
    assert files(whole.path) == {f"classifier/{name}": data for name, data in MODEL.items()}


@pytest.mark.usefixtures("tracking")
def test_a_pin_of_a_logged_model(logged: dict[str, str], tmp_path: Path) -> None:
    uri = f"runs:/{logged['run']}/classifier"
    pin = get(uri, tmp_path / "a").sha256
    assert get(uri, tmp_path / "b", pin=pin).trusted
    with pytest.raises(SourceError, match="it is pinned to 000000000000…"):
        get(uri, tmp_path / "c", pin="0" * 64)
    assert left_in(tmp_path / "c") == []


@pytest.mark.usefixtures("tracking", "logged")
@pytest.mark.parametrize(
    "uri", ["models:/iris/2", "models:/tulip/1", "models:/iris@nobody", "runs:/0123/model"]
)
def test_what_is_not_there(tmp_path: Path, uri: str) -> None:
    waits: list[float] = []
    with pytest.raises(SourceError, match="MLflow says: ") as caught:
        get(uri, tmp_path, waits=waits)
    assert str(caught.value).startswith(f"cannot fetch '{uri}': ")
    assert waits == []


@pytest.mark.usefixtures("tracking")
def test_limits(logged: dict[str, str], tmp_path: Path) -> None:
    uri = f"runs:/{logged['run']}/classifier"
    with pytest.raises(SourceError, match="7009 of 1000 bytes"):
        get(uri, tmp_path, max_bytes=1000)
    with pytest.raises(SourceError, match=r"sources\.max_files allows \(1\)"):
        get(uri, tmp_path, max_files=1)
    assert left_in(tmp_path) == []


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:s3cret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SourceError) as caught:
        get("models:/iris/1", tmp_path, retries=1)
    assert str(caught.value).endswith("(tried 2 times)")
    assert "s3cret" not in str(caught.value)


def test_a_server_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(handler: Handler) -> None:
        handler.server.released.wait(PATIENCE)

    with Server(hang) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri(""))
        with pytest.raises(SourceError, match="the time for one try was over"):
            get("models:/iris/1", tmp_path, attempt_timeout=0.2, retries=0)


def test_mlflow_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", None)
    with pytest.raises(SourceError, match=r'need mlflow: pip install "oipserver\[mlflow\]"'):
        get("models:/iris/1", tmp_path)
