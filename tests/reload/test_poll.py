"""Models whose files are watched: when a change is believed, and a real server that follows it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from oipserver import Model, ModelConfig
from oipserver.watch import Watch, look, place_of
from tests.reload import stored
from tests.reload.stored import ask, get
from tests.server_process import PATIENCE, ServerProcess
from tests.support import Doubler


def load(config: ModelConfig) -> Model:
    return Doubler()


def config(uri: object) -> ModelConfig:
    return ModelConfig(name="m", runtime="test", model_uri=str(uri))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


# ------------------------------------------------------------------------------ when a change is believed


def test_a_change_is_believed_when_it_was_seen_twice(tmp_path: Path) -> None:
    model = config(tmp_path / "m.bin")
    write(tmp_path / "m.bin", "first")
    watch = Watch(load)
    watch.load(model)
    assert watch.changed([model]) == []
    assert watch.changed([model]) == []
    write(tmp_path / "m.bin", "second")
    assert watch.changed([model]) == []
    write(tmp_path / "m.bin", "second, which is still being written")
    assert watch.changed([model]) == []
    assert watch.changed([model]) == [model]
    watch.load(model)
    assert watch.changed([model]) == []
    assert watch.changed([model]) == []


def test_what_was_tried_is_not_tried_again(tmp_path: Path) -> None:
    def fail(config: ModelConfig) -> Model:
        raise ValueError("no good")

    model = config(tmp_path / "m.bin")
    watch = Watch(fail)
    for text in ("bad", "worse"):
        write(tmp_path / "m.bin", text)
        with pytest.raises(ValueError, match="no good"):
            watch.load(model)
        assert watch.changed([model]) == []
        assert watch.changed([model]) == []


def test_what_was_never_loaded_or_is_elsewhere_is_not_watched(tmp_path: Path) -> None:
    write(tmp_path / "m.bin", "here")
    models = [config(uri) for uri in (tmp_path / "m.bin", "s3://bucket/m", "package.module:name", "")]
    watch = Watch(load)
    for model in models[1:]:
        watch.load(model)
    for _ in range(3):
        assert watch.changed(models) == []


def test_where_the_files_of_a_model_are(tmp_path: Path) -> None:
    assert place_of(config(tmp_path / "m.bin")) == tmp_path / "m.bin"
    assert place_of(config(f"file://{tmp_path}/m.bin")) == tmp_path / "m.bin"
    assert place_of(config(tmp_path / "code.py:Detector")) == tmp_path / "code.py"
    assert place_of(config("https://models.example.com/m.bin")) is None


def same_size_and_time(folder: Path) -> None:
    status = (folder / "a.bin").stat()
    write(folder / "fresh", "2")
    os.utime(folder / "fresh", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(folder / "fresh", folder / "a.bin")


def replaced(folder: Path) -> None:
    copy = folder.with_suffix(".copy")
    shutil.copytree(folder, copy)
    folder.rename(folder.with_suffix(".old"))
    copy.rename(folder)


def moved(folder: Path) -> None:
    (folder / "below" / "b.bin").rename(folder / "b.bin")


def touched(folder: Path) -> None:
    os.utime(folder / "a.bin", ns=(1, 1))


CHANGES: list[Callable[[Path], None]] = [
    lambda folder: write(folder / "a.bin", "22"),
    lambda folder: write(folder / "below" / "c.bin", "new"),
    moved,
    lambda folder: (folder / "below" / "b.bin").unlink(),
    lambda folder: shutil.rmtree(folder),
    same_size_and_time,
    replaced,
    touched,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_directory_looks_different(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = tmp_path / "model"
    write(folder / "a.bin", "1")
    write(folder / "below" / "b.bin", "1")
    before = look(folder)
    assert look(folder) == before
    change(folder)
    assert look(folder) != before


def test_a_link_that_leads_elsewhere_looks_different(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "m.bin", "same")
    (tmp_path / "current").symlink_to("one")
    before = look(tmp_path / "current")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "current")
    assert look(tmp_path / "current") != before


def test_what_python_writes_there_itself_is_no_change(tmp_path: Path) -> None:
    write(tmp_path / "model.py", "x = 1")
    before = look(tmp_path)
    write(tmp_path / "__pycache__" / "model.pyc", "bytecode")
    assert look(tmp_path) == before


# --------------------------------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poll")
    (folder / "packed").mkdir()
    stored.write_code(folder / "packed" / "model.py", 1)
    stored.write_estimator(folder / "estimator.joblib", 1)
    (folder / "models.yaml").write_text(
        "model_control: poll\n"
        "poll_interval: 0.05\n"
        "models:\n"
        "  - {name: packed, runtime: python, model_uri: packed}\n"
        "  - {name: estimator, runtime: sklearn, model_uri: estimator.joblib}\n"
    )
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--config", str(folder / "models.yaml")) as server:
        yield server
    assert server.exit_code == 0, server.output
    assert "Traceback" not in server.output, server.output


def wait_for(condition: Callable[[], bool]) -> None:
    """Return when it holds; each look is a request to the server."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end


