"""A million requests by both fronts, a tenth of them refused and a hundredth cancelled: does anything grow?

`python benchmarks/soak.py [--requests N]` prints the server's memory, descriptors, threads and metric series
after each step.  The exit code is 0 when they stay flat (memory: 20 MB at most) and every answer was right.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from urllib.request import urlopen

import grpc
import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that this file can be run from anywhere

from benchmarks.load import Judge
from benchmarks.models import IRIS, rows_for, train
from benchmarks.questions import GRPC_PATH, HttpQuestion, Right, v2_grpc, v2_json
from benchmarks.servers import Server, oipserver
from benchmarks.stage import write_config

REFUSED, CANCELLED, OVER_GRPC = 0.10, 0.01, 0.2
MAX_GROWTH_MB = 20.0
# Asked before the first look: threads are started and buffers are grown by then.
WARM_UP = 20_000
STEPS = 10
HTTP_CALLERS, GRPC_CALLERS = 32, 16
PATIENCE = 30.0
# Requests per second; who is slower hangs.
SLOWEST = 500
# Looks, 50 ms apart, that have to be the same.
SAME_LOOKS = 4
# Of the last flower of the data set.
PREDICTED = np.array([2])

# In place of a status: the caller leaves without waiting for the answer.
LEAVE = ""

EXPECTED, LEFT = "as expected", "cancelled"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and the status that its answer has to have; `right` judges the body of a good one."""

    request: bytes
    status: str
    right: Right | None = None

    def judge(self, status: str, body: bytes) -> str:
        """What to count the answer as."""
        if status != self.status:
            return f"{status} for {self.status}"
        return EXPECTED if self.right is None or self.right(body) else "wrong"


@dataclass(frozen=True, slots=True)
class Look:
    """What the server uses, at rest."""

    requests: int
    megabytes: float
    descriptors: int
    threads: int
    series: int

    def __str__(self) -> str:
        return (
            f"{self.requests:>10,} {self.megabytes:>10.1f} {self.descriptors:>12} {self.threads:>8} "
            f"{self.series:>7}"
        )


HEADER = f"{'requests':>10} {'memory MB':>10} {'descriptors':>12} {'threads':>8} {'series':>7}"


def http_asks() -> dict[str, list[Ask]]:
    """Good and refused requests, and good ones whose callers leave."""
    question = v2_json(IRIS, rows_for(IRIS, 1), PREDICTED)
    good, path, whole = question.requests[0], question.path, question.body

    def ask(path: str, body: bytes) -> bytes:
        return HttpQuestion(path, question.headers, body, question.right).requests[0]

    refused = [
        Ask(ask(path, b'{"inputs": ['), "400"),
        Ask(ask(path, b"[]"), "400"),
        Ask(ask(path, whole.replace(b"FP64", b"FP65")), "400"),
        Ask(ask(path, whole.replace(b"[1,", b"[2,").replace(b"[1, ", b"[2, ")), "400"),
        Ask(ask(path.replace(IRIS, "nobody"), whole), "404"),
    ]
    return {
        "good": [Ask(good, "200", Judge(question.right))],
        "refused": refused,
        "cancelled": [Ask(good, LEAVE)],
    }


def grpc_asks() -> dict[str, list[Ask]]:
    """As `http_asks`; a request is a message."""
    question = v2_grpc(IRIS, rows_for(IRIS, 1), PREDICTED)
    good = question.message
    refused = [
        Ask(good.replace(b"FP64", b"FP65"), "INVALID_ARGUMENT"),
        Ask(good[:-8] + b"\xff" * 8, "INVALID_ARGUMENT"),
        Ask(good.replace(IRIS.encode(), b"nope"), "NOT_FOUND"),
    ]
    return {
        "good": [Ask(good, "OK", Judge(question.right))],
        "refused": refused,
        "cancelled": [Ask(good, LEAVE)],
    }


def mixture(kinds: dict[str, list[Ask]], count: int, seed: int) -> Iterator[Ask]:
    """So many, mixed at random but the same every time."""
    chance = random.Random(seed)
    shares = {"refused": REFUSED, "cancelled": CANCELLED, "good": 1 - REFUSED - CANCELLED}
    for kind in chance.choices(list(shares), list(shares.values()), k=count):
        yield chance.choice(kinds[kind])


class HttpCaller(asyncio.Protocol):
    """One connection: asks, reads, asks again; leaves when it is told to."""

    def __init__(self, asks: Iterator[Ask], seen: Counter[str]) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.done = False
        self._asks = asks
        self._seen = seen
        self._ask: Ask | None = None
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by descent
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        assert self._ask is not None
        self._seen[self._ask.judge(head[9:12].decode(), body)] += 1
        self._received, self._ask = b"", None
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._ask is not None:
            self._seen["lost"] += 1
        self.lost.set_result(None)

    def _next(self) -> None:
        ask = next(self._asks, None)
        if ask is None:
            self.done = True
            self._transport.close()
            return
        self._transport.write(ask.request)
        if ask.status is LEAVE:
            self._seen[LEFT] += 1
            self._transport.close()
        else:
            self._ask = ask


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length: ")
    return int(rest.partition(b"\r\n")[0])


