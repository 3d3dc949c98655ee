"""Thousands of requests over HTTP that are nearly right.

Never a 5xx, never a hang, never another's answer; and a neighbour who behaves is always answered right.
"""

from __future__ import annotations

import random
import re
import socket
import time

from tests.conformance.wires import Connection
from tests.fuzz import requests
from tests.fuzz.conftest import Rounds
from tests.fuzz.neighbour import Neighbour, row
from tests.fuzz.requests import Sent
from tests.server_process import ServerProcess
from tests.support import PATIENCE

# What a request that ends as its head says may be answered.
ANSWERS = frozenset((200, 400, 404, 405, 411, 413, 414, 415, 422, 431))
TIMEOUT = 504
# Seconds without a byte after which an incomplete request is given up.
SILENCE = 0.05


def send(connection: Connection, data: bytes, chance: random.Random) -> None:
    """In one piece, or cut anywhere."""
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.choice((0, 0, 0, 1, 3))))
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        connection.send(data[begin:end])


def one_after_the_other(connection: Connection, batch: list[Sent]) -> None:
    """Each has its answer, in its turn, until one says that it is the last."""
    for sent in batch:
        answer = connection.answer()
        allowed = ANSWERS | ({TIMEOUT} if sent.timed else set())
        assert answer.status in allowed, (answer, sent.data)
        if answer.status not in (200, 204):
            document = answer.json()
            assert document["error"] == document["message"] != "", (answer, sent.data)
            assert document["request_id"] == answer.headers["x-request-id"], (answer, sent.data)
        sent.check(answer.status, answer.headers, answer.body)
        if answer.headers.get("connection") == "close":
            assert connection.at_end(), sent.data
            return


def test_whole_requests(server: ServerProcess, rounds: Rounds) -> None:
    """Several at a time on one connection, so that they are computed together."""
    with Neighbour(server) as neighbour:
        for chance in rounds:
            batch = [requests.request(chance) for _ in range(chance.choice((1, 1, 2, 8, 30)))]
            name = chance.choice(("sum", "double"))
            batch.append(requests.good(name, row(chance.randrange(10**6), name), f"last-{rounds.done}"))
            with Connection(server.http_port) as connection:
                send(connection, b"".join(sent.data for sent in batch), chance)
                one_after_the_other(connection, batch)
            neighbour.check()


def test_broken_framing(server: ServerProcess, rounds: Rounds) -> None:
    """Whatever is answered is no fault of the server's, and the next connection is as good as new."""
    with Neighbour(server) as neighbour:
        for chance in rounds:
            data = requests.tampered(chance)
            for status in statuses(server.http_port, data, chance):
                assert status in ANSWERS | {100, 408, TIMEOUT} | {204, 501, 505}, (status, data)
            values = row(rounds.done)
            with Connection(server.http_port) as connection:
                sent = requests.good("sum", values, f"after-{rounds.done}")
                answer = connection.ask(sent.data)
            assert answer.status == 200, (answer, data)
            sent.check(answer.status, answer.headers, answer.body)
            neighbour.check()


def statuses(port: int, data: bytes, chance: random.Random) -> list[int]:
    """Of whatever comes back until the server closes, or says nothing for a while."""
    came = b""
    with Connection(port) as connection:
        send(connection, data, chance)
        connection.sock.settimeout(SILENCE)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                piece = connection.sock.recv(65536)
            except (TimeoutError, ConnectionResetError):
                break
            if not piece:
                break
            came += piece
        else:
            raise AssertionError(f"it does not end: {came[-300:]!r} to {data[:300]!r}")
        if chance.random() < 0.2:
            connection.sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
            )
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", came)]
