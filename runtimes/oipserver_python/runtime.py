"""What the server calls: load a file or module, or take a function or object that is already in memory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from oipserver import CodeUri, Model, ModelConfig, Runtime, UserCode, import_code, require_trust
from oipserver_python import requirements
from oipserver_python.calling import Call
from oipserver_python.described import describe, description_of, is_marked, is_served_class
from oipserver_python.finding import check_target, find_file, find_target
from oipserver_python.loop import LoopThread
from oipserver_python.model import FunctionModel

Method: TypeAlias = Callable[..., Any]


class PythonRuntime(Runtime):
    """Serves Python functions, and objects with a method `infer`.

    Parameters of the model's configuration:
        inputs, outputs: the tensors, where the code does not declare them, or differently.
    """

    def load(self, path: Path, config: ModelConfig) -> Model:
        """The function or class of `file.py`, `file.py:name`, a directory with `model.py`, or `module:name`.

        Raises:
            FileNotFoundError: a directory without a Python file.
            ImportError: a requirement is not installed; the text says what to install.
            ValueError: nothing to serve, a wrong declaration, or the user's code failed.
        """
        uri = CodeUri.parse(config.model_uri)
        if uri.module:
            code = import_code(config.model_uri, Path.cwd())
        else:
            file = find_file(path)
            require_trust(config, file)
            requirements.check_file(file.parent)
            code = import_code(f"{file}:{uri.name}" if uri.name else str(file), file.parent)
        with ExitStack() as held:
            held.callback(code.close)
            requirements.check(getattr(code.module, "requirements", ()), f"{code.place}: requirements")
            target, name = find_target(code)
            return _serve(target, name, config, code, held)

    def wrap(self, model: object, config: ModelConfig) -> Model | None:
        """A Model for a function marked with `@function`, or a class or object with `infer` and outputs."""
        if is_marked(model) or (is_served_class(model) and hasattr(model, "outputs")):
            name = getattr(model, "__name__", type(model).__name__)
            with ExitStack() as held:
                return _serve(model, name, config, None, held)
        return None


def _serve(target: Any, name: str, config: ModelConfig, code: UserCode | None, held: ExitStack) -> Model:
    """The model; what is to be undone at its end, or when this fails, is added to `held`."""
    check_target(target, name)
    requirements.check(description_of(target).requirements, f"{name}.requirements")
    explained = code.explained if code is not None else nullcontext
    with explained(f"'{name}' cannot be made"):
        served = target() if inspect.isclass(target) else target
    loop = LoopThread(config.name)
    held.callback(loop.close)
    is_object = is_served_class(served)
    if is_object and hasattr(served, "load"):
        folder = code.folder if code is not None else Path.cwd()
        with explained(f"load() of '{name}' failed"):
            loop.finish(_offered(served.load, {"path": folder, "config": config}))
    if is_object and hasattr(served, "close"):
        held.callback(lambda: loop.finish(served.close()))
    infer, stream = _methods(served, is_object)
    described = describe(served, name, config.parameters)
    if infer is None and (described.batchable or described.per_row):
        raise ValueError(f"'{name}' is a generator: it answers one request at a time and cannot have a batch")
    return FunctionModel(
        described,
        None if infer is None else Call(infer, name, described.inputs),
        None if stream is None else Call(stream, name, described.inputs),
        loop,
        held.pop_all().close,
    )


def _methods(served: Any, is_object: bool) -> tuple[Method | None, Method | None]:
    """What answers once, and what streams; a generator does the latter whatever its name."""
    infer: Method | None = getattr(served, "infer", None) if is_object else served
    stream: Method | None = getattr(served, "stream", None) if is_object else None
    if infer is not None and (inspect.isgeneratorfunction(infer) or inspect.isasyncgenfunction(infer)):
        return None, stream or infer
    return infer, stream


def _offered(function: Callable[..., Any], offer: Mapping[str, object]) -> Any:
    """What the function returns when it gets what it has parameters for."""
    takes = inspect.signature(function).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values()):
        return function(**offer)
    return function(**{name: value for name, value in offer.items() if name in takes})
