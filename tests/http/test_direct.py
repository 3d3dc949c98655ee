"""Infer requests over real connections: in line, in pieces, from callers who leave, do not read, send a lot.

Where a test takes a `door`, the same is asked of the protocol class and of the ASGI application.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
import pytest
import zstandard

from oipserver.core.scheduler import Ticket
from oipserver.http.direct import DirectCycle
from oipserver.http.door import Exchange, Head
from oipserver.http.limits import HttpLimits
from oipserver.http.party import Party
from oipserver.http.turn import Turn
from tests.conformance.system import Ended
from tests.conformance.wires import chunked, head, message
from tests.http.echo import Answer, Client
from tests.http.infer_server import COLUMNS, DOORS, LIMIT, InferServer, Wide, row
from tests.support import PATIENCE

pytestmark = pytest.mark.usefixtures("quiet")

door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


def path(model: str = "m") -> str:
    """Where a model is asked."""
    return f"/v2/models/{model}/infer"


def body(value: float = 1.0, model: str = "m", **members: Any) -> bytes:
    """One row in JSON."""
    return orjson.dumps(row(value, 2 if model in ("m", "gated") else 1, **members))


def infer(
    value: float = 1.0, model: str = "m", headers: Mapping[str, str] | None = None, **members: Any
) -> bytes:
    """A whole request of one row."""
    return message("POST", path(model), body(value, model, **members), headers)


def numbers(answer: Answer) -> list[float]:
    """The data of the one output of an answer in JSON."""
    assert answer.status == 200, answer
    data: list[float] = answer.json()["outputs"][0]["data"]
    return data


def check_error(answer: Answer, status: int, code: str) -> None:
    """The error contract."""
    assert (answer.status, answer.json()["error_code"]) == (status, code)
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def check_good(client: Client, model: str = "m") -> None:
    """The connection is of use, and so is the model, which has done with whoever was before."""
    assert numbers(client.ask(infer(7.0, model))) == [14.0, 14.0]


def reset(client: Client) -> None:
    """Leave without a goodbye: the server's kernel is told so at once."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    leave(client)


def leave(client: Client) -> None:
    """Close the connection."""
    client.__exit__()


@pytest.fixture(scope="module")
def shared() -> Iterator[InferServer]:
    with InferServer(HttpLimits(linger_timeout=3600.0)) as running:  # no end of a connection is left to it
        yield running


@contextmanager
def well_afterwards(server: InferServer) -> Iterator[None]:
    """Every slot is free again, and a good request is answered on a new connection."""
    yield
    server.gated.gate.set()
    server.until(lambda: server.plane.gate.in_flight == 0)
    with server.connect() as client:
        check_good(client)
        check_good(client, "gated")
    server.wait_alone()


@pytest.fixture
def server(shared: InferServer) -> Iterator[InferServer]:
    shared.wait_alone()
    shared.gated.forget_warm_up()
    shared.journal.clear()
    with well_afterwards(shared):
        yield shared


@pytest.fixture
def client(server: InferServer) -> Iterator[Client]:
    with server.connect() as connected:
        yield connected


@pytest.fixture
def busy(server: InferServer) -> Iterator[Client]:
    """The gated model computes for this client until the test opens the gate."""
    server.gated.gate.clear()
    with server.connect() as connected:
        connected.send(infer(100.0, "gated"))
        assert server.gated.entered.acquire(timeout=PATIENCE)
        yield connected
        server.gated.gate.set()


# --- which door --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "direct"),
    [
        (infer(), True),
        (message("POST", "/v2/models/m/versions/1/infer", body()), True),
        (infer(headers=DOORS["asgi"]), False),
        (infer(headers={"Expect": "100-continue"}), False),
        (message("POST", path() + "?a=b", body()), False),
        (message("POST", path() + "#a", body()), False),
        (message("POST", path("%6d"), body()), False),
        (message("POST", "http://test" + path(), body()), False),
        (message("POST", path() + "/", body()), False),
        (message("POST", path(), gzip.compress(body(), mtime=0), {"Content-Encoding": "gzip"}), False),
    ],
)
def test_every_way_to_ask_has_its_door_and_the_same_answer(
    server: InferServer, client: Client, request_bytes: bytes, direct: bool
) -> None:
    answer = client.send(request_bytes).answer()
    if answer.status == 100:
        answer = client.answer()
    assert numbers(answer) == [2.0, 2.0]
    [connection] = server.connections()
    assert isinstance(connection.cycle, DirectCycle) == direct


