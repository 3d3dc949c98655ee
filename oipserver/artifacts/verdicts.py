"""What a name in a pickle means: a part of a model, a tool to run anything, or neither that is known."""

from __future__ import annotations

import re

import numpy as np

from oipserver.artifacts.machine import UNRESOLVED


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HARMLESS, UNKNOWN, DANGEROUS = "harmless", "unknown", "dangerous"

# Top-level packages that run programs, read and write files, reach the network or make code.
_DANGEROUS_PACKAGES = _words(
    """
    _ctypes _io _osx_support _pickle _posixsubprocess _socket _thread aifc aiohttp antigravity ast asyncio
    atexit bdb bz2 cProfile cgi cloudpickle code codeop commands compileall concurrent ctypes dbm dill
    distutils doctest ensurepip fileinput ftplib gc glob gzip http httpx idlelib imaplib imp importlib
    inspect io lib2to3 linecache lzma marshal mmap multiprocessing nntplib nt ntpath operator os pdb pickle
    pickletools pip pipes pkg_resources pkgutil platform popen2 poplib posix posixpath profile pty py_compile
    pydoc requests runpy sched select setuptools shelve shutil signal site smtpd smtplib socket socketserver
    sqlite3 ssl subprocess sys sysconfig tarfile telnetlib tempfile test threading timeit tkinter trace
    turtle types unittest urllib urllib2 urllib3 venv webbrowser wsgiref xmlrpc zipapp zipfile zipimport
    """
)
_DANGEROUS_MODULES = (
    "joblib.memory", "joblib.numpy_pickle_utils", "logging.config", "logging.handlers", "numpy.core.memmap",
    "numpy._core.memmap", "numpy.distutils", "numpy.f2py", "numpy.testing", "pandas.io", "sklearn.datasets",
    "sklearn.externals", "torch.hub", "torch.jit", "torch.package", "torch.serialization",
    "torch.utils.cpp_extension",
)  # fmt: skip
_DANGEROUS_NAMES = {
    "builtins": """
        __build_class__ __import__ apply breakpoint compile delattr dir eval exec execfile exit file filter
        getattr globals help input locals map memoryview open print quit reload setattr super vars
        """,
    "_codecs": "open",
    "codecs": "open",
    "copyreg": "add_extension pickle",
    "functools": "reduce partialmethod",
    "joblib": "Memory Parallel delayed dump load",
    "joblib.numpy_pickle": "dump load NumpyUnpickler",
    "joblib.parallel": "Parallel delayed",
    "logging": "FileHandler basicConfig",
    "numpy": "DataSource fromfile genfromtxt load loadtxt memmap save savetxt savez vectorize",
    "numpy._core._internal": "_ufunc_reconstruct",
    "numpy._core": "_ufunc_reconstruct",
    "numpy.core": "_ufunc_reconstruct",
    "numpy._core.multiarray": "_ufunc_reconstruct fromfile",
    "numpy.core.multiarray": "_ufunc_reconstruct fromfile",
    "pandas": "eval read_pickle",
    "torch": "load save",
    "uuid": "_load_system_functions",
}

_HARMLESS_NAMES = {
    "_codecs": "encode",
    "builtins": """
        bool bytearray bytes complex dict float frozenset int list object range set slice str tuple
        Ellipsis NotImplemented
        """,
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "__newobj__ _reconstructor",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "joblib.numpy_pickle": "NumpyArrayWrapper",
    "numpy": "dtype matrix ndarray",
    "numpy.random": "Generator RandomState",
    "numpy.random._generator": "Generator",
    "numpy.random.mtrand": "RandomState",
    "torch": "Size device",
    "torch._utils": "_rebuild_parameter _rebuild_tensor_v2",
    "uuid": "UUID",
} | {
    f"numpy.{core}.{module}": names
    for core in ("core", "_core")
    for module, names in (("multiarray", "_reconstruct scalar"), ("numeric", "_frombuffer"))
}
_DANGEROUS_BY_MODULE = {module: _words(names) for module, names in _DANGEROUS_NAMES.items()}
_HARMLESS_BY_MODULE = {module: _words(names) for module, names in _HARMLESS_NAMES.items()}

# Modules whose classes only hold what a model has learnt, and functions that put such objects together.
_MODELS = re.compile(r"(sklearn|scipy\.(sparse|interpolate|spatial)|numpy\.(random|dtypes|ma))(\.\w+)*")
_CLASS = re.compile(r"_{0,2}[A-Z]\w*")
_MAKERS = re.compile(
    r"newObj|__pyx_unpickle_\w+|__randomstate_ctor|__generator_ctor|__bit_generator_ctor|[a-z_]+DType"
    r"|(bsr|coo|csc|csr|dia|dok|lil)_(matrix|array)"
)
# Parts of scikit-learn that talk to others, and classes of others that its modules happen to import.
_NOT_MODELS = re.compile(
    r"sklearn\.(callback|conftest|datasets|externals|experimental|tests|utils\.(_repr_html|_test_common|_testing|discovery|"
    r"estimator_checks|parallel))(\.|$)|.*\.(tests|testutils)(\.|$)"
)
_NOT_CLASSES = _words(
    """
    ABC ABCMeta GenericAlias GzipFile Lock Memory MethodType NamedTuple Parallel Path Protocol RLock StringIO
    Thread
    """
)


def verdict(module: str, name: str) -> str:
    """HARMLESS, UNKNOWN or DANGEROUS.

    Harmless are the types of Python, numpy, scipy and scikit-learn that models are made of.  Dangerous is
    what runs programs or code, touches files or the network, or reaches any of these by its name.
    """
    if _is_harmless(module, name):
        return HARMLESS
    return DANGEROUS if _is_dangerous(module, name) else UNKNOWN


def _is_dangerous(module: str, name: str) -> bool:
    if UNRESOLVED in (module, name) or "." in name or name.startswith("__"):
        return True  # a name with dots walks from attribute to attribute, to whatever the module imported
    if module.partition(".")[0] in _DANGEROUS_PACKAGES:
        return True
    if any(module == one or module.startswith(f"{one}.") for one in _DANGEROUS_MODULES):
        return True
    return _is_listed(_DANGEROUS_BY_MODULE, module, name)


def _is_harmless(module: str, name: str) -> bool:
    if _is_listed(_HARMLESS_BY_MODULE, module, name) or (module == "numpy" and _is_number(name)):
        return True
    if not _MODELS.fullmatch(module) or _NOT_MODELS.match(module) or name in _NOT_CLASSES:
        return False
    return bool(_CLASS.fullmatch(name) or _MAKERS.fullmatch(name))


def _is_number(name: str) -> bool:
    """A scalar type of numpy, or a function that works on numbers element by element."""
    found = vars(np).get(name)
    return isinstance(found, np.ufunc) or (isinstance(found, type) and issubclass(found, np.generic))


def _is_listed(listed: dict[str, frozenset[str]], module: str, name: str) -> bool:
    return name in listed.get(module, ())
