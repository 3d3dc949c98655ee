"""A packet with a known head is answered as the parser would have it, however the bytes are cut."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import pytest

from oipserver.http.direct import MAX_HEAD, MAX_HEADS
from oipserver.http.limits import HttpLimits
from oipserver.http.protocol import LimitedProtocol
from tests.conformance.wires import message
from tests.http.infer_server import InferServer
from tests.http.test_direct import body, infer, numbers, path

ID = {"X-Request-Id": "always-the-same"}
HEAD, BODY = (part for part in infer(1.0, headers=ID).partition(b"\r\n\r\n")[::2])
HEAD += b"\r\n\r\n"
ONE, TWO, THREE = (infer(value, headers=ID) for value in (1.0, 2.0, 3.0))

_NEW_ID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

STORIES: dict[str, Sequence[bytes]] = {
    "one": [ONE],
    "one after the other": [ONE, TWO, THREE],
    "two in a packet": [ONE + TWO, THREE],
    "many in a packet": [ONE * 20, TWO],
    "the body later": [HEAD, BODY, TWO],
    "half the body later": [HEAD + BODY[:9], BODY[9:], TWO],
    "half the head later": [HEAD[:30], HEAD[30:] + BODY, TWO],
    "and half of the next": [ONE + TWO[:40], TWO[40:], THREE],
    "a blank line before": [b"\r\n" + ONE, b"\r\n", TWO],
    "a letter before": [b"P", ONE, TWO],
    "a letter behind": [ONE + b"P", TWO],
    "a body too long": [ONE + b"{}", TWO],
    "a body that is no JSON": [HEAD + b"x" * len(BODY), TWO],
    "other headers between": [ONE, infer(2.0), ONE],
    "another route between": [ONE, b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n", TWO],
    "another method": [ONE.replace(b"POST", b"PUT "), TWO],
    "an unknown model": [infer(1.0, "nobody", headers=ID), infer(1.0, "nobody", headers=ID), ONE],
    "the last one": [infer(1.0, headers=ID | {"Connection": "close"}), TWO],
    "no body": [message("POST", path(), b"", ID), ONE],
    "too large": [message("POST", path(), b" " * 5000, ID)] * 2,
}


@pytest.fixture(scope="module")
def server() -> Iterator[InferServer]:
    with InferServer(HttpLimits(linger_timeout=3600.0)) as running:
        yield running


def heads(server: InferServer) -> int:
    return server.call(lambda: len(server.http._connections.heads))


def forget(server: InferServer) -> None:
    server.call(server.http._connections.heads._known.clear)


def answers(server: InferServer, packets: Sequence[bytes]) -> list[bytes]:
    """What the server says to packets that come one by one, in lines, without dates and new ids."""
    server.wait_alone()
    with server.connect() as client:
        size = 0
        for packet in packets:
            client.send(packet)
            size += len(packet)
            _received(server, size)
        with suppress(OSError):  # the server has hung up
            client.sock.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: client.sock.recv(65536), b""))
    return [line for line in _NEW_ID.sub(b"", said).split(b"\r\n") if not line.startswith(b"date: ")]


def _received(server: InferServer, size: int) -> None:
    """Return when the connection has received so much and answered what it can, or listens no more."""
    for connection in server.connections():
        server.until(partial(_is_done, connection, size))


def _is_done(connection: LimitedProtocol, size: int) -> bool:
    if connection.outlet.is_closing():
        return True
    running = connection._running
    idle = running is None or running.more_body  # what begins behind a whole request does not hurry it
    return connection.patience.received >= size and idle


@pytest.mark.parametrize("packets", STORIES.values(), ids=STORIES)
def test_the_answers_are_those_of_the_parser(server: InferServer, packets: Sequence[bytes]) -> None:
    forget(server)
    unknown = answers(server, packets)
    for packet in packets:
        answers(server, [packet])  # what can be learnt is known from here on
    answers(server, [ONE])
    assert heads(server)
    assert answers(server, packets) == unknown


def test_what_is_known_is_used(server: InferServer) -> None:
    forget(server)
    with server.connect() as client:
        assert numbers(client.ask(ONE)) == [2.0, 2.0]
        (known,) = server.call(lambda: list(server.http._connections.heads._known.values()))
        known.target = ("nobody", None)
        assert client.ask(TWO).status == 404
    forget(server)


def test_heads_that_never_come_again_push_out_little(server: InferServer) -> None:
    forget(server)
    with server.connect() as client:
        client.ask(ONE)
        for number in range(MAX_HEADS * 2):
            assert client.ask(infer(1.0, headers={"X-Request-Id": f"{number:04}"})).status == 200
        assert heads(server) == MAX_HEADS
        client.ask(infer(1.0, headers={"X-Long": "x" * MAX_HEAD}))
        assert heads(server) == MAX_HEADS
        assert numbers(client.ask(message("POST", path(), body(4.0)))) == [8.0, 8.0]
