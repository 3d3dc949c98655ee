"""All servers of a run, up and asked once: who can answer what, and why the others cannot."""

from __future__ import annotations

import base64
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from time import perf_counter

import joblib

from benchmarks.asking import Answer, WrongAnswer, ask, metadata
from benchmarks.cases import COMPILED, GRPC_AIO, GRPC_THREADS, OURS, UVICORN, Case, Turn, http
from benchmarks.measure import Door, door_of
from benchmarks.models import CANCER, MLP, Rows, others_for, rows_for
from benchmarks.peers import Peer
from benchmarks.processes import idle_share, tell
from benchmarks.questions import (
    GrpcQuestion,
    HttpQuestion,
    Numbers,
    v2_binary,
    v2_grpc,
    v2_json,
    varied_grpc,
    varied_http,
)
from benchmarks.servers import Cores, Server, echo, oipserver
from benchmarks.starts import Start

ECHO_KINDS = {UVICORN: "uvicorn", GRPC_AIO: "grpc-aio", GRPC_THREADS: "grpc-threads"}
# uvicorn sends these by itself.
UVICORN_HEADERS = frozenset(("date", "server"))
# A server that uses more of the core than this while nobody asks stands still outside its turns: nine that
# wake up for a millisecond now and then are the tail of one that answers in a tenth of that.
RESTLESS = 0.001


@dataclass(slots=True)
class Stage:
    """What is up.

    Attributes:
        doors: by `door_of` a case.
        failures: what a peer could not do, by the same; cases without a door and a failure are not offered.
        starts: of the peers: how long until every model answered, and memory then.
        notes: what a reader of the tables has to know besides.
    """

    doors: dict[Case, Door] = field(default_factory=dict)
    failures: dict[Case, str] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def plays(self, turn: Turn) -> bool:
        """Whether all of a turn can be measured."""
        return all(case.front == "-" or door_of(case) in self.doors for case in turn)


@dataclass(frozen=True, slots=True)
class Material:
    """The trained models' directory, and what they say."""

    directory: Path

    def rows(self, case: Case) -> Rows:
        """What a case asks."""
        return rows_for(_trained(case.model), case.rows)

    def expected(self, case: Case) -> Numbers:
        """What the model says to it."""
        return _predicted(self.directory / f"{_trained(case.model)}.joblib", case.rows)

    def question(self, case: Case, name: str = "") -> HttpQuestion | GrpcQuestion:
        """In the Open Inference Protocol; `name` is the model's where a server has another one."""
        rows, expected, name = self.rows(case), self.expected(case), name or case.model
        if case.front == "gRPC":
            datatype = "FP32" if case.model == MLP else "FP64"
            return varied_grpc(lambda each: v2_grpc(name, each, expected, datatype), rows, self.others(case))
        if case.form == "binary":
            return v2_binary(name, rows, expected)
        return varied_http(lambda each: v2_json(name, each, expected), rows, self.others(case))

    def others(self, case: Case) -> list[Rows]:
        """What is asked in turn with a single row: other rows to which the model says the same."""
        return _others(self.directory / f"{_trained(case.model)}.joblib") if case.rows == 1 else []


@cache
def _predicted(model: Path, rows: int) -> Numbers:
    predicted: Numbers = joblib.load(model).predict(rows_for(model.stem, rows))
    return predicted


@cache
def _others(model: Path) -> list[Rows]:
    return others_for(model.stem, joblib.load(model))


def _trained(model: str) -> str:
    """The model that a name stands for."""
    return model.removesuffix("-compiled")


@contextmanager
def staged(turns: Iterable[Turn], models: Path, peers: Sequence[Peer], cores: Cores) -> Iterator[Stage]:
    """Start what the turns need.  What peers cannot do is noted; ours and the echoes have to answer."""
    wanted = list(dict.fromkeys(door_of(case) for turn in turns for case in turn if case.front != "-"))
    # An echo says what ours says.
    wanted += {case.by(OURS) for case in wanted if case.server in ECHO_KINDS} - set(wanted)
    material, stage = Material(models), Stage()
    with ExitStack() as stack:
        answers = _ours(wanted, material, stage, stack, cores)
        _echoes(wanted, material, answers, stage, stack, cores)
        for peer in peers:
            cases = [case for case in wanted if case.server == peer.name]
            if cases:
                _peer(peer, cases, material, stage, stack, cores)
        yield stage


def _ours(
    wanted: Sequence[Case], material: Material, stage: Stage, stack: ExitStack, cores: Cores
) -> Mapping[Case, Answer]:
    """Our server; its right answers, which from now on have to come byte by byte where they are labels."""
    cases = [case for case in wanted if case.server == OURS]
    if not cases:
        return {}
    server = _start_ours({case.model for case in cases}, material.directory, stage, stack, cores)
    answers = {}
    for case in cases:
        if case in stage.failures:
            continue
        question = material.question(case)
        answers[case] = ask(server.http_port, server.grpc_port, question)
        if case.model != MLP:  # whose last digits depend on where the memory is
            question = replace(question, right=answers[case].body.__eq__)
        stage.doors[case] = Door(server, question)
    return answers