@pytest.mark.parametrize(
    "request_bytes",
    [
        infer(model="nobody"),
        message("POST", path(), b"{"),
        message("POST", path(), b""),
        message("POST", path(), body(), {"Content-Type": "multipart/form-data"}),
        message("POST", path(), body(), {"Inference-Header-Content-Length": "-1"}),
        message("POST", path(""), body()),
        message("POST", path("m#"), body()),
        head("POST", path(), {"Content-Length": str(LIMIT + 1)}) + bytes(LIMIT + 1),
    ],
)
def test_both_doors_refuse_alike(server: InferServer, client: Client, request_bytes: bytes) -> None:
    start, _, rest = request_bytes.partition(b"\r\n")
    one = client.ask(start + b"\r\nX-Request-Id: a\r\n" + rest)
    other = client.ask(start + b"\r\nX-Request-Id: a\r\nContent-Encoding: identity\r\n" + rest)
    for answer in (one, other):
        answer.headers.pop("date")
    assert one == other
    check_good(client)


# --- in line -----------------------------------------------------------------------------------------------


@door
def test_pipelined_requests_are_answered_in_order(client: Client, door: Mapping[str, str]) -> None:
    client.send(b"".join(infer(value, headers=door, id=f"n{value}") for value in range(100)))
    for value in range(100):
        answer = client.answer()
        assert (numbers(answer), answer.json()["id"]) == ([2.0 * value] * 2, f"n{value}")
        assert answer.headers["x-request-id"] == f"n{value}"


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (head("POST", path("nobody")), 404),
        (message("POST", path("nobody"), body()), 404),
        (message("POST", path(), b"no"), 400),
        (head("POST", path(), {"Content-Length": str(LIMIT + 1)}) + bytes(LIMIT + 1), 413),
    ],
)
def test_150_refused_requests_in_one_packet(client: Client, refused: bytes, status: int) -> None:
    client.send(refused * 150 + infer(3.0))
    assert [client.answer().status for _ in range(150)] == [status] * 150
    assert numbers(client.answer()) == [6.0, 6.0]


def test_a_packet_of_refused_requests_leaves_others_their_turn(server: InferServer) -> None:
    """As many turns of the loop as there are requests: one connection does not hold up the others."""
    turns = 0
    counting = True

    def count() -> None:
        nonlocal turns
        turns += 1
        if counting:
            server.loop.call_soon(count)

    with server.connect() as client:
        server.call(count)
        client.send(head("POST", path("nobody"), {"Content-Length": "0"}) * 2000)
        for _ in range(2000):
            assert client.answer().status == 404
        counting = False
    assert turns >= 2000


def test_a_pipeline_through_all_doors(client: Client) -> None:
    asked = [
        (infer(1.0), 200),
        (head("GET", "/v2/health/ready"), 200),
        (infer(2.0, headers=DOORS["asgi"]), 200),
        (infer(model="nobody"), 404),
        (head("GET", "/nowhere"), 404),
        (message("POST", path(), b"no"), 400),
        (infer(3.0, "small"), 200),
        (infer(4.0, headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}), 200),
        (message("POST", path(), b"no", DOORS["asgi"]), 400),
        (head("GET", "/v2/models/m"), 200),
    ] * 5
    named = [
        (request.replace(b"\r\n", b"\r\nX-Request-Id: n%d\r\n" % number, 1), status)
        for number, (request, status) in enumerate(asked)
    ]
    client.send(b"".join(request for request, _ in named))
    for number, (_, status) in enumerate(named):
        answer = client.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (status, f"n{number}")
    check_good(client)


BEHIND: Mapping[str, bytes] = {
    "requests": infer(2.0, "gated") * 4,
    "garbage": b"garbage\r\n\r\n",
}


@door
@pytest.mark.parametrize("where", ["in compute", "in the queue"])
@pytest.mark.parametrize("behind", BEHIND)
def test_a_caller_who_leaves_takes_the_whole_line_along(
    server: InferServer, door: Mapping[str, str], where: str, behind: str
) -> None:
    """The one that runs loses its slot whatever stands behind it, and the model hears of none of them."""
    server.gated.gate.clear()
    with server.connect() as neighbour, server.connect() as leaving:
        if where == "in the queue":
            neighbour.send(infer(100.0, "gated"))
            assert server.gated.entered.acquire(timeout=PATIENCE)
        leaving.send(infer(1.0, "gated", door))
        if where == "in the queue":
            server.until(lambda: server.plane.registry.find("gated", None).depth == 1)
        else:
            assert server.gated.entered.acquire(timeout=PATIENCE)
        inside = server.inside()
        leaving.send(BEHIND[behind])
        leave(leaving)
        server.journal.wait_for(Ended("http", "gated", "CANCELLED"))
        assert server.inside() == inside - 1
        server.gated.gate.set()
        if where == "in the queue":
            assert numbers(neighbour.answer()) == [200.0, 200.0]
        check_good(neighbour, model="gated")
    assert server.gated.calls == [1, 1], "the one that was computed already, and the last"


