"""Measure our server beside bare echoes of the same bytes: `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that this file can be run from anywhere

from benchmarks import report
from benchmarks.cases import GRPC_AIO, GRPC_THREADS, OURS, UVICORN, Case, Sample, all_cases, in_round
from benchmarks.load import Span
from benchmarks.measure import Answers, Bench
from benchmarks.questions import Question, train
from benchmarks.servers import Cores, Server, echo, oipserver, pin

HERE = Path(__file__).parent
FRONTS = {"http": ("HTTP",), "grpc": ("gRPC",), None: ("HTTP", "gRPC")}
# The share of a case's time that is spent before counting begins.
WARM_UP = 0.2
# uvicorn sends these by itself.
UVICORN_HEADERS = frozenset(("date", "server"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; 1 when there were errors."""
    options = _options(arguments)
    fronts = FRONTS[options.only]
    cases = all_cases(fronts)
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "benchmarks/run.py", *(arguments or sys.argv[1:])]),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    with tempfile.TemporaryDirectory(prefix="oipserver-bench-") as directory:
        samples = _run(cases, fronts, options, Path(directory))
    rows = report.rows_of(samples)
    text = report.table(rows) + "".join(f"\n- {remark}" for remark in report.remarks(rows)) + "\n"
    print(text)
    _store(report.document(rows, samples, about), text, options)
    return int(any(row.errors for row in rows))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often every case is measured [5]")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each time [1]")
    parser.add_argument("--only", choices=("http", "grpc"), help="one front alone")
    parser.add_argument(
        "--quick", action="store_true", help="one round of 0.3 s, to see that everything runs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there and nowhere else")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = 1, 0.3
    return options


def _run(
    cases: list[Case], fronts: Sequence[str], options: argparse.Namespace, directory: Path
) -> dict[Case, list[Sample]]:
    span = Span(WARM_UP * options.seconds, options.seconds)
    samples: dict[Case, list[Sample]] = {case: [] for case in cases}
    # An exception out of a signal handler would end in the load client's event loop; so it waits for a case.
    told_to_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_end.set())
    with _bench(fronts, span, directory) as bench:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for case in in_round(cases, number):
                if told_to_end.is_set():
                    sys.exit(128 + signal.SIGTERM)
                samples[case].append(bench.measure(case))
    return samples


@contextmanager
def _bench(fronts: Sequence[str], span: Span, directory: Path) -> Iterator[Bench]:
    """All servers up, on one core, and the right answers known."""
    cores = Cores.available()
    pin(0, cores.client)
    questions, config = train(directory)
    with ExitStack() as stack:
        ours = stack.enter_context(oipserver(config, cores.server))
        answers = {name: _ask(question, ours) for name, question in questions.items()}
        servers = {OURS: ours}
        for name, (front, kind, answer) in _echoes(answers["iris"]).items():
            if front in fronts:
                servers[name] = stack.enter_context(echo(kind, answer, cores.server))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        yield Bench(questions, answers, servers, cores, span, runner)


def _ask(question: Question, server: Server) -> Answers:
    headers, body = question.ask_http(server.http_port)
    return Answers(headers, body, question.ask_grpc(server.grpc_port))


def _echoes(answers: Answers) -> dict[str, tuple[str, str, bytes]]:
    """The bare servers: front, kind and the answer that they give."""
    headers = [pair for pair in answers.http_headers if pair[0].lower() not in UVICORN_HEADERS]
    answer = json.dumps({"headers": headers, "body": answers.http_body.decode()}).encode()
    return {
        UVICORN: ("HTTP", "uvicorn", answer),
        GRPC_AIO: ("gRPC", "grpc-aio", answers.grpc_message),
        GRPC_THREADS: ("gRPC", "grpc-threads", answers.grpc_message),
    }


def _store(document: Mapping[str, Any], text: str, options: argparse.Namespace) -> None:
    """A whole run is kept beside this file and shown in the README, any other where it is told to be."""
    content = json.dumps(document, indent=1) + "\n"
    if options.json:
        options.json.write_text(content)
    elif not (options.quick or options.only):
        results = HERE / "results"
        results.mkdir(exist_ok=True)
        (results / f"{document['date'][:10]}.json").write_text(content)
        report.write_readme(HERE / "README.md", f"{report.heading(document)}\n\n{text}")


if __name__ == "__main__":
    sys.exit(main())
