"""SIGTERM under load on both fronts with TLS: nothing that was sent is lost."""

from __future__ import annotations

import signal
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np

from tests.support import PATIENCE
from tests.tls.encrypted import Client, Folder, grpc_infer, infer_request

ROWS = [[1.0, 2.0]]
CLIENTS = 12


def closed_loop(ask: Callable[[], str], stopping: threading.Event, outcomes: Counter[str]) -> None:
    """Ask again and again; after the signal until the server says no."""
    while True:
        outcome = ask()
        outcomes[outcome] += 1
        if outcome != "answered" and stopping.is_set():
            return


def over_http(port: int, context: ssl.SSLContext) -> str:
    """One request on a connection of its own; without a handshake nothing was sent."""
    try:
        client = Client(port, context)
    except OSError:
        return "refused"
    with client:
        try:
            answer = client.send(infer_request(ROWS)).answer()
        except OSError as error:
            return f"lost: {error!r}"
    if answer.status == 200:
        return "answered" if answer.json()["outputs"][0]["data"] == [2, 4] else "wrong"
    return "refused" if answer.status == 503 else f"lost: {answer}"


class Kept:
    """Asks on one connection for as long as the server keeps it."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._address = port, context
        self._client: Client | None = None

    def __call__(self) -> str:
        try:
            client = self._client or Client(*self._address)
        except OSError:
            return "refused"
        try:
            answer = client.send(infer_request(ROWS)).answer()
        except OSError as error:
            return f"lost: {error!r}"
        self._client = client if answer.headers.get("connection") != "close" else None
        if self._client is None:
            client.__exit__()
        return "answered" if answer.status == 200 else "refused" if answer.status == 503 else "lost"


def over_grpc(channel: grpc.Channel) -> str:
    try:
        return "answered" if np.array_equal(grpc_infer(channel, np.array(ROWS)), [[2, 4]]) else "wrong"
    except grpc.RpcError as error:
        return "refused" if error.code() is grpc.StatusCode.UNAVAILABLE else f"lost: {error}"


def test_nothing_is_lost(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    outcomes: Counter[str] = Counter()
    stopping = threading.Event()
    context = folder.context()
    with (
        folder.server("--shutdown-lame-duck=0.1", "--shutdown-drain=10") as server,
        folder.channel(server) as channel,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        port = server.http_port
        asking: list[Callable[[], str]] = [lambda: over_http(port, context), lambda: over_grpc(channel)]
        asking = [*asking * (CLIENTS // 3), *(Kept(port, context) for _ in range(CLIENTS // 3))]
        clients = [pool.submit(closed_loop, ask, stopping, outcomes) for ask in asking]
        while outcomes["answered"] < 200:
            assert not any(client.done() for client in clients)
        server.signal(signal.SIGTERM)
        stopping.set()
        for client in clients:
            client.result(PATIENCE)
        assert server.wait() == 0
    assert set(outcomes) <= {"answered", "refused"}, outcomes
