"""The calls of the shared memory extension; the mirror of `oipserver/http/shared_memory.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import grpc

from oipserver.core.errors import NotFound, Unsupported, printable
from oipserver.core.shared_memory import Region, Regions
from oipserver.grpc import wire
from oipserver.grpc._generated import open_inference_pb2 as pb
from oipserver.grpc.handover import Handover
from oipserver.grpc.patience import Patience
from oipserver.grpc.servicer import NAME_SECONDS, SERVICE, Handler, unary
from oipserver.grpc.threads import Threads


class SharedMemory:
    """The behaviours of the six calls."""

    def __init__(self, regions: Regions, handover: Handover, patience: Patience, pool: Threads) -> None:
        self._regions = regions
        self._handover = handover
        self._patience = patience
        self._pool = pool

    def handlers(self) -> Mapping[str, Handler]:
        """By path."""
        behaviours = {
            "SystemSharedMemoryStatus": self._status,
            "SystemSharedMemoryRegister": self._register,
            "SystemSharedMemoryUnregister": self._unregister,
            "CudaSharedMemoryStatus": self._no_region,
            "CudaSharedMemoryRegister": _no_cuda,
            "CudaSharedMemoryUnregister": _nothing_to_forget,
        }
        return {f"/{SERVICE}/{name}": unary(behave, self._pool) for name, behave in behaviours.items()}

    def _status(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._regions.check_enabled()
        request = self._receive(pb.SystemSharedMemoryStatusRequest, messages, context)
        found = self._handover.ask(partial(self._regions.listed, request.name))
        response = pb.SystemSharedMemoryStatusResponse()
        for region in found:
            entry = response.regions[region.name]
            entry.name, entry.key = region.name, region.key
            entry.offset, entry.byte_size = region.offset, region.size
        return response.SerializeToString()

    def _register(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._regions.check_enabled()
        request = self._receive(pb.SystemSharedMemoryRegisterRequest, messages, context)
        region = Region(request.name, request.key, request.offset, request.byte_size)
        self._handover.ask(partial(self._regions.add, region))
        return pb.SystemSharedMemoryRegisterResponse().SerializeToString()

    def _unregister(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._regions.check_enabled()
        request = self._receive(pb.SystemSharedMemoryUnregisterRequest, messages, context)
        self._handover.ask(partial(self._regions.remove, request.name))
        return pb.SystemSharedMemoryUnregisterResponse().SerializeToString()

    def _no_region(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        request = self._receive(pb.CudaSharedMemoryStatusRequest, messages, context)
        if request.name:
            raise NotFound(f"no CUDA shared memory region '{printable(request.name)}'")
        return pb.CudaSharedMemoryStatusResponse().SerializeToString()

    def _receive(
        self, message: type[wire.M], messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> wire.M:
        return wire.parse(message, self._patience.receive(messages, context, NAME_SECONDS))


def _no_cuda(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    raise Unsupported("CUDA shared memory is not supported")


def _nothing_to_forget(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return pb.CudaSharedMemoryUnregisterResponse().SerializeToString()
