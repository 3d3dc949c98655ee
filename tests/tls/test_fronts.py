"""Both fronts over TLS: what works plainly works encrypted, and whoever does not speak it harms nobody."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests

from tests.server_process import ServerProcess
from tests.support import PATIENCE
from tests.tls.encrypted import Client, Folder, grpc_infer, infer_request, post

ROWS = [[1.0, 2.0], [3.0, 4.0]]
DOUBLED = [[2.0, 4.0], [6.0, 8.0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(folder: Folder) -> Iterator[ServerProcess]:
    with folder.server("--http-max-body-bytes=32000000") as server:
        yield server


@pytest.fixture(scope="module")
def strict(folder: Folder) -> Iterator[ServerProcess]:
    """A handshake takes two seconds at most, which is long for those who can, also on a busy machine."""
    with folder.server("--tls-handshake-timeout=2") as server:
        yield server


@pytest.fixture(scope="module")
def hasty(folder: Folder) -> Iterator[ServerProcess]:
    """Idle connections end after a second, and those that take next to nothing after five."""
    with folder.server("--http-keep-alive-timeout=1", "--http-write-timeout=5") as server:
        yield server


@pytest.fixture
def client(server: ServerProcess, folder: Folder) -> Iterator[Client]:
    with Client(server.http_port, folder.context()) as client:
        yield client


@pytest.fixture
def channel(server: ServerProcess, folder: Folder) -> Iterator[grpc.Channel]:
    with folder.channel(server) as channel:
        yield channel


def test_the_first_answer_and_those_to_a_head_that_is_known_by_then(client: Client) -> None:
    for number in range(5):
        assert client.infer([[number, 1.0]]) == [[2.0 * number, 2.0]]


def test_requests_in_one_packet_are_answered_in_order(client: Client) -> None:
    client.send(b"".join(infer_request([[number, 0]]) for number in range(50)))
    answers = [client.answer().json()["outputs"][0]["data"][0] for _ in range(50)]
    assert answers == [2.0 * number for number in range(50)]


def test_16_mib_there_and_back(client: Client) -> None:
    array = np.arange(2 * 2**20, dtype="<f8").reshape(1024, -1)
    raw = array.tobytes()
    head = (
        b'{"inputs":[{"name":"x","shape":[1024,2048],"datatype":"FP64","parameters":{"binary_data_size":%d}}],'
        b'"outputs":[{"name":"y","parameters":{"binary_data":true}}]}' % len(raw)
    )
    length = f"Inference-Header-Content-Length: {len(head)}\r\n"
    answer = client.send(post("/v2/models/model/infer", head + raw, length)).answer()
    assert answer.status == 200
    binary = answer.body[int(answer.headers["inference-header-content-length"]) :]
    assert np.array_equal(np.frombuffer(binary, "<f8"), 2 * array.ravel())
    assert client.infer(ROWS) == DOUBLED


def test_16_mib_there_and_back_over_grpc(channel: grpc.Channel) -> None:
    array = np.arange(2 * 2**20, dtype="<f8").reshape(1024, -1)
    assert np.array_equal(grpc_infer(channel, array), 2 * array)


@pytest.fixture(scope="module")
def large_request() -> bytes:
    """For an answer of some megabytes, more than all buffers on the way hold."""
    rows = np.random.default_rng(7).random((1000, 500))
    return infer_request(rows.tolist())


def test_a_peer_that_reads_slowly_gets_all_of_a_large_answer(
    hasty: ServerProcess, folder: Folder, large_request: bytes
) -> None:
    with Client(hasty.http_port, folder.context(), receive_buffer=4096) as client:
        client.send(large_request)
        assert select.select([], [], [client.sock], 1.5) == ([], [], [])  # longer than a connection may idle
        assert np.array(client.answer().json()["outputs"][0]["data"]).shape == (500_000,)


def test_a_peer_that_reads_slowly_gets_all_of_its_last_answer(
    hasty: ServerProcess, folder: Folder, large_request: bytes
) -> None:
    last = large_request.replace(b"Host:", b"Connection: close\r\nHost:")
    with Client(hasty.http_port, folder.context(), receive_buffer=4096) as client:
        client.send(last)
        assert select.select([], [], [client.sock], 1.5) == ([], [], [])  # longer than a connection may idle
        assert np.array(client.answer().json()["outputs"][0]["data"]).shape == (500_000,)
        assert client.at_end()


def test_an_idle_connection_is_closed(hasty: ServerProcess, folder: Folder) -> None:
    with Client(hasty.http_port, folder.context()) as client:
        assert client.at_end()


def test_a_connection_too_many_is_told_so(folder: Folder) -> None:
    context = folder.context()
    with folder.server("--http-max-connections=4") as server, ExitStack() as stack:
        clients = [stack.enter_context(Client(server.http_port, context)) for _ in range(4)]
        assert [client.infer(ROWS) for client in clients] == [DOUBLED] * 4
        with Client(server.http_port, context) as fifth:
            answer = fifth.answer()
            assert (answer.status, answer.json()["error_code"]) == (503, "OVERLOADED")
            assert fifth.at_end()
        assert [client.infer(ROWS) for client in clients] == [DOUBLED] * 4


def is_held(server: ServerProcess, client: Client) -> bool:
    """Whether the server has this connection open; a socket that no process has is without an inode."""
    ends = [f":{port:04X}" for port in (server.http_port, client.sock.getsockname()[1])]
    for line in Path("/proc/net/tcp").read_text().splitlines():
        _, local, remote, *_, inode = line.split()[:10]
        if [local[-5:], remote[-5:]] == ends:
            return inode != "0"
    return False


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_a_peer_that_never_reads_is_cut_off(
    hasty: ServerProcess, folder: Folder, large_request: bytes
) -> None:
    with Client(hasty.http_port, folder.context(), receive_buffer=4096) as client:
        client.send(large_request)
        assert is_held(hasty, client)
        deadline = time.monotonic() + PATIENCE
        while is_held(hasty, client):
            assert time.monotonic() < deadline


def test_a_body_that_is_too_large_is_refused_before_it_is_read_and_the_answer_arrives(client: Client) -> None:
    head = b"POST /v2/models/model/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000\r\n\r\n"
    answer = client.send(head + bytes(1_000_000)).answer()
    assert (answer.status, answer.json()["error_code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert client.at_end()


def test_a_request_open_to_two_readings_is_refused(client: Client) -> None:
    answer = client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert client.at_end()


def test_a_library_asks_over_https(server: ServerProcess, folder: Folder) -> None:
    url = f"https://localhost:{server.http_port}/v2/health/ready"
    assert requests.get(url, verify=str(folder.path / "ca.crt"), timeout=PATIENCE).json()["ready"] is True
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, timeout=PATIENCE)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_from_1_2_on_is_spoken(server: ServerProcess, folder: Folder, version: ssl.TLSVersion) -> None:
    context = folder.context()
    context.minimum_version = context.maximum_version = version
    with Client(server.http_port, context) as client:
        assert client.infer(ROWS) == DOUBLED


@pytest.mark.parametrize("front", ["http", "grpc"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_not_spoken(server: ServerProcess, folder: Folder, front: str) -> None:
    context = folder.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Client(getattr(server, f"{front}_port"), context)


def check_neighbours(server: ServerProcess, folder: Folder) -> None:
    with Client(server.http_port, folder.context()) as client:
        assert client.infer(ROWS) == DOUBLED
    with folder.channel(server) as channel:
        assert np.array_equal(grpc_infer(channel, np.array(ROWS)), DOUBLED)


@pytest.mark.parametrize("front", ["http", "grpc"])
@pytest.mark.parametrize(
    "data",
    [infer_request(ROWS), bytes(range(256)) * 64, b"\x16\x03\x01\xff\xff" + bytes(500)],
    ids=["plain HTTP", "noise", "a hello that never ends"],
)
def test_who_speaks_no_tls_is_sent_away(
    strict: ServerProcess, folder: Folder, front: str, data: bytes
) -> None:
    before = strict.output
    with Client(getattr(strict, f"{front}_port"), None) as stranger:
        stranger.send(data)
        while chunk := _read(stranger.sock):  # an alert may come first
            assert b"HTTP" not in chunk
    check_neighbours(strict, folder)
    assert "Traceback" not in strict.output.removeprefix(before)


@pytest.mark.parametrize("front", ["http", "grpc"])
def test_who_stalls_in_the_handshake_is_sent_away(strict: ServerProcess, folder: Folder, front: str) -> None:
    port = getattr(strict, f"{front}_port")
    stalled = [Client(port, None) for _ in range(20)]
    check_neighbours(strict, folder)
    for client in stalled:
        with client:
            assert client.at_end()


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


def test_a_plain_channel_is_not_served(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.grpc_target) as channel, pytest.raises(grpc.RpcError) as refused:
        grpc_infer(channel, np.array(ROWS))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
