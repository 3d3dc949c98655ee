"""TLS for both fronts: a certificate and its key, taken anew when their files change, and who a client is.

HTTP gets an `ssl.SSLContext` that lives as long as the listener; each handshake gets the newest one behind
it.  gRPC gets the same files as bytes, and asks in each handshake whether they are others.  Connections
that are open keep what they were made with.

TLS 1.2 and 1.3 are spoken, nothing older (RFC 8996).
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oipserver.config import TlsConfig
from oipserver.core.threads import in_daemon_thread

logger = logging.getLogger(__name__)

_FILES = ("cert_file", "key_file", "client_ca_file")
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
# Attribute types with a short name in RFC 4514, and those that OpenSSL shortens besides.
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "givenName": "GN",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "street",
    "surname": "SN",
    "userId": "UID",
}
_SPECIAL = frozenset(',+"\\<>;')


class TlsError(ValueError):
    """The files cannot be used; the text is one line that begins with the setting to blame."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What the files held when they were last read, and were good.

    Attributes:
        context: for HTTP, with all that follows.
        cert, key, client_ca: PEM, for gRPC; `client_ca` is None where no client is asked for a certificate.
    """

    context: ssl.SSLContext
    cert: bytes
    key: bytes
    client_ca: bytes | None


class _Listening(ssl.SSLContext):
    """Makes each connection with the newest context.

    So a session that a client takes up again ends with the files that it was made with: TLS 1.2 does not look
    at the client's certificate again then.
    """

    newest: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """As `ssl.SSLContext.wrap_bio`; the event loop calls it for each connection."""
        return self.newest().wrap_bio(*args, **named)


class Certificates:
    """The files of a server.

    Args:
        config: with a `cert_file` and a `key_file`.

    Attributes:
        now: what a handshake is answered with; exchanged as one, by `look`.
        context: for the listener of HTTP.

    Raises:
        TlsError: one of the files cannot be used.
    """

    def __init__(self, config: TlsConfig) -> None:
        _check(config)
        self.config = config
        self._stamp = _stamp(config)
        self.now = _load(config)
        self.context = _Listening(ssl.PROTOCOL_TLS_SERVER)
        self.context.newest = lambda: self.now.context

    def look(self) -> None:
        """Take the files when they are others; bad ones are logged once and change nothing.  It blocks."""
        stamp = _stamp(self.config)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.now = _load(self.config)
        except TlsError as error:
            logger.error("%s; the certificate from before stays in use", error)
        else:
            logger.info("%s: taken anew for connections to come", self.config.cert_file)

    async def watch(self) -> None:
        """Look again and again, off the event loop, until cancelled."""
        while True:
            await asyncio.sleep(self.config.check_interval)
            await in_daemon_thread(self.look, "tls-look")


def certificates_of(config: TlsConfig) -> Certificates | None:
    """The files that are configured; None where none are.

    Raises:
        TlsError: one of them cannot be used, or is missing beside another.
    """
    wanted = config.client_auth != "none" or any(getattr(config, name) for name in _FILES)
    return Certificates(config) if wanted else None


def http_subject(transport: asyncio.BaseTransport) -> str:
    """Who the client's certificate names, e.g. "CN=batch,O=Example"; "" without one that was verified."""
    certificate = transport.get_extra_info("peercert")
    return subject_of(certificate) if certificate else ""


def grpc_subject(auth_context: Mapping[str, Sequence[bytes]]) -> str:
    """The same of a gRPC call, from `ServicerContext.auth_context()`."""
    found = auth_context.get("x509_subject")
    return found[0].decode("ascii", "replace") if found else ""


def subject_of(certificate: Mapping[str, Any]) -> str:
    """The subject of a certificate from `SSLObject.getpeercert`, as a string of RFC 4514.

    It is what grpc-core says of the same certificate: OpenSSL's form, with every byte beyond ASCII escaped.
    """
    parts: Iterable[Sequence[tuple[str, str]]] = reversed(certificate.get("subject", ()))
    return ",".join(
        "+".join(f"{_SHORT.get(name, name)}={_escaped(text)}" for name, text in part) for part in parts
    )


def _escaped(text: str) -> str:
    """RFC 4514, 2.4."""
    last = len(text) - 1
    return "".join(
        "\\" + letter
        if letter in _SPECIAL or (at == 0 and letter in " #") or (at == last and letter == " ")
        else letter
        if " " <= letter <= "~"
        else "".join(f"\\{byte:02X}" for byte in letter.encode())
        for at, letter in enumerate(text)
    )


def _check(config: TlsConfig) -> None:
    """What one setting asks of another."""
    for given, missing in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if not getattr(config, missing):
            raise TlsError(f"tls.{missing}: expected a file beside tls.{given}, got nothing")
    if config.client_auth != "none" and not config.client_ca_file:
        raise TlsError(
            f"tls.client_ca_file: expected a file for tls.client_auth {config.client_auth}, got nothing"
        )
    if config.client_auth == "none" and config.client_ca_file:
        raise TlsError("tls.client_auth: expected optional or required beside tls.client_ca_file, got none")


def _stamp(config: TlsConfig) -> tuple[object, ...]:
    """What changes with the files, through links as well (Kubernetes exchanges a directory)."""
    return tuple(_file_stamp(getattr(config, name)) for name in _FILES)


def _file_stamp(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _load(config: TlsConfig) -> Loaded:
    """Read everything; what is read twice may differ when it is written just now, and is read again then."""
    cert, key = _read(config, "cert_file"), _read(config, "key_file")
    client_ca = _read(config, "client_ca_file") if config.client_ca_file else None
    context = _context(config)
    try:
        context.load_cert_chain(config.cert_file, config.key_file, _no_password)
    except (OSError, ValueError) as error:
        raise TlsError(_blame(config, error)) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(cadata=client_ca.decode("ascii"))
        except (OSError, ValueError) as error:
            raise TlsError(f"tls.client_ca_file: no PEM certificate in '{config.client_ca_file}'") from error
    return Loaded(context, cert, key, client_ca)


def _context(config: TlsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = _VERIFY[config.client_auth]
    if config.client_auth != "none":
        # A session that is taken up again would not ask whether its certificate is still good.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _read(config: TlsConfig, name: str) -> bytes:
    path = getattr(config, name)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise TlsError(f"tls.{name}: cannot read '{path}': {error.strerror}") from error


class _Encrypted(ValueError):
    """The key asks for a passphrase, which nobody is there to type."""


def _no_password() -> str:
    raise _Encrypted


def _blame(config: TlsConfig, error: OSError | ValueError) -> str:
    if isinstance(error, _Encrypted):
        return f"tls.key_file: '{config.key_file}' is encrypted; expected a key without a passphrase"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"tls.key_file: '{config.key_file}' is not the key of '{config.cert_file}'"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(config.cert_file)
    except (OSError, ValueError):
        return f"tls.cert_file: no PEM certificate in '{config.cert_file}'"
    return f"tls.key_file: no PEM key in '{config.key_file}'"
