"""File descriptors: as many as the configured connections need, where the system allows it.

Shells and service managers start processes with a soft limit of 1024 that everybody may raise.
"""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

# Files, libraries, threads' pipes and models beside the connections.
_BESIDE = 512


def allow(connections: int) -> None:
    """Raise this process's limit as far as `connections` need and the hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _BESIDE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    except (OSError, ValueError):  # macOS allows less than it says
        allowed = soft
    if allowed < wanted:
        logger.info(
            "only %d files may be open at once (ulimit -n): connections will be turned away before "
            "http.max_connections and grpc.max_connections are reached",
            allowed,
        )
