"""Which file of a folder is meant, and which function or class of a file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oipserver import UserCode
from oipserver_python.described import is_marked, is_served_class

_NOT_MODELS = ("_", "test_", "conftest", "setup")


def find_file(path: Path) -> Path:
    """The Python file itself, or in a directory `model.py`, else its only one.

    Raises:
        FileNotFoundError: a directory without a Python file.
        ValueError: several, or no Python file at all.
    """
    if not path.is_dir():
        if path.suffix != ".py":
            raise ValueError(f"'{path.name}' is not a Python file: give file.py[:name] or module:function")
        return path
    files = sorted(file for file in path.glob("*.py") if not file.name.startswith(_NOT_MODELS))
    chosen = [file for file in files if file.name == "model.py"] or files
    if not chosen:
        raise FileNotFoundError(f"directory '{path}' holds no Python file: expected model.py")
    if len(chosen) > 1:
        listed = ", ".join(file.name for file in chosen)
        raise ValueError(
            f"directory '{path}' holds several Python files: {listed}; call one of them model.py"
        )
    return chosen[0]


def find_target(code: UserCode) -> tuple[Any, str]:
    """The function or class that the URI names, else the only candidate of the file; and its name.

    A candidate is what `@function` marks and a class with `infer` or `stream`; without any, a plain function.

    Raises:
        ValueError: none, or several.
    """
    if code.name:
        return code.get(code.name), code.name
    own = code.own()
    found = {name: value for name, value in own.items() if is_marked(value) or _is_class(value)}
    found = found or {name: value for name, value in own.items() if inspect.isfunction(value)}
    if not found:
        raise ValueError(f"'{code.place}' has no function and no class with a method infer")
    if len(found) > 1:
        raise ValueError(_several(code.place, found))
    ((name, target),) = found.items()
    return target, name


def check_target(target: Any, name: str) -> None:
    """Return when it can be served, or made and then served.

    Raises:
        ValueError: nothing that can be called, or a class that wants arguments.
    """
    if is_served_class(target):
        if inspect.isclass(target) and not _takes_nothing(target):
            raise ValueError(f"class '{name}' takes arguments; load(self, path, config) gets what there is")
    elif inspect.isclass(target) or not callable(target):
        kind = "class" if inspect.isclass(target) else type(target).__name__
        raise ValueError(f"'{name}' is a {kind} without a method infer: expected that, or a function")


def _takes_nothing(target: type) -> bool:
    try:
        inspect.signature(target).bind()
    except TypeError:
        return False
    return True


def _is_class(value: object) -> bool:
    return inspect.isclass(value) and is_served_class(value)


def _several(place: str, found: Mapping[str, object]) -> str:
    return f"'{place}' has several candidates: {', '.join(found)}; name one: {place}:{next(iter(found))}"
