"""The import law: who may import whom.  It reads the source, so a lazy import counts as well.

runtimes → oipserver (public) → core ← {http, grpc, metrics} ← server ← cli
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

FRONT = {"core", "config", "log", "access", "apps", "tls"}

# Each room (a file or folder of oipserver; "public" is its __init__) and the other rooms that it may import.
LAW = {
    "core": set[str](),
    "apps": {"core"},
    "public": {"core", "apps"},
    "config": {"core"},
    "log": {"core", "config"},
    "requestlog": {"core", "log"},
    "tracing": {"core"},
    "listeners": {"core", "config", "log", "http", "grpc", "requestlog", "tracing"},
    "metrics": {"core"},
    "testing": {"core"},
    "access": {"core", "config", "log"},
    "tls": {"core", "config"},
    "http": FRONT,
    "grpc": FRONT,
    "hooks": {"core"},
    "artifacts": {"core"},
    "sources": {"core", "config"},
    "allocator": set(),
    "descriptors": set(),
    "remains": {"allocator", "core"},
    "native_threads": {"core"},
    "watch": {"core", "config"},
    "server": FRONT
    | {
        "public",
        "allocator",
        "metrics",
        "apps",
        "http",
        "grpc",
        "hooks",
        "artifacts",
        "sources",
        "remains",
        "native_threads",
        "watch",
        "listeners",
        "descriptors",
    },
    "cli": {"public", "core", "config"},
    "__main__": {"cli"},
}

# What may be imported besides, but inside functions alone: `import oipserver` and `--help` stay light.
LAZY = {"public": {"config", "server", "artifacts"}, "cli": {"server", "access", "artifacts", "sources"}}


class Import(NamedTuple):
    """`module` imports `target`; lazy, when not at import time: in a function or under TYPE_CHECKING."""

    module: str
    target: str
    lazy: bool


def imports_of(module: str, source: str, known: set[str]) -> Iterator[Import]:
    """Each import in the source; `from package import module` names the module where it is a known one."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = (f"{base}.{alias.name}" for alias in node.names)
            yield from (Import(module, name if name in known else base, lazy) for name in names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from (found for child in node.body for found in visit(child, True))
            yield from (found for child in node.orelse for found in visit(child, lazy))
        else:
            inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    return visit(ast.parse(source), False)


def read_tree(root: Path) -> tuple[set[str], list[Import]]:
    """The names of all modules below `oipserver/` and `runtimes/`, and their imports."""
    sources = {
        ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
        for base, folder in ((root, "oipserver"), (root / "runtimes", "."))
        for path in (base / folder).rglob("*.py")
    }
    known = set(sources)
    return known, [found for name, text in sources.items() for found in imports_of(name, text, known)]


def room_of(module: str) -> str | None:
    """The room of a module of oipserver; None for any other module."""
    package, *inner = module.split(".")
    if package != "oipserver":
        return None
    return inner[0] if inner else "public"


def objection(found: Import) -> str | None:
    """Why the law forbids this import; None when it does not."""
    room, target = room_of(found.module), room_of(found.target)
    package = found.target.split(".")[0]
    if found.target.startswith("."):
        return "is relative; imports are absolute"
    if room is None:
        if target not in (None, "public"):
            return "a runtime imports only the public `oipserver`"
        if target is None and package.startswith("oipserver_") and package != found.module.split(".")[0]:
            return "a runtime imports no other runtime"
    elif room not in LAW:
        return f"the room {room!r} has no line in the law"
    elif target is None:
        if room == "core" and package not in sys.stdlib_module_names | {"numpy"}:
            return "core imports only the standard library and numpy"
        if package.startswith("oipserver_"):
            return "runtimes are found by their entry point, never imported"
    elif target != room and target not in LAW[room] | (LAZY.get(room, set()) if found.lazy else set()):
        return f"{room} does not import {target}" + ("" if found.lazy else " at import time")
    return None


def cycle_of(known: set[str], imports: list[Import]) -> list[str]:
    """A cycle among the modules as they are imported at start; empty when there is none."""
    graph: dict[str, set[str]] = {}
    for found in imports:
        if found.target in known and not found.lazy:
            graph.setdefault(found.module, set()).add(found.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def violations(root: Path) -> list[str]:
    """Every breach of the law below `root`, one sentence each."""
    known, imports = read_tree(root)
    objections = {found: objection(found) for found in imports}
    breaches = [f"{found.module} → {found.target}: {why}" for found, why in objections.items() if why]
    cycle = cycle_of(known, imports)
    return breaches + ([f"cycle: {' → '.join(cycle)}"] if cycle else [])


def test_the_law_holds() -> None:
    assert violations(ROOT) == []


def test_the_law_reads_the_whole_tree() -> None:
    known, imports = read_tree(ROOT)
    assert {"oipserver", "oipserver.core.errors", "oipserver_sklearn"} <= known
    assert any(found.target == "numpy" for found in imports)


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        ("oipserver/core/a.py", "import orjson", "only the standard library and numpy"),
        ("oipserver/core/a.py", "def f():\n    import grpc", "only the standard library and numpy"),
        ("oipserver/core/a.py", "def f():\n    from oipserver import config", "core does not import config"),
        ("oipserver/core/a.py", "from oipserver import Model", "core does not import public"),
        ("oipserver/core/a.py", "from . import b", "absolute"),
        ("oipserver/http/a.py", "from oipserver.grpc import wire", "http does not import grpc"),
        (
            "oipserver/grpc/a.py",
            "def f():\n    from oipserver.http.wire import x",
            "grpc does not import http",
        ),
        ("oipserver/http/a.py", "import oipserver.server", "http does not import server"),
        ("oipserver/metrics.py", "from oipserver.http import app", "metrics does not import http"),
        ("oipserver/config.py", "import oipserver_sklearn", "found by their entry point"),
        ("oipserver/cli.py", "from oipserver import server", "cli does not import server at import time"),
        ("oipserver/__init__.py", "import oipserver.server", "public does not import server at import time"),
        ("oipserver/attic.py", "import oipserver", "no line in the law"),
        ("runtimes/oipserver_x/__init__.py", "from oipserver.core.model import Model", "only the public"),
        ("runtimes/oipserver_x/__init__.py", "from oipserver import core", "only the public"),
        ("runtimes/oipserver_x/__init__.py", "import oipserver_sklearn", "no other runtime"),
        ("oipserver/http/a.py", "import oipserver.http.b", "cycle: "),
    ],
)
def test_the_law_can_be_broken(tmp_path: Path, path: str, source: str, breach: str) -> None:
    lawful = {
        "oipserver/__init__.py": "",
        "oipserver/config.py": "import yaml\nfrom oipserver.core import a",
        "oipserver/server.py": "from oipserver import config, http",
        "oipserver/core/__init__.py": "",
        "oipserver/core/a.py": "import json, numpy",
        "oipserver/cli.py": "def main():\n    from oipserver import server",
        "oipserver/http/__init__.py": "",
        "oipserver/http/a.py": "if TYPE_CHECKING:\n    from oipserver.http.b import B",
        "oipserver/http/b.py": "import starlette\nfrom oipserver.http import a",
        "runtimes/oipserver_x/__init__.py": "import sklearn, oipserver_x.y\nfrom oipserver import Model",
    }
    plant(tmp_path, lawful)
    assert violations(tmp_path) == []
    plant(tmp_path, {path: source})
    (found,) = violations(tmp_path)
    assert breach in found


