"""The log of the process, on stderr: a JSON object a line, or text where somebody reads along.

Rule: who logs never waits for who reads.  Lines go into a bounded queue that one thread writes; when the
stream is blocked and the queue full, they are dropped, counted, and the loss is told as soon as it flows
again.

No line has a control character, nor anything but ASCII in JSON: what a client can have a hand in is escaped.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO, TypeAlias

# Bytes that may wait to be written.
MAX_WAITING = 2**22
# Seconds to wait at the end of the process for what has not been written.
FLUSH_SECONDS = 1.0

Write: TypeAlias = Callable[[bytes], None]

# Each letter or digit but those that end a line or speak to a terminal (C0, DEL, C1, U+2028, U+2029).
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x09: "\t",
    0x0A: "\n",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
_ON_ONE_LINE = _ESCAPES | {0x09: "\\t", 0x0A: "\\n"}


class Sink:
    """Lines on their way to a stream.  Any thread may write; a thread of its own waits for the stream.

    Args:
        lost: the line that tells how many were dropped.

    Attributes:
        dropped: lines that were not written, since the start.
    """

    def __init__(self, write: Write, lost: Callable[[int], bytes], max_waiting: int = MAX_WAITING) -> None:
        self.dropped = 0
        self._write = write
        self._lost = lost
        self._max = max_waiting
        self._lines: deque[tuple[bytes, int]] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._told = 0
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, data: bytes, lines: int = 1) -> None:
        """Have whole lines written soon, or count them as dropped; never waits."""
        with self._changed:
            if self._waiting + len(data) > self._max:
                self.dropped += lines
                return
            self._waiting += len(data)
            self._lines.append((data, lines))
            if len(self._lines) == 1:
                self._changed.notify_all()

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until all is written, but not for ever."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                data, lines = self._lines.popleft()
            try:
                self._write(data)
            except (OSError, ValueError):  # closed, or a full disk: nobody can be told
                self._count(lines)
            self._tell_lost()
            with self._changed:
                self._waiting -= len(data)
                if not self._waiting:
                    self._changed.notify_all()

    def _count(self, lines: int) -> None:
        with self._changed:
            self.dropped += lines

    def _tell_lost(self) -> None:
        dropped = self.dropped
        if dropped != self._told:
            try:
                self._write(self._lost(dropped - self._told))
            except (OSError, ValueError):
                return
            self._told = dropped


class _Handler(logging.Handler):
    """What goes through Python's logging, into the sink."""

    def __init__(self, sink: Sink, formatter: logging.Formatter) -> None:
        super().__init__()
        self._sink = sink
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sink.write((self.format(record) + "\n").encode(errors="backslashreplace"))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Called when the process ends, by `logging.shutdown`."""
        self._sink.flush()


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line, traceback and all."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": timestamp(record.created),
            "level": record.levelname,
            "event": "log",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f")


class TextFormatter(logging.Formatter):
    """A record as a line to be read; a traceback has lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().translate(_ON_ONE_LINE)
        text = f"{timestamp(record.created)} {record.levelname} {record.name}: {message}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info).translate(_ESCAPES)
        return text


class Log:
    """The log of a process, open until it ends.

    Attributes:
        json: lines are JSON objects.
        level: the least important one that is logged, as `logging` counts.
    """

    def __init__(self, sink: Sink, as_json: bool, level: int) -> None:
        self.sink = sink
        self.json = as_json
        self.level = level


def configure(level: str, style: str = "auto", libraries: bool = False) -> Log:
    """Send everything from `level` on to stderr.

    Args:
        level: "debug", "info", "warning" or "error".
        style: "json", "text", or "auto": text where stderr is a terminal.
        libraries: the process is ours, so what libraries and models log goes there as well, from "warning"
            on; unless somebody else has set up Python's root logger.
    """
    stream = sys.stderr
    as_json = style == "json" or (style == "auto" and not _is_terminal(stream))
    formatter = JsonFormatter() if as_json else TextFormatter()

    def lost(lines: int) -> bytes:
        text = f"{lines} lines of this log were dropped: it was not read fast enough"
        record = logging.LogRecord("oipserver.log", logging.WARNING, "", 0, text, None, None)
        return (formatter.format(record) + "\n").encode()

    sink = Sink(_writer(stream), lost)
    handler = _Handler(sink, formatter)
    logger = logging.getLogger("oipserver")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False  # an application that embeds the server keeps its own root logger
    if libraries and not logging.root.handlers:
        logging.root.addHandler(handler)
        logging.captureWarnings(True)
        threading.excepthook = _log_thread_exception
    return Log(sink, as_json, logger.level)


def timestamp(seconds: float) -> str:
    """Wall time as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class Clock:
    """Times as `timestamp` writes them, a microsecond cheaper when most are of the same second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def at(self, nanoseconds: int) -> str:
        """RFC 3339, UTC, milliseconds."""
        second, rest = divmod(nanoseconds // 1_000_000, 1000)
        if second != self._second:
            self._second, self._text = second, timestamp(second)[:-4]
        return f"{self._text}{rest:03d}Z"


def quoted(text: str) -> str:
    """Any text as JSON, in ASCII."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def on_one_line(text: str) -> str:
    """Any text without control characters."""
    return text.translate(_ON_ONE_LINE)


def _log_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    name = args.thread.name if args.thread is not None else "?"
    logging.getLogger("oipserver").error("thread %s failed", name, exc_info=args.exc_value)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _writer(stream: TextIO | None) -> Write:
    """What writes bytes to a stream, and waits for it; past Python's buffers where it is the process' own."""
    if stream is None:
        return lambda data: None
    if stream is sys.__stderr__ and stream is not None:
        descriptor = stream.fileno()
        return lambda data: _write_all(descriptor, data)

    def write(data: bytes) -> None:
        stream.write(data.decode())
        stream.flush()

    return write


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # somebody who has the same pipe made it so
            select.select([], [descriptor], [])
