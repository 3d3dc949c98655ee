"""The life of a real process: ports, readiness, load, signals, the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver.grpc._generated.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.server_process import ServerProcess
from tests.support import PATIENCE

IMPORTABLE = Path(__file__).parent / "importable"
sys.path.insert(0, str(IMPORTABLE))
import odd_estimators  # noqa: E402

WITH_ODD = {"PYTHONPATH": str(IMPORTABLE)}
# Seconds that are only waited for when something is wrong.
LONG = 600
# A function starts sooner than scikit-learn is imported.
FUNCTION = """
import threading, time
from oipserver_python import Input, Output, function
{before}
@function(inputs=[Input("x", "FP64", [-1, 4])], outputs=[Output("y", "FP64", [-1, 4])])
def model(x):
    {inside}
    return x
"""
# Only rows that begin with a number above 0, which no warm-up has.
HANGS = "x[0, 0] > 0 and threading.Event().wait()"


def written(directory: Path, inside: str = "pass", before: str = "", name: str = "model") -> Path:
    """The file of a function that does something before it gives back what it was given."""
    path = directory / f"{name}.py"
    path.write_text(FUNCTION.format(inside=inside, before=before))
    return path


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("iris") / "iris.joblib"
    features, target = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, target), path)
    return path


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("function"))


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model `marked` leaves its marks."""
    return tmp_path_factory.mktemp("marks") / "marks"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, iris: Path, marks: Path) -> Iterator[ServerProcess]:
    """Serves iris and odd estimators; for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("models")
    odd = {
        "marked": odd_estimators.Marked(str(marks)),
        "Busy": odd_estimators.Busy(),
        "Sleepy": odd_estimators.Sleepy(),
    }
    for name, estimator in odd.items():
        joblib.dump(estimator, folder / f"{name}.joblib")
    uris = {"iris": iris, **{name: folder / f"{name}.joblib" for name in odd}}
    with configured(folder, "sklearn", uris) as running:
        yield running


def configured(folder: Path, runtime: str, uris: Mapping[str, Path]) -> ServerProcess:
    models = [{"name": name, "runtime": runtime, "model_uri": str(uri)} for name, uri in uris.items()]
    config = folder / "server.yaml"
    config.write_text(json.dumps({"models": models}))
    return ServerProcess(f"--config={config}", environ=WITH_ODD)


def serving(uri: str | Path, *flags: str) -> ServerProcess:
    runtime = "python" if str(uri).endswith(".py") else "sklearn"
    return ServerProcess(f"--runtime={runtime}", f"--model-uri={uri}", *flags)


def get(server: ServerProcess, path: str) -> tuple[int, Any]:
    return fetch(urllib.request.Request(server.http_url + path))


def fetch(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def infer(server: ServerProcess, model: str, *row: float, parameters: Any = None) -> tuple[int, Any]:
    tensor = {"name": "input-0", "shape": [1, len(row)], "datatype": "FP64", "data": list(row)}
    document = {"inputs": [tensor], "parameters": parameters or {}}
    url = f"{server.http_url}/v2/models/{model}/infer"
    return fetch(urllib.request.Request(url, json.dumps(document).encode()))


def metric(server: ServerProcess, name: str, **labels: str) -> float:
    with urllib.request.urlopen(server.http_url + "/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
    values = [float(line.rsplit(" ", 1)[1]) for line in found if all(part in line for part in wanted)]
    assert values, f"no {name} with {labels}"
    return sum(values)


def cpu_seconds(server: ServerProcess) -> float:
    """What the process has computed so far: that the machine is busy with others does not count."""
    threads = Path(f"/proc/{server.pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


# --- start ---


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs Linux's /proc")
def test_the_first_request_costs_no_more_than_the_next(server: ServerProcess) -> None:
    """In processor time; a model that is not warm, or an import, would cost many times as much."""
    spent = [cpu_seconds(server)]
    for count in (1, 100):
        for _ in range(count):
            assert infer(server, "iris", 5.1, 3.5, 1.4, 0.2)[0] == 200
        spent.append(cpu_seconds(server))
    first, hundred = np.diff(spent)
    assert first < 8 * hundred / 100


def test_ports_open_at_once_and_readiness_waits_for_the_model(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    server = serving(written(tmp_path, before=f"open({str(pipe)!r}).read()", name="slow")).start()
    try:
        assert get(server, "/v2/health/live") == (200, {"live": True})
        status, body = get(server, "/v2/health/ready")
        assert (status, body["error_code"]) == (503, "NOT_READY")
        assert "slow" in body["error"]
        assert "LOADING" in body["error"]
        assert infer(server, "slow", 0, 0, 0, 0)[0] == 503
        pipe.write_text("now")
        server.wait_ready()
        assert get(server, "/v2/health/ready") == (200, {"live": True, "ready": True})
        assert infer(server, "slow", 0, 0, 0, 0)[0] == 200
    finally:
        assert server.stop() == 0


def test_a_model_is_loaded_once(server: ServerProcess, marks: Path) -> None:
    for _ in range(5):
        assert infer(server, "marked", 0, 0, 0, 0)[0] == 200
    assert marks.read_text().splitlines() == ["loaded"]


def test_a_model_that_fails_to_load_leaves_the_server_live_and_says_why(tmp_path: Path) -> None:
    refuses = "raise RuntimeError('the weights are gone')"
    uris = {"good": written(tmp_path, name="good"), "broken": written(tmp_path, before=refuses)}
    server = configured(tmp_path, "python", uris).start()
    try:
        server.wait_for("running, but not ready")
        assert get(server, "/v2/health/live")[0] == 200
        status, body = get(server, "/v2/health/ready")
        assert status == 503
        assert "the weights are gone" in body["error"]
        assert get(server, "/v2/models/broken/ready")[0] == 503
        assert infer(server, "good", 5.1, 3.5, 1.4, 0.2)[0] == 200
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("front", ["http", "grpc"])
def test_a_taken_port_ends_with_exit_2_and_one_line(front: str, function: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = serving(function, f"--{front}-port={port}").start()
        assert server.wait() == 2
    complaints = [line for line in server.output.splitlines() if " INFO " not in line]
    assert complaints == [
        f"oipserver: {front}.port: cannot listen on 127.0.0.1:{port}: Address already in use; "
        f"--{front}-port chooses another, 0 any free one"
    ]


def test_a_host_that_is_not_ours_ends_with_exit_2_and_one_line(function: Path) -> None:
    server = serving(function, "--host=no-such-host.invalid").start()
    assert server.wait() == 2
    assert server.output.startswith("oipserver: host: cannot find 'no-such-host.invalid'")
    assert len(server.output.splitlines()) == 1


# --- under load ---


def http_request(row: Sequence[float], last: bool) -> bytes:
    tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP64", "data": list(row)}
    body = json.dumps({"inputs": [tensor]}).encode()
    connection = "close" if last else "keep-alive"
    return (
        f"POST /v2/models/iris/infer HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def read_answer(connection: socket.socket) -> bytes:
    """One HTTP answer with its head; empty when the connection ended before it began."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = connection.recv(65536)
        if not chunk:
            return answer
        answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def test_concurrent_singles_are_batched_and_each_gets_its_own_answer(
    server: ServerProcess, iris: Path
) -> None:
    """64 clients ask before any of them reads."""
    features, _ = load_iris(return_X_y=True)
    expected = joblib.load(iris).predict(features)
    rounds, clients = 10, 64
    total = rounds * clients
    labels: list[int] = []

    def counted() -> Any:
        """Rows, calls of the model, answers, and of how many of each the time was taken."""
        counts = [metric(server, f"oip_batch_rows_{one}", model="iris") for one in ("sum", "count")]
        counts.append(metric(server, "oip_requests_total", model="iris", code="OK", front="http"))
        phases = ("queue", "compute")
        counts += [metric(server, f"oip_{one}_duration_seconds_count", model="iris") for one in phases]
        return np.array(counts)

    assert infer(server, "iris", *features[0])[0] == 200  # so that there is something to count from
    before = counted()
    with ExitStack() as stack:
        address = ("127.0.0.1", server.http_port)
        sockets = [stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(clients)]
        for number in range(rounds):
            for client, connection in enumerate(sockets):
                row = features[(number * clients + client) % len(features)]
                connection.sendall(http_request(row, last=False))
            for connection in sockets:
                answer = json.loads(read_answer(connection).partition(b"\r\n\r\n")[2])
                labels += answer["outputs"][0]["data"]
    rows, batches, answered, queued, computed = counted() - before
    assert labels == [expected[number % len(features)] for number in range(total)]
    assert (rows, answered, queued, computed) == (total, total, total, batches)
    assert rows / batches > 1
    assert metric(server, "oip_requests_in_flight") == 0
    assert metric(server, "oip_queue_depth", model="iris") == 0
    assert metric(server, "oip_model_state", model="iris", state="READY") == 1


