"""docs/artifacts.md is true: its snippets and commands run here, in one folder, in their order."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from oipserver import ModelConfig
from oipserver.artifacts.golden_file import read_golden
from oipserver.config import load_config
from oipserver.core.digest import digest
from tests.server_process import ServerProcess

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "artifacts.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


COMMANDS = [line for text in blocks("sh") for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader works: the Python snippets have run, the YAML files are written."""
    folder = tmp_path_factory.mktemp("artifacts")
    subprocess.run([sys.executable, "-c", "\n".join(blocks("python"))], cwd=folder, check=True)
    for text in blocks("yaml"):
        name = re.match(r"# (\S+\.yaml)\n", text)
        assert name
        (folder / name[1]).write_text(text)
    return folder


def test_nothing_stands_in_the_document_that_no_test_runs() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "yaml", "json"}
    assert all(command.startswith(("oipserver inspect ", "oipserver --")) for command in COMMANDS)
    assert len(COMMANDS) == 4


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("oipserver inspect")])
def test_inspect_reports(folder: Path, command: str) -> None:
    arguments = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=True)
    assert "LogisticRegression" in done.stdout


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("oipserver --")])
def test_the_server_serves(folder: Path, command: str) -> None:
    program, *flags = shlex.split(command)
    assert program == "oipserver"
    paths = [str(folder / flag) if (folder / flag).exists() else flag for flag in flags]
    with ServerProcess(*paths) as server:
        server.wait_for("answers its 100 golden rows")


def test_the_pinned_model_is_a_configuration(folder: Path) -> None:
    (model,) = load_config({"config": str(folder / "pinned.yaml")}, {}).models
    assert len(model.sha256) == 64
    assert not model.trust_pickle


def test_the_golden_file_is_one(tmp_path: Path) -> None:
    (text,) = blocks("json")
    (tmp_path / "golden.json").write_text(text)
    (row,) = read_golden(tmp_path, ModelConfig("iris", "sklearn"))
    assert row.rtol == json.loads(text)["rtol"]


def test_the_listing_of_a_directory_is_its_digest(folder: Path) -> None:
    (command,) = re.findall(r"`(find \. .*?sha256sum \| sha256sum)`", DOCUMENT)
    told = subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert told.split()[0] == digest(folder)
