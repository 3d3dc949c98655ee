"""`python -m benchmarks.peers [NAME …]`: start peers in turn, ask each model once, print what it says."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import joblib

from benchmarks.asking import WrongAnswer, ask
from benchmarks.models import MODELS, rows_for, train
from benchmarks.peers import PEERS, Peer
from benchmarks.questions import GrpcQuestion, HttpQuestion, v2_grpc
from benchmarks.servers import Cores, Server

_SHOWN = 300


def main(names: list[str]) -> int:
    """Exit code 1: one of them did not start or answered wrongly."""
    unknown = sorted(set(names) - {peer.name for peer in PEERS})
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(peer.name for peer in PEERS)}")
        return 2
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        train(models)
        shown = [_show(peer, models) for peer in PEERS if not names or peer.name in names]
        return int(not all(shown))


def _show(peer: Peer, models: Path) -> bool:
    try:
        peer.prepare(models)
        begin = time.perf_counter()
        with peer.serve(models, Cores.available().server) as server:
            seconds = time.perf_counter() - begin
            print(f"{peer.name}: every model answers after {seconds:.1f} s; {server.memory()}", flush=True)
            asked = [_ask(server, *each) for model in MODELS for each in _questions(peer, models, model)]
            return all(asked)
    except RuntimeError as error:
        print(f"{peer.name}: did not start: {error}")
        return False


def _questions(peer: Peer, models: Path, model: str) -> Iterator[tuple[str, HttpQuestion | GrpcQuestion]]:
    rows = rows_for(model, 2)
    expected = joblib.load(models / f"{model}.joblib").predict(rows)
    question = peer.http_question(model, rows, expected)
    if question is not None:
        yield f"{model}, HTTP", question
    if "gRPC" in peer.fronts:
        yield f"{model}, gRPC", v2_grpc(peer.grpc_model(model), rows, expected, peer.datatype(model))


def _ask(server: Server, what: str, question: HttpQuestion | GrpcQuestion) -> bool:
    try:
        answer = ask(server.http_port, server.grpc_port, question)
    except WrongAnswer as error:
        print(f"  {what}: {error}", flush=True)
        return False
    print(f"  {what}: {answer.body[:_SHOWN]!r}", flush=True)
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and so end the peers
    sys.exit(main(sys.argv[1:]))
