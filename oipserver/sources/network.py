"""Which addresses a URI may reach: public ones, and those that the operator lists.

A name is resolved once, every address that it has is judged, and one of those is connected to: there is no
second look-up that could answer something else.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Collection
from typing import TypeAlias

from oipserver.sources.errors import SourceError, TryAgain

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052: an IPv4 address in the last 32 bits, for the network's translator.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def connect(host: str, port: int, allowed: Collection[str], deadline: float) -> socket.socket:
    """A connection to a host.

    Args:
        allowed: hosts, addresses and networks that may be reached although they are not public.
        deadline: in `time.monotonic` seconds.

    Raises:
        SourceError: the host has an address that may not be reached, or none.
        TryAgain: it cannot be resolved, or does not take connections.
    """
    failure: OSError | None = None
    for address in _addresses(host, port, allowed):
        try:
            return socket.create_connection((address, port), max(0.001, deadline - time.monotonic()))
        except OSError as error:
            failure = error
    raise TryAgain(f"cannot connect to {host}: {failure}") from failure


def _addresses(host: str, port: int, allowed: Collection[str]) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TryAgain(f"cannot find {host}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise SourceError(f"'{host}' is no host name") from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    for address in addresses:
        if not may_reach(host, address, allowed):
            raise SourceError(
                f"{host} is at {address}, which is not a public address; sources.allow_hosts does not list it"
            )
    return addresses


def may_reach(host: str, address: str, allowed: Collection[str]) -> bool:
    """Whether `host` may be reached at `address`."""
    listed = {one.lower().strip("[]") for one in allowed}
    if host.lower() in listed:
        return True
    meant = ipaddress.ip_address(address)
    return is_public(meant) or any(meant in network for network in _networks(listed))


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = _wrapped(address)
        if wrapped is not None:
            return is_public(wrapped)
    return address.is_global and not address.is_multicast


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that is reached through this one."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]


def _networks(listed: Collection[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks = []
    for one in listed:
        try:
            networks.append(ipaddress.ip_network(one, strict=False))
        except ValueError:
            continue  # a host name
    return networks
