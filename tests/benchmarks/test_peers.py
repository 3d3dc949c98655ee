"""The peers' lists, questions and processes.  What needs one of their large environments is skipped."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from benchmarks import processes
from benchmarks.asking import ask
from benchmarks.models import IRIS, MODELS, rows_for, train
from benchmarks.peers import PEERS, Peer
from benchmarks.peers.__main__ import main
from benchmarks.peers.launch import Place, Program, launched, run_once
from benchmarks.questions import HttpQuestion
from benchmarks.servers import Cores
from tests.support import PATIENCE

ROOT = Path(__file__).parents[2]
REQUIREMENTS = sorted((ROOT / "benchmarks" / "peers" / "requirements").glob("*.txt"))
BY_NAME = {peer.name: peer for peer in PEERS}

QUESTION = HttpQuestion("/", {}, b"", lambda body: True)
# Answers every POST; has a child in a session of its own, whose number is the answer.
PARENT = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = str(child.pid).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def lines_of(file: Path) -> Iterator[str]:
    return (line for line in file.read_text().splitlines() if line and not line.startswith("#"))


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: file.stem)
def test_every_package_is_pinned_once(file: Path) -> None:
    found = [re.fullmatch(r"([a-z0-9][a-z0-9.-]*)==\d[\w.]*", line) for line in lines_of(file)]
    assert None not in found, file
    names = [match[1] for match in found if match]
    assert len(names) == len(set(names)) > 0


def test_peers_and_requirements_are_the_same() -> None:
    assert len(BY_NAME) == len(PEERS)
    assert {peer.environment for peer in PEERS} == {file.stem for file in REQUIREMENTS}
    assert {front for peer in PEERS for front in peer.fronts} == {"HTTP", "gRPC"}


def test_all_serve_the_same_scikit_learn() -> None:
    pins = {line for file in REQUIREMENTS for line in lines_of(file)}
    assert len([pin for pin in pins if pin.startswith("scikit-learn==")]) == 1


def numbers_in(document: Any) -> list[float]:
    """All numbers of a JSON document but the whole ones, which are shapes."""
    values = document.values() if isinstance(document, Mapping) else document
    return [
        number
        for value in values
        for number in (numbers_in(value) if isinstance(value, (list, dict)) else [value])
        if isinstance(number, float)
    ]


def answer_of(peer: Peer, expected: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """What a peer would say."""
    if "gRPC" in peer.fronts:
        return json.dumps({"outputs": [{"data": expected.ravel().tolist()}]}).encode()
    return json.dumps({"predictions": expected.tolist()}).encode()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_question_holds_the_rows_and_knows_the_answer(name: str, model: str) -> None:
    rows, expected = rows_for(model, 3), np.arange(3)
    question = BY_NAME[name].http_question(model, rows, expected)
    assert question is not None
    assert question.path.startswith("/")
    assert question.headers["Content-Type"] == "application/json"
    assert numbers_in(json.loads(question.body)) == rows.ravel().tolist()
    assert question.right(answer_of(BY_NAME[name], expected))
    assert not question.right(answer_of(BY_NAME[name], expected + 1))
    assert not question.right(answer_of(BY_NAME[name], expected[:2]))


def test_triton_is_asked_in_the_datatypes_of_its_configuration() -> None:
    triton = BY_NAME["Triton"]
    for model in MODELS:
        question = triton.http_question(model, rows_for(model, 1), np.zeros(1))
        assert question is not None
        assert json.loads(question.body)["inputs"][0]["datatype"] == triton.datatype(model)


def test_a_peer_and_all_that_it_started_are_on_one_core_and_end(tmp_path: Path) -> None:
    core = Cores.available().server

    def program(place: Place) -> Program:
        return Program([sys.executable, "-c", PARENT, str(place.http_port)])

    with launched(tmp_path, tmp_path, program, [QUESTION], core) as server:
        child = int(ask(server.http_port, 0, QUESTION).body)
        family = processes.family(server.pid)
        assert {server.pid, child} <= set(family)
        if core is not None:
            assert [os.sched_getaffinity(member) for member in family] == [{core}] * len(family)
    assert processes.family(server.pid) == [server.pid]  # it alone, and that is no more than its number
    end = time.monotonic() + PATIENCE
    while any(is_alive(member) for member in family):  # a signal that ends a process does so in a moment
        assert time.monotonic() < end


def is_alive(pid: int) -> bool:
    """A child that lost its parent may wait for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_peer_that_ends_says_why(tmp_path: Path) -> None:
    def program(place: Place) -> Program:
        return Program(
            [sys.executable, "-c", "print('first', flush=True); raise SystemExit('no such model')"]
        )

    with (
        pytest.raises(RuntimeError, match=r"exit code 1: no such model\n(?s:.*)first"),
        launched(tmp_path, tmp_path, program, [QUESTION], None),
    ):
        pass


def test_what_is_prepared_once_is_not_prepared_again(tmp_path: Path) -> None:
    target = tmp_path / "target"
    command = [sys.executable, "-c", "import sys; open(sys.argv[1] + '/file', 'x').close()"]
    run_once(target, command, tmp_path)
    before = target.stat().st_mtime_ns
    run_once(target, command, tmp_path)
    assert [file.name for file in target.iterdir()] == ["file"]
    assert target.stat().st_mtime_ns == before


def test_a_preparation_that_failed_is_not_taken_for_done(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(RuntimeError, match="disk full"):
        run_once(target, [sys.executable, "-c", "raise SystemExit('disk full')"], tmp_path)
    assert not target.exists()


def test_without_its_environment_a_peer_tells_how_to_get_it(tmp_path: Path) -> None:
    peer = replace(BY_NAME["FastAPI"], environment="nobody-builds-this")
    with pytest.raises(RuntimeError, match=r"make \.envs/bench/nobody-builds-this/\.installed"):
        peer.serve(tmp_path, None)


def test_names_that_no_peer_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Tritone"]) == 2
    assert "Tritone" in capsys.readouterr().out


def test_a_real_peer_answers(tmp_path: Path) -> None:
    peer = BY_NAME["FastAPI"]
    if not peer.installed:
        pytest.skip("its environment was not built: make bench")
    train(tmp_path)
    with peer.serve(tmp_path, None) as server:
        rows = rows_for(IRIS, 2)
        expected = joblib.load(tmp_path / f"{IRIS}.joblib").predict(rows)
        question = peer.http_question(IRIS, rows, expected)
        assert question is not None
        ask(server.http_port, 0, question)
