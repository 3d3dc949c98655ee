"""The benchmarks run: cases, right answers, no errors, tables.  How fast is not a matter for tests."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks import peers, pictures, processes, report, tables
from benchmarks.asking import WrongAnswer, ask
from benchmarks.cases import (
    BOTH_FRONTS,
    COMPILED,
    GRPC_AIO_CLIENT,
    OURS,
    UVICORN,
    WRK,
    Case,
    Sample,
    Scope,
    all_turns,
    http,
    in_round,
)
from benchmarks.cases import grpc as over_grpc
from benchmarks.echoes import EveryMethod
from benchmarks.in_process import timed
from benchmarks.load import Span, Tally
from benchmarks.load_grpc import load_grpc
from benchmarks.load_grpc_aio import load_grpc_aio
from benchmarks.load_http import load_http
from benchmarks.models import CANCER, IRIS, MLP, rows_for
from benchmarks.questions import GrpcQuestion, HttpQuestion, v2_binary, v2_grpc, v2_json
from benchmarks.results import Results
from benchmarks.servers import echo, program
from benchmarks.starts import IMPORT, Start
from benchmarks.targets import PEERS, TARGETS
from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.support import PATIENCE

RUN = Path(__file__).parent.parent / "benchmarks" / "run.py"
SHORT = Span(warm_up=0.0, measured=0.05)
LARGE_BODY = bytes(range(256)) * 12_000  # 3 MB: more than the windows and buffers on the way


def test_a_run_has_every_case_and_no_error(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    scope = ["--servers", f"{OURS},{UVICORN}", "--models", IRIS, "--only", "http"]
    command = [sys.executable, str(RUN), "--rounds", "1", "--seconds", "0.03", *scope, "--json", str(results)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    cases = json.loads(results.read_text())["cases"]
    within = Scope(("HTTP",), (IRIS,), (OURS, UVICORN))
    wanted = {case for turn in all_turns() if within.holds(turn) for case in turn if case.client != WRK}
    assert {Case(**each["case"]) for each in cases} == wanted
    rounds = [each for case in cases for each in case["rounds"]]
    assert len(rounds) == len(wanted)
    assert not any(each["errors"] for each in rounds)
    assert all(each["rate"] > 0 for each in rounds)
    assert "(a) 64" in done.stdout


# ------------------------------------------------------------------------------------------ cases


def test_a_round_has_every_turn_once() -> None:
    turns = all_turns(("Triton", "FastAPI"), ("Triton",))
    assert len(set(turns)) == len(turns)
    orders = [in_round(turns, number) for number in range(4)]
    assert all(set(order) == set(turns) and len(order) == len(turns) for order in orders)
    assert len({order[0] for order in orders}) == len(orders)


def test_a_scope_holds_what_it_names() -> None:
    scope = Scope(("gRPC",), (CANCER,), (OURS,))
    assert scope.holds((over_grpc(CANCER, 8),))
    assert not scope.holds((over_grpc(IRIS, 8),))
    assert not scope.holds((http(CANCER, 8),))
    assert not scope.holds((over_grpc(CANCER, 8).by("Triton"),))
    assert not scope.holds(BOTH_FRONTS)
    assert Scope(("HTTP",), (CANCER,), (OURS,)).holds((http(COMPILED, 8),))


def test_every_target_is_measured_by_a_whole_run() -> None:
    assert set(PEERS) == {peer.name for peer in peers.PEERS}
    cases = {case for turn in all_turns(PEERS, PEERS) for case in turn}
    for target in TARGETS:
        for figure in (target.ours, *target.others):
            assert figure.of in (*cases, OURS, IMPORT), target


# ------------------------------------------------------------------------------------------ load


def http_question(right: Callable[[bytes], bool], body: bytes = b"{}") -> HttpQuestion:
    return HttpQuestion("/", {"Content-Type": "application/json"}, body, right)


def http_answer(body: bytes) -> bytes:
    headers = [["content-length", str(len(body))]]
    return json.dumps({"headers": headers, "body": base64.b64encode(body).decode()}).encode()


def by_http(answer: bytes, expected: bytes) -> Tally:
    with echo("uvicorn", http_answer(answer), None) as server:
        return load_http(server.http_port, http_question(expected.__eq__), 2, SHORT)


def by_grpc(kind: str) -> Callable[[bytes, bytes], Tally]:
    def load(answer: bytes, expected: bytes) -> Tally:
        with echo(kind, answer, None) as server:
            return load_grpc(server.grpc_port, GrpcQuestion(b"question", expected.__eq__), 2, SHORT)

    return load


def by_grpc_aio(answer: bytes, expected: bytes) -> Tally:
    with echo("grpc-threads", answer, None) as server:
        question = GrpcQuestion(b"question", expected.__eq__)
        return asyncio.run(load_grpc_aio(server.grpc_port, question, 2, SHORT))


@pytest.mark.parametrize("load", [by_http, by_grpc("grpc-aio"), by_grpc("grpc-threads"), by_grpc_aio])
def test_right_and_wrong_answers_are_told_apart(load: Callable[[bytes, bytes], Tally]) -> None:
    right = load(b"answer", b"answer")
    assert right.errors == 0
    assert right.answers >= len(right.latencies) > 0
    assert right.rate > 0
    other = load(b"answer", b"another")
    assert other.latencies == []
    assert other.errors == other.answers > 0


def test_an_answer_is_judged_again_when_it_changes() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", [b"ok", b"ok", b"no"]) as port:
        tally = load_http(port, http_question(b"ok".__eq__), 1, Span(0, PATIENCE))
    assert (tally.answers, tally.errors, len(tally.latencies)) == (3, 1, 2)


def test_answers_in_chunks_are_read() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = b"4\r\nansw\r\n2\r\ner\r\n0\r\n\r\n"
    with answering(head, [whole, whole, b"2\r\nno\r\n0\r\n\r\n"]) as port:
        tally = load_http(port, http_question(b"answer".__eq__), 1, Span(0, PATIENCE))
    assert (tally.answers, tally.errors) == (3, 1)


def test_large_bodies_come_and_go_whole() -> None:
    with echo("uvicorn", http_answer(LARGE_BODY), None) as server:
        question = http_question(LARGE_BODY.__eq__, LARGE_BODY)
        assert load_http(server.http_port, question, 2, SHORT).errors == 0
    with repeating() as port:
        tally = load_grpc(port, GrpcQuestion(LARGE_BODY, LARGE_BODY.__eq__), 2, SHORT)
    assert tally.errors == 0
    assert tally.latencies


@contextmanager
def repeating() -> Iterator[int]:
    """A gRPC server that sends back what it gets."""
    unlimited = (("grpc.max_receive_message_length", -1),)
    server = grpc.server(
        ThreadPoolExecutor(2), handlers=[EveryMethod(lambda request, _: request)], options=unlimited
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def answering(head: bytes, bodies: list[bytes]) -> Iterator[int]:
    """An HTTP server with one answer after the other to a single connection; then it hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for body in bodies:
                    connection.recv(4096)
                    connection.sendall(head + body)

        thread = Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_http_with_the_right_body_and_another_status_is_an_error() -> None:
    with answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n", [b"ok"]) as port:
        tally = load_http(port, http_question(b"ok".__eq__), 1, SHORT)
    assert tally.latencies == []
    assert tally.errors == tally.answers == 1


