"""One file over HTTP, from a server with faults."""

from __future__ import annotations

import hashlib
import shutil
import ssl
from pathlib import Path

import pytest
import trustme

from oipserver.sources import SourceError
from tests.sources import scripted
from tests.sources.scripted import Answer, Server, broken, get, left_in, ranged, status, whole

DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()


def refusal(uri: str, tmp_path: Path, **options: object) -> str:
    with pytest.raises(SourceError) as caught:
        get(uri, tmp_path, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_file_arrives_under_its_own_name(tmp_path: Path) -> None:
    with Server(whole(DATA)) as server:
        fetched = get(server.uri("/a%20b/model.bin?key=1"), tmp_path)
    assert (fetched.path.name, fetched.path.read_bytes()) == ("model.bin", DATA)
    assert (fetched.local, fetched.pinned, fetched.trusted, fetched.sha256) == (False, False, False, SHA256)
    assert server.requests[0][0] == "/a%20b/model.bin?key=1"
    assert left_in(tmp_path) == ["latest.json", "model.bin"]
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_an_unchanged_file_is_not_sent_twice(tmp_path: Path) -> None:
    with Server(ranged(DATA)) as server:
        first, second = get(server.uri(), tmp_path), get(server.uri(), tmp_path)
    assert first == second
    assert server.sent("If-None-Match") == [None, '"1"']


def test_a_date_is_asked_back_where_there_is_no_tag(tmp_path: Path) -> None:
    day = "Tue, 03 Nov 2026 08:00:00 GMT"

    def dated(handler: scripted.Handler) -> None:
        handler.head(200, {"Content-Length": "3", "Last-Modified": day})
        handler.wfile.write(b"abc")

    with Server(dated, status(304)) as server:
        assert get(server.uri(), tmp_path) == get(server.uri(), tmp_path)
    assert server.sent("If-Modified-Since") == [None, day]


def test_a_changed_file_is_fetched_and_the_old_one_stays(tmp_path: Path) -> None:
    with Server(ranged(b"old", '"1"'), ranged(b"new", '"2"')) as server:
        old, new = get(server.uri(), tmp_path), get(server.uri(), tmp_path)
    assert (old.path.read_bytes(), new.path.read_bytes()) == (b"old", b"new")


def test_a_pinned_file_in_the_cache_needs_no_server(tmp_path: Path) -> None:
    with Server(whole(DATA)) as server:
        first = get(server.uri(), tmp_path, pin=SHA256.upper())
        assert get(server.uri(), tmp_path, pin=SHA256) == first
    assert first.trusted
    assert len(server.requests) == 1


def test_a_wrong_pin_leaves_nothing(tmp_path: Path) -> None:
    with Server(whole(DATA)) as server:
        text = refusal(server.uri(), tmp_path, pin="0" * 64)
    assert text.endswith(f": its sha256 is {SHA256[:12]}…, and it is pinned to 000000000000…")
    assert left_in(tmp_path) == []


def test_pauses_grow_are_random_and_follow_retry_after(tmp_path: Path) -> None:
    waits: list[float] = []
    script = [status(500), status(503), status(429, Retry_After="7"), broken(DATA, 0), whole(DATA)]
    with Server(*script) as server:
        assert get(server.uri(), tmp_path, waits=waits).sha256 == SHA256
    assert [0 <= wait <= limit for wait, limit in zip(waits, (0.5, 1, 7, 4), strict=True)] == [True] * 4
    assert waits[2] == 7


def test_tries_come_to_an_end(tmp_path: Path) -> None:
    waits: list[float] = []
    with Server(status(500)) as server:
        text = refusal(server.uri(), tmp_path, retries=2, waits=waits)
    assert (
        text == f"cannot fetch '{server.uri()}': 127.0.0.1 answered 500 Internal Server Error (tried 3 times)"
    )
    assert (len(server.requests), len(waits)) == (3, 2)


def test_a_pause_longer_than_the_whole_time_is_not_waited_for(tmp_path: Path) -> None:
    waits: list[float] = []
    with Server(status(503, Retry_After="3600")) as server:
        text = refusal(server.uri(), tmp_path, waits=waits)
    assert text.endswith("(gave up after 1800 s)")
    assert waits == []


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_what_will_not_change_is_not_tried_again(tmp_path: Path, code: int) -> None:
    with Server(status(code)) as server:
        assert f"127.0.0.1 answered {code}" in refusal(server.uri(), tmp_path)
    assert len(server.requests) == 1


def test_nobody_there_is_tried_again(tmp_path: Path) -> None:
    waits: list[float] = []
    server = Server(whole(DATA))
    server.server_close()
    assert "cannot connect to 127.0.0.1" in refusal(server.uri(), tmp_path, waits=waits, retries=1)
    assert len(waits) == 1


# ------------------------------------------------------------------------------------------ half a file


@pytest.mark.parametrize("reset", [True, False])
def test_a_broken_download_goes_on_where_it_broke(tmp_path: Path, reset: bool) -> None:
    with Server(broken(DATA, 300_000, reset=reset), ranged(DATA)) as server:
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA
    assert server.sent("If-Range") == [None, '"1"']
    start = int(str(server.sent("Range")[1]).removeprefix("bytes=").removesuffix("-"))
    assert (start == 300_000) if not reset else (0 < start <= 300_000)


def test_it_goes_on_in_the_next_process_too(tmp_path: Path) -> None:
    with Server(broken(DATA, 300_000, reset=False), ranged(DATA)) as server:
        assert "ended after 300000 of 1024000 bytes" in refusal(server.uri(), tmp_path, retries=0)
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA
    assert server.sent("Range") == [None, "bytes=300000-"]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(whole(DATA, '"1"'), id="Range ignored"),
        pytest.param(ranged(DATA, '"2"'), id="another version"),
        pytest.param(whole(DATA, 'W/"1"'), id="a weak tag"),
    ],
)
def test_what_came_is_dropped_when_the_server_does_not_go_on(tmp_path: Path, second: Answer) -> None:
    with Server(broken(b"x" * len(DATA), 300_000, reset=False), second) as server:
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA


