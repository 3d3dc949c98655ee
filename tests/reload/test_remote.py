"""A model that lies elsewhere is fetched again on request; whatever store or disk do, one version serves."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reload import stored
from tests.reload.stored import ask, get, index, post
from tests.server_process import ServerProcess
from tests.sources.scripted import Answer, Server, broken, status, trickling_body, whole

ROOM = 512 * 1024  # of the disk that the cache is on


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Generations of one model."""
    path = tmp_path_factory.mktemp("models") / "remote.joblib"
    found = []
    for generation in range(10):
        stored.write_estimator(path, generation)
        found.append(path.read_bytes())
    return found


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    disk = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="module")
def store(models: list[bytes]) -> Iterator[Server]:
    with Server(whole(models[0])) as store:
        yield store


@pytest.fixture(scope="module")
def server(store: Server, disk: Path) -> Iterator[ServerProcess]:
    flags = ["--runtime=sklearn", f"--model-uri={store.uri('/remote.joblib')}", "--trust-pickle"]
    flags += ["--model-control=explicit", "--sources-allow-hosts=127.0.0.1", "--sources-retries=1"]
    flags += [f"--sources-cache-dir={disk / 'cache'}", "--sources-attempt-timeout=2"]
    with ServerProcess(*flags) as server:
        yield server
    assert server.exit_code == 0, server.output
    assert "Traceback" not in server.output, server.output


def load(server: ServerProcess, store: Server, *script: Answer) -> tuple[int, str]:
    """Status and error of a load, while the store follows a script from its beginning."""
    store.requests.clear()
    store.script = script
    code, answer = post(server, "/v2/repository/models/remote/load")
    return code, "" if answer is None else answer["error"]


def test_a_load_fetches_what_is_there_now(server: ServerProcess, store: Server, models: list[bytes]) -> None:
    assert ask(server, "remote") == 0
    assert load(server, store, whole(models[1], '"one"')) == (200, "")
    assert ask(server, "remote") == 1


def test_a_store_that_stumbles_once(server: ServerProcess, store: Server, models: list[bytes]) -> None:
    half = broken(models[2], len(models[2]) // 2, '"two"')
    assert load(server, store, half, whole(models[2], '"two"')) == (200, "")
    assert ask(server, "remote") == 2


@pytest.mark.parametrize("fault", ["reset", "half a file", "wrong length", "slow", "error", "gone"])
def test_the_old_one_serves_and_the_reason_is_shown(
    server: ServerProcess, store: Server, models: list[bytes], disk: Path, fault: str
) -> None:
    before, new = ask(server, "remote"), models[9]
    answers: dict[str, Answer] = {
        "reset": broken(new, 100, '"bad"'),
        "half a file": broken(new, 100, '"bad"', reset=False),
        "wrong length": broken(new, len(new), '"bad"', reset=False, length=len(new) + 7),
        "slow": trickling_body,
        "error": status(500),
        "gone": status(404),
    }
    code, error = load(server, store, answers[fault])
    assert (code, "failed to load: cannot fetch 'http://127.0.0.1" in error) == (503, True)
    assert ask(server, "remote") == before
    assert get(server, "/v2/health/ready")[0] == 200
    assert error.endswith(get(server, "/v2/models/remote/ready")[1]["reload_failed"])
    assert index(server, "remote")["state"] == "READY"

    good = (before + 1) % 9
    assert load(server, store, whole(models[good], f'"{fault}"')) == (200, "")
    assert ask(server, "remote") == good
    assert "reload_failed" not in get(server, "/v2/models/remote/ready")[1]


def test_a_full_disk(server: ServerProcess, store: Server, models: list[bytes], disk: Path) -> None:
    before = ask(server, "remote")
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(2 * ROOM))
    code, error = load(server, store, whole(models[9], '"nine"'))
    assert (code, "no room in the cache directory" in error.lower()) == (503, True)
    assert ask(server, "remote") == before
    assert not list(disk.glob("cache/*/partial"))
    filler.unlink()
    assert load(server, store, whole(models[9], '"nine"')) == (200, "")
    assert ask(server, "remote") == 9
