"""Ten times more requests than a model of 50 ms can answer, by both fronts: does the server keep its head?

`python benchmarks/overload.py [--seconds S] [--times N]` measures what the server can do for callers who wait
for their answers, sends N times as much whether it is answered or not, and looks how soon all is well again.
The exit code is 0 when every request was answered with 200, 429 or 503, at least 90 % of the capacity was put
to use, memory stayed bounded, and the server had recovered within a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import grpc
import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that this file can be run from anywhere

from benchmarks.load import Judge
from benchmarks.questions import GRPC_PATH, v2_grpc, v2_json
from benchmarks.servers import Cores, Server, oipserver, pin

COMPUTE_SECONDS = 0.05
MAX_BATCH_SIZE = 8
# The answers of 0.4 seconds: whoever is let in is answered within half a second.
MAX_QUEUE_SIZE = 8 * MAX_BATCH_SIZE

ALLOWED = {"200", "429", "503"}
MIN_GOODPUT = 0.9
MAX_GROWTH_MB = 20.0
MAX_RECOVERY = 1.0
# Recovered is who answers again within the time of two batches, and some more for a busy machine.
ALL_IS_WELL = 2.5 * COMPUTE_SECONDS

CAPACITY_SECONDS = 3.0
TICK = 0.005
PATIENCE = 30.0

MODEL = f"""
import time
from oipserver_python import Input, Output, function


@function(
    inputs=[Input("input-0", "FP64", [-1, 4])],
    outputs=[Output("y", "FP64", [-1, 1])],
    batchable=True,
)
def sleeper(x):
    time.sleep({COMPUTE_SECONDS})
    return x.sum(axis=1, keepdims=True)
"""
ROW = np.array([[1.0, 2.0, 3.0, 4.0]])
OVER_HTTP = v2_json("sleeper", ROW, np.array([10.0]))
OVER_GRPC = v2_grpc("sleeper", ROW, np.array([10.0]))

_STATUS = {
    grpc.StatusCode.OK: "200",
    grpc.StatusCode.UNAVAILABLE: "503",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "429",
    grpc.StatusCode.DEADLINE_EXCEEDED: "504",
}

# Told the status of an answer.
Told: TypeAlias = Callable[[str], None]


class Callers:
    """Who asks over HTTP, on as many connections as are needed at the same time, and over gRPC, on one."""

    def __init__(self, port: int, channel: grpc.aio.Channel) -> None:
        self._port = port
        self._free: list[Connection] = []
        self._call = channel.unary_unary(GRPC_PATH, None, None)  # without serializers: bytes in, bytes out
        self._tasks: set[asyncio.Task[None]] = set()
        self._right = {"http": Judge(OVER_HTTP.right), "grpc": Judge(OVER_GRPC.right)}
        self._request = OVER_HTTP.requests[0]

    def ask(self, front: str, told: Told) -> None:
        """Send one request."""
        if front == "http" and self._free:
            self._free.pop().ask(self._request, told)
            return
        task = asyncio.ensure_future(self._connect(told) if front == "http" else self._ask_grpc(told))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def judge(self, front: str, status: str, answer: bytes) -> str:
        """The status, or what is wrong with the answer."""
        return "wrong" if status == "200" and not self._right[front](answer) else status

    def close(self) -> None:
        """Leave."""
        for connection in self._free:
            connection.transport.close()

    async def _connect(self, told: Told) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, one = await loop.create_connection(
                lambda: Connection(self, self._free), "127.0.0.1", self._port
            )
        except OSError as error:
            told(type(error).__name__)
        else:
            one.ask(self._request, told)

    async def _ask_grpc(self, told: Told) -> None:
        call = self._call(OVER_GRPC.message, timeout=PATIENCE)
        code = await call.code()
        answer = await call if code is grpc.StatusCode.OK else b""
        told(self.judge("grpc", _STATUS.get(code, code.name), answer))


class Connection(asyncio.Protocol):
    """A connection on which one request at a time is asked; it is `free` again with its answer."""

    def __init__(self, callers: Callers, free: list[Connection]) -> None:
        self._callers = callers
        self._free = free
        self._told: Told | None = None
        self._received = b""
        self.transport: asyncio.Transport

    def ask(self, request: bytes, told: Told) -> None:
        """Send it."""
        self._told = told
        self.transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by descent

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if found and len(body) >= int(length):
            self._received = b""
            self._free.append(self)
            self._tell(self._callers.judge("http", head[9:12].decode(), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._free:
            self._free.remove(self)
        self._tell("lost")

    def _tell(self, status: str) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(status)


@asynccontextmanager
async def callers_of(server: Server) -> AsyncIterator[Callers]:
    """Those of a server, with connections of their own."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        callers = Callers(server.http_port, channel)
        yield callers
        callers.close()


async def capacity(callers: Callers, seconds: float) -> float:
    """Good answers per second to callers who wait for them, as many as fill four batches."""
    good = 0
    end = time.perf_counter() + seconds
    left = asyncio.Semaphore(0)

    def ask(front: str) -> None:
        def told(status: str) -> None:
            nonlocal good
            if time.perf_counter() < end:
                good += status == "200"
                ask(front)
            else:
                left.release()

        callers.ask(front, told)

    number = 4 * MAX_BATCH_SIZE
    for caller in range(number):
        ask("http" if caller % 2 else "grpc")
    for _ in range(number):
        await left.acquire()
    return good / seconds


