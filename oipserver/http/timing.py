"""The Server-Timing header (W3C Server Timing): where the time of an answer went, in milliseconds."""

from __future__ import annotations

from oipserver.core.observer import Phases

SERVER_TIMING = b"server-timing"


def server_timing(phases: Phases) -> bytes:
    """The value of the header; `batch` describes itself by its rows."""
    return b'decode;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, encode;dur=%.3f, batch;desc="%d"' % (
        phases.decode * 1e3,
        phases.queue * 1e3,
        phases.compute * 1e3,
        phases.encode * 1e3,
        phases.batch_rows,
    )
