"""The commands of docs/reload.md do what it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

from oipserver.config import ServerConfig
from tests.reload.stored import get, write_estimator
from tests.server_process import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs/reload.md").read_text()
START, CALLS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands(tmp_path: Path) -> None:
    write_estimator(tmp_path / "iris.joblib", 1)
    program, *flags = shlex.split(START.replace("iris.joblib", str(tmp_path / "iris.joblib")))
    assert program == "oipserver"
    with ServerProcess(*flags) as server:
        answers = []
        for command in CALLS.splitlines():
            own = command.replace("localhost:8080", f"127.0.0.1:{server.http_port}")
            done = subprocess.run(
                [*shlex.split(own), "--no-progress-meter", "--noproxy", "*"], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            answers.append(done.stdout)
        assert json.loads(answers[0]) == [{"name": "iris", "version": "1", "state": "READY"}]
        assert answers[1:] == ["", ""]
        server.wait_for("model 'iris' version '1' was loaded again")
        assert get(server, "/v2/models/iris/ready")[0] == 503
        assert get(server, "/v2/health/ready")[0] == 200


def test_the_settings_are_as_it_says() -> None:
    config = ServerConfig()
    assert (config.model_control, config.poll_interval) == ("none", 5.0)
    assert {"none", "poll", "explicit"} == set(re.findall(r"^\| `--model-control (\w+)`", PAGE, re.MULTILINE))