def wrong_part(handler: scripted.Handler) -> None:
    handler.head(206, {"Content-Range": f"bytes 5-9/{len(DATA)}", "Content-Length": "5"})
    handler.wfile.write(DATA[5:10])


def other_version(handler: scripted.Handler) -> None:
    here = f"bytes 300000-{len(DATA) - 1}/{len(DATA)}"
    handler.head(206, {"Content-Range": here, "Content-Length": str(len(DATA) - 300_000), "ETag": '"2"'})
    handler.wfile.write(b"y" * (len(DATA) - 300_000))


@pytest.mark.parametrize(
    "lie", [wrong_part, other_version, status(206), status(416), status(416, Content_Range="bytes */9")]
)
def test_a_part_that_does_not_fit_is_no_part(tmp_path: Path, lie: Answer) -> None:
    with Server(broken(DATA, 300_000, reset=False), lie, ranged(DATA)) as server:
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA
    assert server.sent("Range")[2] is None


def test_a_file_that_was_complete_but_not_placed_is_not_sent_again(tmp_path: Path) -> None:
    with Server(broken(DATA, len(DATA), reset=False, length=len(DATA) + 1), ranged(DATA)) as server:
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA
    assert server.sent("Range") == [None, f"bytes={len(DATA)}-"]


def test_without_a_tag_a_broken_download_begins_anew(tmp_path: Path) -> None:
    with Server(broken(DATA, 300_000, "", reset=False), whole(DATA)) as server:
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA
    assert server.sent("Range") == [None, None]


def cut_chunks(handler: scripted.Handler) -> None:
    handler.head(200, {"Transfer-Encoding": "chunked"})
    handler.wfile.write(b"5\r\nabcde\r\n5\r\nab")


def no_length(handler: scripted.Handler) -> None:
    handler.head(200, {})
    handler.wfile.write(b"half of it")


def test_half_of_a_chunked_file_is_noticed(tmp_path: Path) -> None:
    with Server(cut_chunks, whole(DATA)) as server:
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA


def test_a_file_of_unknown_length_is_refused(tmp_path: Path) -> None:
    with Server(no_length) as server:
        assert "does not say how long the file is" in refusal(server.uri(), tmp_path)
    assert left_in(tmp_path) == []