@pytest.mark.parametrize("slow", ["Busy", "Sleepy"])
def test_a_slow_model_delays_neither_health_nor_another_model(server: ServerProcess, slow: str) -> None:
    """Each answer would take the slow one's seconds if it waited for it."""
    seconds: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(infer, server, slow, 2.0, 0, 0, 0)
        while not computing.done():
            started = time.perf_counter()
            assert get(server, "/v2/health/live")[0] == 200
            assert infer(server, "iris", 5.1, 3.5, 1.4, 0.2)[0] == 200
            seconds.append(time.perf_counter() - started)
        assert computing.result()[0] == 200
    assert len(seconds) >= 5
    assert np.median(seconds) < 0.4


# --- the end ---


def closed_loop(call: Callable[[], str], stopping: threading.Event, outcomes: Counter[str]) -> None:
    """Ask again and again; after the signal until the server says no."""
    while True:
        outcome = call()
        outcomes[outcome] += 1
        if outcome != "answered" and stopping.is_set():
            return


def ask_http(port: int) -> str:
    """One request on a connection of its own; what a caller can tell of it."""
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    except ConnectionRefusedError:
        return "refused"
    with connection:
        connection.sendall(http_request((5.1, 3.5, 1.4, 0.2), last=True))
        answer = read_answer(connection)
    if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b'"data":[0]}]}'):
        return "answered"
    return "refused" if answer.startswith(b"HTTP/1.1 503 ") else f"lost: {answer[:200]!r}"


