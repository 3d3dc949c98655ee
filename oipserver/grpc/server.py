"""grpcio's threaded server around the servicer: threads, limits, life.

The narrow interface of `GrpcServer` is all that the rest of the process knows of gRPC.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import fields
from typing import Any

import grpc

from oipserver.apps.services import Services
from oipserver.config import GrpcConfig
from oipserver.core.controlplane import ControlPlane
from oipserver.core.dataplane import DataPlane
from oipserver.core.threads import in_daemon_thread
from oipserver.grpc.access import Guarded
from oipserver.grpc.call import Desk
from oipserver.grpc.control import Reported
from oipserver.grpc.credentials import credentials
from oipserver.grpc.custom import Custom
from oipserver.grpc.facts import Facts
from oipserver.grpc.handover import Handover
from oipserver.grpc.inside import Arrivals, find_inside
from oipserver.grpc.patience import Patience
from oipserver.grpc.reply import Replies
from oipserver.grpc.repository import Repository
from oipserver.grpc.servicer import Handler, Infer, Pools, Servicer
from oipserver.grpc.shared_memory import SharedMemory
from oipserver.grpc.standard import Health, Reflection, Streams
from oipserver.grpc.stream import MAX_STREAMS, StreamInfer
from oipserver.grpc.threads import Threads
from oipserver.tls import Certificates

log = logging.getLogger(__name__)

# Callers that do not know yet that the server stops learn it in this time.
LAST_WORDS_SECONDS = 0.25
# What a client without TLS may take to begin HTTP/2.
HANDSHAKE_SECONDS = 10.0


class GrpcServer:
    """Serves the data plane over gRPC.

    Args:
        loop: the event loop on which the data plane lives.
        address: host and port, e.g. "127.0.0.1:8081"; port 0 lets the system choose.
        limits: what a message, a connection and all calls together may use.
        default_timeout_seconds: deadline of a call that brings none.
        services: the user's own, beside the protocol's.
        certificates: for TLS; without them everything is sent plainly.
        control: answers the repository extension, which is not there without it.
    """

    def __init__(
        self,
        plane: DataPlane,
        loop: asyncio.AbstractEventLoop,
        *,
        address: str,
        limits: GrpcConfig = GrpcConfig(),  # noqa: B008  frozen
        default_timeout_seconds: float = 60.0,
        services: Services | None = None,
        certificates: Certificates | None = None,
        control: ControlPlane | None = None,
    ) -> None:
        max_concurrent_rpcs = limits.max_concurrent_rpcs
        self._loop = loop
        self._address = address
        self._certificates = certificates
        self._patience = Patience()
        handover = Handover(loop, plane.gate.by_http)
        inside = find_inside()
        decode, send = Threads(4, "grpc-decode"), Threads(4, "grpc-send")
        desk = Desk(
            plane,
            handover,
            self._patience,
            Replies(loop, send, inside is None, plane.gate.by_http),
            decode,
            max_concurrent_rpcs,
            default_timeout_seconds,
        )
        self._pools = Pools(
            # As many as may be inside: a peer that is slow to send takes none that another one needs.
            infer=Threads(max_concurrent_rpcs, "grpc-infer")
            if inside is None
            else Arrivals("grpc-infer", inside, desk),
            decode=decode,
            send=send,
            instant=Threads(4, "grpc-instant"),
            control=Threads(32, "grpc-control"),
            health=Threads(32, "grpc-health"),
            announce=Threads(4, "grpc-announce"),
            reflection=Threads(4, "grpc-reflection"),
            repository=Threads(4, "grpc-repository"),
            stream=Threads(MAX_STREAMS, "grpc-stream"),
            stream_send=Threads(MAX_STREAMS, "grpc-stream-send"),
        )
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self._streams = Streams()
        self._health = Health(self._patience, self._pools.health, self._pools.announce, self._streams)
        self._inferences = StreamInfer(
            plane,
            handover,
            self._patience,
            self._pools.stream,
            self._pools.stream_send,
            default_timeout_seconds,
        )
        self._custom: Custom | None = None
        if services is not None and services.handlers:
            self._custom = Custom(
                services, plane.gate, handover, self._patience, self._pools.instant, max_concurrent_rpcs
            )
        control_calls = (handover, self._patience, self._pools.control)
        more: dict[str, Handler] = {
            **Facts(plane, *control_calls).handlers(),
            **SharedMemory(plane.regions, *control_calls).handlers(),
        }
        if control is not None:
            pools = (self._pools.control, self._pools.repository)
            more |= Repository(control, loop, handover, self._patience, *pools).handlers()
        ours: list[grpc.GenericRpcHandler[Any, Any]] = [
            Servicer(
                plane,
                handover,
                self._patience,
                Infer(desk, self._pools.infer),
                self._inferences,
                self._pools,
                more,
            ),
            self._health,
            Reflection(self._patience, self._pools.reflection, self._streams),
        ]
        if plane.gate.guard.enabled:
            ours = [Guarded(ours, plane.gate.guard, handover)]
        ours = [Reported(ours, plane.gate, handover)]
        self._server = grpc.server(
            self._pools.control,
            handlers=[*ours, *([self._custom] if self._custom is not None else [])],
            options=[*_options(limits), _handshake(certificates)],
        )

    def start(self) -> int:
        """Bind and serve; the port.  Called on the loop.

        Raises:
            OSError: the address cannot be bound.
        """
        try:
            port = self._add_port()
        except RuntimeError as error:
            raise OSError(f"cannot listen for gRPC on {self._address}: {error}") from error
        self._server.start()
        self._watch = self._loop.create_task(self._patience.watch())
        return port

    def _add_port(self) -> int:
        if self._certificates is None:
            return self._server.add_insecure_port(self._address)
        return self._server.add_secure_port(self._address, credentials(self._certificates))

    def set_serving(self, serving: bool) -> None:
        """What the health service answers; NOT_SERVING until told otherwise, and after `stop` for ever."""
        if not self._stopping:
            self._health.set_serving(serving)

    async def stop(self, grace: float) -> None:
        """Accept nothing more, let calls inside finish for `grace` seconds, then cancel them; once.

        Returns a good second after the grace at the latest, whatever hangs.
        """
        if self._stopping:
            return
        self.set_serving(False)
        self._stopping = True
        # grpc-core cancels a call that has arrived but is not taken yet when it stops.  Whoever calls now
        # is refused by us first, as UNAVAILABLE, which says that nothing was done.
        await asyncio.sleep(min(LAST_WORDS_SECONDS, grace))
        try:
            # The threads end while the loop runs: it answers those that ask it.
            await asyncio.wait_for(in_daemon_thread(lambda: self._end(grace), "grpc-end"), grace + 1.0)
        except TimeoutError:
            log.warning("gRPC threads are still busy; they are left behind")
        if self._watch is not None:
            self._watch.cancel()

    def _end(self, grace: float) -> None:
        """Every step may wait for grpcio, for ever when one of its threads is stuck."""
        stopped = self._server.stop(grace)
        self._inferences.close()
        self._streams.cancel()
        stopped.wait(grace + 0.5)
        pools: list[Threads] = [getattr(self._pools, pool.name) for pool in fields(self._pools)]
        if self._custom is not None:
            pools.append(self._custom.pool)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown()


def _options(limits: GrpcConfig) -> list[tuple[str, int]]:
    age = limits.max_connection_age
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_message_bytes),
        # Between the two a call would be refused by chance.
        ("grpc.max_metadata_size", limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_metadata_bytes),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        # A port in use is an error, not shared with the process that has it.
        ("grpc.so_reuseport", 0),
        # One connection may not take all of what is for everybody: what it has more waits in its client.
        # Few calls are no danger, and a small server is to say itself that it is full.
        ("grpc.max_concurrent_streams", max(64, limits.max_concurrent_rpcs * 7 // 8)),
        # Dead peers are found by pings, idle ones sent away; a client may ping every ten seconds.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_idle_ms", _milliseconds(limits.max_connection_idle)),
        *([("grpc.max_connection_age_ms", _milliseconds(age))] if age is not None else []),
    ]


def _handshake(certificates: Certificates | None) -> tuple[str, int]:
    seconds = HANDSHAKE_SECONDS if certificates is None else certificates.config.handshake_timeout
    return "grpc.server_handshake_timeout_ms", _milliseconds(seconds)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