@door
def test_a_caller_in_a_long_line_is_noticed_when_it_leaves(
    server: InferServer, door: Mapping[str, str]
) -> None:
    """Nothing was read any more when the line was longest."""
    server.gated.gate.clear()
    with server.connect() as leaving, threads_taken(server) as go:
        first = infer(1.0, "large", {"Accept-Encoding": "gzip"})
        leaving.send(first + infer() * 800 + infer(1.0, "gated", door) + infer() * 5)
        [connection] = server.connections()
        server.until(lambda: len(connection._held) > 64 * 1024)
        go.set()
        for _ in range(801):
            assert leaving.answer().status == 200
        assert server.gated.entered.acquire(timeout=PATIENCE)
        leave(leaving)
        server.journal.wait_for(Ended("http", "gated", "CANCELLED"))


def test_what_stands_in_line_is_bounded(server: InferServer) -> None:
    """A line is read ahead only a little, to notice who leaves."""
    server.gated.gate.clear()
    with server.connect() as client:
        sent = threading.Thread(target=client.send, args=(infer(1.0, "gated") + infer(2.0) * 5_000,))
        sent.start()
        assert server.gated.entered.acquire(timeout=PATIENCE)
        [connection] = server.connections()
        server.until(lambda: len(connection._held) > 0)
        with server.connect() as other:
            for _ in range(20):
                check_good(other)
        assert server.call(lambda: len(connection._held)) < 400_000
        server.gated.gate.set()
        assert numbers(client.answer()) == [2.0, 2.0]
        for _ in range(5_000):
            assert client.answer().status == 200
        sent.join(PATIENCE)


@door
def test_an_upgrade_in_line_does_not_disturb_the_one_that_runs(
    server: InferServer, client: Client, door: Mapping[str, str]
) -> None:
    server.gated.gate.clear()
    client.send(infer(1.0, "gated", door))
    assert server.gated.entered.acquire(timeout=PATIENCE)
    upgrade = infer(2.0, headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"})
    client.send(upgrade)
    server.wait_received(len(infer(1.0, "gated", door)) + len(upgrade))
    server.gated.gate.set()
    assert numbers(client.answer()) == [2.0, 2.0]
    assert numbers(client.answer()) == [4.0, 4.0]


@door
@pytest.mark.parametrize(
    ("chunks", "status", "code"),
    [(b"no size\r\n", 400, "BAD_REQUEST"), (chunked([bytes(LIMIT + 1)]), 413, "PAYLOAD_TOO_LARGE")],
)
def test_a_broken_request_in_line_is_refused_in_its_turn(
    server: InferServer, client: Client, door: Mapping[str, str], chunks: bytes, status: int, code: str
) -> None:
    server.gated.gate.clear()
    first = infer(1.0, "gated", door)
    broken = head("POST", path(), {"Transfer-Encoding": "chunked", **door}) + chunks
    client.send(first)
    assert server.gated.entered.acquire(timeout=PATIENCE)
    client.send(broken + infer(3.0))
    server.wait_received(len(first + broken))
    server.gated.gate.set()
    assert numbers(client.answer()) == [2.0, 2.0]
    check_error(client.answer(), status, code)
    if status == 413:  # it ended where it said, so what follows is a request
        assert numbers(client.answer()) == [6.0, 6.0]
    else:
        assert client.at_end()


CLOSES: Mapping[str, tuple[bytes, int]] = {
    "not found": (message("POST", path("nobody"), body(), {"Connection": "close"}), 404),
    "not JSON": (message("POST", path(), b"no", {"Connection": "close"}), 400),
    "chunks over the limit": (
        head("POST", path(), {"Transfer-Encoding": "chunked"}) + chunked([bytes(LIMIT), b"1"]),
        413,
    ),
    "HTTP/1.0": (head("POST", path("nobody")).replace(b"HTTP/1.1", b"HTTP/1.0"), 404),
}


@pytest.mark.parametrize("first", CLOSES)
@pytest.mark.parametrize(
    "behind",
    [
        b"garbage\r\n\r\n",
        head("GET", "/v2"),
        infer(),
        infer(headers=DOORS["asgi"]),
        infer(headers={"Expect": "100-continue"}),
        head("POST", path(), {"Transfer-Encoding": "chunked"}) + b"no size\r\n",
    ],
)
def test_what_comes_behind_an_answer_that_closes_is_dropped(
    server: InferServer, client: Client, first: str, behind: bytes
) -> None:
    request, status = CLOSES[first]
    client.send(request + behind)
    answer = client.answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert client.at_end()
    server.journal.wait_for()
    assert [ended.code for ended in server.journal._ended if ended.code == "OK"] == []


# --- bodies ------------------------------------------------------------------------------------------------


@door
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_request_cut_anywhere(
    server: InferServer, client: Client, door: Mapping[str, str], framing: str
) -> None:
    if framing == "length":
        request = infer(5.0, headers=door)
    else:
        pieces = [body(5.0)[:20], body(5.0)[20:]]
        request = head("POST", path(), {"Transfer-Encoding": "chunked", **door}) + chunked(pieces)
    received = 0
    for cut in range(1, len(request)):
        client.send(request[:cut])
        server.wait_received(received + cut)
        assert numbers(client.ask(request[cut:])) == [10.0, 10.0]
        received += len(request)


@door
def test_a_body_byte_by_byte_in_line(server: InferServer, client: Client, door: Mapping[str, str]) -> None:
    """Its bytes come while another request runs, and after it."""
    server.gated.gate.clear()
    second = infer(2.0, headers=door)
    client.send(infer(1.0, "gated", door))
    assert server.gated.entered.acquire(timeout=PATIENCE)
    for at in range(len(second) - 10):
        client.send(second[at : at + 1])
    server.gated.gate.set()
    assert numbers(client.answer()) == [2.0, 2.0]
    for at in range(len(second) - 10, len(second)):
        client.send(second[at : at + 1])
    assert numbers(client.answer()) == [4.0, 4.0]


@door
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_large_bodies_in_line_end_where_they_end(door: Mapping[str, str], framing: str) -> None:
    size = 1_000_000

    def large(value: float) -> bytes:
        text = body(value) + b" " * (size - len(body(value)))
        if framing == "length":
            return message("POST", path(), text, door)
        return head("POST", path(), {"Transfer-Encoding": "chunked", **door}) + chunked([text])

    with server_with(max_body=size) as server, server.connect() as client:
        client.send(infer(1.0) + large(2.0) + infer(3.0) + large(4.0) + large(5.0) + infer(6.0))
        assert [numbers(client.answer())[0] for _ in range(6)] == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]