def ask_grpc(call: Any) -> str:
    tensor = ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 4])
    request = ModelInferRequest(
        model_name="iris",
        inputs=[tensor],
        raw_input_contents=[np.array([5.1, 3.5, 1.4, 0.2]).tobytes()],
    )
    try:
        answer = ModelInferResponse.FromString(call(request.SerializeToString(), timeout=PATIENCE))
    except grpc.RpcError as error:
        code, details = error.code(), error.details()
        return "refused" if code is grpc.StatusCode.UNAVAILABLE else f"lost: {code} {details}"
    return "answered" if np.frombuffer(answer.raw_output_contents[0], "<i8") == [0] else "wrong"


def test_sigterm_under_load_loses_nothing_on_either_front(iris: Path) -> None:
    outcomes: Counter[str] = Counter()
    stopping = threading.Event()
    with (
        serving(iris, "--shutdown-lame-duck=3", "--shutdown-drain=30") as server,
        grpc.insecure_channel(server.grpc_target) as channel,
        ThreadPoolExecutor(24) as pool,
    ):
        remote = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        port = server.http_port
        calls: list[Callable[[], str]] = [lambda: ask_http(port), lambda: ask_grpc(remote)]
        clients = [pool.submit(closed_loop, calls[n % 2], stopping, outcomes) for n in range(24)]
        while outcomes["answered"] < 500:
            assert not any(client.done() for client in clients)
        server.signal(signal.SIGTERM)
        stopping.set()
        while get(server, "/v2/health/ready")[0] != 503:  # while it takes requests; later it would refuse us
            continue
        for client in clients:
            client.result(PATIENCE)
        assert server.wait() == 0
    assert set(outcomes) <= {"answered", "refused"}, outcomes
    assert "Traceback" not in server.output


