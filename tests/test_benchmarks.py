"""The benchmarks run: every case, right answers, no errors.  How fast is not a matter for tests."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks import report
from benchmarks.cases import CALLERS, OURS, UVICORN, Case, Sample, all_cases, in_round
from benchmarks.echoes import EveryMethod
from benchmarks.load import Span, Tally
from benchmarks.load_grpc import load_grpc
from benchmarks.load_http import load_http
from benchmarks.servers import echo

RUN = Path(__file__).parent.parent / "benchmarks" / "run.py"
SHORT = Span(warm_up=0.0, measured=0.05)
HTTP_ANSWER = json.dumps({"headers": [["content-length", "2"]], "body": "ok"}).encode()
REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


def test_a_quick_run_has_every_row_and_no_error(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, str(RUN), "--quick", "--json", str(results)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(results.read_text())["rows"]
    cases = {Case(**row["case"]) for row in rows}
    assert cases == set(all_cases(("HTTP", "gRPC")))
    assert {case.callers for case in cases if case.server == OURS} == set(CALLERS)
    assert [row["errors"] for row in rows] == [0] * len(rows)
    assert all(row["rate"] > 0 for row in rows)
    assert all(
        row["ratios"].keys() == {base.server for base in Case(**row["case"]).baselines} for row in rows
    )
    assert all(row["case"]["server"] in done.stdout for row in rows)


def test_one_front_alone() -> None:
    assert {case.front for case in all_cases(("gRPC",))} == {"gRPC", "-"}


def test_a_round_has_every_case_once() -> None:
    cases = all_cases(("HTTP", "gRPC"))
    orders = [in_round(cases, number) for number in range(4)]
    assert all(sorted(map(str, order)) == sorted(map(str, cases)) for order in orders)
    assert len({order[0] for order in orders}) == len(orders)


def over_http(answer: bytes, expected: bytes) -> Tally:
    with echo("uvicorn", answer, None) as server:
        return asyncio.run(load_http(server.http_port, REQUEST, expected, 2, SHORT))


def over_grpc(kind: str) -> Callable[[bytes, bytes], Tally]:
    def load(answer: bytes, expected: bytes) -> Tally:
        with echo(kind, answer, None) as server:
            return asyncio.run(load_grpc(server.grpc_port, "/any/Method", b"question", expected, 2, SHORT))

    return load


@pytest.mark.parametrize(
    ("load", "answer", "wrong"),
    [
        (over_http, HTTP_ANSWER, b"no"),
        (over_grpc("grpc-aio"), b"answer", b"another"),
        (over_grpc("grpc-threads"), b"answer", b"another"),
    ],
    ids=["http", "grpc-aio", "grpc-threads"],
)
def test_right_and_wrong_answers_are_told_apart(
    load: Callable[[bytes, bytes], Tally], answer: bytes, wrong: bytes
) -> None:
    right = load(answer, b"ok" if load is over_http else answer)
    assert right.errors == 0
    assert right.answers >= len(right.latencies) > 0
    other = load(answer, wrong)
    assert other.latencies == []
    assert other.errors == other.answers > 0


def test_http_with_the_right_body_and_another_status_is_an_error() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def load() -> Tally:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            return await load_http(server.sockets[0].getsockname()[1], REQUEST, b"ok", 2, SHORT)

    tally = asyncio.run(load())
    assert tally.latencies == []
    assert tally.errors == tally.answers > 0


def test_grpc_with_the_right_message_and_another_status_is_an_error() -> None:
    def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_code(grpc.StatusCode.ABORTED)
        return b"answer"

    server = grpc.server(ThreadPoolExecutor(2), handlers=[EveryMethod(refuse)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        tally = asyncio.run(load_grpc(port, "/any/Method", b"question", b"answer", 2, SHORT))
    finally:
        server.stop(None).wait()
    assert tally.latencies == []
    assert tally.errors == tally.answers > 0


def test_a_connection_that_ends_early_is_an_error_of_every_caller() -> None:
    """A gRPC server hangs up when it is spoken to in HTTP/1.1."""
    with echo("grpc-threads", b"", None) as server:
        tally = asyncio.run(load_http(server.grpc_port, REQUEST, b"ok", 2, SHORT))
    assert tally.errors == 2
    assert tally.answers == 0


def test_a_server_that_does_not_start_is_told() -> None:
    with pytest.raises(RuntimeError, match="no-such-kind"), echo("no-such-kind", b"", None):
        pass


def sample(rate: float, **others: Any) -> Sample:
    fields: dict[str, Any] = {
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "errors": 0,
        "client_busy": 0.1,
        "server_us": None,
    }
    return Sample(rate=rate, **{**fields, **others})


def test_a_ratio_is_taken_within_a_round() -> None:
    ours = report.BAR_CASE
    (theirs,) = ours.baselines
    samples = {ours: [sample(100), sample(20), sample(60)], theirs: [sample(200), sample(40), sample(60)]}
    mine, other = report.rows_of(samples)
    assert mine.rate == 60
    assert mine.ratios == {UVICORN: 0.5}
    assert other.ratios == {}
    assert "missed" in report.remarks([mine, other])[0]


def test_errors_and_busy_clients_are_remarked() -> None:
    (row,) = report.rows_of({report.BAR_CASE: [sample(1, errors=2), sample(1, client_busy=0.95, errors=1)]})
    assert [text.split(":")[0] for text in report.remarks([row])] == ["3 errors"]
    (row,) = report.rows_of({report.BAR_CASE: [sample(1, client_busy=0.95)]})
    assert "busy 95%" in report.remarks([row])[0]


def test_the_readme_is_rewritten_between_its_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- results -->\nold\n<!-- end of results -->\nb\n")
    report.write_readme(readme, "new \\1\n")
    assert readme.read_text() == "a\n<!-- results -->\nnew \\1\n<!-- end of results -->\nb\n"


def test_the_readme_has_the_marks() -> None:
    text = (RUN.parent / "README.md").read_text()
    assert 0 < text.index("<!-- results -->\n") < text.index("<!-- end of results -->")
