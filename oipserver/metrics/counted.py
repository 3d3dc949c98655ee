"""What is counted while requests go by: plain numbers, for everything is counted on the event loop.

The client library's counters take a lock each time, and five of them cost a request as much as decoding it.
"""

from __future__ import annotations

from collections import defaultdict

from oipserver.core.observer import Ended
from oipserver.metrics.histogram import Series

# 100 µs to 60 s: a lone row of a linear model takes 0.3 ms, the default deadline is 60 s.
SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# A small body takes 10 µs, 32 MiB of JSON a second.
CODEC_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1, 1.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class AtDoor:
    """What came in by one front for one version; for none, when it named no known model.

    Attributes:
        codes: how many ended with each code.
        answered_seconds: the time of those that were answered.
        bytes: of the bodies.
    """

    __slots__ = ("answered_seconds", "bytes", "codes", "decode", "encode", "request")

    def __init__(self) -> None:
        self.codes: defaultdict[str, int] = defaultdict(int)
        self.answered_seconds = 0.0
        self.request = Series(SECONDS)
        self.decode = Series(CODEC_SECONDS)
        self.encode = Series(CODEC_SECONDS)
        self.bytes = 0

    def ended(self, ended: Ended) -> None:
        """Requests are over."""
        code, seconds, phases = ended.code, ended.seconds, ended.phases
        count = len(seconds)
        self.codes[code] += count
        self.request.observe_all(seconds)
        if code == "OK":
            self.answered_seconds += sum(seconds)
        if phases is not None:
            self.decode.observe_equal(phases.decode, count)
            self.encode.observe_equal(phases.encode, count)
        self.bytes += sum(ended.sizes)
        self._remember(ended)

    def copy(self) -> AtDoor:
        """The same numbers, which do not change any more."""
        other = AtDoor()
        other.codes, other.answered_seconds, other.bytes = (
            self.codes.copy(),
            self.answered_seconds,
            self.bytes,
        )
        other.request, other.decode, other.encode = (
            self.request.copy(),
            self.decode.copy(),
            self.encode.copy(),
        )
        return other

    def _remember(self, ended: Ended) -> None:
        """An example of where this time was spent: the trace, else the log line."""
        if ended.traces and ended.traces[-1]:
            self.request.remember(ended.seconds[-1], "trace_id", trace_id(ended.traces[-1]))
        elif ended.ids:
            self.request.remember(ended.seconds[-1], "request_id", ended.ids[-1])


class InModel:
    """What was computed by one version.

    Attributes:
        request_seconds: the time of each call, once for each request in it.
    """

    __slots__ = ("compute", "queue", "request_seconds", "rows")

    def __init__(self) -> None:
        self.queue = Series(SECONDS)
        self.compute = Series(SECONDS)
        self.rows = Series(ROWS)
        self.request_seconds = 0.0

    def copy(self) -> InModel:
        """The same numbers, which do not change any more."""
        other = InModel()
        other.queue, other.compute, other.rows = self.queue.copy(), self.compute.copy(), self.rows.copy()
        other.request_seconds = self.request_seconds
        return other


class Counted:
    """All that is counted.

    Attributes:
        doors: by front, model and version.
        models: by model and version.
        control: requests that asked for no inference, by front, route and code.
    """

    def __init__(self) -> None:
        self.doors: defaultdict[tuple[str, str, str], AtDoor] = defaultdict(AtDoor)
        self.models: defaultdict[tuple[str, str], InModel] = defaultdict(InModel)
        self.control: defaultdict[tuple[str, str, str], int] = defaultdict(int)

    def copy(self) -> Counted:
        """The numbers of this moment, for another thread to write down."""
        other = Counted()
        other.doors.update((labels, door.copy()) for labels, door in self.doors.items())
        other.models.update((labels, model.copy()) for labels, model in self.models.items())
        other.control.update(self.control)
        return other


def trace_id(traceparent: str) -> str:
    """W3C Trace Context, 3.2: version-traceid-parentid-flags."""
    return traceparent[3:35]
