"""How apps are named in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from oipserver.config import ConfigError, for_model, load_config


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.py", "b.py"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_win_over_the_environment_and_both_over_the_file(folder: Path) -> None:
    below = folder / "below"
    below.mkdir()
    (below / "server.yaml").write_text("apps: [../b.py, 'shop.routes:app']\n")
    file = {"config": str(below / "server.yaml")}
    assert load_config(file, {}).apps == (f"{folder}/b.py", "shop.routes:app")
    environ = {"OIPSERVER_APP": "a.py:one , b.py"}
    assert load_config(file, environ).apps == (f"{folder}/a.py:one", f"{folder}/b.py")
    assert load_config({**file, "app": "shop"}, environ).apps == ("shop",)
    assert load_config({**file, "app": "<no value>"}, {}).apps == (f"{folder}/b.py", "shop.routes:app")


def test_every_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"app": "a.py,c.py:x,d.py"}, {})
    assert caught.value.problems == [
        f"--app: no such file: '{folder}/c.py'",
        f"--app: no such file: '{folder}/d.py'",
    ]


def test_a_list_that_is_none(folder: Path) -> None:
    (folder / "server.yaml").write_text("apps: a.py\n")
    with pytest.raises(ConfigError, match=r"server.yaml: apps: expected a list of file.py\[:name\]"):
        load_config({"config": "server.yaml"}, {})


def test_beside_a_model_in_memory(folder: Path) -> None:
    assert for_model("m", {"app": "a.py"}).apps == (f"{folder}/a.py",)
    with pytest.raises(ConfigError, match="app: no such file"):
        for_model("m", {"app": "c.py"})