def test_a_request_that_the_model_computes_is_answered_after_sigterm(tmp_path: Path) -> None:
    with (
        serving(written(tmp_path, "time.sleep(x[0, 0])")) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(infer, server, "model", 1.0, 0, 0, 0)
        while not metric(server, "oip_requests_in_flight"):
            assert not running.done()
        server.signal(signal.SIGTERM)
        assert running.result()[0] == 200
        assert server.wait() == 0


def test_ctrl_c_skips_the_lame_duck(function: Path) -> None:
    with serving(function, f"--shutdown-lame-duck={LONG}") as server:
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_a_second_signal_ends_at_once(function: Path) -> None:
    with serving(function, f"--shutdown-lame-duck={LONG}") as server:
        server.signal(signal.SIGTERM)
        server.wait_for(f"taking requests for {LONG} s more")
        server.signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM


def test_a_hanging_model_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    with (
        serving(written(tmp_path, HANGS), "--shutdown-drain=0.5") as server,
        ThreadPoolExecutor(1) as pool,
    ):
        hanging = pool.submit(infer, server, "model", 1.0, 0, 0, 0)
        while not metric(server, "oip_requests_in_flight"):
            assert not hanging.done()
        server.signal(signal.SIGTERM)
        status, body = hanging.result()
        assert (status, body["error_code"]) == (503, "NOT_READY")
        assert server.wait() == 0


def test_a_hanging_model_costs_its_caller_only_the_deadline(tmp_path: Path) -> None:
    flags = ("--shutdown-drain=0.2", f"--limits-default-timeout={LONG}")
    with serving(written(tmp_path, HANGS), *flags) as server:
        status, body = infer(server, "model", 1.0, 0, 0, 0, parameters={"timeout": 200_000})
        assert (status, body["error_code"]) == (504, "TIMEOUT")
        assert get(server, "/v2/health/live")[0] == 200


def test_serve_serves_an_estimator_from_python(tmp_path: Path) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(
        "import oipserver\n"
        "from sklearn.datasets import load_iris\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "estimator = LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))\n"
        "oipserver.serve(estimator, name='iris', http_port=0, grpc_port='off', shutdown_lame_duck=0)\n"
    )
    server = ServerProcess(program=[str(script)])
    with server:
        assert infer(server, "iris", 5.1, 3.5, 1.4, 0.2)[1]["outputs"][0]["data"] == [0]
    assert server.exit_code == 0


def test_serve_works_where_an_event_loop_runs_already_as_in_a_notebook(tmp_path: Path, iris: Path) -> None:
    script = tmp_path / "cell.py"
    script.write_text(
        "import asyncio, joblib, oipserver, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # who starts tests may ignore it
        f"estimator = joblib.load({str(iris)!r})\n"
        "async def cell():\n"
        "    oipserver.serve(estimator, name='iris', http_port=0, grpc_port='off')\n"
        "    print('the next cell', flush=True)\n"
        "asyncio.new_event_loop().run_until_complete(cell())\n"
    )
    server = ServerProcess(program=[str(script)]).start()
    try:
        server.wait_ready()
        assert infer(server, "iris", 5.1, 3.5, 1.4, 0.2)[0] == 200
        server.signal(signal.SIGINT)
        server.wait_for("the next cell")
    finally:
        assert server.wait() == 0
