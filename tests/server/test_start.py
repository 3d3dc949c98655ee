"""What a server of one small model imports: all else would be paid for at each start, in time and memory."""

from __future__ import annotations

import subprocess
import sys

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.server_process import QUICK, ServerProcess

MODULES = "print(*sys.modules)"
# What scientists would do with the file.
MODEL_ALONE = f"""
import sys, joblib
model = joblib.load(sys.argv[1])
for method in (model.predict, model.predict_proba, model.decision_function):
    method([[5.1, 3.5, 1.4, 0.2]])
{MODULES}
"""
SERVER = f"""
import sys, oipserver.cli
code = oipserver.cli.main(sys.argv[1:])
{MODULES}
sys.exit(code)
"""

OURS = {"oipserver", "oipserver_sklearn"}
FRONTS = {"anyio", "httptools", "orjson", "starlette", "uvicorn", "uvloop", "python_multipart"}
FRONTS |= {"google", "grpc", "grpc_health"}
FRONTS |= {"grpc_reflection", "grpc_tools"}  # by grpc, if installed: no more than their names
REST = {"click", "msgspec", "typing_extensions"}


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("start") / "iris.joblib"
    joblib.dump(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)), path)
    return str(path)


@pytest.fixture(scope="module")
def needed(iris: str) -> set[str]:
    """What the model itself imports."""
    done = subprocess.run([sys.executable, "-c", MODEL_ALONE, iris], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def added(iris: str, needed: set[str]) -> set[str]:
    """What the server has imported besides, from its start to its end."""
    flags = ("serve", *QUICK, "--runtime=sklearn", f"--model-uri={iris}", "--trust-pickle")
    with ServerProcess(program=["-c", SERVER, *flags]) as server:
        pass
    assert server.exit_code == 0, server.output
    modules = max(server.output.splitlines(), key=len)  # lines of the log may come behind it
    return set(modules.split()) - needed


def test_nothing_is_imported_that_the_server_does_not_need(added: set[str]) -> None:
    packages = {name.partition(".")[0] for name in added if not name.startswith("_cython_")}
    assert packages - set(sys.stdlib_module_names) <= OURS | FRONTS | REST


def test_no_part_of_a_library_of_the_model_is_imported_besides(added: set[str], needed: set[str]) -> None:
    libraries = {"joblib", "numpy", "pandas", "scipy", "sklearn"}
    assert {name for name in added if name.partition(".")[0] in libraries} == set()


@pytest.mark.parametrize(
    "module",
    ["artifacts.inspection", "config.mlserver", "sources.http", "sources.objects", "sources.tracking"],
)
def test_what_other_servers_need_is_not_imported(added: set[str], module: str) -> None:
    assert f"oipserver.{module}" not in added
