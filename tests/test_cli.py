"""The command line in real processes: what it prints, and one line with exit code 2 for a mistake."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import oipserver.server
from oipserver import cli
from oipserver.config import ServerConfig
from tests.server_process import PATIENCE


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OIPSERVER_")}
    command = [sys.executable, "-m", "oipserver.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=clean | environ, timeout=PATIENCE, check=False
    )


@pytest.fixture
def model_file(tmp_path: Path) -> str:
    path = tmp_path / "iris.joblib"
    path.write_bytes(b"")
    return str(path)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServerConfig]:
    """The configurations that reached the server; it runs no further than that."""
    configs: list[ServerConfig] = []

    def take(config: ServerConfig, **_: object) -> int:
        configs.append(config)
        return 0

    for name in [name for name in os.environ if name.startswith("OIPSERVER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(oipserver.server, "run", take)
    return configs


# -------------------------------------------------------------------------------------------- mistakes

MODEL = ("--runtime", "sklearn", "--model-uri", "/no/such/model")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "no model: give --model-uri and --runtime, or --config with a list of models"),
        (MODEL, "--model-uri: no such file or directory: '/no/such/model'"),
        (("--http-prot", "1"), "No such option '--http-prot'. (Did you mean one of: "),
        (("serve", "--http-port"), "Option '--http-port' requires an argument."),
        (("sevre",), "No such command 'sevre'."),
        (("serve", "model.joblib"), "Got unexpected extra argument"),
        (("demo", "--http-port", "x"), "--http-port: expected a port from 0 (any free one) to 65535"),
        (("--config", "/no/such.yaml"), "--config: cannot read '/no/such.yaml': No such file or directory"),
        (("--runtime", "sklern", "--model-uri", "/"), "--runtime: expected an installed runtime ("),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_2(arguments: tuple[str, ...], expected: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"oipserver: {expected}")
    assert done.stderr.count("\n") == 1


def test_several_mistakes_are_still_one_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("http: {port: [\n")
    done = run("--config", str(file), "--host", "a\nb", OIPSERVER_GRPC_PORT="y\r\nz")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert all(place in done.stderr for place in ("c.yaml", "--host: ", "OIPSERVER_GRPC_PORT: "))


def test_an_unknown_variable_is_only_a_warning() -> None:
    done = run("--runtime", "x", OIPSERVER_HTTP_PROT="1")
    assert "OIPSERVER_HTTP_PROT is not a known variable" in done.stderr


# ------------------------------------------------------------------------------------------------ help


def test_help_shows_the_way() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("oipserver --runtime sklearn --model-uri model.joblib", "oipserver demo", "serve --help"):
        assert text in done.stdout
    for command in ("serve", "demo", "runtimes", "keys"):
        assert f"\n  {command} " in done.stdout


def test_the_help_of_serve_is_grouped_and_shows_defaults() -> None:
    done = run("--http-port", "1", "-h")
    assert (done.returncode, done.stderr) == (0, "")
    headings = [line for line in done.stdout.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Model:", "Server:", "HTTP:", "gRPC:", "TLS:", "Access:", "Idempotency:", "Limits:", "Shutdown:",
        "Model sources:", "Log:", "Traces:", "Metrics:", "Other:",
    ]  # fmt: skip
    plain = " ".join(done.stdout.split())
    assert "--http-port PORT HTTP port; 0 takes any free one, 'off' serves no HTTP [default: 8080]" in plain
    assert "--http-max-json-bytes BYTES Largest JSON body [default: 33554432 (32 MiB)]" in plain
    assert "--model-uri, --model-dir URI" in plain


def test_the_help_of_demo_offers_no_model() -> None:
    done = run("demo", "--help")
    assert "--http-port" in done.stdout
    assert "--model-uri" not in done.stdout


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, "oipserver 0.1.0\n")


def test_help_loads_neither_server_nor_yaml() -> None:
    script = (
        "import sys; from oipserver.cli import main; main(['serve', '--help']);"
        "print({'oipserver.server', 'yaml', 'sklearn', 'grpc', 'starlette'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


# ---------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model-uri", "MODEL", "--runtime", "sklearn", "--http-port", "9"],
        ["serve", "--model-uri", "MODEL", "--runtime", "sklearn", "--http-port", "9"],
        ["--model-uri=MODEL", "--runtime=sklearn", "--http-port=9"],
        ["--model-dir", "MODEL", "--runtime", "sklearn", "--http_port=9"],
        ["--model_dir=MODEL", "--runtime", "sklearn", "--http_port", "9", "--model_name", "iris"],
        ["--model_uri=/a", "--model-dir=MODEL", "--runtime", "sklearn", "--http_port=1", "--http-port=9"],
        ["--model_name=<no value>", "--model_dir=MODEL", "--runtime=sklearn", "--http_port=9", "--log_level",
         "<no value>"],
    ],
)  # fmt: skip
def test_every_spelling_means_the_same(
    arguments: list[str], model_file: str, served: list[ServerConfig]
) -> None:
    assert cli.main([argument.replace("MODEL", model_file) for argument in arguments]) == 0
    (config,) = served
    assert (config.http.port, config.grpc.port, config.log.level) == (9, 8081, "info")
    assert [(one.name, one.model_uri, one.runtime) for one in config.models] == [
        ("iris", model_file, "sklearn")
    ]


def test_grpc_port_with_an_underscore(model_file: str, served: list[ServerConfig]) -> None:
    assert cli.main(["--model_dir", model_file, "--runtime", "sklearn", "--grpc_port", "7"]) == 0
    assert served[0].grpc.port == 7


def test_the_environment_alone_is_enough(
    model_file: str, served: list[ServerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIPSERVER_MODEL_URI", model_file)
    monkeypatch.setenv("OIPSERVER_RUNTIME", "sklearn")
    monkeypatch.setenv("OIPSERVER_PORT_8080_TCP", "tcp://10.0.0.1:8080")
    assert cli.main([]) == 0
    assert served[0].models[0].name == "iris"


def test_the_exit_code_is_the_servers(model_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oipserver.server, "run", lambda config: 3)
    assert cli.main(["--model-uri", model_file, "--runtime", "sklearn"]) == 3


# ------------------------------------------------------------------------------------------- runtimes


def test_runtimes_as_a_table() -> None:
    done = run("runtimes")
    assert (done.returncode, done.stderr) == (0, "")
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["NAME", "PACKAGE", "MODULE", "STATUS"]
    (row,) = (row for row in rows if row.startswith("sklearn "))
    assert row.split() == ["sklearn", "oipserver", "0.1.0", "oipserver_sklearn:SklearnRuntime", "available"]
    assert row.index("oipserver") == heading.index("PACKAGE")


def test_runtimes_as_json() -> None:
    (sklearn,) = (one for one in json.loads(run("runtimes", "--json").stdout) if one["name"] == "sklearn")
    assert sklearn == {
        "name": "sklearn",
        "target": "oipserver_sklearn:SklearnRuntime",
        "package": "oipserver",
        "version": "0.1.0",
        "missing": [],
        "install": "",
    }


# ------------------------------------------------------------------------------------------------ demo


def test_the_demo_prints_a_request_that_works() -> None:
    arguments = [sys.executable, "-m", "oipserver.cli", "demo", "--http-port=0", "--grpc-port=0"]
    arguments += ["--shutdown-lame-duck=0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        watchdog = threading.Timer(PATIENCE, server.kill)
        watchdog.start()
        try:
            assert server.stdout
            printed = next(line for line in server.stdout if line.startswith("curl "))
            answer = ask(printed)
            assert answer["model_name"] == "iris"
            assert answer["outputs"][0]["shape"] == [2, 1]
            server.terminate()
            assert server.wait() == 0
        finally:
            watchdog.cancel()
            server.kill()


def ask(line: str) -> Any:
    """The answer to a line `curl -s URL -d BODY`."""
    _, _, url, _, body = shlex.split(line)
    with urllib.request.urlopen(url, body.encode(), timeout=30) as answer:
        return json.load(answer)


def test_a_path_alone_is_told_how_to_be_served(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").touch()
    done = run(str(tmp_path / "model.joblib"))
    assert done.returncode == 2
    assert f"oipserver --runtime NAME --model-uri {tmp_path / 'model.joblib'}" in done.stderr
