"""A user's Python file, imported so that no two models, and no two versions of one, share a module.

Each import makes a package of its own around the file's folder.  In the code of that folder `import helper`
means the folder's `helper.py`, at once or in a function later, and `sys.path` stays as it is.  A module that
is installed is imported as usual, and shared.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import itertools
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, cast

PREFIX = "oipserver_code_"
# What is imported under another name than it is installed by.
PACKAGES = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dotenv": "python-dotenv",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}

_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*)")
_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_NOT_IN_NAMES = re.compile(r"\W")
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class CodeUri:
    """`file.py:name` or `module:name`; any other URI is a location alone.

    Attributes:
        location: a path or a URI, without the name; "" for a module.
        module: a dotted module name; "" for a location.
        name: what is asked for in there; "" when the URI does not say.
    """

    location: str
    module: str = ""
    name: str = ""

    @classmethod
    def parse(cls, uri: str) -> CodeUri:
        """The parts of `uri`; every text is one."""
        if found := _FILE.fullmatch(uri):
            return cls(found[1], name=found[2])
        if found := _MODULE.fullmatch(uri):
            return cls("", module=found[1], name=found[2])
        return cls(uri)


@dataclass(frozen=True, slots=True)
class UserCode:
    """A module, and what the URI asked for in it.

    Attributes:
        place: the file or module as a message names it.
        folder: where the file is; the working directory for an installed module.
        name: "" when the URI names nothing.
    """

    module: ModuleType
    place: str
    folder: Path
    name: str = ""
    package: _Package | None = None

    def get(self, name: str) -> Any:
        """What the module calls `name`.

        Raises:
            ValueError: there is no such thing; the text says what there is.
        """
        try:
            return getattr(self.module, name)
        except AttributeError:
            known = [each for each in vars(self.module) if not each.startswith("_")]
            near = get_close_matches(name, known, n=1)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"'{self.place}' has no '{name}'{hint}") from None

    def own(self) -> Mapping[str, object]:
        """The public functions and classes that the module defines itself."""
        return {
            name: value
            for name, value in vars(self.module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == self.module.__name__
        }

    def explained(self, doing: str) -> AbstractContextManager[None]:
        """Raises what its block raises as one sentence: "load() of 'Detector' failed: KeyError: 'x'"."""
        return _explained(doing, self.place, self.package)

    def close(self) -> None:
        """Let go of the modules of the file's folder."""
        if self.package is not None:
            self.package.close()


def import_code(uri: str, folder: Path) -> UserCode:
    """The code behind `file.py[:name]`, relative to `folder`, or `module:name`.

    A module is looked for in `folder` first, then among what is installed.

    Raises:
        FileNotFoundError: no such file.
        ImportError: the code needs something that is not installed; the text says what to install.
        ValueError: not a Python file, or it raises when it is imported.
    """
    parts = CodeUri.parse(uri)
    file = code_file(parts, folder)
    if file is None:
        return _installed(parts, folder)
    root = folder if parts.module else file.parent
    if file.suffix != ".py":
        raise ValueError(f"'{file.name}' is not a Python file: expected file.py[:name] or module:name")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file '{file}'")
    package = _Package(root.absolute())
    try:
        with _explained(f"'{file.name}' cannot be imported", file.name, package):
            module = package.module(parts.module) if parts.module else package.file(file.absolute())
    except BaseException:
        package.close()
        raise
    return UserCode(module, file.name, file.absolute().parent, parts.name, package)


def code_file(parts: CodeUri, folder: Path) -> Path | None:
    """The file that `import_code` would run first; None for a module that is not in `folder`.

    Whose code that is depends on whose the folder is.
    """
    if not parts.module:
        return folder / parts.location
    inside = folder / parts.module.replace(".", "/")
    file = inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")
    return file if file.is_file() else None


def _installed(parts: CodeUri, folder: Path) -> UserCode:
    with _explained(f"'{parts.module}' cannot be imported", parts.module, None):
        return UserCode(importlib.import_module(parts.module), parts.module, folder, parts.name)


