"""What is called harmless must be so: a list that is too kind is worse than none."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import scipy  # type: ignore[import-untyped]
import sklearn

from oipserver.artifacts.machine import UNRESOLVED
from oipserver.artifacts.verdicts import DANGEROUS, HARMLESS, UNKNOWN, verdict

TOOLS = """
    os.system posix.system nt.system subprocess.Popen builtins.eval builtins.exec builtins.compile
    builtins.getattr builtins.__import__ builtins.open pickle.loads _pickle.loads importlib.import_module
    runpy.run_path shutil.rmtree socket.socket urllib.request.urlopen webbrowser.open pty.spawn ctypes.CDLL
    sys.exit code.interact operator.attrgetter functools.reduce types.FunctionType marshal.loads
    cloudpickle.cloudpickle._make_function numpy.load numpy.memmap numpy.f2py.compile joblib.load torch.load
    pandas.read_pickle sklearn.datasets.fetch_openml copyreg.add_extension multiprocessing.Process
    numpy._core._internal._ufunc_reconstruct sklearn.externals.joblib.load
    """


@pytest.mark.parametrize("name", TOOLS.split())
def test_dangerous(name: str) -> None:
    module, _, function = name.rpartition(".")
    assert verdict(module, function) == DANGEROUS


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("sklearn.base", "BaseEstimator.__init__"),
        ("sklearn.linear_model", "os.system"),
        ("builtins", "__build_class__"),
        ("whatever", "__globals__"),
        (UNRESOLVED, "thing"),
        ("sklearn.base", UNRESOLVED),
    ],
)
def test_names_that_walk_or_are_computed_are_dangerous(module: str, name: str) -> None:
    assert verdict(module, name) == DANGEROUS


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "ndarray"),
        ("numpy", "float64"),
        ("numpy", "log1p"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.random._pickle", "__randomstate_ctor"),
        ("sklearn.tree._tree", "Tree"),
        ("sklearn.neighbors._kd_tree", "newObj"),
        ("scipy.sparse._csr", "csr_matrix"),
        ("collections", "OrderedDict"),
        ("builtins", "set"),
    ],
)
def test_harmless(module: str, name: str) -> None:
    assert verdict(module, name) == HARMLESS


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("mypackage.models", "Model"),
        ("sklearn.utils.parallel", "Parallel"),
        ("sklearn.pipeline", "make_pipeline"),
        ("sklearnish.base", "BaseEstimator"),
        ("numpy", "apply_along_axis"),
        ("__main__", "Transformer"),
        ("", ""),
    ],
)
def test_unknown(module: str, name: str) -> None:
    assert verdict(module, name) == UNKNOWN


def modules(package: ModuleType) -> Iterator[ModuleType]:
    """Every module of a package that can be imported here, but for its tests."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _: None):
        if ".tests" in found.name or "conftest" in found.name or ".externals" in found.name:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield importlib.import_module(found.name)
            except (ImportError, AttributeError):
                continue


# Abstract types, enumerations of types, and what only holds values.
HARMLESS_HOMES = (
    "sklearn.",
    "numpy",
    "scipy.",
    "builtins",
    "collections",
    "numbers",
    "typing",
    "enum",
    "abc",
)
HARMLESS_STRANGERS = {
    "inspect.Parameter",
    "threadpoolctl.ThreadpoolController",
    # Modules of C that do not say whose they are.
    "_cyutility.Enum",
    "View.MemoryView.__pyx_unpickle_Enum",
    "_propack.PropackError",
}


@pytest.mark.parametrize(
    "package", [sklearn, scipy.sparse, scipy.spatial, scipy.interpolate, np.random, np.ma],
    ids=lambda package: package.__name__,
)  # fmt: skip
def test_no_harmless_name_leads_elsewhere(package: ModuleType) -> None:
    """Modules import what they use: a class of somebody else may be reached by the name of a harmless one."""
    strangers = {
        f"{home}.{name}": module.__name__
        for module in modules(package)
        for name, value in vars(module).items()
        if verdict(module.__name__, name) == HARMLESS and (callable(value) or inspect.ismodule(value))
        for home in [str(getattr(value, "__module__", None) or getattr(value, "__name__", ""))]
        if not home.startswith(HARMLESS_HOMES)
    }
    assert strangers.keys() - HARMLESS_STRANGERS == set(), strangers