def plant(root: Path, sources: dict[str, str]) -> None:
    """Write the files of a small tree."""
    for name, source in sources.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)


WEB = {"starlette", "uvicorn", "uvloop", "httptools", "grpc", "prometheus_client"}
DATA = {"sklearn", "scipy", "pandas", "skops"}
IMPORT_CORE = """
import importlib, pkgutil, oipserver.core
for module in pkgutil.walk_packages(oipserver.core.__path__, "oipserver.core."):
    importlib.import_module(module.name)
"""


@pytest.mark.parametrize(
    ("statements", "heavy"),
    [
        ("import oipserver", WEB | DATA),
        (IMPORT_CORE, WEB | DATA | {"orjson", "msgspec", "yaml", "click"}),
        ("import oipserver.cli", WEB | DATA),
        ("import oipserver.server", {"prometheus_client"} | DATA),
    ],
    ids=["oipserver", "core", "cli", "server"],
)
def test_import_loads_nothing_heavy(statements: str, heavy: set[str]) -> None:
    assert heavy & modules_loaded_by(statements) == set()


def test_loaded_modules_are_seen() -> None:
    assert "uvicorn" in modules_loaded_by("import uvicorn")


def modules_loaded_by(statements: str) -> set[str]:
    """The top-level modules of a fresh interpreter after the statements."""
    script = f"{statements}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}
