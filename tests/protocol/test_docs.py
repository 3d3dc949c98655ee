"""docs/protocol.md is true: what it lists is served, and what it shows runs."""

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
from typing import Any

import pytest

from oipserver.core.classification import MAX_CLASSES
from oipserver.core.shared_memory import FOLDER, MAX_REGIONS
from oipserver.core.statistics import EXACT_ROWS
from oipserver.grpc._generated.open_inference_pb2 import DESCRIPTOR
from oipserver.server import EXTENSIONS
from tests.conformance.wires import ask
from tests.server_process import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text()
SHELL = [text.strip() for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]
CURLS = [line for text in SHELL[1:] for line in re.split(r"\n(?=curl)", text)]
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ROUTES = [(verb, path) for verb, path in re.findall(r"`(GET|POST) ([^`]+)`", PAGE) if path != "/v2/"]
CALLS = set(re.findall(r"`([A-Z]\w+)`", PAGE.split("## Classification")[0]))


@pytest.fixture(scope="module")
def demo() -> Iterator[ServerProcess]:
    program, command, *flags = shlex.split(SHELL[0])
    assert (program, command) == ("oipserver", "demo")
    with ServerProcess(*flags, command="demo") as server:
        yield server
    assert "Traceback" not in server.output


@pytest.mark.parametrize(("verb", "path"), ROUTES)
def test_every_route_is_there(demo: ServerProcess, verb: str, path: str) -> None:
    for model in ("/v2/models/iris", "/v2/models/iris/versions/1"):
        target = path.replace("{m}", model).replace("NAME", "iris").replace("REGION", "none")
        answer = ask(demo.http_port, verb, target)
        wrong = answer.json().get("error_code", "") if answer.status >= 400 else ""
        assert wrong in ("", "BAD_REQUEST", "UNSUPPORTED"), answer


def test_every_call_is_there() -> None:
    declared = set(DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name)
    assert CALLS - declared == {"LogSettings", "TraceSetting"}
    assert declared <= CALLS


def test_the_extensions_and_limits_are_those_of_the_code(demo: ServerProcess) -> None:
    served = ask(demo.http_port, "GET", "/v2").json()["extensions"]
    assert served == [*EXTENSIONS, "system_shared_memory"]
    last_column = "".join(line.split("|")[-2] for line in PAGE.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(\w+)`", last_column)) == set(served)
    assert f"at most {MAX_CLASSES} of them" in PAGE
    assert f"up to {EXACT_ROWS} rows apart" in PAGE
    assert f"At most {MAX_REGIONS}" in PAGE


def run(command: str, demo: ServerProcess) -> Any:
    command = command.replace("localhost:8080", f"127.0.0.1:{demo.http_port}")
    arguments = ["curl", "--silent", "--noproxy", "*", *shlex.split(command)[1:]]
    return json.loads(subprocess.run(arguments, capture_output=True, check=True).stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_answer(demo: ServerProcess) -> None:
    inference, statistics, config = (run(command, demo) for command in CURLS)
    assert [text.split(":")[1:] for text in inference["outputs"][0]["data"]] == [["0", "0"], ["1", "1"]]
    (counted,) = statistics["model_stats"]
    assert (counted["name"], counted["version"]) == ("iris", "1")
    assert config["max_batch_size"] > 0
    assert config["input"] == [{"name": "input-0", "data_type": "TYPE_FP64", "dims": [4]}]


@pytest.mark.skipif(not Path(FOLDER).is_dir(), reason="no shared memory objects in a folder")
def test_the_program_runs(demo: ServerProcess) -> None:
    text = PROGRAM.replace("http://localhost:8080", demo.http_url)
    environ = {**os.environ, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == PROGRAM.split("  # ")[1].splitlines()[0].strip()
