"""The request parameters that the protocol reserves, read once for both fronts.

Triton, "Schedule Policy", "Sequence" and "Binary Tensor Data" extensions: these speak to the server, not to
the model, so they are checked, taken out and never reach a batch key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oipserver.core.errors import BadRequest, printable
from oipserver.core.messages import NO_PARAMETERS, Parameters, no_parameters

_SCALARS = (bool, int, float, str)
# What a stateless model does with it: nothing.  The types are checked all the same.
_IGNORED: Mapping[str, tuple[type, ...]] = {
    "sequence_id": (int, str),
    "sequence_start": (bool,),
    "sequence_end": (bool,),
}
# Triton, "Shared Memory" extension: of tensors.
SHARED_MEMORY = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
_TENSOR_EXTENSIONS = (*SHARED_MEMORY, "classification")


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a request's parameters say to the server, and the rest.

    Attributes:
        timeout: seconds that the caller gives the server, or None.
        binary_data_output: outputs travel raw unless one says otherwise.
        priority: from 1, the highest; 0 is the model's default.
        rest: parameters for the model.
    """

    timeout: float | None = None
    binary_data_output: bool = False
    rest: Parameters = field(default_factory=no_parameters)
    priority: int = 0


NOTHING_RESERVED = Reserved()


def read_parameters(parameters: Mapping[str, Any]) -> Reserved:
    """Split request parameters; a null value is as good as none.

    Raises:
        BadRequest: a value is no scalar, or a reserved parameter has the wrong type.
    """
    timeout: float | None = None
    binary = False
    priority = 0
    rest: dict[str, Any] = {}
    for name, value in parameters.items():
        if value is None:
            continue
        if type(value) not in _SCALARS:
            raise BadRequest(f"parameter '{printable(name)}' must be a string, number or boolean")
        if name == "timeout":
            microseconds = _typed(name, value, (int,))
            timeout = microseconds / 1e6 if microseconds else None
        elif name == "binary_data_output":
            binary = _typed(name, value, (bool,))
        elif name == "priority":
            priority = _typed(name, value, (int,))
        elif name in _IGNORED:
            _typed(name, value, _IGNORED[name])
        elif name.startswith("triton_"):
            raise BadRequest(f"parameter '{printable(name)}': names that begin with triton_ are reserved")
        else:
            rest[name] = value
    return Reserved(timeout, binary, rest or NO_PARAMETERS, priority)


def check_tensor_parameters(parameters: Mapping[str, Any], tensor: str) -> bool:
    """Whether shared memory or classification is asked for; a null value is as good as none.

    Raises:
        BadRequest: a value is no scalar.
    """
    extended = False
    for name, value in parameters.items():
        if value is None:
            continue
        if name in _TENSOR_EXTENSIONS:
            extended = True
        if type(value) not in _SCALARS:
            raise BadRequest(
                f"tensor '{printable(tensor)}': parameter '{printable(name)}' must be a string, a number "
                "or a boolean"
            )
    return extended


def _typed(name: str, value: Any, types: tuple[type, ...]) -> Any:
    if type(value) not in types or (type(value) is int and value < 0):
        expected = " or ".join("unsigned integer" if kind is int else _WORDS[kind] for kind in types)
        raise BadRequest(f"parameter '{name}' must be {expected}, got {printable(value)!r}")
    return value


_WORDS: Mapping[type, str] = {bool: "true or false", str: "a string"}