def test_grpc_with_the_right_message_and_another_status_is_an_error() -> None:
    def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_code(grpc.StatusCode.ABORTED)
        return b"answer"

    server = grpc.server(ThreadPoolExecutor(2), handlers=[EveryMethod(refuse)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        tally = load_grpc(port, GrpcQuestion(b"question", b"answer".__eq__), 2, SHORT)
    finally:
        server.stop(None).wait()
    assert tally.latencies == []
    assert tally.errors == tally.answers > 0


def test_a_connection_that_ends_early_is_an_error_of_every_caller() -> None:
    """A gRPC server hangs up when it is spoken to in HTTP/1.1."""
    with echo("grpc-threads", b"", None) as server:
        tally = load_http(server.grpc_port, http_question(b"ok".__eq__), 2, SHORT)
    assert tally.errors == 2
    assert tally.answers == 0
    # and nobody listens there any longer
    assert load_http(server.grpc_port, http_question(b"ok".__eq__), 2, SHORT).errors == 2


def test_an_answer_after_the_end_counts_when_there_is_no_other() -> None:
    tally = Tally(Span(warm_up=0.0, measured=0.0))
    now = tally._begin + 2.0
    assert not tally.count(now - 1.5, now, right=True)
    assert not tally.count(now - 1.5, now, right=True)
    assert tally.latencies == [1.5]
    assert tally.rate == pytest.approx(0.5)


def test_calls_in_process_are_timed_at_least_once() -> None:
    assert len(timed(lambda: None, 0.0, 0.0)) == 1


# ------------------------------------------------------------------------------------------ questions


def test_v2_answers_are_judged_by_their_numbers() -> None:
    rows, expected = rows_for(CANCER, 2), np.array([0, 1])
    question = v2_json(CANCER, rows, expected)
    assert json.loads(question.body)["inputs"][0]["shape"] == [2, 30]
    assert question.right(b'{"outputs":[{"data":[[0],[1]]}]}')
    assert not question.right(b'{"outputs":[{"data":[1,1]}]}')
    assert not question.right(b'{"outputs":[{"data":[0,1,1]}]}')


def test_binary_answers_are_judged_by_their_numbers() -> None:
    numbers = np.array([[0.5, 1.5]])
    question = v2_binary(MLP, rows_for(MLP, 1), numbers)
    assert len(question.body) == int(question.headers["Inference-Header-Content-Length"]) + 784 * 4
    output = {"datatype": "FP64", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"outputs": [output]}).encode()
    assert question.right(head + numbers.tobytes())
    assert not question.right(head + (numbers + 1).tobytes())


def test_grpc_answers_are_judged_raw_and_typed() -> None:
    question = v2_grpc(IRIS, rows_for(IRIS, 1), np.array([2]))
    assert len(ModelInferRequest.FromString(question.message).raw_input_contents[0]) == 4 * 8
    tensor = ModelInferResponse.InferOutputTensor(name="predict", datatype="INT64", shape=[1, 1])
    raw = ModelInferResponse(outputs=[tensor], raw_output_contents=[(2).to_bytes(8, "little")])
    assert question.right(raw.SerializeToString())
    tensor.contents.int64_contents.append(1)
    assert not question.right(ModelInferResponse(outputs=[tensor]).SerializeToString())


def test_asking_once_tells_what_is_wrong() -> None:
    with echo("uvicorn", http_answer(b"ok"), None) as server:
        assert ask(server.http_port, 0, http_question(b"ok".__eq__)).body == b"ok"
        with pytest.raises(WrongAnswer, match="b'ok'"):
            ask(server.http_port, 0, http_question(b"no".__eq__))
    with pytest.raises(WrongAnswer, match="ConnectionRefusedError"):
        ask(server.http_port, 0, http_question(b"ok".__eq__))
    with pytest.raises(WrongAnswer, match="gRPC UNAVAILABLE"):
        ask(0, server.http_port, GrpcQuestion(b"", b"ok".__eq__))


# ------------------------------------------------------------------------------------------ processes


def test_a_server_that_does_not_start_is_told() -> None:
    with pytest.raises(RuntimeError, match="no-such-kind"), echo("no-such-kind", b"", None):
        pass


def test_a_family_is_seen_as_a_whole() -> None:
    child = "print('ready: child', flush=True); bytearray(30_000_000); import sys; sys.stdin.read()"
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with program(text, None) as server:
        assert len(processes.family(server.pid)) == 2
        assert (server.cpu_seconds() or 0) > 0
        memory = server.memory()
        assert memory is not None
        assert memory.rss > memory.pss > 5
        stopped_while_asleep(server.pid)


def stopped_while_asleep(pid: int) -> None:
    def states() -> set[str]:
        stats = [Path(f"/proc/{member}/stat").read_text() for member in processes.family(pid)]
        return {stat.rpartition(")")[2].split()[0] for stat in stats}

    processes.tell(pid, signal.SIGSTOP)
    with processes.awake(pid):
        assert "T" not in states()
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    assert "T" in states()
    processes.tell(pid, signal.SIGCONT)


# ------------------------------------------------------------------------------------------ results


def sample(rate: float, **others: Any) -> Sample:
    fields = {"p50_ms": 1.0, "p99_ms": 2.0, "errors": 0, "client_busy": 0.1, "server_us": None, **others}
    return Sample(rate=rate, **fields)


OF_OURS = http(IRIS, 64)
OF_THE_ECHO = OF_OURS.by(UVICORN)


def results(**fields: Any) -> Results:
    samples = {
        OF_OURS: [sample(100), sample(20), sample(60)],
        OF_THE_ECHO: [sample(200), sample(40), sample(60)],
    }
    return Results(**{"about": {}, "samples": samples, "starts": {}, **fields})


def test_a_ratio_is_taken_within_a_round() -> None:
    found = results()
    assert found.middle(OF_OURS, "rate") == 60
    assert found.ratio(OF_OURS, OF_THE_ECHO) == 0.5
    assert found.ratio(OF_OURS, OF_OURS.by("Triton")) is None
    table = tables.matrix(found, tables.HTTP_COLUMNS, tables.throughput(found))
    assert "| uvicorn echo | " in table
    assert "60.0 (x0.50)" in table


def test_targets_are_reached_or_not_or_not_measured() -> None:
    lines = tables.targets(results()).splitlines()
    (line,) = (line for line in lines if "(a) 1 row HTTP, 64" in line and UVICORN in line)
    assert [cell.strip() for cell in line.split("|")[3:6]] == ["≥ 2", "0.50", "**not reached**"]
    (line,) = (line for line in lines if "(a) 1 row HTTP, 64" in line and "Triton" in line)
    assert [cell.strip() for cell in line.split("|")[4:6]] == ["-", "not measured"]


def test_of_several_peers_the_best_one_counts() -> None:
    (target,) = (each for each in TARGETS if each.against == "best Python server" and each.ours.of == OF_OURS)
    samples: dict[Case | str, Any] = {
        OF_OURS: [sample(100)],
        OF_OURS.by("MLServer"): [sample(10)],
        OF_OURS.by("FastAPI"): [sample(20)],
        OF_OURS.by("KServe"): [sample(0, p50_ms=math.nan)],
    }
    assert target.measured(samples) == 5
    assert not target.reached(5)
    assert target.reached(15)


def test_memory_is_compared_by_difference() -> None:
    (target,) = (each for each in TARGETS if each.unit == "MB")
    starts: dict[Case | str, Any] = {OURS: [Start(2.0, 150.0, 140.0)], IMPORT: [Start(1.0, 120.0, 110.0)]}
    assert target.measured(starts) == 30.0


def test_what_failed_is_shown() -> None:
    failed = {http(IRIS, 1).by("KServe"): "did not start: no such file"}
    found = results(failures=failed, notes=["KServe did not start: no such file"])
    line = next(line for line in tables.whole(found).splitlines() if line.startswith("| KServe"))
    assert "did not start |" in line
    assert "- KServe did not start: no such file" in tables.whole(found)
    assert report.document(found)["failures"][0]["text"] == "did not start: no such file"


def test_errors_and_busy_clients_are_remarked() -> None:
    found = results(samples={OF_OURS: [sample(1, errors=2), sample(1, client_busy=0.95, errors=1)]})
    assert [text.split(":")[0] for text in tables.remarks(found)] == ["3 errors"]
    found = results(samples={OF_OURS: [sample(1, client_busy=0.95)]})
    assert "busy 95%" in tables.remarks(found)[0]


def test_other_clients_stand_beside_ours() -> None:
    case = over_grpc(IRIS, 64)
    by_another = replace(case, client=GRPC_AIO_CLIENT)
    text = tables.cross_checks(results(samples={case: [sample(10)], by_another: [sample(20)]}))
    assert "| 20.0  | 10.0 " in text


def test_pictures_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    drawn = pictures.draw(results(), tmp_path)
    assert {path.name for path in drawn} == {"throughput-http.svg", "latency.svg"}
    for path in drawn:
        texts = {element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")}
        assert {OURS, UVICORN} <= texts


def test_pages_are_rewritten_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- results -->\nold\n<!-- end of results -->\nb\n")
    report.write_between(page, "results", "new \\1\n")
    assert page.read_text() == "a\n<!-- results -->\nnew \\1\n<!-- end of results -->\nb\n"


@pytest.mark.parametrize(
    ("page", "mark"), [("benchmarks/README.md", "results"), ("docs/performance.md", "targets")]
)
def test_the_pages_have_their_marks(page: str, mark: str) -> None:
    text = (RUN.parents[1] / page).read_text()
    assert 0 < text.index(f"<!-- {mark} -->\n") < text.index(f"<!-- end of {mark} -->")
