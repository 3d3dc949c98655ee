"""How a loaded model is served, as Triton's model configuration extension tells it.

Triton, "Model Configuration Extension": clients read from it whether a model batches, and which dimension of
a tensor is the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oipserver.core.datatypes import BYTES, Datatype
from oipserver.core.messages import TensorMetadata
from oipserver.core.registry import Version


@dataclass(frozen=True, slots=True)
class ServedTensor:
    """A tensor in Triton's words.

    Attributes:
        data_type: e.g. "TYPE_FP32".
        dims: the shape, without the batch axis where the model has one; -1 is any size.
        optional: a request may leave this input out.
    """

    name: str
    data_type: str
    dims: Sequence[int]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ServedConfig:
    """What `GET /v2/models/{model}/config` and the ModelConfig RPC answer.

    Attributes:
        backend: the runtime that loaded the model.
        max_batch_size: rows per call of the model; 0 where its tensors have no batch axis.
        inputs, outputs: everything that a request may bring and ask for.
        instances: calls of the model at the same time.
        batching: requests are joined into batches.
        max_queue_delay_microseconds: longest wait for company; 0 follows the measured batch time.
    """

    name: str
    platform: str
    backend: str
    max_batch_size: int
    inputs: Sequence[ServedTensor]
    outputs: Sequence[ServedTensor]
    instances: int
    batching: bool
    max_queue_delay_microseconds: int


def served_config(version: Version) -> ServedConfig:
    """The configuration of a version that serves."""
    config, contract = version.config, version.contract
    model, skip = contract.model, int(contract.batched)
    return ServedConfig(
        name=config.name,
        platform=model.platform,
        backend=config.runtime,
        max_batch_size=config.max_batch_size if contract.batched else 0,
        inputs=[_tensor(each, skip) for each in model.inputs],
        outputs=[_tensor(each, skip) for each in (*model.outputs, *model.optional_outputs)],
        instances=config.instance_group.count,
        batching=contract.batched and model.batchable,
        max_queue_delay_microseconds=config.dynamic_batching.max_queue_delay_microseconds or 0,
    )


def _tensor(declared: TensorMetadata, skip: int) -> ServedTensor:
    return ServedTensor(
        declared.name, _data_type(declared.datatype), declared.shape[skip:], declared.optional
    )


def _data_type(datatype: Datatype) -> str:
    return f"TYPE_{'STRING' if datatype is BYTES else datatype.name}"
