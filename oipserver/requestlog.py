"""One line for each request: the observer that writes the log of requests.

It costs a request next to nothing: its line is written a moment later, together with others, and what
requests that ended together have in common is written once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import repeat
from typing import Protocol, TypeVar

from oipserver.core.observer import Ended, SilentObserver
from oipserver.log import Clock, Log, on_one_line, quoted

T = TypeVar("T")

# Seconds that an end may wait for others to be written down with, and how many lines leave together at most:
# each time, the thread that writes wants the core.
GATHER_SECONDS = 0.02
GATHER_LINES = 512
# So many are put into words at once: the loop is held up by that.
FORMAT_LINES = 64

# What is our fault, or the model's: always logged.
FAILURES = frozenset(("INTERNAL", "INFERENCE_FAILED", "TIMEOUT"))
# Asked by machines every few seconds, so that their good answers are logged at "debug" alone.
PROBES = frozenset(
    (
        *("/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready", "/metrics", "/ping", "/health"),
        *("ServerLive", "ServerReady", "ModelReady", "Check", "Watch"),
    )
)


class RequestLog(SilentObserver):
    """Listens to the core; see `oipserver.core.observer.Observer`.

    Args:
        statuses: by front, the status that goes with "OK" and with each fault's code.
        share: of the requests that are logged; failures always are.
    """

    def __init__(self, log: Log, statuses: Mapping[str, Mapping[str, str]], share: float) -> None:
        self._sink = log.sink
        self._level = log.level
        self._style: _Style = _Json() if log.json else _Text()
        self._statuses = statuses
        self._share = share
        self._seen = 0
        self._clock = Clock()
        self._start = lru_cache(maxsize=1024)(self._new_start)
        # Ends not in words yet, and how many lines they will be.
        self._waiting: list[tuple[int, int, Ended]] = []
        self._unsaid = 0
        # Whole lines that wait to be written, and how many they are.
        self._texts: list[str] = []
        self._unwritten = 0
        self._timer: asyncio.TimerHandle | None = None

    def requests(self, ended: Ended) -> None:
        """Infer requests are over."""
        level = logging.ERROR if ended.code in FAILURES else logging.INFO
        if level == logging.INFO and self._share < 1:
            ended = self._sample(ended)
        self._add(ended, level)

    def control(self, ended: Ended) -> None:
        """A request that asks for no inference is over."""
        if ended.code in FAILURES:
            self._add(ended, logging.ERROR)
        else:
            probe = ended.code == "OK" and ended.route in PROBES
            self._add(ended, logging.DEBUG if probe else logging.INFO)

    def flush(self) -> None:
        """Write the lines of those that have come together."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._format()
        texts, self._texts = self._texts, []
        count, self._unwritten = self._unwritten, 0
        if count:
            self._sink.write("".join(texts).encode(), count)

    def _add(self, ended: Ended, level: int) -> None:
        if level < self._level or not ended.seconds:
            return
        self._waiting.append((time.time_ns(), level, ended))
        self._unsaid += len(ended.seconds)
        if self._unsaid >= FORMAT_LINES:
            self._format()
        if self._unwritten >= GATHER_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self.flush)

    def _format(self) -> None:
        waiting, self._waiting = self._waiting, []
        lines: list[str] = []
        for when, level, ended in waiting:
            start = self._start(level, ended.front, ended.route, ended.model, ended.version, ended.code)
            lines += self._style.lines(self._clock.at(when), start, ended)
        self._unsaid = 0
        self._unwritten += len(lines)
        self._texts.append("".join(lines))

    def _new_start(self, level: int, front: str, route: str, model: str, version: str, code: str) -> str:
        status = self._statuses.get(front, {}).get(code, "")
        fields = {
            "front": front,
            "route": route,
            "model": model,
            "version": version,
            "code": code,
            "status": status,
        }
        return self._style.start(logging.getLevelName(level), fields)

    def _sample(self, ended: Ended) -> Ended:
        """Those of them whose turn it is: one in 1 / share, at even distances."""
        chosen: list[int] = []
        for position in range(len(ended.seconds)):
            before = int(self._seen * self._share)
            self._seen += 1
            if int(self._seen * self._share) > before:
                chosen.append(position)

        def of(column: Sequence[T]) -> Sequence[T]:
            return [column[position] for position in chosen] if column else ()

        return replace(
            ended,
            seconds=of(ended.seconds),
            ids=of(ended.ids),
            callers=of(ended.callers),
            sizes=of(ended.sizes),
            traces=of(ended.traces),
        )


