"""ModelConfig and ModelStatistics: Triton, "Model Configuration" and "Statistics" extensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import grpc

from oipserver.core.admission import Caller, Right
from oipserver.core.dataplane import DataPlane
from oipserver.core.model_config import ModelConfig
from oipserver.core.served_config import ServedConfig, served_config
from oipserver.core.statistics import Duration, VersionStatistics, sections
from oipserver.grpc import wire
from oipserver.grpc._generated import open_inference_pb2 as pb
from oipserver.grpc.access import asking
from oipserver.grpc.handover import Handover
from oipserver.grpc.patience import Patience
from oipserver.grpc.servicer import NAME_SECONDS, SERVICE, Handler, unary
from oipserver.grpc.threads import Threads


class Facts:
    """The behaviours of the two calls."""

    def __init__(self, plane: DataPlane, handover: Handover, patience: Patience, pool: Threads) -> None:
        self._plane = plane
        self._handover = handover
        self._patience = patience
        self._pool = pool

    def handlers(self) -> Mapping[str, Handler]:
        """By path."""
        return {
            f"/{SERVICE}/ModelConfig": unary(self._config, self._pool),
            f"/{SERVICE}/ModelStatistics": unary(self._statistics, self._pool),
        }

    def _config(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        body = self._patience.receive(messages, context, NAME_SECONDS)
        request = wire.parse(pb.ModelConfigRequest, body)
        asking().permit(Right.DESCRIBE, request.name)
        version = self._handover.ask(partial(self._plane.serving, request.name, request.version or None))
        return pb.ModelConfigResponse(config=_config(served_config(version))).SerializeToString()

    def _statistics(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        body = self._patience.receive(messages, context, NAME_SECONDS)
        request = wire.parse(pb.ModelStatisticsRequest, body)
        caller = asking()
        caller.permit(Right.READ, request.name)
        ask = partial(self._counted, caller, request.name or None, request.version or None)
        return self._handover.ask(ask)

    def _counted(self, caller: Caller, name: str | None, version: str | None) -> bytes:
        """On the loop, where the numbers change."""
        every = self._plane.statistics(name, version)
        found = [one for one in every if caller.may(Right.READ, one[0].name)]
        return pb.ModelStatisticsResponse(model_stats=[_numbers(*one) for one in found]).SerializeToString()


def _config(config: ServedConfig) -> pb.ModelConfig:
    group = pb.ModelInstanceGroup(
        name=config.name, kind=pb.ModelInstanceGroup.KIND_CPU, count=config.instances
    )
    message = pb.ModelConfig(
        name=config.name,
        platform=config.platform,
        backend=config.backend,
        max_batch_size=config.max_batch_size,
        instance_group=[group],
    )
    for tensor in config.inputs:
        message.input.add(
            name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, optional=tensor.optional
        )
    for tensor in config.outputs:
        message.output.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    if config.batching:
        message.dynamic_batching.max_queue_delay_microseconds = config.max_queue_delay_microseconds
        message.dynamic_batching.SetInParent()
    return message


def _numbers(config: ModelConfig, numbers: VersionStatistics) -> pb.ModelStatistics:
    message = pb.ModelStatistics(
        name=config.name,
        version=config.version,
        last_inference=numbers.last_inference,
        inference_count=numbers.inference_count,
        execution_count=numbers.execution_count,
        inference_stats=pb.InferStatistics(
            **{name: _duration(one) for name, one in sections(numbers).items()}
        ),
    )
    for rows, seconds in sorted(numbers.batches.items()):
        message.batch_stats.add(
            batch_size=rows,
            compute_input=_duration(Duration()),
            compute_infer=_duration(seconds),
            compute_output=_duration(Duration()),
        )
    return message


def _duration(one: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=one.count, ns=one.nanoseconds)