@contextmanager
def measured() -> Iterator[Callable[[], int]]:
    """Yields a function that tells how many bytes more are held than when the block began."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("host", DOORS)
def test_tiny_chunks_cost_no_more_memory_than_they_bring(host: str) -> None:
    size = 100_000
    with server_with(max_body=2 * size) as server, server.connect() as client:
        opened = head("POST", path(), {"Transfer-Encoding": "chunked", **DOORS[host]})
        pieces = b"2\r\n  \r\n" * (size // 2)
        with measured() as held:
            client.send(opened + pieces)
            server.wait_received(len(opened) + len(pieces))
            assert server.call(held) < 10 * size, "lists of tiny objects"
        client.send(chunked([body(1.0)]))
        assert numbers(client.answer()) == [2.0, 2.0]


@door
def test_chunks_over_the_limit_are_refused_and_the_answer_can_be_read(
    client: Client, door: Mapping[str, str]
) -> None:
    opened = head("POST", path(), {"Transfer-Encoding": "chunked", **door})
    client.send(opened + b"%x\r\n" % 10_000_000 + bytes(10_000_000))
    answer = client.answer()
    check_error(answer, 413, "PAYLOAD_TOO_LARGE")
    assert answer.headers["connection"] == "close"
    assert client.at_end()


@door
def test_an_announced_body_over_the_limit_with_a_small_rest_leaves_the_connection(
    server: InferServer, client: Client, door: Mapping[str, str]
) -> None:
    for size in (LIMIT + 1, 65536):
        answer = client.ask(message("POST", path(), bytes(size), door))
        check_error(answer, 413, "PAYLOAD_TOO_LARGE")
        assert "connection" not in answer.headers
        check_good(client)


@door
def test_an_announced_body_over_the_limit_with_a_large_rest_ends_the_connection(
    client: Client, door: Mapping[str, str]
) -> None:
    answer = client.ask(head("POST", path(), {"Content-Length": "65537", **door}))
    check_error(answer, 413, "PAYLOAD_TOO_LARGE")
    assert answer.headers["connection"] == "close"
    client.send(bytes(65537))
    assert client.at_end()


def test_a_refusal_does_not_wait_for_the_body(client: Client) -> None:
    """The direct door answers at once; the rest of the body is dropped."""
    for model, size, status in (("nobody", 10, 404), ("m", 60_000, 413)):
        answer = client.ask(head("POST", path(model), {"Content-Length": str(size)}))
        assert answer.status == status
        client.send(bytes(size))
        check_good(client)


def test_a_body_that_is_refused_for_its_coding_leaves_the_connection(client: Client) -> None:
    answer = client.ask(message("POST", path(), body(), {"Content-Encoding": "br"}))
    check_error(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    check_good(client)


# --- versions, headers -------------------------------------------------------------------------------------


@door
@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("ending", ["HTTP/1.0", "HTTP/1.0, keep-alive", "Connection: close"])
def test_an_answer_that_is_the_last(
    client: Client, door: Mapping[str, str], status: int, ending: str
) -> None:
    headers = dict(door)
    if ending == "Connection: close":
        headers["Connection"] = "close"
    elif ending == "HTTP/1.0, keep-alive":
        headers["Connection"] = "keep-alive"
    request = infer(model="m" if status == 200 else "nobody", headers=headers)
    if ending.startswith("HTTP/1.0"):
        request = request.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    answer = client.ask(request)
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert client.at_end()


def test_what_one_head_says_is_not_taken_for_the_next(client: Client) -> None:
    raw = np.array([[3.0, 3.0]]).tobytes()
    binary = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP64",
                    "shape": [1, 2],
                    "parameters": {"binary_data_size": len(raw)},
                }
            ]
        }
    )
    with_length = {"Inference-Header-Content-Length": str(len(binary))}
    for _ in range(3):
        assert client.ask(infer(headers={"X-Request-Id": "mine"})).headers["x-request-id"] == "mine"
        plain = [client.ask(infer()).headers["x-request-id"] for _ in range(3)]
        assert len({*plain, "mine"}) == 4
        assert client.ask(infer(headers={"X-Request-Id": "yours"})).headers["x-request-id"] == "yours"
        assert numbers(client.ask(message("POST", path(), binary + raw, with_length))) == [6.0, 6.0]
        assert numbers(client.ask(infer(4.0))) == [8.0, 8.0]
        check_error(client.ask(message("POST", path(), binary + raw)), 400, "BAD_REQUEST")
        alone = client.ask(message("POST", path(), raw, {"Inference-Header-Content-Length": "0"}))
        assert (alone.status, np.frombuffer(alone.body[-16:]).tolist()) == (200, [6.0, 6.0])
        zipped = message("POST", path(), gzip.compress(body(5.0)), {"Content-Encoding": "gzip"})
        assert numbers(client.ask(zipped)) == [10.0, 10.0]
        assert numbers(client.ask(infer(6.0))) == [12.0, 12.0]
        packed = client.ask(infer(1.0, "small", {"Accept-Encoding": "gzip"}))
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in client.ask(infer(1.0, "small")).headers
        assert client.ask(infer(headers={"Content-Type": "multipart/form-data"})).status == 415
        assert client.ask(infer()).status == 200


def test_the_same_head_again_is_another_request(client: Client) -> None:
    ids = set()
    for value in range(20):
        answer = client.ask(infer(10.0 + value))
        assert numbers(answer) == [20.0 + 2 * value] * 2
        ids.add(answer.headers["x-request-id"])
    assert len(ids) == 20


def test_a_client_that_waits_for_continue(server: InferServer, client: Client) -> None:
    opened = head("POST", path(), {"Content-Length": str(len(body(4.0))), "Expect": "100-continue"})
    assert client.ask(opened).status == 100
    assert numbers(client.ask(body(4.0))) == [8.0, 8.0]
    check_good(client)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_an_encoded_body_has_the_same_answer(client: Client, coding: str) -> None:
    squeeze = gzip.compress if coding == "gzip" else zstandard.ZstdCompressor().compress
    plain = client.ask(infer(4.0, id="same"))
    request = message("POST", path(), squeeze(body(4.0, id="same")), {"Content-Encoding": coding})
    encoded = client.ask(request)
    assert encoded.body == plain.body
    assert encoded.headers.keys() == plain.headers.keys()


# --- a client that does not read ---------------------------------------------------------------------------


def wide(server: InferServer, model: str) -> Wide:
    """One of the models with long answers."""
    found = server.plane.models[model]
    assert isinstance(found, Wide)
    return found


@door
def test_a_client_that_does_not_read_gets_everything_in_order_later(
    server: InferServer, door: Mapping[str, str]
) -> None:
    large = wide(server, "large")
    before = large.calls
    first = large._numbers[0, 0]
    with server.connect(receive_buffer=4096) as client:
        client.send(b"".join(infer(value, "large", door) for value in range(1, 31)))
        client.send(infer(model="nobody", headers=door) + infer(9.0, headers=door))
        [connection] = server.connections()
        server.until(lambda: connection.flow.write_paused)
        with server.connect() as other:
            for _ in range(20):
                check_good(other)
        assert large.calls - before <= 5, "answers pile up"
        for value in range(1, 31):
            assert numbers(client.answer())[0] == pytest.approx(value * first)
        assert client.answer().status == 404
        assert numbers(client.answer()) == [18.0, 18.0]


@door
def test_a_client_that_does_not_read_and_sends_too_much(server: InferServer, door: Mapping[str, str]) -> None:
    """What was refused stays refused, whatever else of it comes while the answer waits."""
    with server.connect(receive_buffer=4096) as client:
        client.send(infer(1.0, "large", door))
        [connection] = server.connections()
        server.until(lambda: connection.flow.write_paused)
        request = head("POST", path(), {"Transfer-Encoding": "chunked", **door}) + chunked(
            [b" " * LIMIT, b" "]
        )
        before = connection.patience.received
        client.send(request)
        server.wait_received(before + len(request))
        assert client.answer().status == 200
        check_error(client.answer(), 413, "PAYLOAD_TOO_LARGE")


def test_a_refused_body_is_not_kept_while_the_answer_waits() -> None:
    size = 1_000_000
    with server_with(max_body=2 * size) as server, server.connect(receive_buffer=4096) as client:
        client.send(infer(1.0, "large"))
        [connection] = server.connections()
        server.until(lambda: connection.flow.write_paused)
        before = connection.patience.received
        opened = head("POST", path("nobody"), {"Content-Length": str(size)})
        with measured() as held:
            client.send(opened + bytes(size - 1))
            server.until(lambda: connection.patience.received == before + len(opened) + size - 1)
            assert server.call(held) < size // 2
        client.send(b"1")
        assert client.answer().status == 200
        assert client.answer().status == 404
        check_good(client)


# --- callers who leave -------------------------------------------------------------------------------------


@door
@pytest.mark.parametrize("goodbye", [leave, reset])
@pytest.mark.parametrize("where", ["head", "length", "chunks"])
def test_a_caller_who_leaves_in_the_middle_of_a_request(
    server: InferServer, door: Mapping[str, str], goodbye: Any, where: str
) -> None:
    client = server.connect()
    if where == "head":
        client.send(infer(headers=door)[:40])
        server.wait_received(40)
    else:
        framing = {"Content-Length": "100"} if where == "length" else {"Transfer-Encoding": "chunked"}
        client.send(head("POST", path(), {**framing, **door}) + b'5\r\n{"inp')
        server.until(lambda: server.plane.gate.in_flight == 1)
    goodbye(client)
    server.wait_alone()
    if where != "head":
        server.journal.wait_for(Ended("http", "m", "CANCELLED"))


@door
@pytest.mark.parametrize("goodbye", [leave, reset])
@pytest.mark.parametrize("where", ["compute", "queue"])
def test_a_caller_who_leaves_while_it_waits(
    server: InferServer, busy: Client, door: Mapping[str, str], goodbye: Any, where: str
) -> None:
    if where == "queue":
        leaving = server.connect().send(infer(2.0, "gated", door))
        server.until(lambda: server.plane.gate.in_flight == 2)
    else:
        leaving = busy
    goodbye(leaving)
    server.journal.wait_for(Ended("http", "gated", "CANCELLED"))
    server.gated.gate.set()
    if where == "queue":
        assert numbers(busy.answer()) == [200.0, 200.0]
        assert server.gated.calls == [1]


@door
def test_a_client_that_closes_its_sending_side_has_left(
    server: InferServer, busy: Client, door: Mapping[str, str]
) -> None:
    with server.connect() as client:
        client.send(infer(2.0, "gated", door))
        server.until(lambda: server.plane.gate.in_flight == 2)
        client.sock.shutdown(socket.SHUT_WR)
        server.journal.wait_for(Ended("http", "gated", "CANCELLED"))
        assert client.at_end()


@door
@pytest.mark.parametrize("goodbye", [leave, reset])
def test_a_caller_who_leaves_while_its_answers_are_written(
    server: InferServer, door: Mapping[str, str], goodbye: Any
) -> None:
    client = server.connect(receive_buffer=4096)
    client.send(infer(1.0, "large", door) * 3)
    [connection] = server.connections()
    server.until(lambda: connection.flow.write_paused)
    server.journal.wait_for(*[Ended("http", "large", "OK")] * 2)
    goodbye(client)
    server.wait_alone()
    assert server.call(lambda: getattr(connection, "when_writable", None)) is None


@contextmanager
def threads_taken(server: InferServer) -> Iterator[threading.Event]:
    """Whatever wants a thread of the loop's executor waits until the event is set."""
    go = threading.Event()
    executor = ThreadPoolExecutor(1)
    executor.submit(go.wait, PATIENCE)
    server.call(lambda: server.loop.set_default_executor(executor))
    try:
        yield go
    finally:
        go.set()
        server.call(lambda: server.loop.set_default_executor(ThreadPoolExecutor()))
        executor.shutdown()


