"""Does what the README of an example says, in a copy of its folder, and compares what it shows.

The README's blocks are its steps, in their order:

- `sh` runs a command; the one that begins with `oipserver` is the server, in its own process;
- `python` runs a program, with tritonclient where it imports that;
- a `json` or `text` block right behind is what the step answers.  `...` stands for anything, and the numbers
  of a `json about` block may differ by a tenth: training is not the same to the last bit on every machine.

Only the ports differ, so that tests can run beside each other and beside a server.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from tests.server_process import QUICK, ServerProcess

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ENVIRONMENTS = ROOT / ".envs"
PATIENCE = 900.0

_BLOCK = re.compile(r"^ *```(\w+)( about)?\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_IN_FOLDER = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"


class Step(NamedTuple):
    """A block of the README, and the answer that it shows.

    Attributes:
        language: "sh" or "python".
        shows: the language of the answer, "json" or "text"; "" when the README shows none.
        tolerance: relative, for the floats of a JSON answer.
    """

    language: str
    code: str
    shows: str = ""
    answer: str = ""
    tolerance: float = 1e-3

    def __str__(self) -> str:
        words = re.findall(r"[a-zA-Z0-9_]+", self.code)
        return "-".join(words[:2] if self.language == "sh" else [self.language])

    @property
    def serves(self) -> bool:
        return self.code.startswith("oipserver ")


def steps_of(readme: str) -> list[Step]:
    """The steps of a README, in order."""
    steps: list[Step] = []
    end = -1
    for block in _BLOCK.finditer(readme):
        language, about, code = block[1], block[2], textwrap.dedent(block[3])
        if language in ("sh", "python"):
            steps.append(Step(language, code))
        elif language in ("json", "text") and not readme[end : block.start()].strip():
            tolerance = 0.1 if about else steps[-1].tolerance
            steps[-1] = steps[-1]._replace(shows=language, answer=code, tolerance=tolerance)
        end = block.end()
    return steps


def preparations(steps: list[Step]) -> list[Step]:
    """What stands before the serve command."""
    return steps[: next(number for number, step in enumerate(steps) if step.serves)]


def requests(steps: list[Step]) -> list[Step]:
    """What stands behind it."""
    return steps[len(preparations(steps)) + 1 :]


def interpreter(name: str) -> Path:
    """The Python of an example: its own environment when it has requirements of its own; skips without it."""
    if not (EXAMPLES / name / "requirements.txt").exists():
        return Path(sys.executable)
    if not (ENVIRONMENTS / name / ".installed").exists():
        pytest.skip(f"the requirements of the example are not installed in .envs/{name}: run 'make test'")
    return ENVIRONMENTS / name / "bin" / "python"


class Walkthrough:
    """An example on its way: prepared and served inside, ended outside.

    Attributes:
        folder: the copy in which the commands run.
        server: the server that the README starts.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.steps = steps_of((EXAMPLES / name / "README.md").read_text())
        self.folder = folder / name
        self._python = interpreter(name)
        self._path = f"{self._python.parent}{os.pathsep}{os.environ['PATH']}"
        self.server: ServerProcess

    def __enter__(self) -> Self:
        shutil.copytree(EXAMPLES / self.name, self.folder)
        for step in preparations(self.steps):
            self.check(step)
        self.server = self._served(next(step for step in self.steps if step.serves)).start()
        try:
            self.server.wait_for(r" ready: ", PATIENCE)
        except BaseException:
            self.server.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = self.server.stop()
        if error is None:
            assert code == 0, self.server.output
            assert "Traceback" not in self.server.output, self.server.output

    def check(self, step: Step) -> None:
        """Run a step; its answer is the one that the README shows.

        Raises:
            AssertionError: another answer, or the step failed.
        """
        said = self.run(step)
        if step.shows:
            unlike = difference(step, said)
            assert not unlike, f"{step.code}\nanswers\n{said}\n{unlike}"

    def run(self, step: Step) -> str:
        """Run a step; what it prints.  What pip would install is there already."""
        if step.code.startswith("pip install"):
            return ""
        if "curl " in step.code and step.language == "sh" and not shutil.which("curl"):
            pytest.skip("curl is not installed")
        command = {
            "sh": ["bash", "-euo", "pipefail", "-c", step.code],
            "python": [self._client(step), "-c", step.code],
        }[step.language]
        done = subprocess.run(
            [self._readdressed(part) for part in command],
            cwd=self.folder,
            env={**os.environ, "PATH": self._path, "PYTHONPATH": "", "NO_PROXY": "*", "no_proxy": "*"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{step.code}\nfails with\n{done.stdout}{done.stderr}"
        return done.stdout

    def _served(self, step: Step) -> ServerProcess:
        _, *flags = shlex.split(step.code.replace("\\\n", ""))
        script = self._python.parent / "oipserver"
        return ServerProcess(program=["-c", _IN_FOLDER, str(self.folder), str(script), *flags, *QUICK])

    def _client(self, step: Step) -> str:
        if "tritonclient" not in step.code:
            return str(self._python)
        python = ENVIRONMENTS / "tritonclient" / "bin" / "python"
        if not python.exists():
            pytest.skip("no environment with tritonclient: run 'make test'")
        return str(python)

    def _readdressed(self, text: str) -> str:
        if "localhost:" not in text:
            return text
        http, grpc = f"127.0.0.1:{self.server.http_port}", f"127.0.0.1:{self.server.grpc_port}"
        return text.replace("localhost:8080", http).replace("localhost:8081", grpc)


def difference(step: Step, said: str) -> str:
    """How the answer differs from the one that the README shows; "" when it does not."""
    if step.shows == "text":
        pattern = re.escape(step.answer.strip()).replace(r"\.\.\.", ".*")
        return "" if re.fullmatch(pattern, said.strip(), re.DOTALL) else f"expected\n{step.answer}"
    return "\n".join(_unlike(json.loads(step.answer), json.loads(said), step.tolerance, "the answer"))


def _unlike(shown: object, said: object, tolerance: float, place: str) -> Iterator[str]:
    """Where a JSON value differs from the one that is shown."""
    if shown == "...":
        return
    if isinstance(shown, dict) and isinstance(said, dict):
        missing = shown.keys() - said.keys() - {"..."}
        surplus = said.keys() - shown.keys() if "..." not in shown else set()
        if missing or surplus:
            yield f"{place}: has not {sorted(missing)}, has also {sorted(surplus)}"
        for key in shown.keys() & said.keys():
            yield from _unlike(shown[key], said[key], tolerance, f"{place}.{key}")
    elif isinstance(shown, list) and isinstance(said, list):
        if shown and shown[-1] == "...":
            shown, said = shown[:-1], said[: len(shown) - 1]
        if len(shown) != len(said):
            yield f"{place}: expected {len(shown)} elements, got {len(said)}"
        for number, (one, other) in enumerate(zip(shown, said, strict=False)):
            yield from _unlike(one, other, tolerance, f"{place}[{number}]")
    elif not _alike(shown, said, tolerance):
        yield f"{place}: expected {shown!r}, got {said!r}"


def _alike(shown: object, said: object, tolerance: float) -> bool:
    if isinstance(shown, float) and isinstance(said, float):
        return math.isclose(shown, said, rel_tol=tolerance, abs_tol=tolerance / 10)
    return type(shown) is type(said) and shown == said
