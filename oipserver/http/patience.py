"""How long a client may take to send a head or a body."""

from __future__ import annotations

from oipserver.core.errors import RequestTimeout
from oipserver.http.flow import Flow
from oipserver.http.limits import HttpLimits


class Patience:
    """Runs while a request is on its way; counts only the time in which we listened.

    A head has `header_timeout`.  A body has windows of `body_timeout`, and each must bring its share of
    `min_body_rate`.

    Attributes:
        received: bytes that have come on this connection; the protocol counts.
        due: when the time is up, in the time we listened; None, set by the protocol, when nothing is
            waited for.
    """

    __slots__ = ("_flow", "_limits", "_window_began_with", "due", "received")

    def __init__(self, flow: Flow, limits: HttpLimits) -> None:
        self.received = 0
        self._flow = flow
        self._limits = limits
        self.due: float | None = None
        self._window_began_with = 0

    def begin(self, head: bool) -> float:
        """Start for a head or a body that did not come in one piece; seconds until `check` is due."""
        seconds = self._limits.header_timeout if head else self._limits.body_timeout
        self._open_window(self._flow.listened() + seconds)
        return seconds

    def check(self, head: bool) -> float:
        """Seconds until the next check.

        Raises:
            RequestTimeout: the time is up.
        """
        if self.due is None:
            return self.begin(head)
        if self._flow.read_paused:
            return self._limits.body_timeout
        if (rest := self.due - self._flow.listened()) > 0:
            return rest
        return self._late_head() if head else self._next_window(self.due)

    def _late_head(self) -> float:
        raise RequestTimeout(f"headers: not complete after {self._limits.header_timeout:g} s")

    def _next_window(self, due: float) -> float:
        seconds, rate = self._limits.body_timeout, self._limits.min_body_rate
        if self.received - self._window_began_with < seconds * rate:
            raise RequestTimeout(f"body: slower than {rate:g} bytes/s for {seconds:g} s")
        self._open_window(due + seconds)
        return seconds

    def _open_window(self, until: float) -> None:
        self.due = until
        self._window_began_with = self.received
