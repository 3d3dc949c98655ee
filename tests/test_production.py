"""docs/production.md and deploy/README.md are true: what they say is started, asked, scraped and reloaded."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import joblib
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import oipserver
from oipserver.config import load_config
from oipserver.config.schema import SERVER_LEAVES
from oipserver.grpc._generated.open_inference_pb2 import ModelReadyRequest
from tests.server_process import ServerProcess
from tests.tls.encrypted import Folder

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/production.md").read_text()
[CONFIGURATION] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
COMMANDS, ASK = re.findall(r"```sh\n(.*?)\n```", PAGE, re.DOTALL)
SHOP, SCRAPER, SERVE = COMMANDS.splitlines()

DEPLOY = (ROOT / "deploy/README.md").read_text()
[SCRAPE] = re.findall(r"```yaml\n(.*?)```", DEPLOY, re.DOTALL)
[PROMTOOL] = re.findall(r"```sh\n(.*?)\n```", DEPLOY, re.DOTALL)

ROW = {"name": "input-0", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}


@dataclass
class Site:
    """The server of the page, in its folder, and the keys of its callers."""

    path: Path
    server: ServerProcess
    shop: str
    scraper: str

    def ask(self, path: str, key: str = "", *flags: str) -> tuple[int, str]:
        """Status and body; without a key for an empty one."""
        header = ["-H", f"X-API-Key: {key}"] if key else []
        url = f"https://localhost:{self.server.http_port}{path}"
        return curl(self.path, ["curl", "-s", "--cacert", "ca.crt", *header, *flags, url])


def curl(folder: Path, command: list[str]) -> tuple[int, str]:
    done = subprocess.run(
        [*command, "-w", "\n%{http_code}", "--noproxy", "*"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def write_model(folder: Path) -> None:
    models = folder / "models"
    models.mkdir()
    rows, species = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=1000).fit(rows, species)
    joblib.dump(estimator, models / "iris.joblib")
    oipserver.write_golden(estimator, {"input-0": rows[::10]}, models / "iris.golden.json")
    (folder / "request.json").write_text(json.dumps({"inputs": [ROW]}))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    folder = tmp_path_factory.mktemp("production")
    Folder(folder)  # ca.crt, tls.crt, tls.key
    write_model(folder)
    (folder / "production.yaml").write_text(CONFIGURATION)
    shop, scraper = (
        subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for command in (SHOP, SCRAPER)
    )
    program, flag, name = shlex.split(SERVE)
    assert program == "oipserver"
    with ServerProcess(flag, str(folder / name), "--poll-interval=0.1") as server:
        yield Site(folder, server, shop, scraper)
    assert server.exit_code == 0, server.output
    assert "WARNING" not in server.output, server.output


def test_the_shop_is_answered(site: Site) -> None:
    command = [word.replace("$KEY", site.shop) for word in shlex.split(ASK)]
    command = [word.replace(":8080", f":{site.server.http_port}") for word in command]
    status, body = curl(site.path, command)
    assert status == 200
    assert json.loads(body)["outputs"][0]["data"] == [0]


def test_nobody_else_is(site: Site) -> None:
    for path, key, expected in [
        ("/v2/models/iris", "", 401),
        ("/v2/models/iris", "wrong", 401),
        ("/v2/models/other", site.shop, 403),
        ("/metrics", "", 401),
        ("/metrics", site.shop, 403),
        ("/v2/docs", "", 401),
        ("/v2/health/ready", "", 200),
    ]:
        assert site.ask(path, key)[0] == expected, path


def test_grpc_needs_the_key_as_well(site: Site) -> None:
    trusted = grpc.ssl_channel_credentials((site.path / "ca.crt").read_bytes())
    with grpc.secure_channel(f"localhost:{site.server.grpc_port}", trusted) as channel:
        ready: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelReady", None, None)
        question = ModelReadyRequest(name="iris").SerializeToString()
        assert ready(question, metadata=[("x-api-key", site.shop)], timeout=30) == bytes([8, 1])
        with pytest.raises(grpc.RpcError) as refused:
            ready(question, timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_prometheus_is_let_in_as_its_configuration_says(site: Site) -> None:
    [job] = yaml.safe_load(SCRAPE)["scrape_configs"]
    assert (job["scheme"], job["job_name"]) == ("https", "oipserver")
    assert (site.path / job["tls_config"]["ca_file"]).exists()
    status, body = site.ask("/metrics", "", "-H", f"Authorization: Bearer {site.scraper}")
    assert status == 200
    assert 'oip_slo_target{model="iris",objective="availability",version="1"} 0.999' in body


def test_a_broken_file_changes_nothing_and_is_told(site: Site) -> None:
    model = site.path / "models/iris.joblib"
    good = model.read_bytes()
    for content, refused in ((good[: len(good) // 2], "1.0"), (good, "0.0")):
        model.with_suffix(".new").write_bytes(content)
        os.replace(model.with_suffix(".new"), model)
        wanted = f'oip_model_reload_refused{{model="iris",version="1"}} {refused}'
        site.server.wait_for("the one before serves on" if refused == "1.0" else "was loaded again")
        assert wanted in site.ask("/metrics", site.scraper)[1]
        assert site.ask("/v2/models/iris/infer", site.shop, "-d", "@request.json")[0] == 200


def test_the_comments_and_numbers_are_true(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("production.yaml", "tls.crt", "tls.key", "keys.yaml", "models/iris.joblib"):
        (tmp_path / name).write_text(CONFIGURATION)
    config = load_config({"config": str(tmp_path / "production.yaml")}, {})
    assert config.limits.exit_on_hang
    assert config.log.requests == 0.01
    assert config.shutdown.lame_duck + config.shutdown.drain + 5 == 30
    assert set(re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE)) <= SERVER_LEAVES.keys()


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_accepts_what_the_page_says(tmp_path: Path) -> None:
    for command in PROMTOOL.splitlines():
        subprocess.run(shlex.split(command), cwd=ROOT, check=True, capture_output=True)
    for name in ("ca.crt", "prometheus.key"):
        (tmp_path / name).touch()
    (tmp_path / "scrape.yaml").write_text(SCRAPE)
    subprocess.run(
        ["promtool", "check", "config", "scrape.yaml"], cwd=tmp_path, check=True, capture_output=True
    )
