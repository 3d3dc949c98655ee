"""Who listens to what happens in a server: metrics always, the log of requests and traces where wanted."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from oipserver.config import ServerConfig
from oipserver.core.observer import Observer, Observers
from oipserver.grpc import errors as grpc_errors
from oipserver.http import errors as http_errors
from oipserver.log import Log
from oipserver.requestlog import FAILURES, RequestLog

if TYPE_CHECKING:
    from oipserver.tracing import Traces

logger = logging.getLogger("oipserver.server")

_HTTP = {"OK": "200"} | {code: str(status) for code, status in http_errors.STATUS.items()}
_GRPC = {"OK": "OK"} | {code: status.name for code, status in grpc_errors.STATUS.items()}
STATUSES = {"http": _HTTP, "app-http": _HTTP, "grpc": _GRPC, "app-grpc": _GRPC}
# Any of these variables asks for traces as `tracing.endpoint` does.
OTEL_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# Seconds for the last spans to be sent.
_LAST_SPANS = 1.0


class TracingError(Exception):
    """Traces are wanted and cannot be had; the text says what to install."""


class Listeners:
    """The observers of one server.

    Args:
        counting: listen as well.
        log: where requests are logged; None logs none.

    Attributes:
        observer: tells them all.

    Raises:
        TracingError: traces are wanted, but OpenTelemetry is not installed.
    """

    def __init__(self, config: ServerConfig, counting: Sequence[Observer], log: Log | None) -> None:
        self._traces = _traces(config.tracing.endpoint, os.environ)
        self._requests = RequestLog(log, STATUSES, config.log.requests) if log is not None else None
        # Traces first: they tell the others which trace a request is in.
        listeners = [each for each in (self._traces, *counting, self._requests) if each is not None]
        self.observer = listeners[0] if len(listeners) == 1 else Observers(listeners)

    async def close(self) -> None:
        """The last lines and spans go out, within a time."""
        if self._requests is not None:
            self._requests.flush()
        if self._traces is not None:
            try:
                await asyncio.wait_for(self._traces.close(), _LAST_SPANS)
            except TimeoutError:
                logger.warning("the last spans could not be sent in %g s", _LAST_SPANS)


def _traces(endpoint: str, environ: Mapping[str, str]) -> Traces | None:
    if not endpoint and not any(environ.get(name) for name in OTEL_ENDPOINTS):
        return None
    try:
        from oipserver.tracing import Traces, exporting

        return Traces(exporting(endpoint), FAILURES)
    except ImportError as error:
        raise TracingError(
            f'traces need OpenTelemetry: pip install "oipserver[tracing]" ({error.name} is missing)'
        ) from None
