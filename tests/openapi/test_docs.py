"""docs/openapi.md is true: its snippet runs, and the paths that it names are there."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.server_process import ServerProcess

TEXT = (Path(__file__).parents[2] / "docs/openapi.md").read_text()


def test_the_snippet_and_the_paths(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), tmp_path / "iris.joblib")
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    paths = re.findall(r"`(/v2/[^`]*(?:openapi\.json|docs))`", TEXT)
    assert len(paths) > 4
    with ServerProcess("--runtime=sklearn", f"--model-uri={tmp_path}/iris.joblib") as server:
        code = snippet.replace("http://localhost:8080", server.http_url)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == snippet.rpartition("# ")[2].strip()
        for path in paths:
            path = path.format(model="iris", version="1")
            assert urllib.request.urlopen(server.http_url + path, timeout=30).status == 200
