"""What holds for every source: local paths, pins, full disks, several processes, what is told meanwhile."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oipserver.config import SourcesConfig
from oipserver.core.model_config import ModelConfig
from oipserver.sources import SourceError, fetch
from oipserver.sources.cache import Shelf, default_directory
from oipserver.sources.errors import TryAgain
from oipserver.sources.progress import reporting
from oipserver.sources.retry import LONGEST_PAUSE, Patience, within
from tests.sources.scripted import Handler, Server, get, left_in, whole

DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()


# -------------------------------------------------------------------------------------- local paths


def test_a_path_is_used_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "a b.bin"
    file.write_bytes(DATA)
    for uri in (str(file), f"file://{tmp_path}/a%20b.bin", f"file:{file}", str(tmp_path)):
        fetched = get(uri, tmp_path)
        assert fetched.path in (file, tmp_path)
        assert (fetched.local, fetched.pinned, fetched.trusted, fetched.sha256) == (True, False, True, "")
    assert not (tmp_path / "cache").exists()


def test_a_pin_holds_for_local_paths_too(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(DATA)
    fetched = get(str(file), tmp_path, pin=SHA256)
    assert (fetched.pinned, fetched.sha256) == (True, SHA256)
    with pytest.raises(SourceError, match=f"its sha256 is {SHA256[:12]}…, and it is pinned to 000000000000…"):
        get(str(file), tmp_path, pin="0" * 64)
    with pytest.raises(SourceError, match="No such file"):
        get(str(tmp_path / "nothing"), tmp_path, pin=SHA256)


@pytest.mark.parametrize("uri", ["ftp://host/model", "gopher://host/model", "s3://bucket/model"])
def test_only_allowed_schemes_are_fetched(tmp_path: Path, uri: str) -> None:
    with pytest.raises(SourceError, match=r"sources\.schemes does not allow '\w+' \(allowed: http, https\)"):
        get(uri, tmp_path, schemes=("https", "http"))


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_directory() == tmp_path / ".cache" / "oipserver"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says: to be ignored
    assert default_directory() == tmp_path / ".cache" / "oipserver"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert default_directory() == tmp_path / "c" / "oipserver"


# --------------------------------------------------------------------------------------- the cache


def test_what_a_killed_process_left_is_no_model(tmp_path: Path) -> None:
    with Server(whole(DATA)) as server:
        shelf = Shelf(tmp_path / "cache", server.uri())
        shelf.begin("")
        for left in (shelf.partial, shelf.staging, shelf.incoming()):
            left.mkdir(exist_ok=True)
            (left / "model.bin").write_bytes(b"half")
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA
    assert left_in(tmp_path) == ["latest.json", "model.bin"]


@pytest.mark.parametrize(
    "latest", [b"", b"[]", b"junk", b'{"version": 1}', b'{"version": "1", "sha256": "../.."}', b"\xff"]
)
def test_a_damaged_note_costs_a_download(tmp_path: Path, latest: bytes) -> None:
    with Server(whole(DATA)) as server:
        first = get(server.uri(), tmp_path)
        (first.path.parent.parent / "latest.json").write_bytes(latest)
        assert get(server.uri(), tmp_path) == first
    assert len(server.requests) == 2


def test_a_model_that_was_deleted_is_fetched_again(tmp_path: Path) -> None:
    with Server(whole(DATA)) as server:
        first = get(server.uri(), tmp_path)
        first.path.unlink()
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA
    assert server.sent("If-None-Match") == [None, None]


def test_a_lock_is_waited_for_only_so_long(tmp_path: Path) -> None:
    with (
        Shelf(tmp_path / "cache", "http://127.0.0.1:1/m").locked(1.0),
        pytest.raises(SourceError, match=r"another process has been fetching it for 0\.01 s"),
    ):
        get("http://127.0.0.1:1/m", tmp_path, timeout=0.01)


SECOND = """
import sys

def wait(seconds):
    print("waiting", flush=True)
    sys.stdin.readline()

