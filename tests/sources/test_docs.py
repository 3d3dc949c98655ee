"""The command of docs/model-sources.md runs, with a store and a digest that exist."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from oipserver.config.schema import SourcesConfig
from oipserver.config.uris import SCHEMES
from tests.server_process import ServerProcess
from tests.sources.scripted import Server, whole
from tests.sources.test_server import ask

PAGE = (Path(__file__).parents[2] / "docs/model-sources.md").read_text()


def test_the_command_serves_what_is_pinned(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), tmp_path / "iris.joblib")
    model = (tmp_path / "iris.joblib").read_bytes()
    (command,) = re.findall(r"```sh\n(.*?)\n```", PAGE, re.DOTALL)
    with Server(whole(model)) as store:
        command = command.replace("https://models.example.com", store.uri(""))
        program, *flags = shlex.split(command.replace("SHA256", hashlib.sha256(model).hexdigest()))
        assert program == "oipserver"
        flags += ["--sources-allow-hosts", "127.0.0.1", "--sources-cache-dir", str(tmp_path / "cache")]
        with ServerProcess(*flags) as server:
            assert ask(server.http_url + "/v2/models/iris/ready") == (200, {"name": "iris", "ready": True})


def test_it_names_every_scheme_and_only_settings_that_there_are() -> None:
    assert set(re.findall(r"([a-z0-9]+):/", PAGE)) == set(SCHEMES) - {"abfss"}
    assert set(re.findall(r"`sources\.(\w+)`", PAGE)) <= set(SourcesConfig.__dataclass_fields__)
