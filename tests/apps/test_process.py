"""Apps in a real server process: how they are named, what is refused at start, readiness, the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server_process import PATIENCE, ServerProcess

HELLO = """
from oipserver import App
app = App()

@app.get("/hello")
def hello():
    return "hello"
"""

MODEL = """
from oipserver_python import Input, Output, function

@function(inputs=[Input("x", "FP64", [-1, 2])], outputs=[Output("y", "FP64", [-1, 2])], batchable=True)
def double(x):
    return x * 2
"""


def written(folder: Path, source: str, name: str = "routes.py") -> Path:
    path = folder / name
    path.write_text(source)
    return path


def get(server: ServerProcess, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(server.http_url + path, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def refused(*flags: str, environ: dict[str, str] | None = None) -> str:
    """The one line of a server that does not start."""
    server = ServerProcess(*flags, environ=environ).start()
    assert server.wait() == 2, server.output
    [line] = server.output.splitlines()
    assert line.startswith("oipserver: ")
    return line


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import oipserver_nothing", "'routes.py' needs the Python module 'oipserver_nothing'"),
        ("1 / 0", "app {path}: 'routes.py' cannot be imported: ZeroDivisionError: division by zero"),
        ("def (", "app {path}: 'routes.py' cannot be imported: invalid syntax"),
        ("import sys\nsys.exit(0)", "app {path}: it ends the process when it is imported"),
        ("x = 1", "app routes.py: it exports neither 'app' nor an oipserver.App; say which"),
        ("app = 3", "app routes.py: 'app' is a int, expected an oipserver.App or an ASGI application"),
        ("def app(environ, start_response): ...", "'app' is a function, expected an oipserver.App or"),
        (
            HELLO + "@app.get('/v2/mine')\ndef mine(): ...",
            "app routes.py: route GET /v2/mine: /v2 is reserved",
        ),
        (
            HELLO + "@app.get('/hello')\ndef again(): ...",
            "app routes.py: route GET /hello: app routes.py: route",
        ),
        (HELLO + "@app.get('/x')\ndef x(y): ...", "app routes.py: route /x: x() takes 'y', expected only"),
        (HELLO + "app.get('x')", "expected a path that begins with '/'"),
        (HELLO + "app.grpc(lambda models: 1)", "app routes.py: gRPC services: expected grpc.GenericRpc"),
    ],
)
def test_an_app_that_cannot_be_served_ends_the_start(tmp_path: Path, source: str, complaint: str) -> None:
    path = written(tmp_path, source)
    assert complaint.format(path=path) in refused(f"--app={path}")


def test_an_app_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "routes.py"
    assert refused(f"--app={path}") == f"oipserver: --app: no such file: '{path}'"
    assert "OIPSERVER_APP: no such file" in refused(environ={"OIPSERVER_APP": str(path)})
    assert "app oipserver_nothing" in refused("--app=oipserver_nothing:app")
    written(tmp_path, HELLO)
    assert "app routes.py: 'routes.py' has no 'ap', did you mean 'app'?" in refused(f"--app={path}:ap")


def test_two_apps_with_one_path_end_the_start(tmp_path: Path) -> None:
    first, second = written(tmp_path, HELLO), written(tmp_path, HELLO, "more.py")
    line = refused(f"--app={first},{second}")
    assert "app more.py: route GET /hello: app routes.py: route GET /hello has that path already" in line


def test_apps_from_a_file_and_their_neighbours(tmp_path: Path) -> None:
    """Paths start at the configuration file's folder, and an app imports what lies beside it."""
    folder = tmp_path / "apps"
    folder.mkdir()
    written(folder, "WORD = 'beside'", "words.py")
    written(folder, "import words\n" + HELLO.replace('"hello"\n', "words.WORD\n"))
    written(folder, HELLO.replace("/hello", "/second").replace("app", "other"), "named.py")
    asgi = """
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})
    """
    written(folder, "\n".join(line[4:] for line in asgi.splitlines()), "asgi.py")
    settings = "apps: [apps/routes.py, apps/named.py, apps/asgi.py:application]\n"
    config = written(tmp_path, settings, "server.yaml")
    with ServerProcess(f"--config={config}") as server:
        assert "ready: app routes.py, app named.py, app asgi.py" in server.output
        assert get(server, "/v2/health/ready")[0] == 200  # no model, and none was asked for
        assert get(server, "/hello") == (200, "beside")
        assert get(server, "/second") == (200, "hello")
        assert get(server, "/anything/else/") == (200, "/anything/else/")


