"""What a connection refuses, how it says so, and what it lets live: raw bytes over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from oipserver.http.limits import HttpLimits
from tests.http.echo import PATIENCE, Answer, Client, Running, serving

HEAD = b"POST /a HTTP/1.1\r\nHost: a\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

PATIENT = HttpLimits(linger_timeout=2.0)
# No test is let off by the idle timer: it is far beyond a test's patience where it is not the subject.
HASTY = HttpLimits(
    header_timeout=0.3,
    body_timeout=0.3,
    keep_alive_timeout=60.0,
    write_timeout=0.3,
    linger_timeout=2.0,
    min_body_rate=1000,
)
# How long a connection may be idle where that is the subject; a client may take so long to ask.
IDLE = 1.0


@pytest.fixture(scope="module")
def patient() -> Iterator[Running]:
    with serving(PATIENT) as server:
        yield server


@pytest.fixture(scope="module")
def hasty() -> Iterator[Running]:
    with serving(HASTY) as server:
        yield server


@pytest.fixture
def client(patient: Running) -> Iterator[Client]:
    state = patient.server.server_state
    # A refused request of the test before may reach the application after its client has left.
    assert patient.call_until(lambda: not (state.connections or state.tasks))
    patient.app.seen.clear()
    with patient.connect() as client:
        yield client


def check_refusal(answer: Answer, status: int, code: str) -> None:
    told = answer.json()
    assert (answer.status, told["error_code"]) == (status, code)
    assert told["error"] == told["message"] != ""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"] == told["request_id"]
    assert "date" in answer.headers
    assert "server" not in answer.headers


SMUGGLED = {
    "length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
    "one length twice": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "signed length": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "length beyond 64 bits": HEAD + b"Content-Length: 100000000000000000000\r\n\r\n",
    "two hosts": HEAD + b"Host: b\r\n\r\n",
    "no host": b"POST /a HTTP/1.1\r\n\r\n",
    "folded line": HEAD + b"X: 1\r\n 2\r\n\r\n",
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "gzip and chunked": HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL in a value": HEAD + b"X: a\0b\r\n\r\n",
    "CR in a value": HEAD + b"X: a\rb\r\n\r\n",
    "LF in a value": HEAD + b"X: a\nb\r\n\r\n",
    "blank in a name": HEAD + b"X Y: 1\r\n\r\n",
    "blank before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "URL without host": b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_a_request_open_to_two_readings_is_refused_with_all_that_follows(
    patient: Running, client: Client, data: bytes
) -> None:
    check_refusal(client.ask(data + SECOND), 400, "BAD_REQUEST")
    assert client.at_end()
    assert patient.app.seen == []


BAD_CHUNKS = {
    "no number": b"zz\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "negative": b"-1\r\nhello\r\n0\r\n\r\n",
    "overflow": b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "longer than said": b"5\r\nhelloXX0\r\n\r\n",
    "bare LF": b"5\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_bad_chunks_are_refused_with_all_that_follows(patient: Running, client: Client, data: bytes) -> None:
    check_refusal(client.ask(CHUNKED + data + SECOND), 400, "BAD_REQUEST")
    assert client.at_end()
    assert "GET /second" not in patient.app.seen


def test_the_body_of_a_request_that_asks_for_an_upgrade_is_a_body(patient: Running, client: Client) -> None:
    head = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
    client.send(head + b"Content-Length: %d\r\n\r\n" % len(SECOND))
    told = client.ask(SECOND).json()
    assert told["body"] == SECOND.decode()
    assert client.ask(SECOND).json()["path"] == "/second"
    assert patient.app.seen == ["POST /a", "GET /second"]


def test_a_trailer_is_no_header(client: Client) -> None:
    told = client.ask(CHUNKED + b"5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n").json()
    assert (told["body"], dict(told["headers"]).get("x-late")) == ("hello", None)
    assert client.ask(SECOND).status == 200


def test_nothing_after_connection_close_is_run(patient: Running, client: Client) -> None:
    answer = client.ask(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + SECOND)
    assert answer.headers["connection"] == "close"
    assert client.at_end()
    assert patient.app.seen == ["GET /a"]


TOO_LARGE = {
    "one endless value": (HEAD + b"X: " + b"a" * 2**20, 431, "HEADERS_TOO_LARGE"),
    "one endless name": (HEAD + b"a" * 2**20, 431, "HEADERS_TOO_LARGE"),
    "101 lines": (HEAD + b"X: 1\r\n" * 100 + b"\r\n", 431, "HEADERS_TOO_LARGE"),
    "10 000 lines": (HEAD + b"X: 1\r\n" * 10_000 + b"\r\n", 431, "HEADERS_TOO_LARGE"),
    "whole, one byte over": (HEAD + b"X: " + b"a" * 65_536 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
    "an endless trailer": (CHUNKED + b"0\r\nX: " + b"a" * 2**20, 431, "HEADERS_TOO_LARGE"),
    "an endless chunk extension": (CHUNKED + b"5;" + b"a" * 2**20, 431, "HEADERS_TOO_LARGE"),
    "a 1 MiB URL": (b"GET /" + b"a" * 2**20, 414, "URI_TOO_LONG"),
    "a URL one over": (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "URI_TOO_LONG"),
}


@pytest.mark.parametrize(("data", "status", "code"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_head_over_its_limits_is_refused_and_the_answer_can_be_read(
    client: Client, data: bytes, status: int, code: str
) -> None:
    check_refusal(client.ask(data), status, code)
    assert client.at_end()


def test_a_head_at_its_limits_is_served(client: Client) -> None:
    assert client.ask(HEAD + b"X: 1\r\n" * 99 + b"\r\n").status == 200
    assert client.ask(b"GET /" + b"a" * 8191 + b" HTTP/1.1\r\nHost: a\r\n\r\n").status == 200


def test_the_callers_request_id_is_kept_when_it_is_fit(client: Client) -> None:
    answer = client.ask(HEAD + b"X-Request-Id: mine-1\r\nHost: b\r\n\r\n")
    assert answer.headers["x-request-id"] == "mine-1"


def test_an_unfit_request_id_is_not_sent_back(client: Client) -> None:
    answer = client.ask(HEAD + b"X-Request-Id: <b>\r\nHost: b\r\n\r\n")
    check_refusal(answer, 400, "BAD_REQUEST")
    assert "<b>" not in answer.headers["x-request-id"]


def test_a_bug_in_the_application_is_a_500_that_tells_nothing(client: Client) -> None:
    answer = client.ask(b"GET /raise HTTP/1.1\r\nHost: a\r\n\r\n")
    check_refusal(answer, 500, "INTERNAL")
    assert b"secret" not in answer.body
    assert client.at_end()


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(2000)))
    assert [client.answer().json()["path"] for _ in range(2000)] == [f"/{number}" for number in range(2000)]


def test_a_refusal_waits_for_the_answers_before_it(patient: Running, client: Client) -> None:
    client.send(SECOND + SECOND + b"nonsense\r\n\r\n" + SECOND)
    assert [client.answer().status for _ in range(2)] == [200, 200]
    check_refusal(client.answer(), 400, "BAD_REQUEST")
    assert client.at_end()
    assert patient.app.seen == ["GET /second"] * 2


def test_65_000_chunks_of_one_byte(client: Client) -> None:
    assert client.ask(CHUNKED + b"1\r\nx\r\n" * 65_000 + b"0\r\n\r\n").json()["size"] == 65_000


def test_a_body_of_8_mib(client: Client) -> None:
    size = 8 * 2**20
    assert client.ask(HEAD + b"Content-Length: %d\r\n\r\n" % size + bytes(size)).json()["size"] == size


def test_a_client_that_waits_for_continue_gets_it(client: Client) -> None:
    client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert client.answer().status == 100
    assert client.ask(b"hello").json()["body"] == "hello"


def test_a_refusal_instead_of_continue_closes(client: Client) -> None:
    head = b"POST /refuse HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    answer = client.ask(head)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert client.at_end()


def test_a_small_unwanted_body_is_dropped_and_the_connection_lives_on(client: Client) -> None:
    head = b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"
    answer = client.ask(head)
    assert (answer.status, answer.headers.get("connection")) == (413, None)
    assert client.ask(bytes(60_000) + SECOND).json()["path"] == "/second"


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 2000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nf4240\r\n"]
)
def test_a_large_unwanted_body_ends_the_connection_after_an_answer_that_arrives(
    client: Client, rest: bytes
) -> None:
    client.send(b"POST /refuse HTTP/1.1\r\nHost: a\r\n" + rest)
    answer = client.send(bytes(1_000_000)).answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert client.at_end()


def test_a_client_that_leaves_is_noticed() -> None:
    with serving(PATIENT) as server:
        with server.connect() as client:
            client.send(b"POST /hold HTTP/1.1\r\nHost: a\r\n\r\n")
            assert server.app.started.wait(PATIENCE)
        assert server.app.lost.wait(PATIENCE)


# --- time --------------------------------------------------------------------------------------------------


def test_slow_headers_are_a_408(hasty: Running) -> None:
    with hasty.connect() as client:
        check_refusal(client.ask(b"GET /a HT"), 408, "REQUEST_TIMEOUT")
        assert client.at_end()


def test_slow_headers_on_a_used_connection_are_a_408(hasty: Running) -> None:
    with hasty.connect() as client:
        assert client.ask(SECOND).status == 200
        check_refusal(client.ask(b"GET /a HT"), 408, "REQUEST_TIMEOUT")


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 5\r\n\r\nhel", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"]
)
def test_a_body_that_stops_is_a_408(hasty: Running, rest: bytes) -> None:
    with hasty.connect() as client:
        check_refusal(client.ask(HEAD + rest), 408, "REQUEST_TIMEOUT")
        assert client.at_end()


def test_a_fast_start_buys_no_silence(hasty: Running) -> None:
    with hasty.connect() as client:
        check_refusal(
            client.ask(HEAD + b"Content-Length: 9000000\r\n\r\n" + bytes(8_000_000)), 408, "REQUEST_TIMEOUT"
        )


@pytest.mark.parametrize("before", [b"", SECOND, b"\r\n\r\n"], ids=["new", "used", "stray lines"])
def test_an_idle_connection_is_closed_without_a_word(before: bytes) -> None:
    with serving(replace(HASTY, keep_alive_timeout=IDLE)) as server, server.connect() as client:
        client.send(before)
        if before == SECOND:
            assert client.answer().status == 200
        assert client.at_end()


def test_a_peer_that_never_reads_is_cut_off(hasty: Running) -> None:
    connections = hasty.server.server_state.connections
    assert hasty.call_until(lambda: not connections)
    with hasty.connect(receive_buffer=4096) as client:
        assert hasty.call_until(lambda: len(connections) == 1)
        client.send(b"GET /big/50000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert hasty.call_until(lambda: not connections)


def test_waiting_for_the_application_is_not_the_clients_slowness() -> None:
    with serving(replace(HASTY, keep_alive_timeout=IDLE)) as server, server.connect() as client:
        head = b"POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
        client.send(head + bytes(200_000))
        assert server.app.started.wait(PATIENCE)
        server.call_after(1.5 * IDLE, server.app.go.set)
        assert client.send(bytes(100_000)).answer().json()["size"] == 300_000


def test_waiting_for_continue_is_not_the_clients_slowness() -> None:
    with serving(HASTY) as server, server.connect() as client:
        client.send(b"POST /hold HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert server.app.started.wait(PATIENCE)
        server.call_after(0.6, server.app.go.set)
        assert client.answer().status == 100
        assert client.ask(b"hello").json()["body"] == "hello"


# --- many, and the end -------------------------------------------------------------------------------------


def test_one_connection_too_many_is_told_so() -> None:
    with serving(replace(PATIENT, max_connections=1)) as server, server.connect() as first:
        assert first.ask(SECOND).status == 200
        with server.connect() as second:
            answer = second.answer()
            check_refusal(answer, 503, "OVERLOADED")
            assert answer.headers["retry-after"] == "1"
            assert second.at_end()
        assert first.ask(SECOND).status == 200


def test_every_answer_of_a_closing_server_closes() -> None:
    with serving(PATIENT) as server, server.connect() as idle, server.connect() as busy:
        assert idle.ask(SECOND).status == 200
        busy.send(b"POST /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        assert server.app.started.wait(PATIENCE)
        server.shared.closing = True
        server.call(server.app.go.set)
        for client in (busy.send(b""), idle.send(SECOND)):
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert client.at_end()