@door
@pytest.mark.parametrize("goodbye", [leave, reset])
def test_a_caller_who_leaves_while_its_answer_is_compressed(
    server: InferServer, door: Mapping[str, str], goodbye: Any
) -> None:
    client = server.connect()
    with threads_taken(server) as go:
        client.send(infer(1.0, "large", {"Accept-Encoding": "gzip", **door}) + infer(1.0, "gated"))
        server.journal.wait_for(Ended("http", "large", "OK"))
        goodbye(client)
        server.wait_alone()
        go.set()
    assert server.gated.calls == []


# --- compression -------------------------------------------------------------------------------------------


@door
@pytest.mark.parametrize("model", ["small", "large"])
def test_answers_are_compressed_small_and_large(client: Client, door: Mapping[str, str], model: str) -> None:
    wanted = numbers(client.ask(infer(2.0, model, door)))
    requests = [infer(2.0, model, {"Accept-Encoding": "gzip", **door}), infer(4.0, headers=door)]
    client.send(b"".join(requests * 3))
    for _ in range(3):
        answer = client.answer()
        assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "accept-encoding")
        assert orjson.loads(gzip.decompress(answer.body))["outputs"][0]["data"] == wanted
        assert numbers(client.answer()) == [8.0, 8.0]


@door
@pytest.mark.usefixtures("noisy")
def test_an_answer_that_cannot_be_compressed_is_sent_as_it_is(
    server: InferServer, client: Client, door: Mapping[str, str]
) -> None:
    ended = ThreadPoolExecutor(1)
    server.call(lambda: server.loop.set_default_executor(ended))
    ended.shutdown()
    try:
        answer = client.ask(infer(2.0, "large", {"Accept-Encoding": "gzip", **door}))
    finally:
        server.call(lambda: server.loop.set_default_executor(ThreadPoolExecutor()))
    assert len(numbers(answer)) == COLUMNS
    assert "content-encoding" not in answer.headers
    check_good(client)


