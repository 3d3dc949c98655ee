"""gRPC load by grpcio's own asyncio client: a cross-check of our load client."""

from __future__ import annotations

import asyncio
from itertools import cycle
from time import perf_counter

import grpc

from benchmarks.load import PATIENCE_SECONDS, Judge, Span, Tally
from benchmarks.questions import GRPC_PATH, GrpcQuestion


async def load_grpc_aio(port: int, question: GrpcQuestion, callers: int, span: Span) -> Tally:
    """Load 127.0.0.1:`port` with `callers` calls at a time over one channel."""
    tally, judge = Tally(span), Judge(question.right)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        messages = cycle((question.message, *question.others))
        call = channel.unary_unary(GRPC_PATH, None, None)  # without serializers: bytes in, bytes out

        async def ask_again_and_again() -> None:
            again = True
            while again:
                asked = perf_counter()
                answer = await call(next(messages), timeout=PATIENCE_SECONDS)
                again = tally.count(asked, perf_counter(), judge(answer))

        ends = await asyncio.gather(*(ask_again_and_again() for _ in range(callers)), return_exceptions=True)
    tally.errors += sum(end is not None for end in ends)
    return tally
