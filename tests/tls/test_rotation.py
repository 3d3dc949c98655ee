"""New certificates are taken while the server runs; connections that are open notice nothing."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
import trustme

from tests.server_process import ServerProcess
from tests.support import PATIENCE
from tests.tls.encrypted import Client, Folder, Pair, grpc_infer

ROWS = [[1.0, 2.0]]
DOUBLED = [[2.0, 4.0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(folder: Folder) -> Iterator[ServerProcess]:
    flags = (f"--tls-client-ca-file={folder.path / 'clients.crt'}", "--tls-client-auth=optional")
    folder.put("clients.crt", folder.root)
    with folder.server("--tls-check-interval=0.02", *flags) as server:
        yield server


def shown(server: ServerProcess, folder: Folder) -> int:
    """The serial number of the certificate that a new connection is shown."""
    with Client(server.http_port, folder.context()) as client:
        assert client.infer(ROWS) == DOUBLED
        return client.serial()


def works(channel: grpc.Channel) -> bool:
    return np.array_equal(grpc_infer(channel, np.array(ROWS)), DOUBLED)


def change(server: ServerProcess, folder: Folder, pair: Pair) -> None:
    """Return when new connections are shown this pair."""
    folder.serve(pair)
    deadline = time.monotonic() + PATIENCE
    while shown(server, folder) != pair.serial:
        assert time.monotonic() < deadline, server.output


def test_new_connections_get_the_new_certificate_and_open_ones_live_on(
    server: ServerProcess, folder: Folder
) -> None:
    with Client(server.http_port, folder.context()) as client, folder.channel(server) as channel:
        before = client.serial()
        assert client.infer(ROWS) == DOUBLED
        assert works(channel)
        pair = folder.issue("localhost", "127.0.0.1")
        change(server, folder, pair)
        assert pair.serial != before
        with folder.channel(server) as fresh:
            assert works(fresh)
        assert client.infer(ROWS) == DOUBLED
        assert works(channel)


BAD: dict[str, tuple[Callable[[Pair, Pair], Pair], str]] = {
    "a key of another certificate": (
        lambda good, other: Pair(good.cert, other.key),
        "tls.key_file: .* is not the key of",
    ),
    "half a certificate": (
        lambda good, _: Pair(good.cert[:300], good.key),
        "tls.cert_file: no PEM certificate in",
    ),
    "half a key": (lambda good, _: Pair(good.cert, good.key[:100]), "tls.key_file: no PEM key in"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_pair_changes_nothing_and_the_log_says_why(
    server: ServerProcess, folder: Folder, bad: str
) -> None:
    make, complaint = BAD[bad]
    before = shown(server, folder)
    good = folder.issue("localhost", "127.0.0.1")
    folder.serve(make(good, folder.issue("localhost")))
    server.wait_for(f"{complaint}.*stays in use")
    assert shown(server, folder) == before
    with folder.channel(server) as channel:
        assert works(channel)
    change(server, folder, good)


def test_a_file_that_is_gone_changes_nothing(server: ServerProcess, folder: Folder) -> None:
    key = (folder.path / "tls.key").read_bytes()
    before = shown(server, folder)
    (folder.path / "tls.key").unlink()
    server.wait_for("tls.key_file: cannot read .*No such file")
    assert shown(server, folder) == before
    folder.put("tls.key", key)


def test_clients_are_checked_by_a_new_authority_from_then_on(server: ServerProcess, folder: Folder) -> None:
    old = folder.issue("a@b.c", common_name="old")
    others = trustme.CA()
    leaf = others.issue_cert("a@b.c", common_name="new")
    new = Pair(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())
    with Client(server.http_port, folder.context(old)) as client:
        assert client.infer(ROWS) == DOUBLED
        folder.put("clients.crt", others.cert_pem.bytes())
        change(server, folder, folder.issue("localhost", "127.0.0.1"))  # seen after it
        assert client.infer(ROWS) == DOUBLED
    with Client(server.http_port, folder.context(new)) as client:
        assert client.infer(ROWS) == DOUBLED
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        Client(server.http_port, folder.context(old)) as client,
    ):
        client.infer(ROWS)


def test_a_session_ends_with_the_files_that_it_was_made_with(server: ServerProcess, folder: Folder) -> None:
    """TLS 1.2 takes one up again without another look at the client's certificate."""
    folder.put("clients.crt", folder.root)
    change(server, folder, folder.issue("localhost", "127.0.0.1"))
    context = folder.context(folder.issue("a@b.c", common_name="someone"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def connected(session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", server.http_port), timeout=PATIENCE)
        return context.wrap_socket(plain, server_hostname="localhost", session=session)

    with connected() as first, connected(first.session) as second:
        assert second.session_reused
        change(server, folder, folder.issue("localhost", "127.0.0.1"))
        with connected(first.session) as third:
            assert not third.session_reused
