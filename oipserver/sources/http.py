"""One file over http or https.

The standard library's client, for it connects where it is told: to the address that was judged.  Redirects
stay on their host and scheme.  What has come of a broken download is kept, and continued when the server can
prove that it is still the same file (RFC 9110, 13.1.5: `If-Range` with a strong entity tag).
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from oipserver.config.uris import last_part
from oipserver.core.errors import printable
from oipserver.sources.cache import Shelf
from oipserver.sources.errors import SourceError, TryAgain
from oipserver.sources.meter import Meter
from oipserver.sources.names import plain
from oipserver.sources.network import connect

MAX_REDIRECTS = 3
# Longest time between two packets.
SILENCE = 30.0
PIECE = 2**18

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
# Too slow, too early, too many: not this time.  Server errors (5xx) besides.
_BUSY = (408, 425, 429)
_WHOLE, _PART, _UNCHANGED, _NO_SUCH_PART = 200, 206, 304, 416
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")
_IN_TARGETS = "/%:@!$&'()*+,;=~?-._"


class _Target(NamedTuple):
    """Where a request goes: `origin` is what a redirect must keep."""

    origin: tuple[str, str, int]
    path: str

    @property
    def host(self) -> str:
        return self.origin[1]


class _Connection(HTTPConnection):
    """A connection to a judged address, cut at its deadline whatever the other side does."""

    def __init__(self, target: _Target, allow_hosts: Collection[str], deadline: float) -> None:
        scheme, host, port = target.origin
        super().__init__(host, port)
        self._scheme = scheme
        self._allow_hosts = allow_hosts
        self._deadline = deadline
        self._alarm: threading.Timer | None = None
        self.default_port = _PORTS[scheme]  # it is left out of the Host header

    def connect(self) -> None:
        raw = connect(self.host, self.port, self._allow_hosts, self._deadline)
        raw.settimeout(SILENCE)
        self.sock = raw
        if self._scheme == "https":
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
        self._alarm = threading.Timer(self._deadline - time.monotonic(), _cut, [self.sock])
        self._alarm.daemon = True
        self._alarm.start()
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()

    def end(self) -> None:
        """Close, and let the alarm go; http.client calls `close` before the last body is read."""
        self.close()
        if self._alarm is not None:
            self._alarm.cancel()


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):  # it has been closed
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's, which would forget that there was TLS


def bring(
    uri: str, allow_hosts: Collection[str], shelf: Shelf, meter: Meter, deadline: float
) -> tuple[Path, str] | None:
    """Fetch a file into `shelf.partial`.

    Returns:
        The complete file and its version, or None when the latest model on the shelf is what the URI means.

    Raises:
        TryAgain: the connection or the server failed; what has come is kept.
        SourceError: it cannot be had.
    """
    path = shelf.partial / plain(last_part(uri), "model")
    here = path.stat().st_size if shelf.resumable and path.is_file() else 0
    headers = _validators(shelf.version) | _rest(here, shelf.resumable)
    with _answer(uri, allow_hosts, headers, deadline) as answer:
        if answer.status == _UNCHANGED and shelf.version:
            return None
        if answer.status == _NO_SUCH_PART and here:
            return _whole_already(answer, shelf, path, here)
        if answer.status == _PART and here:
            return _go_on(answer, shelf, meter, path, here, deadline)
        if answer.status == _WHOLE:
            return _take_whole(answer, shelf, meter, path, deadline)
        raise _refusal(answer, urlsplit(uri).hostname or "")


def _validators(version: str) -> dict[str, str]:
    """Ask for the file only if it is another one than this."""
    if not version:
        return {}
    return {"If-None-Match" if version.endswith('"') else "If-Modified-Since": version}


def _rest(here: int, tag: str) -> dict[str, str]:
    return {"Range": f"bytes={here}-", "If-Range": tag} if here else {}


def _whole_already(answer: HTTPResponse, shelf: Shelf, path: Path, here: int) -> tuple[Path, str]:
    """RFC 9110, 15.5.17: a 416 says how long the file is."""
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    version = shelf.resumable
    if found is None or int(found[2]) != here or answer.headers.get("ETag", version) != version:
        shelf.drop()
        raise TryAgain("what had come before was no part of the file")
    return path, version


def _go_on(
    answer: HTTPResponse, shelf: Shelf, meter: Meter, path: Path, here: int, deadline: float
) -> tuple[Path, str]:
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    version = shelf.resumable
    if found is None or found[1] != str(here) or answer.headers.get("ETag", version) != version:
        shelf.drop()
        raise TryAgain("the server sent another part of the file than it was asked for")
    _write(answer, meter, path, here, int(found[2]), deadline)
    return path, version


def _take_whole(
    answer: HTTPResponse, shelf: Shelf, meter: Meter, path: Path, deadline: float
) -> tuple[Path, str]:
    if answer.length is None and not answer.chunked:
        # So it looks to http.client too when the connection ended among the headers.
        raise _broken(
            deadline, "the server does not say how long the file is, so half of it would pass for all"
        )
    tag = answer.headers.get("ETag", "")
    shelf.begin(tag if tag.startswith('"') else "")  # a weak tag does not vouch for each byte
    path.unlink(missing_ok=True)
    _write(answer, meter, path, 0, answer.length, deadline)
    return path, tag or answer.headers.get("Last-Modified", "")


def _write(
    answer: HTTPResponse, meter: Meter, path: Path, here: int, total: int | None, deadline: float
) -> None:
    meter.start(here, total)
    with path.open("ab") as file:
        for piece in _pieces(answer, deadline):
            meter.add(len(piece))
            file.write(piece)
            here += len(piece)
    if total is not None and here != total:
        raise _broken(deadline, f"the connection ended after {here} of {total} bytes")


def _pieces(answer: HTTPResponse, deadline: float) -> Iterator[bytes]:
    with _network_faults(deadline):
        while piece := answer.read1(PIECE):
            yield piece


@contextmanager
def _network_faults(deadline: float) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise SourceError(f"the server's certificate is not trusted: {error.verify_message}") from error
    except (OSError, HTTPException) as error:
        raise _broken(deadline, f"the connection failed: {error or type(error).__name__}") from error


def _broken(deadline: float, text: str) -> TryAgain:
    return TryAgain("the time for one try was over" if time.monotonic() >= deadline else text)


def _refusal(answer: HTTPResponse, host: str) -> SourceError:
    text = f"{host} answered {answer.status} {printable(answer.reason)}".rstrip()
    if answer.status in _BUSY or answer.status >= 500:
        after = answer.headers.get("Retry-After", "")
        return TryAgain(text, float(after) if after.isdecimal() else 0.0)
    return SourceError(text)


@contextmanager
def _answer(
    uri: str, allow_hosts: Collection[str], headers: Mapping[str, str], deadline: float
) -> Iterator[HTTPResponse]:
    """The answer at the end of the redirects; its body is still to be read."""
    sent = {"User-Agent": "oipserver", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
    sent |= _credentials(uri) | dict(headers)
    for _ in range(MAX_REDIRECTS + 1):
        target = _target(uri)
        connection = _Connection(target, allow_hosts, deadline)
        try:
            with _network_faults(deadline):
                connection.request("GET", target.path, headers=sent)
                answer = connection.getresponse()
            with answer:
                if answer.status not in _REDIRECTS:
                    yield answer
                    return
                uri = _redirected(uri, answer.headers.get("Location", ""))
        finally:
            connection.end()
    raise SourceError(f"more than {MAX_REDIRECTS} redirects")


def _redirected(uri: str, location: str) -> str:
    here = _target(uri)
    with suppress(ValueError):  # what is no URI leads nowhere
        there = urljoin(uri, location)
        if location and urlsplit(there).scheme == here.origin[0] and _target(there).origin == here.origin:
            return there
    raise SourceError(
        f"a redirect leads from {here.host} to '{printable(location)}', and another host or scheme is not"
        " followed; give the URI that it leads to"
    )


def _target(uri: str) -> _Target:
    try:
        parts = urlsplit(uri)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise SourceError(f"the URI has no usable host and port: {printable(uri)}") from error
    if not host:
        raise SourceError("the URI has no host")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target((parts.scheme, host, port), quote(path, safe=_IN_TARGETS))


def _credentials(uri: str) -> dict[str, str]:
    parts = urlsplit(uri)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
