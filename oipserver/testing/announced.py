"""What can be seen of a runtime and its model without calling `predict`; each objection is a sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from oipserver.core.datatypes import Datatype
from oipserver.core.messages import TensorMetadata
from oipserver.core.model import Model, Runtime
from oipserver.core.model_config import ModelConfig
from oipserver.testing.compare import told
from oipserver.testing.subject import Problem


def runtime_problems(runtime: Runtime, config: ModelConfig) -> Iterator[str]:
    """What is wrong with the runtime before it loads.

    Raises:
        Problem: it is no runtime.
    """
    missing = [name for name in ("load", "wrap") if not callable(getattr(runtime, name, None))]
    if missing:
        raise Problem(f"the runtime has no method '{missing[0]}': subclass oipserver.Runtime")
    try:
        wrapped = runtime.wrap(object(), config)
    except Exception as error:
        yield f"wrap raised {told(error)} for an object of another kind, expected None"
    else:
        if wrapped is not None:
            yield "wrap took an object of another kind for its own, expected None"


def model_problems(model: Model, batched: bool) -> Iterator[str]:
    """What is wrong with a model's metadata.

    Raises:
        Problem: it is no model.
    """
    yield from _attribute_problems(model, batched)
    for kind in ("inputs", "named_inputs", "outputs", "optional_outputs"):
        yield from _tensors_problems(kind, getattr(model, kind), batched)
    yield from _twice("outputs", [*model.outputs, *model.optional_outputs])
    yield from _twice("inputs", model.inputs)
    yield from _twice("named_inputs", model.named_inputs)


def _attribute_problems(model: Model, batched: bool) -> Iterator[str]:
    missing = [name for name in (*Model.__annotations__, "predict", "close") if not hasattr(model, name)]
    if missing:
        raise Problem(f"the model has no {', '.join(missing)}: subclass oipserver.Model for the defaults")
    if not isinstance(model.platform, str) or not model.platform:
        yield f"platform: expected some text, got {model.platform!r}"
    if model.batchable and not batched:
        yield "batchable is True, but the model has no batch axis"
    yield from _json_problems("parameters", model.parameters)


def _tensors_problems(kind: str, tensors: Sequence[TensorMetadata], batched: bool) -> Iterator[str]:
    if not tensors and kind in ("inputs", "outputs"):
        yield f"{kind}: none is announced"
    strange = [tensor for tensor in tensors if not isinstance(tensor, TensorMetadata)]
    if strange:
        raise Problem(f"{kind}: expected oipserver.TensorMetadata, got {strange[0]!r}")
    for tensor in tensors:
        yield from (f"{kind}: '{tensor.name}': {sentence}" for sentence in _tensor_problems(tensor, batched))


def _tensor_problems(tensor: TensorMetadata, batched: bool) -> Iterator[str]:
    if not isinstance(tensor.name, str) or not tensor.name or not tensor.name.isprintable():
        yield "name: expected printable text"
    if not isinstance(tensor.datatype, Datatype):
        yield f"datatype: expected one of oipserver's, as oipserver.FP64, got {tensor.datatype!r}"
    if not _is_shape(tensor.shape):
        yield f"shape: expected a tuple of -1 or whole numbers from 1, got {tensor.shape!r}"
    elif batched and tensor.shape[:1] != (-1,):
        yield (
            f"shape: expected -1 as the first axis, which is the batch, got {list(tensor.shape)}; "
            "without a batch say has_batch_axis = False"
        )
    yield from _json_problems("parameters", tensor.parameters)


def _is_shape(shape: object) -> bool:
    return isinstance(shape, tuple) and all(type(size) is int and (size == -1 or size > 0) for size in shape)


def _json_problems(what: str, value: object) -> Iterator[str]:
    try:
        json.dumps(dict(cast(Mapping[str, object], value)), allow_nan=False)
    except (TypeError, ValueError) as error:
        yield f"{what}: shown in the REST metadata, so a mapping of JSON values is expected: {error}"


def _twice(kind: str, tensors: Sequence[TensorMetadata]) -> Iterator[str]:
    for name, times in Counter(tensor.name for tensor in tensors).items():
        if times > 1:
            yield f"{kind}: '{name}' is announced {times} times"