def test_a_file_that_was_replaced_is_loaded(server: ServerProcess, folder: Path) -> None:
    assert ask(server, "estimator") == 1
    stored.write_estimator(folder / "estimator.joblib", 2)
    wait_for(lambda: ask(server, "estimator") == 2)
    assert ask(server, "packed") == 1


def test_a_directory_that_was_replaced_is_loaded(server: ServerProcess, folder: Path) -> None:
    (folder / "fresh").mkdir()
    stored.write_code(folder / "fresh" / "model.py", 2)
    (folder / "packed").rename(folder / "former")
    (folder / "fresh").rename(folder / "packed")
    wait_for(lambda: ask(server, "packed") == 2)


def test_half_a_file_changes_nothing_and_the_other_half_does(server: ServerProcess, folder: Path) -> None:
    def told() -> object:
        return get(server, "/v2/models/estimator/ready")[1].get("reload_failed")

    before = ask(server, "estimator")
    stored.write_estimator(folder / "whole.joblib", 3)
    whole = (folder / "whole.joblib").read_bytes()
    with (folder / "estimator.joblib").open("wb") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        wait_for(lambda: told() is not None)  # long enough for two looks
        assert ask(server, "estimator") == before
        file.write(whole[len(whole) // 2 :])
    wait_for(lambda: ask(server, "estimator") == 3)
    assert told() is None


def test_a_file_that_is_gone_is_told_and_back_is_loaded(server: ServerProcess, folder: Path) -> None:
    before = ask(server, "packed")
    (folder / "packed" / "model.py").unlink()
    wait_for(lambda: "reload_failed" in get(server, "/v2/models/packed/ready")[1])
    assert ask(server, "packed") == before
    stored.write_code(folder / "packed" / "model.py", 4)
    wait_for(lambda: ask(server, "packed") == 4)


def test_a_load_that_hangs_holds_up_no_other_model(server: ServerProcess, folder: Path) -> None:
    place = folder / "estimator.joblib"
    place.unlink()
    os.mkfifo(place)  # who reads it waits
    writer = _opened_when_read(place)
    try:
        stored.write_code(folder / "packed" / "model.py", 5)
        wait_for(lambda: ask(server, "packed") == 5)
        assert get(server, "/v2/health/ready")[0] == 200
    finally:
        os.close(writer)
    wait_for(lambda: "reload_failed" in get(server, "/v2/models/estimator/ready")[1])
    stored.write_estimator(place, 6)
    wait_for(lambda: ask(server, "estimator") == 6)


def _opened_when_read(fifo: Path) -> int:
    found: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # nobody reads it yet
            found.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(found)

    wait_for(is_read)
    return found[0]


def test_callers_control_nothing(server: ServerProcess) -> None:
    status, told = stored.post(server, "/v2/repository/models/packed/load")
    assert (status, told["error_code"]) == (400, "UNSUPPORTED")
