"""A hostile pickle never runs: not by inspect, not fetched without a pin, not by a wrong pin."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from oipserver.cli import main
from tests.artifacts import hostile
from tests.artifacts.conftest import serving
from tests.server_process import ServerProcess

FORMS = {
    "model.joblib": hostile.joblib_behind_arrays,
    "model.pkl": hostile.behind_a_list,
    "model.pickle": hostile.nested,
}


class Bomb(NamedTuple):
    """Where a bomb can be had, and what it makes when it goes off."""

    file: Path
    url: str
    sha256: str
    marker: Path


def planted(web: tuple[Path, str], name: str, folder: str = ".") -> Bomb:
    """A bomb in a folder of the web server."""
    root, url = web
    file, marker = root / folder / name, root.parent / f"{folder}-marker"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(FORMS[name](marker))
    return Bomb(file, f"{url}/{folder}/{name}", hashlib.sha256(file.read_bytes()).hexdigest(), marker)


class Report(NamedTuple):
    """What `inspect` ends with and says."""

    code: int
    said: str
    complaint: str


@pytest.fixture
def inspect(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Report]:
    """Runs the command with a cache that is empty."""

    def run(*arguments: str) -> Report:
        sources = [f"--sources-cache-dir={tmp_path / 'cache'}", "--sources-allow-hosts=127.0.0.1"]
        return Report(main(["inspect", *arguments, *sources]), *capfd.readouterr())

    return run


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_inspect_runs_nothing(
    web: tuple[Path, str], inspect: Callable[..., Report], name: str, remote: bool
) -> None:
    bomb = planted(web, name)
    told = inspect(bomb.url if remote else str(bomb.file))
    assert (told.code, told.complaint) == (1, "")
    assert f"sha256   {bomb.sha256}" in told.said
    assert "DANGEROUS  posix.mkdir" in told.said
    assert not bomb.marker.exists()


def test_inspect_runs_nothing_in_a_process_of_its_own(web: tuple[Path, str]) -> None:
    bomb = planted(web, "model.joblib")
    command = [sys.executable, "-m", "oipserver", "inspect", str(bomb.file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "DANGEROUS  posix.mkdir" in done.stdout
    assert not bomb.marker.exists()


def test_inspect_refuses_a_wrong_pin(web: tuple[Path, str], inspect: Callable[..., Report]) -> None:
    bomb = planted(web, "model.joblib")
    told = inspect(bomb.url, "--sha256=" + "0" * 64)
    assert told.code == 2
    assert bomb.sha256[:12] in told.complaint
    assert not bomb.marker.exists()


# --- a server, to whose models each of these is done --------------------------------------------------------

# By name: the form, and what the configuration says of it.
NO_PIN: dict[str, tuple[str, dict[str, Any]]] = {f"no-pin-{at}": (name, {}) for at, name in enumerate(FORMS)}
WRONG_PIN: dict[str, tuple[str, dict[str, Any]]] = {
    "wrong-pin": ("model.joblib", {"sha256": "0" * 64}),
    "wrong-pin-trusted": ("model.joblib", {"sha256": "0" * 64, "trust_pickle": True}),
}
VOUCHED: dict[str, tuple[str, dict[str, Any]]] = {
    "pinned": ("model.joblib", {"sha256": "its own"}),
    "trusted": ("model.joblib", {"trust_pickle": True}),
}


class Refusing(NamedTuple):
    """A server that has tried to load them all."""

    bombs: Mapping[str, Bomb]
    server: ServerProcess

    def reason(self, name: str) -> str:
        """Why a model does not serve."""
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{self.server.http_url}/v2/models/{name}/ready")
        with refused.value as answer:
            assert answer.code == 503
            return str(json.load(answer)["error"])


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refusing]:
    folder = tmp_path_factory.mktemp("refusing")
    with serving(folder) as web:
        bombs, models = {}, []
        for name, (form, said) in {**NO_PIN, **WRONG_PIN, **VOUCHED}.items():
            bombs[name] = planted(web, form, name)
            pin = {"sha256": bombs[name].sha256} if said.get("sha256") == "its own" else {}
            models.append({"name": name, "runtime": "sklearn", "model_uri": bombs[name].url, **said, **pin})
        (folder / "server.json").write_text(json.dumps({"models": models}))
        sources = (f"--sources-cache-dir={folder / 'cache'}", "--sources-allow-hosts=127.0.0.1")
        server = ServerProcess(f"--config={folder / 'server.json'}", *sources, "--sources-retries=0").start()
        try:
            server.wait_for("running, but not ready")
            yield Refusing(bombs, server)
        finally:
            assert server.stop() == 0


@pytest.mark.parametrize("name", NO_PIN)
def test_without_a_pin_it_is_not_loaded(refusing: Refusing, name: str) -> None:
    bomb, reason = refusing.bombs[name], refusing.reason(name)
    assert f"'{bomb.file.name}' is a pickle, which runs code when it is loaded" in reason
    assert f"pin it with sha256: {bomb.sha256}" in reason
    assert "trust_pickle: true" in reason
    assert not bomb.marker.exists()


@pytest.mark.parametrize("name", WRONG_PIN)
def test_with_a_wrong_pin_it_is_not_loaded(refusing: Refusing, name: str) -> None:
    bomb = refusing.bombs[name]
    assert f"its sha256 is {bomb.sha256[:12]}" in refusing.reason(name)
    assert not bomb.marker.exists()


@pytest.mark.parametrize("name", VOUCHED)
def test_whoever_vouches_for_it_gets_it(refusing: Refusing, name: str) -> None:
    """The bombs above are bombs: here one goes off, since its owner says that it may."""
    assert "a list is not a scikit-learn estimator" in refusing.reason(name)
    assert refusing.bombs[name].marker.is_dir()


def test_a_server_of_bombs_is_live_and_not_ready(refusing: Refusing) -> None:
    assert urlopen(f"{refusing.server.http_url}/v2/health/live").status == 200
    with pytest.raises(HTTPError, match="503"):
        urlopen(f"{refusing.server.http_url}/v2/health/ready")


# --- what else it reports -----------------------------------------------------------------------------------


def test_code_is_reported_and_does_not_run(tmp_path: Path, inspect: Callable[..., Report]) -> None:
    code = tmp_path / "model.py"
    code.write_text(f"import os\nos.mkdir({str(tmp_path / 'marker')!r})\nclass Model: ...\n")
    told = inspect(f"{code}:Model")
    assert told.code == 0
    assert "Python files, which run when the model is loaded or asked: model.py" in told.said
    assert not (tmp_path / "marker").exists()


def test_the_report_for_machines_is_json(web: tuple[Path, str], inspect: Callable[..., Report]) -> None:
    bomb = planted(web, "model.joblib")
    report = json.loads(inspect(bomb.url, "--json").said)
    assert (report["sha256"], report["pin"], report["alarming"]) == (bomb.sha256, bomb.sha256, True)
    (pickle,) = report["pickles"]
    assert {"module": "posix", "name": "mkdir", "verdict": "dangerous"} in pickle["names"]
    assert not bomb.marker.exists()


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("nothing.pkl", "no such file or directory"),
        ("ftp://host/model.pkl", "expected a path or one of the schemes"),
        ("http://127.0.0.1:1/model.pkl", "127.0.0.1"),
        ("package.module:function", "there is no file to look into"),
    ],
)
def test_what_is_not_there_is_one_line(inspect: Callable[..., Report], uri: str, text: str) -> None:
    told = inspect(uri, "--sources-retries=0")
    assert (told.code, told.said) == (2, "")
    [line] = told.complaint.splitlines()
    assert line.startswith("oipserver: ")
    assert text in line