def test_an_app_from_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, HELLO, "shop.py")
    monkeypatch.chdir(tmp_path)
    with ServerProcess("--app=shop:app") as server:
        assert get(server, "/hello") == (200, "hello")


STARTING = (
    HELLO
    + """
import pathlib

@app.on_start
def start(models):
    text = pathlib.Path({pipe!r}).read_text()
    if text == "fail":
        raise OSError("no database")
    print("read", text, models.infer_sync("double", {{"x": [[1, 2]]}})["y"].tolist(), flush=True)

@app.on_stop
def stop():
    print("the app has stopped", flush=True)
"""
)


@pytest.mark.parametrize("text", ["go", "fail"])
def test_readiness_waits_for_the_app(tmp_path: Path, text: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = written(tmp_path, STARTING.format(pipe=str(pipe)))
    model = written(tmp_path, MODEL, "model.py")
    flags = (f"--app={path}", "--runtime=python", f"--model-uri={model}:double", "--model-name=double")
    server = ServerProcess(*flags).start()
    try:
        server.wait_for("HTTP on")
        status, body = get(server, "/hello")
        assert (status, body["error_code"], body["error"]) == (503, "NOT_READY", "the app is starting")
        assert "the app is starting" in get(server, "/v2/health/ready")[1]["error"]
        pipe.write_text(text)  # returns when the hook reads
        if text == "go":
            server.wait_ready()
            assert get(server, "/hello") == (200, "hello")
            assert "read go [[2.0, 4.0]]" in server.output
        else:
            server.wait_for("running, but not ready: app routes.py failed to start: no database")
            assert get(server, "/hello")[0] == 503
            assert get(server, "/v2/models/double/ready")[0] == 200
    finally:
        assert server.stop() == 0
    assert "the app has stopped" in server.output


WAITING = (
    HELLO
    + """
import pathlib

@app.get("/wait")
{kind}def wait(models):
    print("waiting", flush=True)
    {read}
    return {infer}["y"]

@app.on_stop
def stop():
    print("the app has stopped", flush=True)
"""
)


@pytest.mark.parametrize("kind", ["", "async "])
def test_requests_inside_are_finished_at_the_end(tmp_path: Path, kind: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = f"pathlib.Path({str(pipe)!r}).read_text()"
    infer = 'models.infer_sync("double", {"x": [[1, 2]]})'
    if kind:
        read = f"import asyncio; await asyncio.to_thread(pathlib.Path({str(pipe)!r}).read_text)"
        infer = '(await models.infer("double", {"x": [[1, 2]]}))'
    path = written(tmp_path, WAITING.format(kind=kind, read=read, infer=infer))
    model = written(tmp_path, MODEL, "model.py")
    flags = (f"--app={path}", "--runtime=python", f"--model-uri={model}:double", "--model-name=double")
    with ThreadPoolExecutor(1) as pool, ServerProcess(*flags, "--shutdown-drain=20") as server:
        inside = pool.submit(get, server, "/wait")
        server.wait_for("waiting")
        server.signal(signal.SIGTERM)
        server.wait_for("draining: 1 requests inside")
        status, body = get(server, "/hello")
        assert (status, body["error_code"]) == (503, "NOT_READY")
        pipe.write_text("go")
        assert inside.result(PATIENCE) == (200, "[[2.0,4.0]]")
        assert server.wait() == 0
    assert "the app has stopped" in server.output


def test_a_handler_that_never_returns_does_not_keep_the_server(tmp_path: Path) -> None:
    source = (
        HELLO
        + """
import threading

@app.get("/stuck")
def stuck():
    print("stuck", flush=True)
    threading.Event().wait()
"""
    )
    path = written(tmp_path, source)
    with ThreadPoolExecutor(1) as pool, ServerProcess(f"--app={path}", "--shutdown-drain=0.1") as server:
        lost = pool.submit(get, server, "/stuck")
        server.wait_for("stuck")
        assert server.stop() == 0
        assert lost.exception(PATIENCE) is not None


def test_without_apps_no_model_is_still_a_mistake() -> None:
    assert "no model" in refused()


def test_the_web_stack_is_not_loaded_with_an_app(tmp_path: Path) -> None:
    path = written(
        tmp_path, HELLO + "import sys\nprint(*(set(sys.modules) & {'starlette', 'grpc', 'uvicorn'}))"
    )
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
