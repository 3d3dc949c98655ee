"""What travels between the rooms: tensors, requests, answers, metadata.  Plain values, no behaviour."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy.typing as npt

from oipserver.core.datatypes import Datatype

if TYPE_CHECKING:
    from oipserver.core.constraint import Constraint

Scalar: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Mapping[str, Scalar]
Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]

NO_PARAMETERS: Parameters = MappingProxyType({})


def no_parameters() -> Parameters:
    """The shared empty mapping, as a dataclass default."""
    return NO_PARAMETERS


@dataclass(slots=True)
class Tensor:
    """A named array.  The shape is the array's own, never stored twice.

    BYTES tensors hold an object array of `bytes`; BF16 tensors hold float32.

    Attributes:
        elsewhere: of an answer: the data was put where `parameters` say, and does not travel.
    """

    name: str
    datatype: Datatype
    data: Array
    parameters: Parameters = field(default_factory=no_parameters)
    elsewhere: bool = False


class Delivery(Protocol):
    """How one output is to be answered that is not to be answered as it is."""

    def bind(self, declared: TensorMetadata, batched: bool, rows: int) -> None:
        """Learn what the model announces of the output, and for how many rows it is asked.

        Raises:
            BadRequest: the output is not fit for it.
        """

    def deliver(self, tensor: Tensor) -> Tensor:
        """What is answered in place of the output.

        Raises:
            BadRequest: it cannot be.
        """
        ...


Deliveries: TypeAlias = Mapping[str, Delivery]


@dataclass(slots=True)
class InferenceRequest:
    """One caller's question, whichever front it came through.

    Attributes:
        model_version: None lets the server choose.
        outputs: names in the order wanted; empty means the model's default outputs.
        parameters: the model's own; what concerns transport was taken out by the front.
        deadline: in the event loop's time (seconds, monotonic).
        priority: from 1, the highest; 0 is the model's default.
        deliveries: by output, where there are any; the front that read them applies them to the answer.
    """

    model_name: str
    inputs: Sequence[Tensor]
    id: str
    deadline: float
    model_version: str | None = None
    outputs: Sequence[str] = ()
    parameters: Parameters = field(default_factory=no_parameters)
    priority: int = 0
    deliveries: Deliveries | None = None


@dataclass(slots=True)
class InferenceResponse:
    """One caller's answer; `outputs` are in the order that was asked for."""

    model_name: str
    model_version: str
    id: str
    outputs: Sequence[Tensor]
    parameters: Parameters = field(default_factory=no_parameters)


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """What a model declares of one tensor.

    Attributes:
        shape: the full shape with the batch axis; -1 is any size.
        allow_nan: False makes the data plane refuse NaN and infinities before they are queued.
        optional: a request may leave this input out.
        constraint: what is declared of the values, enforced in requests and in answers.
        parameters: shown in the REST metadata, e.g. class labels.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    allow_nan: bool = True
    optional: bool = False
    constraint: Constraint | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What `GET /v2/models/{model}` and the ModelMetadata RPC answer."""

    name: str
    versions: Sequence[str]
    platform: str
    inputs: Sequence[TensorMetadata]
    outputs: Sequence[TensorMetadata]
    optional_outputs: Sequence[TensorMetadata] = ()
    named_inputs: Sequence[TensorMetadata] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)


class ModelState(enum.Enum):
    """The life of one loaded version."""

    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"
