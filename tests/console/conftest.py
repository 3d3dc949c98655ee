"""Servers for the console, each in its own process and started when a test asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from oipserver.access.new import digest_of
from tests.browser import Watched, browser
from tests.server_process import ServerProcess

__all__ = ["browser"]

HERE = Path(__file__).parent
Open = Callable[..., Any]


def python(name: str) -> dict[str, Any]:
    """A model of `models.py`."""
    return {"name": name, "runtime": "python", "model_uri": f"{HERE / 'models.py'}:{name}"}


@pytest.fixture(scope="session")
def irises(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The iris model in two versions."""
    folder = tmp_path_factory.mktemp("irises")
    rows, classes = load_iris(return_X_y=True)
    models = []
    estimators = (LogisticRegression(max_iter=1000), DecisionTreeClassifier(max_depth=2, random_state=0))
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


KEYS = {
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
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the console of a server at a place of it, as `open_page(server, "#/models/iris")`."""
    opened: list[Watched] = []

    def go(server: ServerProcess, place: str = "", **options: Any) -> Any:
        watched = Watched(browser, server.http_url, **options)
        opened.append(watched)
        watched.page.goto(f"{server.http_url}/console/{place}")
        return watched.page

    yield go
    for each in opened:
        each.close()
