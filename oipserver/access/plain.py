"""Whether keys travel where others can read them."""

from __future__ import annotations

import ipaddress

from oipserver.config import ServerConfig


def plain_warning(config: ServerConfig) -> str:
    """What is to be said of keys that come over a network without encryption; "" when there is nothing."""
    if config.tls.cert_file or config.tls.terminated or _is_loopback(config.host):
        return ""
    return (
        f"API keys come in readable to everybody on the network of {config.host}: --tls-cert-file and "
        "--tls-key-file encrypt it, --tls-terminated says that a proxy in front does"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
