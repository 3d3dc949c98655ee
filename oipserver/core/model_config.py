"""How one model is to be served, in Triton's words.  `oipserver.config` fills and checks these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class DynamicBatching:
    """When requests are merged, and how many may wait.

    Attributes:
        max_queue_delay_microseconds: longest wait for company; None follows the measured batch time.
        max_queue_size: requests that may wait for this model; one more is refused.
        max_queue_bytes: tensor bytes that may wait for this model.
        retry_failed: run a failed batch again by halves, so that a bad request fails alone.
        priority_levels: how many priorities a request may ask for, 1 being the highest; 0 for no such thing.
        default_priority_level: of a request that asks for none of them; 0 is the lowest.
    """

    max_queue_delay_microseconds: int | None = None
    max_queue_size: int = 2048
    max_queue_bytes: int = 512 * 2**20
    retry_failed: bool = True
    priority_levels: int = 0
    default_priority_level: int = 0


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """Where a model runs.

    Attributes:
        count: threads that may call `predict` at the same time.
        placement: "auto" follows the measured cost, "inline" is the event loop, "thread" never is.
    """

    count: int = 1
    placement: Literal["auto", "inline", "thread"] = "auto"


@dataclass(frozen=True, slots=True)
class Slo:
    """What is promised to callers, for the metrics to watch; nothing by default.

    Attributes:
        latency: seconds within which a good answer is there.
        target: share of the answers that shall be good so.
        availability: share of the requests that the server shall not fail.
    """

    latency: float | None = None
    target: float = 0.99
    availability: float | None = None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model.

    Attributes:
        model_uri: where the model is: a path, or a URI that is fetched before it is loaded.
        sha256: what the fetched file must have, in hexadecimal; "" for no pin.
        trust_pickle: files that run code when they are loaded (pickle, joblib, cloudpickle) may be loaded.
            The server sets it for what the user named on this machine and for what matches its pin.
        runtime: the entry-point name of the runtime that loads it.
        execution: "native" is the model's own library, "compiled" another engine as far as it was found to
            answer the same, "auto" that where it is faster as well.  For runtimes that can compile.
        execution_tolerance: by how much of itself a number may differ then.
        max_batch_size: rows per call of `predict`; 0 means that the model has no batch axis.
        parameters: handed to the runtime as they are.
    """

    name: str
    runtime: str
    model_uri: str = ""
    version: str = "1"
    sha256: str = ""
    trust_pickle: bool = False
    execution: Literal["native", "compiled", "auto"] = "native"
    execution_tolerance: float = 1e-6
    max_batch_size: int = 1024
    dynamic_batching: DynamicBatching = field(default_factory=DynamicBatching)
    instance_group: InstanceGroup = field(default_factory=InstanceGroup)
    slo: Slo = field(default_factory=Slo)
    parameters: Mapping[str, object] = field(default_factory=dict)