async def call_http(port: int, asks: Iterator[Ask], seen: Counter[str]) -> None:
    """Ask until there is nothing to ask any more, over a new connection whenever the last one was closed."""
    done = False
    while not done:
        _, caller = await asyncio.get_running_loop().create_connection(
            lambda: HttpCaller(asks, seen), "127.0.0.1", port
        )
        await caller.lost
        done = caller.done


async def call_grpc(channel: grpc.aio.Channel, asks: Iterator[Ask], seen: Counter[str]) -> None:
    """As `call_http`, over one connection that all share."""
    method = channel.unary_unary(GRPC_PATH, None, None)  # without serializers: bytes in, bytes out
    for ask in asks:
        call = method(ask.request, timeout=PATIENCE)
        if ask.status is LEAVE:
            await asyncio.sleep(0)
            call.cancel()
            seen[LEFT] += 1
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await call
            continue
        code = await call.code()
        seen[ask.judge(code.name, await call if code is grpc.StatusCode.OK else b"")] += 1


async def load(server: Server, requests: int, seed: int) -> Counter[str]:
    """So many requests by both fronts, with connections of their own; what came back."""
    seen: Counter[str] = Counter()
    over_grpc = round(requests * OVER_GRPC)
    http = mixture(http_asks(), requests - over_grpc, seed)
    calls = mixture(grpc_asks(), over_grpc, -seed)
    async with (
        asyncio.timeout(PATIENCE + requests / SLOWEST),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        await asyncio.gather(
            *(call_http(server.http_port, http, seen) for _ in range(HTTP_CALLERS)),
            *(call_grpc(channel, calls, seen) for _ in range(GRPC_CALLERS)),
        )
    return seen


def look(server: Server, requests: int) -> Look:
    """What it uses, when all connections are gone: as soon as nothing changes any more."""
    before, same, end = _look(server, requests), 0, time.monotonic() + PATIENCE
    while same < SAME_LOOKS and time.monotonic() < end:
        time.sleep(0.05)
        now = _look(server, requests)
        same = same + 1 if replace(now, megabytes=0) == replace(before, megabytes=0) else 0
        before = now
    return before


def _look(server: Server, requests: int) -> Look:
    with urlopen(f"http://127.0.0.1:{server.http_port}/metrics") as answer:
        series = sum(1 for line in answer if not line.startswith(b"#"))
    process = Path(f"/proc/{server.pid}")
    memory = server.memory()
    assert memory is not None
    return Look(
        requests,
        memory.rss,
        sum(1 for _ in (process / "fd").iterdir()),
        sum(1 for _ in (process / "task").iterdir()),
        series,
    )


def verdict(looks: list[Look], seen: Counter[str]) -> list[str]:
    """What is wrong: nothing, when it holds."""
    warm, middle, last = looks[0], looks[len(looks) // 2], looks[-1]
    wrong = [f"{count} answers: {what}" for what, count in seen.items() if what not in (EXPECTED, LEFT)]
    if last.megabytes - warm.megabytes > MAX_GROWTH_MB:
        wrong.append(f"memory has grown by {last.megabytes - warm.megabytes:.1f} MB")
    counts = {
        "descriptors": (warm.descriptors, last.descriptors),
        "threads": (warm.threads, last.threads),
        # A rare outcome has its series when it first comes, and to be cancelled at the right moment is rare.
        "series": (middle.series, last.series),
    }
    return wrong + [
        f"{name} have grown from {old} to {new}" for name, (old, new) in counts.items() if new > old
    ]


def soak(requests: int) -> int:
    """Train, serve, ask, look; the exit code."""
    seen: Counter[str] = Counter()
    looks: list[Look] = []
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder), [IRIS])
        with oipserver(write_config(Path(folder), [IRIS]), None) as server:
            uvloop.run(load(server, min(WARM_UP, requests), seed=1))
            looks.append(look(server, 0))
            print(HEADER, looks[0], sep="\n", flush=True)
            for step in range(STEPS):
                share = requests * (step + 1) // STEPS - requests * step // STEPS
                seen += uvloop.run(load(server, share, seed=step + 2))
                looks.append(look(server, requests * (step + 1) // STEPS))
                print(looks[-1], flush=True)
    print(f"\n{', '.join(f'{count:,} {what}' for what, count in seen.items())}")
    wrong = verdict(looks, seen)
    print("\n".join(wrong) or f"flat; memory {looks[-1].megabytes - looks[0].megabytes:+.1f} MB")
    return bool(wrong)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="how many (default: %(default)s)")
    return soak(parser.parse_args().requests)


if __name__ == "__main__":
    sys.exit(main())