class _Style(Protocol):
    """How lines are written."""

    def start(self, level: str, fields: Mapping[str, str]) -> str:
        """What lines begin with, behind the time; without fields that are empty."""

    def lines(self, now: str, start: str, ended: Ended) -> list[str]:
        """A line for each request."""


class _Json:
    """One object a line; its members never change their names."""

    def start(self, level: str, fields: Mapping[str, str]) -> str:
        known = "".join(
            f',"{name}":{value if name == "status" and value.isdecimal() else quoted(value)}'
            for name, value in fields.items()
            if value
        )
        return f'","level":"{level}","event":"request"{known}'

    def lines(self, now: str, start: str, ended: Ended) -> list[str]:
        # What many have in common is written once, and so is each caller's name.
        shared = f'{{"time":"{now}{start}{_json_phases(ended)}'
        begins = {
            name: shared + (f',"caller":{quoted(name)}' if name else "") + ',"request_id":"'
            for name in (set(ended.callers) if ended.callers else ("",))
        }
        columns = zip(
            map(begins.__getitem__, ended.callers) if ended.callers else repeat(begins[""]),
            ended.ids or repeat(""),
            ended.seconds,
            ended.sizes or repeat(0),
            map(_json_end, ended.traces) if ended.traces else repeat(_json_end("")),
            strict=False,
        )
        return [
            f'{begin}{id_}","seconds":{seconds:.6f},"bytes":{size}{end}'
            for begin, id_, seconds, size, end in columns
        ]


class _Text:
    """Name and value, where there is one."""

    def start(self, level: str, fields: Mapping[str, str]) -> str:
        known = "".join(f" {name}={on_one_line(value)}" for name, value in fields.items() if value)
        return f" {level} request:{known}"

    def lines(self, now: str, start: str, ended: Ended) -> list[str]:
        shared = f"{now}{start}"
        if ended.rows:
            shared += f" rows={ended.rows}"
        if (phases := ended.phases) is not None:
            shared += (
                f" batch_rows={phases.batch_rows} decode={phases.decode:.6f} queue={phases.queue:.6f}"
                f" compute={phases.compute:.6f} encode={phases.encode:.6f}"
            )
        columns = zip(
            ended.seconds,
            ended.ids or repeat(""),
            ended.callers or repeat(""),
            ended.sizes or repeat(0),
            map(_trace_id, ended.traces or repeat("")),
            strict=False,
        )
        names = ("request_id", "caller", "bytes", "trace_id")
        return [
            f"{shared} seconds={seconds:.6f}"
            + "".join(
                f" {name}={on_one_line(str(value))}" for name, value in zip(names, rest, strict=True) if value
            )
            + "\n"
            for seconds, *rest in columns
        ]


def _json_phases(ended: Ended) -> str:
    rows, phases = ended.rows, ended.phases
    if phases is None:
        return f',"rows":{rows}' if rows else ""
    return (
        f',"rows":{rows},"batch_rows":{phases.batch_rows},"decode":{phases.decode:.6f}'
        f',"queue":{phases.queue:.6f},"compute":{phases.compute:.6f},"encode":{phases.encode:.6f}'
    )


def _json_end(trace: str) -> str:
    return f',"trace_id":"{_trace_id(trace)}"}}\n' if trace else "}\n"


def _trace_id(traceparent: str) -> str:
    """W3C Trace Context, 3.2: version-traceid-parentid-flags."""
    return traceparent[3:35]