# --- time --------------------------------------------------------------------------------------------------


@contextmanager
def server_with(max_body: int = LIMIT, **limits: Any) -> Iterator[InferServer]:
    """A server of its own for a test that changes it."""
    with InferServer(HttpLimits(**limits), max_body=max_body) as running, well_afterwards(running):
        yield running


@pytest.mark.parametrize("host", DOORS)
@pytest.mark.parametrize("framing", [{"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}])
def test_a_body_that_stops_is_a_408_that_counts_and_frees(host: str, framing: Mapping[str, str]) -> None:
    with server_with(body_timeout=0.1) as server, server.connect() as client:
        answer = client.ask(head("POST", path(), {**framing, **DOORS[host], "X-Request-Id": "slow"}))
        check_error(answer, 408, "REQUEST_TIMEOUT")
        assert (answer.headers["connection"], answer.headers["x-request-id"]) == ("close", "slow")
        assert server.inside() == 0
        assert [(each.front, each.model) for each in server.journal._ended] == [("http", "m")]
        assert client.at_end()


@door
def test_a_deadline_that_passes_during_compute(
    server: InferServer, client: Client, door: Mapping[str, str]
) -> None:
    server.gated.gate.clear()
    answer = client.ask(infer(1.0, "gated", door, parameters={"timeout": 20_000}))
    check_error(answer, 504, "TIMEOUT")
    assert server.inside() == 0
    check_good(client)
    server.gated.gate.set()
    assert numbers(client.ask(infer(2.0, "gated", door))) == [4.0, 4.0]


# --- the end -----------------------------------------------------------------------------------------------


def stopping(server: InferServer, seconds: float) -> Future[None]:
    """The stop of the HTTP server, begun."""
    return asyncio.run_coroutine_threadsafe(server.http.stop(seconds), server.loop)


@pytest.mark.parametrize("host", DOORS)
def test_every_answer_of_a_closing_server_closes(host: str) -> None:
    with InferServer() as server:
        server.gated.gate.clear()
        with server.connect() as inside, server.connect() as idle, server.connect() as refused:
            inside.send(infer(1.0, "gated", DOORS[host]))
            assert server.gated.entered.acquire(timeout=PATIENCE)
            check_good(idle)
            server.call(server.http.close_after_answers)
            server.gated.gate.set()
            for answer, connection in (
                (inside.answer(), inside),
                (idle.ask(infer(1.0, headers=DOORS[host])), idle),
                (refused.ask(infer(1.0, "nobody", DOORS[host])), refused),
            ):
                assert answer.status == (404 if connection is refused else 200)
                assert answer.headers["connection"] == "close"
                assert connection.at_end()
        assert server.inside() == 0


@pytest.mark.parametrize("host", DOORS)
def test_who_is_inside_is_answered_before_the_stop_and_who_is_idle_is_closed(host: str) -> None:
    with InferServer() as server:
        server.gated.gate.clear()
        with server.connect() as inside, server.connect() as idle, server.connect() as half:
            inside.send(infer(1.0, "gated", DOORS[host]))
            half.send(infer(1.0, headers=DOORS[host])[:-1])
            assert server.gated.entered.acquire(timeout=PATIENCE)
            server.until(lambda: server.plane.gate.in_flight == 2)
            stopped = stopping(server, PATIENCE)
            assert idle.at_end()
            half.send(infer(1.0, headers=DOORS[host])[-1:])
            assert numbers(half.answer()) == [2.0, 2.0]
            server.gated.gate.set()
            answer = inside.answer()
            assert numbers(answer) == [2.0, 2.0]
            assert answer.headers["connection"] == "close"
            assert inside.at_end()
            stopped.result(PATIENCE)
            assert server.connections() == []
        assert server.inside() == 0


@pytest.mark.parametrize("host", DOORS)
def test_who_takes_too_long_is_cut_off_at_the_end(host: str) -> None:
    with InferServer() as server:
        server.gated.gate.clear()
        with server.connect() as inside:
            inside.send(infer(1.0, "gated", DOORS[host]) * 3)
            assert server.gated.entered.acquire(timeout=PATIENCE)
            stopping(server, 0.0).result(PATIENCE)
            assert inside.at_end()
            server.journal.wait_for(Ended("http", "gated", "CANCELLED"))
            server.wait_alone()
            assert server.inside() == 0


@pytest.mark.parametrize("host", DOORS)
def test_the_stop_serves_who_waits_to_be_accepted(host: str) -> None:
    """One of them has been reset meanwhile, and that is its own affair."""
    with InferServer() as server:

        async def connect_and_stop() -> list[Client]:
            clients = []
            for _ in range(5):  # the loop does not turn, so none of them is accepted before the stop
                sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
                clients.append(Client(sock).send(infer(1.0, headers=DOORS[host])))
            reset(clients.pop(1))
            await server.http.stop(PATIENCE)
            return clients

        for client in server.run(connect_and_stop()):
            with client:
                answer = client.answer()
                assert numbers(answer) == [2.0, 2.0]
                assert answer.headers["connection"] == "close"
                assert client.at_end()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))


# --- bugs, and what is left over ---------------------------------------------------------------------------


class Faulty(Exchange):
    """An infer door with a bug, for one request each."""

    __slots__ = ()

    def admit(self, model: str, version: str | None) -> None:
        super().admit(model, version)
        if self.request_id == "admit":
            raise LookupError("the secret reason")

    def _submit(self, body: bytes) -> None:
        if self.request_id == "submit":
            raise LookupError("the secret reason")
        super()._submit(body)


@pytest.mark.usefixtures("noisy")
@pytest.mark.parametrize("bug", ["open", "admit", "submit"])
def test_a_bug_of_ours_is_a_500(bug: str) -> None:
    def open_exchange(head: Head) -> Exchange:
        if head.request_id == "open":
            raise LookupError("the secret reason")
        return Faulty(running.plane.data, running.settings, head)

    with InferServer(open_exchange=open_exchange) as running, well_afterwards(running):
        for packet in (
            infer(headers={"X-Request-Id": bug}),
            infer(2.0) + infer(headers={"X-Request-Id": bug}),
        ):
            with running.connect() as client:
                client.send(packet)
                if packet.startswith(infer(2.0)):
                    assert numbers(client.answer()) == [4.0, 4.0]
                answer = client.answer()
                check_error(answer, 500, "INTERNAL")
                assert answer.headers["x-request-id"] == bug
                assert b"secret" not in answer.body
                if bug == "open":
                    assert answer.headers["connection"] == "close"
                    assert client.at_end()
                else:
                    check_good(client)


def test_requests_leave_nothing_for_the_garbage_collector(server: InferServer, client: Client) -> None:
    def alive() -> int:
        return sum(isinstance(each, Turn | Party | Exchange | Ticket) for each in gc.get_objects())

    check_good(client)
    gc.collect()
    gc.disable()
    try:
        before = alive()
        for _ in range(50):
            check_good(client)
            client.ask(infer(model="nobody"))
            client.ask(message("POST", path(), b"no"))
            client.ask(infer(1.0, "small", {"Accept-Encoding": "gzip"}))
        client.send(infer() * 20)
        for _ in range(20):
            assert client.answer().status == 200
        assert alive() <= before + 2
    finally:
        gc.enable()
