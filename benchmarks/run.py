"""Measure our server beside its peers and the limits of this machine: `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that this file can be run from anywhere

from benchmarks import pictures, report, tables
from benchmarks.cases import (
    CURVE,
    LIMITS,
    OURS,
    SHORT_CURVE,
    WRK,
    Case,
    Sample,
    Scope,
    Turn,
    all_turns,
    in_round,
)
from benchmarks.load import Span
from benchmarks.measure import Bench
from benchmarks.models import IRIS, MODELS, train
from benchmarks.peers import PEERS, Peer
from benchmarks.results import Results
from benchmarks.servers import Cores, in_process, pin
from benchmarks.stage import staged, write_config
from benchmarks.starts import Start, start, starter

HERE = Path(__file__).parent
GUIDE = HERE.parent / "docs" / "performance.md"
FRONTS = {"http": ("HTTP", "-"), "grpc": ("gRPC", "-"), "start": (), None: ("HTTP", "gRPC", "-")}
# The share of a case's time that is spent before counting begins.
WARM_UP = 0.2
# What `--quick` measures beside ours and the limits: their environments are built in a minute.
QUICK_PEERS = ("FastAPI", "MLServer", "MLServer batching")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; 1 when our server or a limit had errors."""
    options = _options(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "benchmarks/run.py", *given]),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    with tempfile.TemporaryDirectory(prefix="oipserver-bench-") as directory:
        results = _run(options, Path(directory), about)
    print(tables.whole(results))
    _store(results, options)
    ours = (OURS, *LIMITS)
    return int(
        any(
            sample.errors
            for case, found in results.samples.items()
            if case.server in ours
            for sample in found
        )
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often every case is measured [5]")
    parser.add_argument("--seconds", type=float, default=0.6, help="for each time [0.6]")
    parser.add_argument(
        "--only", choices=("http", "grpc", "start"), help="one front alone, or the starts; printed, not kept"
    )
    parser.add_argument(
        "--servers", type=_names, metavar="NAME,NAME", help="these alone (ours: oipserver); printed, not kept"
    )
    parser.add_argument(
        "--models", type=_names, metavar="NAME,NAME", help=f"of {', '.join(MODELS)}; printed, not kept"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"3 times 0.3 s without the curve of latency: ours, the limits, {', '.join(QUICK_PEERS)}; "
        "printed, not kept",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there and nowhere else")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = 3, 0.3
        options.servers = options.servers or (OURS, *LIMITS, *QUICK_PEERS)
    return options


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _peers(names: Sequence[str] | None) -> Sequence[Peer]:
    return [peer for peer in PEERS if names is None or peer.name in names]


def _run(options: argparse.Namespace, directory: Path, about: dict[str, Any]) -> Results:
    # So that the servers end with this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    cores = Cores.available()
    pin(0, cores.client)
    peers = _peers(options.servers)
    turns = _turns(options, peers)
    models = options.models or MODELS
    print("training models", file=sys.stderr)
    train(directory, MODELS if peers else models)  # peers serve them all
    starts = _starts(options, directory, cores) if IRIS in models and options.only in (None, "start") else {}
    samples: dict[Case, list[Sample]] = {}
    with ExitStack() as stack:
        stage = stack.enter_context(staged(turns, directory, peers, cores))
        alone = any(case.front == "-" for turn in turns for case in turn)
        worker = stack.enter_context(in_process(directory, cores.server)) if alone else None
        bench = Bench(stage.doors, worker, Span(WARM_UP * options.seconds, options.seconds))
        playing = [turn for turn in turns if stage.plays(turn)]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for turn in in_round(playing, number):
                for case, sample in zip(turn, bench.measure(turn), strict=True):
                    samples.setdefault(case, []).append(sample)
    starts |= {name: [found] for name, found in stage.starts.items()}
    # In the order of the turns, whatever the order of the first round was.
    ordered = {case: samples[case] for turn in turns for case in turn if case in samples}
    return Results(about, ordered, starts, stage.failures, stage.notes)


def _turns(options: argparse.Namespace, peers: Sequence[Peer]) -> list[Turn]:
    names = [peer.name for peer in peers]
    scope = Scope(
        FRONTS[options.only],
        options.models or MODELS,
        (OURS, *LIMITS, *names) if options.servers is None else options.servers,
    )
    over_grpc = [peer.name for peer in peers if "gRPC" in peer.fronts]
    curve = SHORT_CURVE if options.quick else CURVE
    turns = [turn for turn in all_turns(names, over_grpc, curve) if scope.holds(turn)]
    # wrk runs for a second at least: too long beside short turns.
    return [turn for turn in turns if options.seconds >= 0.5 or turn[0].client != WRK]


def _starts(options: argparse.Namespace, directory: Path, cores: Cores) -> dict[str, list[Start]]:
    """Before anything else runs."""
    found: dict[str, list[Start]] = {}
    for _ in range(options.rounds):
        for name, started in starter(write_config(directory, [IRIS]), cores).items():
            found.setdefault(name, []).append(start(started))
    return found


def _store(results: Results, options: argparse.Namespace) -> None:
    """A whole run is kept beside this file and shown in the pages, any other where it is told to be."""
    document = report.document(results)
    content = json.dumps(document, indent=1) + "\n"
    if options.json:
        options.json.write_text(content)
    elif not (options.quick or options.only or options.servers or options.models):
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / f"{document['date'][:10]}.json").write_text(content)
        pictures.draw(results, HERE / "pictures")
        heading = report.heading(document)
        report.write_between(HERE / "README.md", "results", f"{heading}\n\n{tables.whole(results)}")
        report.write_between(GUIDE, "targets", f"{heading}\n\n{tables.targets(results)}")


if __name__ == "__main__":
    sys.exit(main())
