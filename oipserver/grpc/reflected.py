"""The answers of grpc.reflection.v1alpha.ServerReflection, over the private pool in which the messages live.

Imported with the first question, in the thread that answers it: what is needed besides takes a megabyte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from oipserver.grpc import wire
from oipserver.grpc._generated.open_inference_pb2 import DESCRIPTOR


def answers(
    services: Sequence[str], requests: Iterator[bytes], context: grpc.ServicerContext
) -> Iterator[bytes]:
    """One for each request, as they come.

    Args:
        services: by their full names.

    Raises:
        BadRequest: a request is no message.
        grpc.RpcError: the call is over.
    """
    for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        DESCRIPTOR.pool.AddSerializedFile(file.serialized_pb)  # doing it again changes nothing
    servicer: Any = reflection.ReflectionServicer(services, DESCRIPTOR.pool)
    questions = (wire.parse(reflection_pb2.ServerReflectionRequest, request) for request in requests)
    for answer in servicer.ServerReflectionInfo(questions, context):  # the stubs do not know that it yields
        yield answer.SerializeToString()
