"""Rates: of requests and of rows, of each key by itself, on both fronts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oipserver.access.bucket import Bucket
from oipserver.access.holder import _bucket
from oipserver.config import AccessConfig
from oipserver.grpc._generated import open_inference_pb2 as pb
from tests.access.running import KeyedServer, entry, key, write
from tests.conformance.wires import Connection, message
from tests.grpc.running import failure, raw_request
from tests.support import PATIENCE


def body(rows: int) -> dict[str, object]:
    data = [1.0, 2.0] * rows
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [rows, 2], "data": data}]}


# --- the bucket --------------------------------------------------------------------------------------------


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=10, burst=3)
    for _ in range(3):
        assert bucket.wait(100.0) == 0
        bucket.spend(1, 100.0)
    assert bucket.wait(100.0) == pytest.approx(0.1)
    assert bucket.wait(100.06) == pytest.approx(0.04)
    assert bucket.wait(100.11) == 0


def test_debt_delays_the_next_until_it_is_paid() -> None:
    bucket = Bucket(rate=10, burst=10)
    bucket.spend(110, 0.0)
    assert bucket.wait(0.0) == pytest.approx(10.1)
    assert bucket.wait(10.2) == 0


@pytest.mark.parametrize(("rate", "tokens"), [(0.01, 1), (1, 1), (3.5, 4), (10, 10)])
def test_where_no_burst_is_given_it_holds_those_of_a_second(rate: float, tokens: int) -> None:
    bucket = _bucket(rate, None)
    assert bucket is not None
    spent = 0
    while bucket.wait(0.0) == 0:
        bucket.spend(1, 0.0)
        spent += 1
    assert spent == tokens


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=40))
def test_never_more_than_burst_and_rate_and_one_debt(arrivals: list[tuple[float, int]]) -> None:
    rate, burst, now, spent, largest = 7.0, 5, 1000.0, 0, 0
    bucket = Bucket(rate, burst)
    for pause, tokens in arrivals:
        now += pause
        if bucket.wait(now) == 0:
            bucket.spend(tokens, now)
            spent, largest = spent + tokens, max(largest, tokens)
            assert spent <= burst + rate * (now - 1000.0) + largest + 1e-6


@given(
    st.floats(0.1, 100), st.integers(1, 9), st.integers(1, 5), st.integers(0, 40), st.lists(st.floats(0, 5))
)
def test_many_at_once_are_as_many_as_one_by_one(
    rate: float, burst: int, tokens: int, wanted: int, pauses: list[float]
) -> None:
    together, apart, now = Bucket(rate, burst), Bucket(rate, burst), 1000.0
    for pause in pauses:
        now += pause
        many = min(wanted, together.affords(tokens, now))
        together.spend(many * tokens, now)
        one_by_one = 0
        # The last one may hang on the last bit of a float; it is counted for both then.
        while one_by_one < wanted and apart.wait(now) <= 1e-9:
            apart.spend(tokens, now)
            one_by_one += 1
        assert many in (one_by_one, one_by_one - 1)
        together.spend((one_by_one - many) * tokens, now)


# --- the server --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rates")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[KeyedServer]:
    write(folder / "keys.json", entry("free"))
    access = AccessConfig(keys_file=str(folder / "keys.json"), check_interval=1000.0)
    with KeyedServer(access) as running:
        yield running


@pytest.fixture
def limited(server: KeyedServer, folder: Path) -> KeyedServer:
    """With full buckets, which fill again so slowly that it is the same how fast they are emptied."""
    server.look()
    write(folder / "keys.json", entry("free"))
    server.look()
    write(
        folder / "keys.json",
        entry("free"),
        entry("ten", rate=0.1, burst=10),
        entry("one", rate=0.001, burst=1),
        entry("rows", rows_rate=0.05, rows_burst=4),
        entry("big", rows_rate=1000),
    )
    server.look()
    return server


def test_thirty_calls_of_which_the_bucket_holds_ten(limited: KeyedServer) -> None:
    """It fills with one each ten seconds while they come."""
    began = time.monotonic()
    answers = [limited.ask("POST", "/v2/models/m/infer", body(1), x_api_key=key("ten")) for _ in range(30)]
    took = time.monotonic() - began
    good = [answer for answer in answers if answer.status == 200]
    assert 10 <= len(good) <= 11 + 0.1 * took
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    for answer in refused:
        assert "key 'ten' has used up its requests" in answer.error("RATE_LIMIT")
        assert int(answer.headers["retry-after"]) >= 1


def test_requests_that_are_the_same_byte_for_byte_count_each(limited: KeyedServer) -> None:
    """Heads that are known take a short way, in which a caller is found by its head."""
    same = message("POST", "/v2/models/m/infer", json.dumps(body(1)).encode(), {"x-api-key": key("ten")})
    began = time.monotonic()
    with Connection(limited.http_port) as one, Connection(limited.http_port) as other:
        statuses = []
        for _ in range(15):
            one.send(same)
            other.send(same)
            statuses += [one.answer().status, other.answer().status]
    took = time.monotonic() - began
    assert 10 <= statuses.count(200) <= 11 + 0.1 * took
    assert set(statuses) == {200, 429}


def test_rows_of_known_heads_count(limited: KeyedServer) -> None:
    data = json.dumps(body(3)).encode()
    same = message("POST", "/v2/models/m/infer", data, {"x-api-key": key("rows")})
    with Connection(limited.http_port) as connection:
        statuses = [connection.send(same).answer().status for _ in range(4)]
    assert statuses == [200, 200, 429, 429]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/models/m/infer"),
        ("POST", "/v2/models/m/infer?x"),
        ("POST", "/v2/models/m/generate"),
        ("GET", "/v2"),
        ("GET", "/v2/models/m"),
    ],
)
def test_every_request_of_a_key_counts(limited: KeyedServer, method: str, path: str) -> None:
    first, second = (limited.ask(method, path, body(1), x_api_key=key("one")) for _ in range(2))
    assert first.status == 200
    second.error("RATE_LIMIT")
    assert 900 <= int(second.headers["retry-after"]) <= 1000
    assert limited.ask(method, path, body(1), x_api_key=key("free")).status == 200


def test_rows_count_and_a_large_request_is_paid_for_later(limited: KeyedServer) -> None:
    def ask(rows: int) -> int:
        return limited.ask("POST", "/v2/models/m/infer", body(rows), x_api_key=key("rows")).status

    assert [ask(3), ask(40), ask(1)] == [200, 200, 429]
    answer = limited.ask("POST", "/v2/models/m/infer", body(1), x_api_key=key("rows"))
    assert "rows" in answer.error("RATE_LIMIT")
    assert 700 <= int(answer.headers["retry-after"]) <= 820  # 40 rows of debt, at a row in 20 seconds


def test_a_refused_request_is_not_computed(limited: KeyedServer) -> None:
    model = limited.models["m"]
    limited.ask("POST", "/v2/models/m/infer", body(1), x_api_key=key("one"))
    before = len(model.calls)  # type: ignore[attr-defined]
    for _ in range(5):
        limited.ask("POST", "/v2/models/m/infer", body(1), x_api_key=key("one")).error("RATE_LIMIT")
    assert len(model.calls) == before  # type: ignore[attr-defined]


def test_the_fronts_share_one_bucket(limited: KeyedServer) -> None:
    message = raw_request(1.0).SerializeToString()
    assert limited.ask("GET", "/v2", x_api_key=key("one")).status == 200
    for path, sent in (("ModelInfer", message), ("ServerMetadata", b"")):
        status, _, trailers = failure(lambda: limited.call(path, sent, x_api_key=key("one")))  # noqa: B023
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert trailers["error-code"] == "RATE_LIMIT"
    assert limited.call("ModelInfer", message, x_api_key=key("free"))


def test_rows_count_over_grpc(limited: KeyedServer) -> None:
    many, one = raw_request(*[1.0] * 40).SerializeToString(), raw_request(1.0).SerializeToString()
    assert limited.call("ModelInfer", many, x_api_key=key("rows"))
    assert failure(lambda: limited.call("ModelInfer", one, x_api_key=key("rows")))[0] is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )


def test_each_request_of_a_stream_counts(limited: KeyedServer) -> None:
    message = raw_request(1.0).SerializeToString()
    answers = limited.stream("ModelStreamInfer", message, message, message, x_api_key=key("one"))
    errors = [pb.ModelStreamInferResponse.FromString(answer).error_message for answer in answers]
    assert sorted("used up" in error for error in errors) == [False, True, True]


@pytest.mark.parametrize("message", [b"\xff", b"", raw_request(1.0, model="none").SerializeToString()])
def test_what_cannot_be_read_counts_over_grpc(limited: KeyedServer, message: bytes) -> None:
    def ask() -> object:
        return failure(lambda: limited.call("ModelInfer", message, x_api_key=key("one")))[2]["error-code"]

    assert ask() in ("BAD_REQUEST", "NOT_FOUND")
    assert ask() == "RATE_LIMIT"


def test_what_cannot_be_read_counts_in_a_stream(limited: KeyedServer) -> None:
    answers = limited.stream("ModelStreamInfer", b"\xff", b"\xff", b"\xff", x_api_key=key("one"))
    errors = [pb.ModelStreamInferResponse.FromString(answer).error_message for answer in answers]
    assert sorted("used up" in error for error in errors) == [False, True, True]


def test_a_neighbour_is_not_held_up(limited: KeyedServer) -> None:
    """One key asks as fast as it can and is refused; the other one is answered each time."""
    stop, refused = threading.Event(), threading.Event()

    def greedy() -> None:
        while not stop.is_set():
            status = limited.ask("POST", "/v2/models/m/infer", body(1), x_api_key=key("one")).status
            if status == 429:
                refused.set()

    threads = [threading.Thread(target=greedy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert refused.wait(PATIENCE)
        statuses = [
            limited.ask("POST", "/v2/models/m/infer", body(1), x_api_key=key("free")).status
            for _ in range(50)
        ]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 50
