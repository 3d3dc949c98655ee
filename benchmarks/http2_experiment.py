"""What would pass grpcio, and by how much: `python benchmarks/http2_experiment.py [--rounds 5]`.

One process serves iris over our real gRPC front and over `http2_experiment_endpoint`, both in front of the
same data plane; bare grpcio servers, and grpcio's core without its Python (`http2_experiment_core`), echo the
same bytes beside it.  Printed are medians over the rounds: requests per second, microseconds of the server's
CPU per answer, and both as ratios within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that this file can be run from anywhere

from benchmarks import models
from benchmarks.http2_experiment_endpoint import PATH, Endpoint
from benchmarks.load import Span
from benchmarks.load_grpc import load_grpc
from benchmarks.questions import GrpcQuestion, v2_grpc
from benchmarks.servers import Cores, Server, echo, pin
from oipserver.core.admission import Gate
from oipserver.core.dataplane import DataPlane, ServerMetadata
from oipserver.core.datatypes import FP64, INT64
from oipserver.core.messages import Arrays, Parameters, TensorMetadata
from oipserver.core.model import Model
from oipserver.core.model_config import ModelConfig
from oipserver.core.registry import Registry
from oipserver.core.scheduler import Budget
from oipserver.grpc.server import GrpcServer
from oipserver.metrics import Metrics

AIO, THREADS, CORE = "grpc.aio echo", "grpcio threads echo", "grpcio core echo"
OURS, OWN = "oipserver, grpcio", "oipserver, own HTTP/2"

# Requests per second, and microseconds of CPU per answer.
Sample: TypeAlias = tuple[float, float]


class Iris(Model):
    """scikit-learn's own predict, without any of our shortcuts."""

    platform = "experiment"
    inputs = (TensorMetadata("input-0", FP64, (-1, 4), allow_nan=False),)
    outputs = (TensorMetadata("predict", INT64, (-1,)),)
    batchable = may_run_inline = True

    def __init__(self) -> None:
        self._predict = models._iris().predict

    def predict(self, inputs: Arrays, outputs: Sequence[str], parameters: Parameters) -> Arrays:
        """The labels."""
        return {"predict": np.asarray(self._predict(inputs["input-0"]), np.int64)}


async def serve() -> None:
    """Both fronts; their ports are printed."""
    observer = Metrics()
    registry = Registry(lambda _: Iris(), Budget(10_000, 2**30), observer)
    plane = DataPlane(registry, Gate(observer), ServerMetadata("oipserver", "0", ()), expected=1)
    await registry.load(ModelConfig(name=models.IRIS, runtime="experiment"))
    loop = asyncio.get_running_loop()
    ours = GrpcServer(plane, loop, address="127.0.0.1:0")
    own = await loop.create_server(lambda: Endpoint(plane), "127.0.0.1", 0)
    print("ready:", ours.start(), own.sockets[0].getsockname()[1], flush=True)
    await own.serve_forever()


@contextmanager
def both_fronts(core: int | None) -> Iterator[dict[str, Server]]:
    """`serve` in a process of its own."""
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE) as process:
        try:
            pin(process.pid, core)
            assert process.stdout is not None
            _, ours, own = process.stdout.readline().split()
            yield {OURS: Server(process.pid, 0, int(ours)), OWN: Server(process.pid, 0, int(own))}
        finally:
            process.kill()


@contextmanager
def core_echo(answer: bytes, core: int | None) -> Iterator[Server]:
    """`http2_experiment_core` in a process of its own."""
    script = str(Path(__file__).with_name("http2_experiment_core.py"))
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            pin(process.pid, core)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(answer)
            process.stdin.close()
            yield Server(process.pid, 0, int(process.stdout.readline().split()[-1]))
        finally:
            process.kill()


@contextmanager
def all_servers(question: GrpcQuestion, core: int | None) -> Iterator[dict[str, Server]]:
    """Every server that is compared; grpcio's own client was answered rightly by both of ours."""
    with ExitStack() as stack:
        servers = stack.enter_context(both_fronts(core))
        first, second = (_ask(server.grpc_port, question.message) for server in servers.values())
        if not (question.right(first) and question.right(second)):
            raise RuntimeError("a wrong answer")
        servers[AIO] = stack.enter_context(echo("grpc-aio", first, core))
        servers[THREADS] = stack.enter_context(echo("grpc-threads", first, core))
        servers[CORE] = stack.enter_context(core_echo(first, core))
        yield servers


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print; 1 when there were errors."""
    parser = argparse.ArgumentParser(prog="benchmarks/http2_experiment.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    cores = Cores.available()
    pin(0, cores.client)
    row = models.rows_for(models.IRIS, 1)
    question = v2_grpc(models.IRIS, row, models._iris().predict(row))
    span = Span(0.15, options.seconds)
    print(f"callers  server                   req/s   us CPU   x rate, CPU of {AIO}   of {THREADS}")
    errors = 0
    with all_servers(question, cores.server) as servers:
        for callers in (1, 8, 64):
            samples: dict[str, list[Sample]] = {name: [] for name in servers}
            for _ in range(options.rounds):
                for name, server in servers.items():
                    sample, wrong = _measure(server, question, callers, span)
                    samples[name].append(sample)
                    errors += wrong
            for name, taken in samples.items():
                _print(callers, name, taken, samples)
    return int(errors > 0)


def _measure(server: Server, question: GrpcQuestion, callers: int, span: Span) -> tuple[Sample, int]:
    before = server.cpu_seconds() or 0.0
    tally = load_grpc(server.grpc_port, question, callers, span)
    used = (server.cpu_seconds() or 0.0) - before
    return (tally.rate, used / max(1, tally.answers) * 1e6), tally.errors


def _print(callers: int, name: str, taken: list[Sample], samples: Mapping[str, list[Sample]]) -> None:
    rate, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
    pairs = [_ratios(taken, samples[base]) for base in (AIO, THREADS)]
    ratios = "   ".join(f"{rates:.2f}, {cpus:.2f}" for rates, cpus in pairs)
    print(f"{callers:7}  {name:22} {rate:7.0f}  {cpu:7.0f}   {ratios}", flush=True)


def _ratios(taken: list[Sample], base: list[Sample]) -> Sample:
    pairs = list(zip(taken, base, strict=True))
    return (
        statistics.median(one[0] / other[0] for one, other in pairs),
        statistics.median(one[1] / other[1] for one, other in pairs),
    )


def _ask(port: int, message: bytes) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: bytes = channel.unary_unary(PATH, None, None)(message, timeout=10.0)
        return answer


if __name__ == "__main__":
    sys.exit(main())
