"""The README is true: each of its commands and snippets runs here, in a folder of its own, in its order.

Only the ports differ, so that tests can run beside each other and beside a server.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oipserver.config.schema import MODEL_LEAVES, SERVER_LEAVES
from tests.server_process import ServerProcess

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
TRITONCLIENT = ROOT / ".envs/tritonclient/bin/python"


def commands(*beginnings: str) -> list[str]:
    """The lines of shell blocks that begin so, without their comments."""
    lines = [
        line.split("    #")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()
    ]
    return [line for line in lines if line.startswith(beginnings)]


SKLEARN = commands("oipserver --runtime sklearn")


def blocks(language: str, containing: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language and containing in text]


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader works: the training snippet has run here."""
    folder = tmp_path_factory.mktemp("readme")
    subprocess.run([sys.executable, "-c", only(blocks("python", "joblib.dump"))], cwd=folder, check=True)
    return folder


def served(command: str, folder: Path) -> ServerProcess:
    program, *flags = shlex.split(command)
    assert program == "oipserver"
    paths = [str(folder / flag) if (folder / flag).exists() else flag for flag in flags]
    return ServerProcess(*paths)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with served(only([line for line in SKLEARN if "--access" not in line]), folder) as server:
        yield server


def ask(command: str, server: ServerProcess) -> str:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    command = command.replace("http://localhost:8080", server.http_url)
    return subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout


def run_curl(command: str, server: ServerProcess) -> dict[str, object]:
    document = json.loads(ask(command, server))
    assert "error" not in document, document
    assert isinstance(document, dict)
    return document


def test_nothing_stands_in_the_readme_that_no_test_runs() -> None:
    known = ("make ", "curl ", "pip install", "oipserver ")
    assert commands("")
    assert set(commands("")) == {line for line in commands(*known) if line}
    python = [text for kind, text in BLOCKS if kind == "python"]
    run = re.compile(r"joblib\.dump|tritonclient|oipserver\.serve|oipserver_python")
    assert len(python) == len([text for text in python if run.search(text)])
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "yaml"}


IRIS = [line for line in commands("curl ") if "/models/iris" in line and "$KEY" not in line]


@pytest.mark.parametrize("command", IRIS)
def test_curl_is_answered(command: str, server: ServerProcess) -> None:
    document = run_curl(command, server)
    assert document.get("name", document.get("model_name")) == "iris"


def test_the_specifications_document_is_answered_as_it_says(server: ServerProcess) -> None:
    document = run_curl(commands("curl ")[0], server)
    assert document["outputs"] == [
        {
            "name": "predict",
            "shape": [2, 1],
            "datatype": "INT64",
            "parameters": {"content_type": "np"},
            "data": [0, 0],
        }
    ]


def test_tritonclient_is_answered(server: ServerProcess) -> None:
    if not TRITONCLIENT.exists():
        pytest.skip("no environment with tritonclient: run 'make test'")
    snippet = only(blocks("python", "tritonclient")).replace(
        "localhost:8080", f"127.0.0.1:{server.http_port}"
    )
    done = subprocess.run([TRITONCLIENT, "-c", snippet], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[[0]", "[0]]"]


def test_an_estimator_in_memory_is_served(folder: Path) -> None:
    snippet = only(blocks("python", "oipserver.serve"))
    assert "http_port=8080" in snippet
    program = folder / "notebook.py"
    program.write_text(
        f"import os\nos.chdir({str(folder)!r})\n"
        + snippet.replace("http_port=8080", "http_port=0, grpc_port=0, shutdown_lame_duck=0")
    )
    with ServerProcess(program=[str(program)]) as server:
        run_curl(commands("curl ")[0], server)


def test_a_function_streams(folder: Path) -> None:
    stream, whole = (command for command in commands("curl ") if "/models/words" in command)
    (folder / "words.py").write_text(only(blocks("python", "oipserver_python")))
    with served(only(commands("oipserver --runtime python")), folder) as server:
        assert run_curl(whole, server)["text_output"] == "to be or not to be "
        assert stream.startswith("curl -sN ")
        events = ask(stream, server).split("\n\n")[:-1]
    texts = [json.loads(event.removeprefix("data: "))["text_output"] for event in events]
    assert texts == [f"{word} " for word in ["to", "be", "or", "not", "to", "be"]]


def test_a_file_is_inspected(folder: Path) -> None:
    command = shlex.split(only(commands("oipserver inspect")))
    told = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert "sklearn" in told


def test_with_a_key_and_without(folder: Path) -> None:
    make = shlex.split(only(commands("oipserver keys new")))
    made = subprocess.run(
        [sys.executable, "-m", *make], cwd=folder, capture_output=True, text=True, check=True
    )
    question = only([line for line in commands("curl ") if "$KEY" in line])
    with served(only([line for line in SKLEARN if "--access" in line]), folder) as server:
        assert run_curl(question.replace("$KEY", made.stdout.strip()), server)["name"] == "iris"
        assert json.loads(ask(question, server))["error_code"] == "UNAUTHORIZED"


def test_every_page_is_pointed_to() -> None:
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"\]\(([^)#]+)", README))


