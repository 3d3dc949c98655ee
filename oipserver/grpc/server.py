"""grpcio's threaded server around the servicer: threads, limits, life.

The narrow interface of `GrpcServer` is all that the rest of the process knows of gRPC.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import fields

import grpc

from oipserver.apps.services import Services
from oipserver.core.dataplane import DataPlane
from oipserver.core.threads import in_daemon_thread
from oipserver.grpc.call import Desk
from oipserver.grpc.custom import Custom
from oipserver.grpc.handover import Handover
from oipserver.grpc.inside import Arrivals, find_inside
from oipserver.grpc.patience import Patience
from oipserver.grpc.reply import Replies
from oipserver.grpc.servicer import Infer, Pools, Servicer
from oipserver.grpc.standard import Health, Reflection, Streams
from oipserver.grpc.stream import MAX_STREAMS, StreamInfer
from oipserver.grpc.threads import Threads

log = logging.getLogger(__name__)

# Callers that do not know yet that the server stops learn it in this time.
LAST_WORDS_SECONDS = 0.25


class GrpcServer:
    """Serves the data plane over gRPC.

    Args:
        loop: the event loop on which the data plane lives.
        address: host and port, e.g. "127.0.0.1:8081"; port 0 lets the system choose.
        max_message_bytes: limit of a message in each direction, after decompression.
        max_concurrent_rpcs: inferences at the same time; further ones are refused as UNAVAILABLE.
        default_timeout_seconds: deadline of a call that brings none.
        services: the user's own, beside the protocol's.
    """

    def __init__(
        self,
        plane: DataPlane,
        loop: asyncio.AbstractEventLoop,
        *,
        address: str,
        max_message_bytes: int = 64 * 2**20,
        max_concurrent_rpcs: int = 512,
        default_timeout_seconds: float = 60.0,
        services: Services | None = None,
    ) -> None:
        self._loop = loop
        self._address = address
        self._patience = Patience()
        handover = Handover(loop)
        inside = find_inside()
        decode, send = Threads(4, "grpc-decode"), Threads(4, "grpc-send")
        desk = Desk(
            plane,
            handover,
            self._patience,
            Replies(loop, send, waits=inside is None),
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
        self._server = grpc.server(
            self._pools.control,
            handlers=[
                Servicer(
                    plane,
                    handover,
                    self._patience,
                    Infer(desk, self._pools.infer),
                    self._inferences,
                    self._pools,
                ),
                self._health,
                Reflection(self._patience, self._pools.reflection, self._streams),
                *([self._custom] if self._custom is not None else []),
            ],
            options=_options(max_message_bytes, max_concurrent_rpcs),
        )

    def start(self) -> int:
        """Bind and serve; the port.  Called on the loop.

        Raises:
            OSError: the address cannot be bound.
        """
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"cannot listen for gRPC on {self._address}: {error}") from error
        self._server.start()
        self._watch = self._loop.create_task(self._patience.watch())
        return port

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


def _options(max_message_bytes: int, max_concurrent_rpcs: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # A port in use is an error, not shared with the process that has it.
        ("grpc.so_reuseport", 0),
        # One connection may not take all of what is for everybody: what it has more waits in its client.
        # Few calls are no danger, and a small server is to say itself that it is full.
        ("grpc.max_concurrent_streams", max(64, max_concurrent_rpcs * 7 // 8)),
        # Dead peers are found by pings, idle ones sent away; a client may ping every ten seconds.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_idle_ms", 600_000),
    ]
