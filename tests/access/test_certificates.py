"""A client's certificate says who it is, where it brings no key."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import grpc
import pytest
import trustme
from cryptography import x509

from oipserver.config import AccessConfig, TlsConfig
from tests.access.running import SERVICE, KeyedServer, entry, key, write
from tests.conformance.wires import message
from tests.grpc.running import failure, raw_request
from tests.support import PATIENCE

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}]})


class Pki(NamedTuple):
    """An authority, and pairs of certificate and key of it, by common name."""

    root: bytes
    pairs: dict[str, tuple[bytes, bytes]]
    folder: Path


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder, authority = tmp_path_factory.mktemp("pki"), trustme.CA()
    pairs = {}
    for name in ("localhost", "batch-7", "stranger"):
        leaf = authority.issue_cert("localhost", common_name=name, organization_name="Example")
        pairs[name] = leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
        (folder / f"{name}.crt").write_bytes(pairs[name][0])
        (folder / f"{name}.key").write_bytes(pairs[name][1])
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    return Pki(authority.cert_pem.bytes(), pairs, folder)


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[KeyedServer]:
    with serving(pki, "required") as running:
        yield running


def serving(pki: Pki, client_auth: Literal["required", "optional"]) -> KeyedServer:
    """Knows the owners of certificates `batch-...`, and the key of `boss`."""
    keys = pki.folder / "keys.json"
    batch = {"name": "batch", "subject": "*CN=batch-*", "models": ["m", "/whoami"], "roles": ["infer"]}
    write(keys, batch, entry("boss", roles=["admin"]))
    tls = TlsConfig(
        cert_file=str(pki.folder / "localhost.crt"),
        key_file=str(pki.folder / "localhost.key"),
        client_ca_file=str(pki.folder / "ca.crt"),
        client_auth=client_auth,
    )
    return KeyedServer(AccessConfig(keys_file=str(keys)), tls=tls)


def ask(server: KeyedServer, pki: Pki, client: str, *paths: str, **headers: str) -> list[int]:
    """The statuses of requests on one connection."""
    context = ssl.create_default_context(cadata=pki.root.decode())
    context.load_cert_chain(pki.folder / f"{client}.crt", pki.folder / f"{client}.key")
    connection = http.client.HTTPSConnection("localhost", server.http_port, timeout=PATIENCE, context=context)
    statuses = []
    for path in paths:
        method, body = ("POST", BODY) if path.endswith("infer") else ("GET", None)
        connection.request(method, path, body, {name.replace("_", "-"): it for name, it in headers.items()})
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()
    return statuses


PATHS = ("/v2/models/m/infer", "/v2/models/m", "/v2/models/other/infer", "/v2/models", "/v2/models/m/infer")


def test_over_http(server: KeyedServer, pki: Pki) -> None:
    assert ask(server, pki, "batch-7", *PATHS) == [200, 200, 403, 403, 200]
    assert ask(server, pki, "stranger", *PATHS) == [401] * 5


def test_a_key_goes_before_the_certificate(server: KeyedServer, pki: Pki) -> None:
    assert ask(server, pki, "batch-7", *PATHS, x_api_key=key("boss")) == [200] * 5
    assert ask(server, pki, "batch-7", *PATHS, x_api_key="wrong") == [401] * 5


def test_nobody_takes_another_ones_name_by_writing_it_in_front_of_a_request(pki: Pki) -> None:
    """A head that is known is told by its bytes and by who sent it; neither may pass for the other."""
    sent = message("POST", PATHS[0], BODY.encode())
    subject = x509.load_pem_x509_certificate(pki.pairs["batch-7"][0]).subject.rfc4514_string().encode()
    with serving(pki, "optional") as server:
        batch = ssl.create_default_context(cadata=pki.root.decode())
        batch.load_cert_chain(pki.folder / "batch-7.crt", pki.folder / "batch-7.key")
        assert [one(server, batch, sent) for _ in range(3)] == [200] * 3
        stranger = ssl.create_default_context(cadata=pki.root.decode())
        assert one(server, stranger, sent) == 401
        assert one(server, stranger, subject + sent) in (400, 401)
        known = server.server._http._connections.heads._known  # type: ignore[union-attr]
        assert any(subject in head for head in known), "it is told by other bytes, and the test tries nothing"


def one(server: KeyedServer, context: ssl.SSLContext, sent: bytes) -> int:
    """The status that answers bytes on a connection of their own."""
    with (
        socket.create_connection(("localhost", server.http_port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(sent)
        return int(connection.recv(65536).split()[1])


def test_over_grpc(server: KeyedServer, pki: Pki) -> None:
    found = {}
    for client in ("batch-7", "stranger"):
        cert, private = pki.pairs[client]
        with grpc.secure_channel(
            f"localhost:{server.grpc_port}", grpc.ssl_channel_credentials(pki.root, private, cert)
        ) as channel:
            call = channel.unary_unary(SERVICE + "ModelInfer", None, None)
            for model in ("m", "other"):
                message = raw_request(1.0, model=model).SerializeToString()
                try:
                    assert call(message, timeout=PATIENCE)
                    found[client, model] = grpc.StatusCode.OK
                except grpc.RpcError:
                    found[client, model] = failure(lambda: call(message, timeout=PATIENCE))[0]  # noqa: B023
    assert found == {
        ("batch-7", "m"): grpc.StatusCode.OK,
        ("batch-7", "other"): grpc.StatusCode.PERMISSION_DENIED,
        ("stranger", "m"): grpc.StatusCode.UNAUTHENTICATED,
        ("stranger", "other"): grpc.StatusCode.UNAUTHENTICATED,
    }