def shown(value: object, unit: str) -> str:
    """A default as the table of the settings has it."""
    match value:
        case None | "":
            return "none"
        case bool() | str():
            return str(value).lower()
        case tuple():
            return ", ".join(value)
        case int() if unit == "BYTES":
            return f"{value >> 20} MiB"
        case _:
            return f"{value:g} s" if unit == "SECONDS" else f"{value:.10g}"


TABLE = re.findall(r"^\| (`[a-z].*?) \| (.*?) \|", README.split("| setting | default | |")[1], re.MULTILINE)


@pytest.mark.parametrize(("names", "defaults"), TABLE)
def test_the_settings_and_their_defaults_are_as_told(names: str, defaults: str) -> None:
    leaves = SERVER_LEAVES | {f"models[].{path}": leaf for path, leaf in MODEL_LEAVES.items()}
    found = [leaves[name] for name in re.findall(r"`([^`]+)`", names)]
    told = [shown(leaf.default, leaf.metavar) for leaf in found]
    assert defaults in (", ".join(told), *(told[:1] if len(set(told)) == 1 else ()))


def test_several_models_are_served_from_a_file(folder: Path) -> None:
    text = only(blocks("yaml", "models:"))
    assert text.startswith("# server.yaml")
    (folder / "server.yaml").write_text(text.replace("port: 8080", "port: 0"))
    with served(only(commands("oipserver --config")), folder) as server:
        for name in ("iris", "iris-small-batches"):
            assert run_curl(f"curl -s http://localhost:8080/v2/models/{name}", server)["name"] == name


@pytest.mark.parametrize(("command", "expected"), [("serve --help", "--http-port"), ("runtimes", "sklearn")])
def test_the_command_line_explains_itself(command: str, expected: str) -> None:
    assert f"oipserver {command}" in commands("oipserver ")
    arguments = [sys.executable, "-m", "oipserver", *command.split()]
    assert expected in subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def test_it_installs_as_told() -> None:
    command = shlex.split(only(commands("pip install")))
    flags = ["--quiet", "--dry-run", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", *command, *flags], cwd=ROOT, check=True)


@pytest.mark.parametrize("command", commands("make "))
def test_make_has_the_target(command: str) -> None:
    python = f"PYTHON={sys.executable}"  # it would look for one again in each recipe
    subprocess.run([*shlex.split(command), "--dry-run", python], cwd=ROOT, check=True, capture_output=True)


def test_make_serve_prints_a_curl_line_that_works() -> None:
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not in the environment of the Makefile: run 'make test'")
    ports = {"OIPSERVER_HTTP_PORT": "0", "OIPSERVER_GRPC_PORT": "0", "OIPSERVER_SHUTDOWN_LAME_DUCK": "0"}
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    server = ServerProcess(
        program=["-c", "import os; os.execvp('make', ['make', 'serve'])"], environ={**environ, **ports}
    )
    server.start()
    try:
        line = server.wait_for(r"^curl .*")[0]
        document = run_curl(line, server)
        assert document["model_name"] == "iris"
    finally:
        server.stop()  # make hands the signal on to its child and says afterwards that it was stopped
    assert "stopped" in server.output