from oipserver.config import SourcesConfig
from oipserver.core.model_config import ModelConfig
from oipserver.sources import fetch
sources = SourcesConfig(cache_dir=sys.argv[2], allow_hosts=("127.0.0.1",))
print(fetch(ModelConfig("m", "sklearn", sys.argv[1]), sources, sleep=wait).path, flush=True)
"""


def test_two_processes_fetch_once(tmp_path: Path) -> None:
    began = threading.Event()

    def slow(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(len(DATA)), "ETag": '"1"'})
        handler.wfile.write(DATA[:1000])
        began.set()
        assert handler.server.released.wait(30)
        handler.wfile.write(DATA[1000:])

    def unchanged(handler: Handler) -> None:
        handler.head(304, {})

    with Server(slow, unchanged) as server:
        paths: list[Path] = []
        first = threading.Thread(target=lambda: paths.append(get(server.uri(), tmp_path).path))
        first.start()
        assert began.wait(30)
        command = [sys.executable, "-c", SECOND, server.uri(), str(tmp_path / "cache")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as second:  # type: ignore[call-overload]
            assert second.stdout.readline() == "waiting\n"
            server.released.set()
            first.join(30)
            paths.append(Path(second.communicate("\n")[0].strip()))
    assert paths[0] == paths[1]
    assert paths[0].read_bytes() == DATA
    assert server.sent("If-None-Match") == [None, '"1"']


# ------------------------------------------------------------------------------------- full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def chunked(handler: Handler) -> None:
    """The data, without saying how much there is."""
    handler.head(200, {"Transfer-Encoding": "chunked", "ETag": '"1"'})
    for start in range(0, len(DATA), 10_000):
        piece = DATA[start : start + 10_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def test_a_full_disk_is_cleaned_up_and_tried_again(small_disk: Path) -> None:
    waits: list[float] = []
    with (
        Server(chunked) as server,
        pytest.raises(SourceError, match=r"no room in the cache directory: .*\(tried 2 times\)"),
    ):
        get(server.uri(), small_disk, retries=1, waits=waits)
    assert len(server.requests) == 2
    assert left_in(small_disk) == []


def test_room_that_somebody_makes_meanwhile_is_used(small_disk: Path) -> None:
    big = small_disk / "somebody's"
    big.write_bytes(bytes(400_000))
    sources = SourcesConfig(cache_dir=str(small_disk / "cache"), allow_hosts=("127.0.0.1",))
    with Server(whole(DATA[:300_000])) as server:
        fetched = fetch(ModelConfig("m", "r", server.uri()), sources, sleep=lambda seconds: big.unlink())
        assert fetched.path.read_bytes() == DATA[:300_000]


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from tests.sources.test_fetch import Server, chunked, get, left_in\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "with Server(chunked) as server:\n"
        "    try: get(server.uri(), Path(sys.argv[1]), retries=1)\n"
        "    except ValueError as error: print(error)\n"
        "print(left_in(Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "no room in the cache directory: File too large (tried 2 times)\n[]\n" in done.stdout, done


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(SourceError, match=r"cannot fetch 'http://127.0.0.1:1/m': .*cache"):
        get("http://127.0.0.1:1/m", tmp_path)


# ------------------------------------------------------------------------------ patience and progress


def test_pauses_have_full_jitter_and_a_longest() -> None:
    waits: list[float] = []

    def fail(deadline: float) -> None:
        raise TryAgain("no")

    with pytest.raises(SourceError, match=r"no \(tried 201 times\)"):
        Patience(200, 1.0, 1e9, waits.append).run(fail)
    assert max(waits[:1]) <= 0.5
    assert LONGEST_PAUSE / 2 < max(waits) <= LONGEST_PAUSE
    assert min(waits[10:]) < LONGEST_PAUSE / 10
    assert len(set(waits)) == 200


def test_work_without_end_is_left_behind() -> None:
    ended = threading.Event()
    with pytest.raises(TryAgain, match="the time for one try was over"):
        within(0.0, ended.wait)
    ended.set()
    with pytest.raises(TimeoutError, match="its own"):
        within(time.monotonic() + 30, _time_out)


def _time_out() -> None:
    raise TimeoutError("its own")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_line_that_changes() -> None:
    times, stream = iter([0.0, 0.1, 1.0, 1.0, 1.1, 9.0, 9.0, 9.0]), Terminal()
    with reporting("iris", stream, lambda: next(times)) as report:
        report(0, 2_000_000)  # too early to bother anybody
        report(1_000_000, 2_000_000)
        report(1_100_000, 2_000_000)  # too soon
        report(2_000_000, 2_000_000)
    assert stream.getvalue() == (
        "\rfetching iris: 1.0 MB of 2.0 MB (50 %)\x1b[K\rfetching iris: 2.0 MB of 2.0 MB (100 %)\x1b[K\n"
    )


def test_elsewhere_a_line_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "oipserver.sources")
    times, stream = iter([0.0, 5.0, 11.0, 11.0, 12.0]), io.StringIO()
    with reporting("iris", stream, lambda: next(times)) as report:
        report(1, None)
        report(3_000_000, None)
        report(4_000_000, None)
    assert caplog.messages == ["fetching iris: 3.0 MB"]
    assert stream.getvalue() == ""


def test_the_log_tells_what_came_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Server(whole(DATA)) as server:
        get(server.uri("/model.bin?sig=s3cret").replace("//", "//me:pass@"), tmp_path)
    assert caplog.messages[0] == f"fetching {server.uri()}"
    assert SHA256 in caplog.messages[1]
    assert not any(secret in caplog.text for secret in ("s3cret", "pass", "me:"))


@pytest.mark.parametrize("statement", ["import oipserver.sources", "import oipserver.cli"])
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str) -> None:
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "fsspec",
        "s3fs",
        "gcsfs",
        "adlfs",
        "huggingface_hub",
        "mlflow",
        "zstandard",
        "aiohttp",
    }