def _start_ours(names: set[str], models: Path, stage: Stage, stack: ExitStack, cores: Cores) -> Server:
    try:
        server = stack.enter_context(oipserver(write_config(models, names), cores.server))
        if COMPILED in names:
            _check_compiled(server, stage)
        return server
    except RuntimeError as error:
        if COMPILED not in names:
            raise
        told = str(error).strip().splitlines()[-1].replace(f"{models}/", "")
        reason = f"refused: {told}"
    _not_compiled(stage, reason)
    return stack.enter_context(oipserver(write_config(models, names - {COMPILED}), cores.server))


def _check_compiled(server: Server, stage: Stage) -> None:
    """Native execution must not be shown as compiled."""
    facts = metadata(server.http_port, COMPILED)["parameters"]
    if facts["execution"] != "compiled":
        _not_compiled(stage, f"native: {facts['execution_reason']}")


def _not_compiled(stage: Stage, reason: str) -> None:
    stage.failures[http(COMPILED, 1)] = reason
    stage.notes.append(f"{OURS}, compiled execution: {reason}")


def write_config(models: Path, names: Iterable[str]) -> Path:
    """Our server's configuration file for some of the models."""
    entries: list[dict[str, str]] = []
    for name in sorted(names):
        file = CANCER if name == COMPILED else name
        execution = {"execution": "compiled"} if name == COMPILED else {}
        entries.append({"name": name, "runtime": "sklearn", "model_uri": f"{file}.joblib", **execution})
    config = models / f"{'-'.join(sorted(names))}.json"
    config.write_text(json.dumps({"models": entries}))
    return config


def _echoes(
    wanted: Sequence[Case],
    material: Material,
    answers: Mapping[Case, Answer],
    stage: Stage,
    stack: ExitStack,
    cores: Cores,
) -> None:
    """An echo for each answer that differs."""
    servers: dict[tuple[str, bytes], Server] = {}
    for case in wanted:
        if case.server in ECHO_KINDS:
            ours = case.by(OURS)
            answer = answers[ours]
            key = (case.server, answer.body)
            if key not in servers:
                given = _echoed(answer) if case.front == "HTTP" else answer.body
                servers[key] = stack.enter_context(echo(ECHO_KINDS[case.server], given, cores.server))
            question = replace(material.question(ours), right=answer.body.__eq__)
            ask(servers[key].http_port, servers[key].grpc_port, question)
            stage.doors[case] = Door(servers[key], question)


def _echoed(answer: Answer) -> bytes:
    """What the bare HTTP server is told to say."""
    headers = [pair for pair in answer.headers if pair[0].lower() not in UVICORN_HEADERS]
    return json.dumps({"headers": headers, "body": base64.b64encode(answer.body).decode()}).encode()


def _peer(
    peer: Peer, cases: Sequence[Case], material: Material, stage: Stage, stack: ExitStack, cores: Cores
) -> None:
    print(f"starting {peer.name}", file=sys.stderr)
    try:
        peer.prepare(material.directory)
        begin = perf_counter()
        server = stack.enter_context(peer.serve(material.directory, cores.server))
    except Exception as error:  # whatever a peer's start raises belongs into the table
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = f"did not start: {first}"
        stage.failures.update((case, reason) for case in cases)
        stage.notes.append(f"{peer.name} {reason}")
        print(f"{peer.name} {error}", file=sys.stderr)
        return
    stage.starts[peer.name] = Start.of(server, perf_counter() - begin)
    doors = {}
    for case in cases:
        question = _to_peer(peer, case, material)
        if question is None:
            continue
        try:
            ask(server.http_port, server.grpc_port, question)
            doors[case] = Door(server, question)
        except WrongAnswer as error:
            stage.failures[case] = str(error)
            what = f"{case.model}, {case.rows} rows, {case.front} {case.form}"
            stage.notes.append(f"{peer.name} ({what}): {error}")
    share = idle_share(server.pid)
    if share > RESTLESS:
        tell(server.pid, signal.SIGSTOP)
        stack.callback(tell, server.pid, signal.SIGCONT)  # so that it can end
        doors = {case: replace(door, sleeps=True) for case, door in doors.items()}
        stage.notes.append(f"{peer.name} uses {share:.1%} of a core idle: it stands still outside its turns")
    stage.doors.update(doors)


def _to_peer(peer: Peer, case: Case, material: Material) -> HttpQuestion | GrpcQuestion | None:
    """In the peer's own words; None for what it does not offer."""
    if case.front == "gRPC":
        return material.question(case, peer.grpc_model(case.model)) if "gRPC" in peer.fronts else None
    expected = material.expected(case)
    json_question = peer.http_question(case.model, material.rows(case), expected)
    if json_question is None:
        return None
    if case.form == "JSON":
        bodies = [peer.http_question(case.model, rows, expected) for rows in material.others(case)]
        return replace(json_question, others=[each.body for each in bodies if each is not None])
    if not json_question.path.startswith("/v2/"):
        return None
    question = material.question(case)
    assert isinstance(question, HttpQuestion)
    return replace(question, path=json_question.path)
