"""Which of the things on offer a user's function takes, by the names of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def wanted(function: Callable[..., Any], offered: Collection[str]) -> Mapping[str, object]:
    """The offered names that `function` takes, each with its annotation (None without one).

    Raises:
        TypeError: it needs something that is not on offer; the sentence says what is.
    """
    found: dict[str, object] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in _MANY:
            continue
        if name in offered and parameter.kind is not _POSITIONAL_ONLY:
            empty = parameter.annotation is inspect.Parameter.empty
            found[name] = None if empty else parameter.annotation
        elif parameter.default is inspect.Parameter.empty:
            called = getattr(function, "__name__", type(function).__name__)
            raise TypeError(f"{called}() takes '{name}', expected only {', '.join(offered)}")
    return found
