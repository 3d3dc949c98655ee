"""Certificates of clients: who is let in, and by what name."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from oipserver.config import TlsConfig
from oipserver.grpc.credentials import credentials
from oipserver.tls import Certificates, grpc_subject, http_subject
from tests.server_process import ServerProcess
from tests.support import PATIENCE
from tests.tls.encrypted import Client, Folder, Pair, grpc_infer

ROWS = [[1.0, 2.0]]
DOUBLED = [[2.0, 4.0]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("tls"))


def serving(folder: Folder, client_auth: str) -> ServerProcess:
    return folder.server(f"--tls-client-ca-file={folder.path / 'ca.crt'}", f"--tls-client-auth={client_auth}")


@pytest.fixture(scope="module")
def strict(folder: Folder) -> Iterator[ServerProcess]:
    with serving(folder, "required") as server:
        yield server


@pytest.fixture(scope="module")
def lenient(folder: Folder) -> Iterator[ServerProcess]:
    with serving(folder, "optional") as server:
        yield server


@pytest.fixture(scope="module")
def known(folder: Folder) -> Pair:
    return folder.issue("batch@example.com", common_name="batch")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate of somebody else's authority."""
    return Folder(tmp_path_factory.mktemp("stranger")).issue("batch@example.com", common_name="batch")


def check_refused(server: ServerProcess, folder: Folder, pair: Pair | None) -> None:
    # TLS 1.3: a client learns with its first reading that it was refused.
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        Client(server.http_port, folder.context(pair)) as client,
    ):
        client.infer(ROWS)
    with folder.channel(server, pair) as channel, pytest.raises(grpc.RpcError) as refused:
        grpc_infer(channel, np.array(ROWS))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def check_served(server: ServerProcess, folder: Folder, pair: Pair | None) -> None:
    with Client(server.http_port, folder.context(pair)) as client:
        assert client.infer(ROWS) == DOUBLED
    with folder.channel(server, pair) as channel:
        assert np.array_equal(grpc_infer(channel, np.array(ROWS)), DOUBLED)


def test_a_certificate_of_our_authority_is_let_in(strict: ServerProcess, folder: Folder, known: Pair) -> None:
    check_served(strict, folder, known)


def test_nobody_else_is_where_it_is_required(strict: ServerProcess, folder: Folder, stranger: Pair) -> None:
    check_refused(strict, folder, None)
    check_refused(strict, folder, stranger)


def test_none_is_needed_where_it_is_optional(lenient: ServerProcess, folder: Folder, known: Pair) -> None:
    check_served(lenient, folder, None)
    check_served(lenient, folder, known)


def test_a_wrong_one_is_refused_where_it_is_optional(
    lenient: ServerProcess, folder: Folder, stranger: Pair
) -> None:
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        Client(lenient.http_port, folder.context(stranger)) as client,
    ):
        client.infer(ROWS)


# --- the name ----------------------------------------------------------------------------------------------


OID = x509.NameOID
SUBJECTS: dict[str, list[list[tuple[Any, str]]]] = {
    "CN=batch": [[(OID.COMMON_NAME, "batch")]],
    "CN=batch,OU=Models,O=Example,L=Bern,ST=BE,C=CH": [
        [(OID.COUNTRY_NAME, "CH")],
        [(OID.STATE_OR_PROVINCE_NAME, "BE")],
        [(OID.LOCALITY_NAME, "Bern")],
        [(OID.ORGANIZATION_NAME, "Example")],
        [(OID.ORGANIZATIONAL_UNIT_NAME, "Models")],
        [(OID.COMMON_NAME, "batch")],
    ],
    "UID=7,DC=example,DC=com": [
        [(OID.DOMAIN_COMPONENT, "com")],
        [(OID.DOMAIN_COMPONENT, "example")],
        [(OID.USER_ID, "7")],
    ],
    "SN=Muster,GN=Eva,street=Gasse 1": [
        [(OID.STREET_ADDRESS, "Gasse 1")],
        [(OID.GIVEN_NAME, "Eva")],
        [(OID.SURNAME, "Muster")],
    ],
    r"CN=a\,b\+c\"d\\e\<f\>g\;h=i": [[(OID.COMMON_NAME, 'a,b+c"d\\e<f>g;h=i')]],
    r"CN=\ blank\ ": [[(OID.COMMON_NAME, " blank ")]],
    r"CN=\#1": [[(OID.COMMON_NAME, "#1")]],
    r"CN=M\C3\BCller\E2\82\AC": [[(OID.COMMON_NAME, "Müller€")]],
    r"CN=line\0Abreak": [[(OID.COMMON_NAME, "line\nbreak")]],
    "": [],
}


@pytest.fixture(scope="module")
def certificates(folder: Folder) -> Certificates:
    cert, key, client_ca = (str(folder.path / name) for name in ("tls.crt", "tls.key", "ca.crt"))
    return Certificates(TlsConfig(cert, key, client_ca, "required"))


class Told(asyncio.Protocol):
    """Tells each client its name."""

    def connection_made(self, transport: Any) -> None:
        transport.write(http_subject(transport).encode() + b"\n")
        transport.close()


class Names(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not generic when it runs
    """The same over gRPC."""

    def service(self, _call: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: grpc_subject(context.auth_context()).encode()
        )


@pytest.fixture(scope="module")
def fronts(certificates: Certificates) -> Iterator[tuple[int, int]]:
    """Ports at which a client is told its name, over plain TLS and over gRPC."""
    server = grpc.server(ThreadPoolExecutor(1), [Names()])
    grpc_port = server.add_secure_port("127.0.0.1:0", credentials(certificates))
    server.start()
    loop = uvloop.new_event_loop()
    listening: Any = loop.run_until_complete(
        loop.create_server(Told, "127.0.0.1", 0, ssl=certificates.context)
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield listening.sockets[0].getsockname()[1], grpc_port
    server.stop(0).wait(PATIENCE)
    loop.call_soon_threadsafe(listening.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


def signed(folder: Folder, parts: list[list[tuple[Any, str]]]) -> Pair:
    """A certificate with exactly this subject."""
    authority = folder.authority
    ca = x509.load_pem_x509_certificate(folder.root)
    ca_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.RelativeDistinguishedName([x509.NameAttribute(oid, text) for oid, text in part])
        for part in parts
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("client")]), critical=not names)
        .sign(ca_key, hashes.SHA256())  # type: ignore[arg-type]  # an EC key
    )
    form = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    return Pair(certificate.public_bytes(pem), key.private_bytes(pem, form, serialization.NoEncryption()))


@pytest.mark.parametrize("expected", SUBJECTS)
def test_both_fronts_call_a_client_by_the_same_name(
    expected: str, folder: Folder, fronts: tuple[int, int], tmp_path: Path
) -> None:
    pair = signed(folder, SUBJECTS[expected])
    http_port, grpc_port = fronts
    with Client(http_port, folder.context(pair)) as client:
        over_http = client.sock.recv(1000).decode().removesuffix("\n")
    channel_credentials = grpc.ssl_channel_credentials(folder.root, pair.key, pair.cert)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{grpc_port}", channel_credentials, options) as channel:
        over_grpc = channel.unary_unary("/a/b", None, None)(b"", timeout=PATIENCE).decode()
    assert over_http == over_grpc == expected