def test_half_of_the_headers_is_noticed(tmp_path: Path) -> None:
    def cut(handler: scripted.Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Some: thing\r\nConten")

    with Server(cut, whole(DATA)) as server:
        assert get(server.uri(), tmp_path).path.read_bytes() == DATA


# ----------------------------------------------------------------------------------------- too much, too slow


def test_too_large_by_its_own_word_is_refused_before_it_comes(tmp_path: Path) -> None:
    with Server(whole(DATA)) as server:
        text = refusal(server.uri(), tmp_path, max_bytes=1000)
    assert text.endswith("larger than sources.max_bytes allows: 1024000 of 1000 bytes")
    assert (len(server.requests), left_in(tmp_path)) == (1, [])


def test_an_endless_body_ends_at_the_limit(tmp_path: Path) -> None:
    with Server(scripted.endless) as server:
        assert "sources.max_bytes" in refusal(server.uri(), tmp_path, max_bytes=100_000)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("slow", [scripted.trickling_body, scripted.trickling_head])
def test_a_try_has_its_time(tmp_path: Path, slow: Answer) -> None:
    with Server(slow, whole(DATA, '"2"')) as server:
        assert get(server.uri(), tmp_path, attempt_timeout=1).path.read_bytes() == DATA
        text = refusal(server.uri("/again"), tmp_path / "b", attempt_timeout=0.0001, retries=0)
    assert "the time for one try was over" in text or "timed out" in text


def test_a_disk_without_room_is_told_before_the_bytes_come(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with Server(broken(b"", 0, length=free * 2)) as server:
        text = refusal(server.uri(), tmp_path, max_bytes=2**60, retries=1)
    assert f"no room on the disk: {free * 2} bytes to come" in text
    assert text.endswith("(tried 2 times)")


# ------------------------------------------------------------------------------------------- where to


def test_redirects_on_one_host_are_followed(tmp_path: Path) -> None:
    script = [
        status(302, Location="/b"),
        status(307, Location="c?d=e"),
        status(301, Location="/f"),
        whole(DATA),
    ]
    with Server(*script) as server:
        assert get(server.uri("/a/model.bin"), tmp_path).path.name == "model.bin"
    assert [path for path, _ in server.requests] == ["/a/model.bin", "/b", "/c?d=e", "/f"]


def test_redirects_come_to_an_end(tmp_path: Path) -> None:
    with Server(status(302, Location="/again")) as server:
        assert "more than 3 redirects" in refusal(server.uri(), tmp_path)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/model.bin",
        "//localhost/model.bin",
        "http://127.0.0.1:1/model.bin",
        "file:///etc/passwd",
        "s3://bucket/key",
        "http://[",
        "",
    ],
)
def test_redirects_elsewhere_are_not_followed(tmp_path: Path, location: str) -> None:
    with Server(status(302, Location=location)) as server:
        text = refusal(server.uri(), tmp_path, allow=["127.0.0.1", "localhost", "169.254.0.0/16"])
    assert "redirect leads from 127.0.0.1" in text
    assert len(server.requests) == 1


def test_credentials_are_sent_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Server(status(500), status(403)) as server:
        uri = server.uri("/model.bin?signature=s3cret").replace("//", "//me:p%40ss@")
        text = refusal(uri, tmp_path)
    assert server.sent("Authorization") == ["Basic bWU6cEBzcw=="] * 2
    told = text + caplog.text
    assert "127.0.0.1" in told
    assert not any(secret in told for secret in ("s3cret", "p%40ss", "p@ss", "me:"))


@pytest.mark.parametrize(
    "uri", ["http://", "http:///model.bin", "http://host:99999/m", "http://[::1/m", "http:/m"]
)
def test_a_uri_without_host_or_port_is_refused(tmp_path: Path, uri: str) -> None:
    assert "cannot fetch" in refusal(uri, tmp_path)


def test_line_ends_in_a_uri_make_no_headers(tmp_path: Path) -> None:
    with Server(whole(DATA)) as server:
        get(server.uri("/model.bin\r\nX-Evil: 1"), tmp_path)
    assert server.sent("X-Evil") == [None]


# --------------------------------------------------------------------------------------------- TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(
    tmp_path: Path, tls: ssl.SSLContext
) -> None:
    with Server(whole(DATA), tls=tls) as server:
        text = refusal(server.uri(host="localhost"), tmp_path, allow=["localhost"])
    assert "certificate is not trusted" in text
    assert server.requests == []


def test_https(
    tmp_path: Path, tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with Server(broken(DATA, 300_000, reset=False), scripted.trickling_body, ranged(DATA), tls=tls) as server:
        fetched = get(server.uri(host="localhost"), tmp_path, allow=["localhost"], attempt_timeout=2)
        assert fetched.path.read_bytes() == DATA
        text = refusal(server.uri(), tmp_path)
    assert "certificate is not trusted" in text  # it is localhost's, not the address's