@dataclass(slots=True)
class Seen:
    """What came of an overload.

    Attributes:
        answers: by status; `good` those within the time of the overload that were right.
        waits: seconds, of the good ones.
    """

    answers: Counter[str]
    sent: int
    good: int
    waits: list[float]
    seconds: float

    @property
    def goodput(self) -> float:
        """Good answers per second."""
        return self.good / self.seconds

    def wait(self, percent: float) -> float:
        """Seconds within which so many of the good ones were answered."""
        return float(np.percentile(self.waits, percent)) if self.waits else float("nan")


async def overload(callers: Callers, rate: float, seconds: float) -> Seen:
    """So many requests per second, half of them by each front, whatever comes back."""
    seen = Seen(Counter(), 0, 0, [], seconds)
    begin = time.perf_counter()

    def ask(front: str) -> None:
        asked = time.perf_counter()

        def told(status: str) -> None:
            now = time.perf_counter()
            seen.answers[status] += 1
            if status == "200":
                seen.waits.append(now - asked)
                seen.good += now - begin < seconds

        callers.ask(front, told)

    while (passed := time.perf_counter() - begin) < seconds:
        due = int(passed * rate)
        while seen.sent < due:
            seen.sent += 1
            ask("http" if seen.sent % 2 else "grpc")
        await asyncio.sleep(TICK)
    return seen


async def recovery(callers: Callers) -> float:
    """Seconds until both fronts answer again as if nothing had been."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < PATIENCE:
        asked = time.perf_counter()
        statuses = [await _one(callers, front) for front in ("http", "grpc")]
        if statuses == ["200", "200"] and time.perf_counter() - asked < 2 * ALL_IS_WELL:
            return asked - begin
    return float("inf")


async def _one(callers: Callers, front: str) -> str:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    callers.ask(front, told.set_result)
    return await told


class Memory:
    """The most that a server has used since it was looked at first, in MB."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.before = self.most = self._now()

    def _now(self) -> float:
        memory = self._server.memory()
        return 0.0 if memory is None else memory.rss

    @property
    def grown(self) -> float:
        """Since the first look."""
        return self.most - self.before

    async def watch(self) -> None:
        """Look at it again and again."""
        while True:
            self.most = max(self.most, self._now())
            await asyncio.sleep(0.25)


@contextmanager
def served() -> Iterator[Server]:
    """The server with its model."""
    with tempfile.TemporaryDirectory() as folder:
        code, config = Path(folder) / "sleeper.py", Path(folder) / "server.json"
        code.write_text(MODEL)
        model = {
            "name": "sleeper",
            "runtime": "python",
            "model_uri": str(code),
            "max_batch_size": MAX_BATCH_SIZE,
            "dynamic_batching": {"max_queue_size": MAX_QUEUE_SIZE},
        }
        config.write_text(json.dumps({"models": [model]}))
        with oipserver(config, Cores.available().server) as server:
            yield server


async def measure(server: Server, times: float, seconds: float) -> bool:
    """Measure, print, and tell whether it held."""
    async with callers_of(server) as callers:
        able = await capacity(callers, CAPACITY_SECONDS)
        memory = Memory(server)
        watch = asyncio.ensure_future(memory.watch())
        seen = await overload(callers, times * able, seconds)
        recovered = await recovery(callers)
        watch.cancel()
    print(table(able, seen, memory.grown, recovered))
    wrong = verdict(able, seen, memory.grown, recovered)
    print("\n".join(wrong) or "it held")
    return not wrong


def table(able: float, seen: Seen, grown: float, recovered: float) -> str:
    """The figures."""
    lines = [
        f"model                 {COMPUTE_SECONDS * 1e3:g} ms for up to {MAX_BATCH_SIZE} rows, "
        f"queue of {MAX_QUEUE_SIZE}",
        f"capacity              {able:.0f} requests/s",
        f"sent                  {seen.sent} in {seen.seconds:g} s: {seen.sent / seen.seconds / able:.1f} x",
        *(f"answered {status:<12} {count}" for status, count in sorted(seen.answers.items())),
        f"goodput               {seen.goodput:.0f} requests/s: {seen.goodput / able:.1%} of capacity",
        f"wait of the good ones {seen.wait(50):.3f} s (p50), {seen.wait(99):.3f} s (p99)",
        f"memory grown by       {grown:.1f} MB",
        f"recovered after       {recovered:.2f} s",
    ]
    return "\n".join(lines)


def verdict(able: float, seen: Seen, grown: float, recovered: float) -> list[str]:
    """What is wrong: nothing, when it holds."""
    wrong = [f"{count} answers: {what}" for what, count in seen.answers.items() if what not in ALLOWED]
    if unanswered := seen.sent - sum(seen.answers.values()):
        wrong.append(f"{unanswered} requests without an answer")
    if seen.goodput < MIN_GOODPUT * able:
        wrong.append(f"goodput is below {MIN_GOODPUT:.0%} of the capacity")
    if grown > MAX_GROWTH_MB:
        wrong.append(f"memory has grown by more than {MAX_GROWTH_MB:g} MB")
    if recovered > MAX_RECOVERY:
        wrong.append(f"recovery took more than {MAX_RECOVERY:g} s")
    return wrong


def main() -> int:
    """The exit code: 0 when it held."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of overload")
    parser.add_argument("--times", type=float, default=10.0, help="the capacity, that are sent")
    options = parser.parse_args()
    with served() as server:
        pin(0, Cores.available().client)
        return 0 if uvloop.run(measure(server, options.times, options.seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
