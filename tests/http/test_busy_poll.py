"""The loop stays awake for a moment behind an answer: while that pays, and never in somebody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from oipserver.http.busy_poll import MAX_PAUSE, BusyPoll
from tests.http.infer_server import InferServer
from tests.http.test_direct import infer, numbers
from tests.support import PATIENCE, run, until

VAIN = 1e-6


async def look_in_vain(poll: BusyPoll) -> int:
    """Answers until the loop has looked once more; nobody came."""
    answers = 1
    poll.answered()
    while not poll.looking:
        answers += 1
        poll.answered()
    await until(lambda: not poll.looking)
    return answers


def test_looks_in_vain_grow_rare() -> None:
    async def main() -> None:
        poll = BusyPoll(VAIN)
        passed_over = [await look_in_vain(poll) - 1 for _ in range(14)]
        assert passed_over == [0, *(min(2**k, MAX_PAUSE) for k in range(13))]

    run(main())


def test_looks_that_pay_come_back() -> None:
    async def main() -> None:
        poll = BusyPoll(PATIENCE)
        for _ in range(5):
            while not poll.looking:
                poll.answered()
            poll.until = 0
            await until(lambda: not poll.looking)
        assert poll.pause == 32
        while not poll.looking:
            poll.answered()
        for pause in (16, 8, 4, 2, 1, 1):
            await asyncio.sleep(0)
            poll.answered()  # the next request came while the loop looked
            assert poll.pause == pause
        poll.until = 0

    run(main())


def test_what_is_told_twice_in_one_turn_is_no_reward() -> None:
    async def main() -> None:
        poll = BusyPoll(VAIN)
        for _ in range(5):
            await look_in_vain(poll)
        while not poll.looking:
            poll.answered()
        poll.answered()
        poll.answered()
        assert poll.pause == 32

    run(main())


def test_a_look_holds_up_nothing() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        writer.close()

    async def main() -> None:
        poll = BusyPoll(PATIENCE)
        poll.answered()
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            assert await reader.read() == b"x"
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.001)  # a timer, which a look must not hold up either
        assert await asyncio.to_thread(lambda: 1) == 1
        assert poll.looking
        poll.until = 0

    run(main())


def test_without_seconds_there_is_no_look() -> None:
    async def main() -> None:
        poll = BusyPoll(0)
        for _ in range(3):
            poll.answered()
            assert not poll.looking

    run(main())


# --- the server --------------------------------------------------------------------------------------------


class Awake(InferServer):
    """A server whose looks outlast every test."""

    def __init__(self) -> None:
        super().__init__(busy_poll=PATIENCE)

    def looks(self) -> bool:
        """Whether the loop does not sleep now."""
        return self.call(lambda: self.poll.looking)

    @property
    def poll(self) -> BusyPoll:
        return self.http._connections.express._busy_poll

    def sleep(self) -> None:
        """Look no more."""
        self.poll.until = 0


@pytest.fixture
def server() -> Iterator[Awake]:
    with Awake() as running:
        yield running
        running.call(running.sleep)


@pytest.mark.parametrize("traced", [False, True], ids=["known heads", "heads of their own"])
def test_the_server_looks_for_the_next_request_and_answers_it(server: Awake, traced: bool) -> None:
    with server.connect() as client:
        assert not server.looks()
        for number in range(20):
            headers = {"traceparent": str(number)} if traced else {}
            assert numbers(client.ask(infer(3.0, headers=headers))) == [6.0, 6.0]
            assert server.looks()


def test_there_is_no_look_while_somebody_waits_for_a_model(server: Awake) -> None:
    server.gated.gate.clear()
    with server.connect() as waiting, server.connect() as other:
        waiting.send(infer(3.0, "gated"))
        assert server.gated.entered.acquire(timeout=PATIENCE)
        assert other.ask(infer(3.0)).status == 200
        assert not server.looks()
        server.gated.gate.set()
        assert waiting.answer().status == 200
        server.until(lambda: server.poll.looking)
