"""Connections that ask for too much, over real sockets: they are ended, and their neighbours are served."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from tests.grpc.conftest import Serve
from tests.grpc.http2 import END_HEADERS, ENHANCE_YOUR_CALM, Http2, Kind, call_headers, frame
from tests.grpc.running import Running, raw_request
from tests.support import PATIENCE, Doubler, until

INFER = "/inference.GRPCInferenceService/ModelInfer"
OWN = [("grpc.use_local_subchannel_pool", 1)]


def ask(channel: grpc.Channel, *metadata: tuple[str, str]) -> None:
    method = channel.unary_unary(INFER, None, None)
    assert method(raw_request(1.0).SerializeToString(), timeout=PATIENCE, metadata=metadata)


def ask_again(channel: grpc.Channel) -> None:
    """As `ask`; whoever is refused before any work may come again at once."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return ask(channel)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                raise


@contextmanager
def neighbour(server: Running) -> Iterator[list[float]]:
    """Somebody who asks all the while; the seconds that each answer took."""
    seconds: list[float] = []
    ended = threading.Event()

    def run() -> None:
        with grpc.insecure_channel(server.address, OWN) as channel:
            while not ended.is_set() or len(seconds) < 10:
                started = time.monotonic()
                ask_again(channel)
                seconds.append(time.monotonic() - started)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        thread.join(PATIENCE)
    assert len(seconds) >= 10
    seconds.sort()
    assert seconds[len(seconds) // 2] < 0.25, "a good neighbour's usual wait"
    # A second in which the machine does something else is not meant.
    assert seconds[int(len(seconds) * 0.99)] < 5.0, "p99 of a good neighbour"


def resets(count: int) -> Iterator[bytes]:
    """CVE-2023-44487: calls that are given up as soon as they are begun."""
    headers = call_headers(INFER)
    for number in range(count):
        stream = 2 * number + 1
        yield frame(Kind.HEADERS, END_HEADERS, stream, headers)
        yield frame(Kind.RST_STREAM, 0, stream, struct.pack(">I", 8))


def continuations(count: int) -> Iterator[bytes]:
    """CVE-2024-27316: a header block that does not end."""
    yield frame(Kind.HEADERS, 0, 1, call_headers(INFER))
    for number in range(count):
        name, value = b"x%06d" % number, b"a" * 64
        yield frame(Kind.CONTINUATION, 0, 1, b"\x10" + bytes([len(name)]) + name + bytes([64]) + value)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "resets": lambda: resets(5000),
    "pings": lambda: (frame(Kind.PING, 0, 0, bytes(8)) for _ in range(20_000)),
    "settings": lambda: (frame(Kind.SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)) for _ in range(20_000)),
    "continuations": lambda: continuations(20_000),
    "windows": lambda: (frame(Kind.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) for _ in range(20_000)),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_harms_no_neighbour_and_leaves_nothing(serve: Serve, flood: str) -> None:
    server = serve({"m": Doubler()})
    with neighbour(server), Http2(server.port) as client:
        pieces = list(FLOODS[flood]())
        for start in range(0, len(pieces), 100):
            if not client.send(b"".join(pieces[start : start + 100])):
                break
    server.run(until, lambda: not server.server._patience._until)
    server.run(until, lambda: server.plane.gate.in_flight == 0)


def test_pings_without_end_are_told_to_calm_down(serve: Serve) -> None:
    server = serve({"m": Doubler()})
    with Http2(server.port) as client:
        client.send(frame(Kind.PING, 0, 0, bytes(8)) * 100)
        assert client.goaway() == ENHANCE_YOUR_CALM


# --- what can be set ---------------------------------------------------------------------------------------


def test_metadata_over_the_limit_is_refused_and_below_it_is_not(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_metadata_bytes=4000)
    ask(server.channel, ("a", "x" * 3000))
    with pytest.raises(grpc.RpcError) as refused:
        ask(server.channel, ("a", "x" * 4000))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    ask(server.channel)


def test_a_connection_too_many_is_closed_and_a_place_that_is_left_is_taken(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_connections=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(Http2(server.port)).wait_for(Kind.SETTINGS)
        with Http2(server.port) as third:
            assert third.read() is None
    while True:  # the others leave
        with Http2(server.port) as next_one:
            if next_one.read() is not None:
                break
    ask(server.channel)


def test_a_connection_without_calls_is_sent_away(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_connection_idle=0.1)
    with Http2(server.port) as client:
        assert client.goaway() is not None


def test_an_old_connection_is_sent_away_and_its_callers_notice_nothing(serve: Serve) -> None:
    server = serve({"m": Doubler()}, max_connection_age=0.1)
    with neighbour(server), Http2(server.port) as client:
        assert client.goaway() == 0
