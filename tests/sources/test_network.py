"""Which addresses a URI may reach."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oipserver.sources import SourceError
from oipserver.sources.network import is_public, may_reach
from tests.sources.scripted import Server, get, status, whole


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("239.255.255.250", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public
    assert may_reach("host", address, ()) is public


@pytest.mark.parametrize(
    ("allowed", "reached"),
    [
        ("models.local", True),
        ("MODELS.local", True),
        ("10.0.0.0/8", True),
        ("10.1.2.3", True),
        ("10.1.2.0/24", True),
        ("10.1.2.4", False),
        ("local", False),
        ("evil-models.local", False),
        ("192.168.0.0/16", False),
    ],
)
def test_listed_hosts_addresses_and_networks(allowed: str, reached: bool) -> None:
    assert may_reach("models.local", "10.1.2.3", [allowed]) is reached


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::ffff:7f00:1]",
    ],
)
def test_no_spelling_of_loopback_is_connected_to(tmp_path: Path, host: str) -> None:
    with Server(whole(b"secret")) as server, pytest.raises(SourceError, match="not a public address"):
        get(server.uri(host=host), tmp_path, allow=[])
    assert server.requests == []


def test_a_listed_host_is_reached(tmp_path: Path) -> None:
    with Server(whole(b"model")) as server:
        assert get(server.uri(host="localhost"), tmp_path, allow=["localhost"]).path.read_bytes() == b"model"


Resolve = Callable[..., list[Any]]


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: list[str]) -> list[str]:
    """A resolver that knows `models.example`, by one list of addresses per look-up; which were asked for."""
    asked: list[str] = []
    real: Resolve = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        if host != "models.example":
            return real(host, port, *rest, **more)
        asked.append(host)
        found = addresses[min(len(asked), len(addresses)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_name_that_changes_its_address_is_looked_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Harmless when judged, elsewhere a moment later: what was judged is what is connected to.
    asked = answers(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
    with Server(whole(b"model")) as server:
        fetched = get(server.uri(host="models.example"), tmp_path, allow=["127.0.0.0/8"])
    assert (fetched.path.read_bytes(), asked) == (b"model", ["models.example"])
    assert server.sent("Host") == [f"models.example:{server.server_address[1]}"]


def test_one_private_address_among_public_ones_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(SourceError, match=r"models\.example is at 10\.0\.0\.1"):
        get("http://models.example/model.bin", tmp_path)


def test_a_redirect_is_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
    with (
        Server(status(302, Location="/again")) as server,
        pytest.raises(SourceError, match=r"169\.254\.169\.254"),
    ):
        get(server.uri(host="models.example"), tmp_path, allow=["127.0.0.0/8"])
    assert len(server.requests) == 1


def test_a_name_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*arguments: Any, **more: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match=r"cannot find models\.example: Name or service not known"):
        get("http://models.example/model.bin", tmp_path, retries=0)
