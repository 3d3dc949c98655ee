"""How a request's arrays become the arguments of a user's function: decided once, from its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oipserver import Parameters, TensorMetadata

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_ALL = "inputs"
_PARAMETERS = "parameters"


class Call:
    """A user's function that takes the declared inputs.

    Its parameters are the inputs by name (those without a name that Python allows come in `**kwargs`), or one
    parameter `inputs` for a dict of all, or, for a single input, one parameter of any name.  A further one,
    `parameters`, gets the parameters of the request.

    Raises:
        ValueError: the signature does not fit the declared inputs.
    """

    def __init__(self, function: Callable[..., Any], name: str, inputs: Sequence[TensorMetadata]) -> None:
        self.function = function
        declared = [tensor.name for tensor in inputs]
        takes = inspect.signature(function).parameters
        named = {key: one for key, one in takes.items() if one.kind in _NAMED}
        self.wants_parameters = _PARAMETERS in named and _PARAMETERS not in declared
        free = [key for key in named if key not in declared]
        if self.wants_parameters:
            free.remove(_PARAMETERS)
        self._as_dict = _ALL in free
        self._rename: Mapping[str, str] = {}
        open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values())
        missing = [] if self._as_dict or open_ended else [key for key in declared if key not in named]
        if missing and len(declared) == 1 and free:
            self._rename, missing = {declared[0]: free[0]}, []
        taken = {*declared, *self._rename.values(), _PARAMETERS, *([_ALL] if self._as_dict else [])}
        strange = [key for key in named if key not in taken and _has_no_default(named[key])]
        strange += [key for key, one in takes.items() if one.kind is inspect.Parameter.POSITIONAL_ONLY]
        if missing or strange:
            raise ValueError(
                f"'{name}' takes ({', '.join(takes)}), its declared inputs are {', '.join(declared)}: "
                "give it parameters of these names, or one called inputs for a dict of them"
            )
        for tensor in inputs:
            key = self._rename.get(tensor.name, tensor.name)
            if tensor.optional and not self._as_dict and key in named and _has_no_default(named[key]):
                raise ValueError(f"'{name}': input '{tensor.name}' is optional, so '{key}' needs a default")

    def __call__(self, arrays: Mapping[str, Any], parameters: Parameters) -> Any:
        """What the function returns; an optional input that was left out is not passed."""
        more: dict[str, Any] = {_PARAMETERS: dict(parameters)} if self.wants_parameters else {}
        if self._as_dict:
            return self.function(**{_ALL: dict(arrays)}, **more)
        return self.function(**{self._rename.get(key, key): arrays[key] for key in arrays}, **more)


def _has_no_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty
