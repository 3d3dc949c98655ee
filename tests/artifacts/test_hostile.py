"""A hostile pickle never runs: not by inspect, not fetched without a pin, not by a wrong pin."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.artifacts import hostile
from tests.server_process import ServerProcess

FORMS = {
    "model.joblib": hostile.joblib_behind_arrays,
    "model.pkl": hostile.behind_a_list,
    "model.pickle": hostile.nested,
}


def planted(web: tuple[Path, str], name: str) -> tuple[str, str, Path]:
    """The URL of a bomb, its digest, and what it makes when it goes off."""
    folder, url = web
    marker = folder.parent / "marker"
    (folder / name).write_bytes(FORMS[name](marker))
    return f"{url}/{name}", hashlib.sha256((folder / name).read_bytes()).hexdigest(), marker


def inspect(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    sources = [f"--sources-cache-dir={cache}", "--sources-allow-hosts=127.0.0.1"]
    command = [sys.executable, "-m", "oipserver", "inspect", *arguments, *sources]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def served(uri: str, cache: Path, *flags: str) -> ServerProcess:
    sources = [f"--sources-cache-dir={cache}", "--sources-allow-hosts=127.0.0.1", "--sources-retries=0"]
    return ServerProcess("--runtime=sklearn", f"--model-uri={uri}", *sources, *flags)


def reason_of(server: ServerProcess) -> str:
    """Why the server is not ready, as it says it over HTTP and in its log."""
    line = server.wait_for(r"running, but not ready: (.*)")[0]
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{server.http_url}/v2/health/ready")
    refused.value.close()
    assert refused.value.code == 503
    return line


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_inspect_runs_nothing(web: tuple[Path, str], tmp_path: Path, name: str, remote: bool) -> None:
    uri, sha256, marker = planted(web, name)
    done = inspect(uri if remote else str(web[0] / name), cache=tmp_path / "cache")
    assert done.returncode == 1
    assert done.stderr == ""
    assert f"sha256   {sha256}" in done.stdout
    assert "DANGEROUS  posix.mkdir" in done.stdout
    assert not marker.exists()


@pytest.mark.parametrize("name", FORMS)
def test_without_a_pin_it_is_not_loaded(web: tuple[Path, str], tmp_path: Path, name: str) -> None:
    uri, sha256, marker = planted(web, name)
    server = served(uri, tmp_path / "cache").start()
    try:
        reason = reason_of(server)
    finally:
        assert server.stop() == 0
    assert f"'{name}' is a pickle, which runs code when it is loaded" in server.output
    assert f"pin it with sha256: {sha256}" in server.output
    assert "trust_pickle: true" in server.output
    assert reason
    assert not marker.exists()


@pytest.mark.parametrize("trusting", [False, True])
def test_with_a_wrong_pin_it_is_not_loaded(web: tuple[Path, str], tmp_path: Path, trusting: bool) -> None:
    uri, sha256, marker = planted(web, "model.joblib")
    flags = ["--model-sha256=" + "0" * 64, *(["--trust-pickle"] if trusting else [])]
    server = served(uri, tmp_path / "cache", *flags).start()
    try:
        assert reason_of(server)
    finally:
        assert server.stop() == 0
    assert f"its sha256 is {sha256[:12]}" in server.output
    assert not marker.exists()
    done = inspect(uri, "--sha256=" + "0" * 64, cache=tmp_path / "other")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert sha256[:12] in done.stderr


def test_code_is_reported_and_does_not_run(tmp_path: Path) -> None:
    code = tmp_path / "model.py"
    code.write_text(f"import os\nos.mkdir({str(tmp_path / 'marker')!r})\nclass Model: ...\n")
    done = inspect(f"{code}:Model", cache=tmp_path / "cache")
    assert done.returncode == 0
    assert "Python files, which run when the model is loaded or asked: model.py" in done.stdout
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("how", ["pin", "trust"])
def test_whoever_vouches_for_it_gets_it(web: tuple[Path, str], tmp_path: Path, how: str) -> None:
    """The bombs above are bombs: here one goes off, since its owner says that it may."""
    uri, sha256, marker = planted(web, "model.joblib")
    flag = f"--model-sha256={sha256}" if how == "pin" else "--trust-pickle"
    server = served(uri, tmp_path / "cache", flag).start()
    try:
        assert reason_of(server)
    finally:
        server.stop()
    assert "a list is not a scikit-learn estimator" in server.output
    assert marker.is_dir()


def test_the_report_for_machines_is_json(web: tuple[Path, str], tmp_path: Path) -> None:
    uri, sha256, marker = planted(web, "model.joblib")
    done = inspect(uri, "--json", cache=tmp_path / "cache")
    report = json.loads(done.stdout)
    assert (report["sha256"], report["pin"], report["alarming"]) == (sha256, sha256, True)
    (pickle,) = report["pickles"]
    assert {"module": "posix", "name": "mkdir", "verdict": "dangerous"} in pickle["names"]
    assert not marker.exists()


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("nothing.pkl", "no such file or directory"),
        ("ftp://host/model.pkl", "expected a path or one of the schemes"),
        ("http://127.0.0.1:1/model.pkl", "127.0.0.1"),
        ("package.module:function", "there is no file to look into"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path: Path, uri: str, text: str) -> None:
    done = inspect(uri, "--sources-retries=0", cache=tmp_path / "cache")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("oipserver: ")
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