@contextmanager
def _explained(doing: str, place: str, package: _Package | None) -> Iterator[None]:
    """Whatever a user's code raises, in one sentence that begins with `doing`."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").removeprefix(f"{package.name}." if package else "").partition(".")[0]
        install = PACKAGES.get(missing, missing)
        raise ImportError(
            f"'{place}' needs the Python module '{missing}', which is not installed: pip install {install}"
        ) from error
    except SyntaxError as error:
        raise ValueError(f"{doing}: {error.msg}{_line(error.filename, error.lineno)}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if package and frame.filename.startswith(package.folder)]
        last = (own or frames)[-1]
        where = _line(last.filename, last.lineno)
        raise ValueError(f"{doing}: {type(error).__name__}: {error}{where}") from error


def _line(file: str | None, number: int | None) -> str:
    return f" ({Path(file).name} line {number})" if file else ""


class _Package:
    """One import of one folder: a package without a file, whose modules are the folder's."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{PREFIX}{next(_NUMBERS)}"
        # Functions look `__import__` up in the builtins of their module, whenever they run.
        self.builtins = {**vars(builtins), "__import__": self._import}
        self.folder = str(folder)
        self._known: dict[str, bool] = {}
        self._aliases: dict[str, ModuleType] = {}
        root = ModuleType(self.name)
        root.__path__ = [self.folder]
        sys.modules[self.name] = root
        _PACKAGES[self.name] = self
        if _Finder not in sys.meta_path:
            sys.meta_path.insert(0, cast(Any, _Finder))
        importlib.invalidate_caches()  # the file may be newer than the last look into its folder

    def file(self, file: Path) -> ModuleType:
        """The module of one file, whatever its name."""
        name = f"{self.name}.{_NOT_IN_NAMES.sub('_', file.stem)}"
        spec = importlib.util.spec_from_file_location(name, file, loader=_Loader(self, name, str(file)))
        module = importlib.util.module_from_spec(cast(ModuleSpec, spec))
        sys.modules[name] = module
        cast(Any, spec).loader.exec_module(module)
        return module

    def module(self, name: str) -> ModuleType:
        """The module called `name` in the folder."""
        return importlib.import_module(f"{self.name}.{name}")

    def close(self) -> None:
        """Forget all modules of this import."""
        _PACKAGES.pop(self.name, None)
        for name in [name for name in tuple(sys.modules) if f"{name}.".startswith(f"{self.name}.")]:
            del sys.modules[name]
        for name, module in self._aliases.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

    def alias(self, module: ModuleType) -> None:
        """Let a pickle find the module by its plain name too, unless that is somebody else's."""
        plain = module.__name__.removeprefix(f"{self.name}.")
        if not _importable(plain.partition(".")[0]):
            sys.modules[plain] = self._aliases[plain] = module

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  as Python calls it
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not self._has(top):
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist, 0)
        return module if fromlist else sys.modules[f"{self.name}.{top}"]

    def _has(self, top: str) -> bool:
        """Whether the folder holds this module; the standard library's names are never the folder's."""
        if top not in self._known:
            spec = None
            if top not in sys.stdlib_module_names:
                spec = PathFinder.find_spec(top, [self.folder])
            # A folder without __init__.py may be a package, or just data beside a library of that name.
            self._known[top] = spec is not None and (spec.loader is not None or not _importable(top))
        return self._known[top]


def _importable(top: str) -> bool:
    """Whether a plain `import` finds this module, other than through an alias of ours."""
    present = sys.modules.get(top)
    if present is not None:
        return not str(getattr(present, "__name__", "")).startswith(PREFIX)
    return importlib.util.find_spec(top) is not None


_PACKAGES: dict[str, _Package] = {}


class _Finder:
    """Puts our loader in the place of Python's for the modules of user packages."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = _PACKAGES.get(fullname.partition(".")[0])
        if package is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(package, fullname, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Runs a file with its package's `__import__`, and from its source: bytecode may be a moment older."""

    def __init__(self, package: _Package, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._package = package

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._package.builtins
        self._package.alias(module)
        super().exec_module(module)
