"""Servers for the console, each in its own process and started when a test asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from playwright.sync_api import Browser, Page
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from oipserver.access.new import digest_of
from tests.browser import Watched, browser
from tests.server_process import ServerProcess

__all__ = ["browser"]

HERE = Path(__file__).parent
Visit = Callable[..., Watched]


def python(name: str) -> dict[str, Any]:
    """A model of `models.py`."""
    return {"name": name, "runtime": "python", "model_uri": f"{HERE / 'models.py'}:{name}"}


@pytest.fixture(scope="session")
def irises(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The iris model in two versions."""
    folder = tmp_path_factory.mktemp("irises")
    rows, classes = load_iris(return_X_y=True)
    models = []
    estimators = (DecisionTreeClassifier(max_depth=2, random_state=0), LogisticRegression(max_iter=1000))
    for version, estimator in enumerate(estimators, 1):
        path = folder / f"{version}.joblib"
        joblib.dump(estimator.fit(rows, classes), path)
        models.append(
            {
                "name": "iris",
                "version": str(version),
                "runtime": "sklearn",
                "model_uri": str(path),
                "trust_pickle": True,
            }
        )
    return models


def configured(folder: Path, **config: Any) -> str:
    """The flag for a configuration file with this in it."""
    path = folder / "server.json"
    path.write_text(json.dumps(config))
    return f"--config={path}"


@pytest.fixture(scope="session")
def server(irises: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Models of every kind and an app."""
    models = [*irises, *map(python, ("finder", "shout", "slow", "broken"))]
    flag = configured(tmp_path_factory.mktemp("console"), models=models, apps=[str(HERE / "shop.py")])
    with ServerProcess(flag) as running:
        yield running


@pytest.fixture(scope="session")
def console_off() -> Iterator[ServerProcess]:
    with ServerProcess(f"--app={HERE / 'shop.py'}", "--console=false") as running:
        yield running


@pytest.fixture(scope="session")
def half_ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One model serves, another one has failed to load."""
    late = {"name": "late", "runtime": "python", "model_uri": str(HERE / "late.py")}
    flag = configured(tmp_path_factory.mktemp("half"), models=[python("shout"), late])
    running = ServerProcess(flag).start()
    try:
        running.wait_for("running, but not ready")
        yield running
    finally:
        running.stop()


KEYS: dict[str, dict[str, Any]] = {
    "oip_everything": {"name": "boss", "roles": ["admin"]},
    "oip_shout_only": {"name": "guest", "roles": ["infer", "read"], "models": ["shout"]},
    "oip_rarely": {"name": "rare", "roles": ["infer", "read"], "rate": 0.01, "burst": 30},
}


@pytest.fixture(scope="session")
def keyed(irises: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that wants keys."""
    keys = [{**entry, "sha256": digest_of(key)} for key, entry in KEYS.items()]
    flag = configured(
        tmp_path_factory.mktemp("keyed"), models=[irises[0], python("shout")], access={"keys": keys}
    )
    with ServerProcess(flag) as running:
        yield running


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Somebody who opens the console of a server for the first time; all is checked at the end."""
    visits: list[Watched] = []

    def begin(server: ServerProcess, **options: Any) -> Watched:
        visits.append(Watched(browser, server.http_url, **options))
        return visits[-1]

    yield begin
    for each in visits:
        each.close()


@pytest.fixture
def console(visit: Visit, server: ServerProcess) -> Callable[[str], Page]:
    """Opens the console of the server with everything at a place of it."""
    return visit(server).open
