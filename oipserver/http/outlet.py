"""The writing side of a connection: how answers leave, how it ends, and a peer that does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from oipserver.http.alarm import Alarm
from oipserver.http.flow import Flow
from oipserver.http.limits import Connections
from oipserver.http.trickle import Trickle


class Inlet(Protocol):
    """What the writing side asks the reading side."""

    def expects_more(self) -> bool:
        """Whether bytes of a request, or whole requests, may still be on their way or in line."""

    def rest_is_small(self) -> bool:
        """Whether the body that is being read may be read to its end for the connection's sake."""


class Outlet(asyncio.Transport):
    """The transport that a cycle sees: it writes, and it closes so that the answer arrives.

    A socket closed while the peer still sends is reset by the kernel, and a reset destroys what the peer
    has not read yet (RFC 9112, 9.6).  So where more may come, `close` closes our direction only, reads on
    and drops, and ends when the peer does, or after `linger_timeout` or `linger_bytes`.

    Attributes:
        inlet: the reading side.
        shared: what all connections share.
        lingering: our direction is closed; whatever comes is to be dropped.
        on_lost: called once if the caller leaves before its answer is complete, so that an application
            that waits for something else needs no task that waits in `receive`.  The application finds
            this object as `scope["extensions"]["oipserver.connection"]`, and sets None when it has waited.
    """

    __slots__ = (
        "_alarm",
        "_dropped",
        "_flow",
        "_limits",
        "_loop",
        "_taken_by",
        "_transport",
        "_trickle",
        "_untaken",
        "inlet",
        "lingering",
        "on_lost",
        "shared",
        "write",
    )

    def __init__(
        self, inlet: Inlet, transport: asyncio.Transport, flow: Flow, alarm: Alarm, shared: Connections
    ) -> None:
        super().__init__()
        self.lingering = False
        self.on_lost: Callable[[], None] | None = None
        encrypted = transport.get_extra_info("sslcontext") is not None
        self._trickle = Trickle(transport, flow) if encrypted else None
        if not encrypted:
            # An answer goes out when it is written, and not when the loop has read what else there is.
            transport.set_write_buffer_limits(high=0)
        # Bound, for it runs twice per answer.
        self.write = (self._trickle or transport).write  # type: ignore[method-assign]
        self.inlet = inlet
        self._transport = transport
        self._flow = flow
        self._alarm = alarm
        self.shared = shared
        self._limits = shared.limits
        self._loop = asyncio.get_running_loop()
        self._dropped = 0
        self._untaken = 0
        self._taken_by: float | None = None

    def is_closing(self) -> bool:
        """Whether no answer can be written any more."""
        return self.lingering or self._transport.is_closing()

    def close(self) -> None:
        """End the connection when everything written is with the peer."""
        if self.is_closing():
            return
        if self._trickle is not None and self._trickle.waiting:
            self.lingering = True
            self.end()
            self._flow.release()
        elif self.inlet.expects_more() and self._transport.can_write_eof():
            self.lingering = True
            self._transport.write_eof()
            self._flow.release()
        else:
            self._transport.close()
        self._taken_by = None
        self._alarm.set(self._loop.time() + self._limits.linger_timeout)

    def end(self) -> None:
        """Close in both directions; what was written still goes out."""
        if self._trickle is not None and self._trickle.waiting:
            self._trickle.when_empty = self._transport.close
        else:
            self._transport.close()

    def go_on(self) -> None:
        """The peer has caught up with what was passed on to it."""
        if self._trickle is not None:
            self._trickle.go_on()

    def drop(self, size: int) -> None:
        """Count `size` bytes that came after the end; too many end the connection the hard way."""
        self._dropped += size
        if self._dropped > self._limits.linger_bytes:
            self._transport.abort()

    def has_untaken(self) -> bool:
        """Whether bytes wait for the peer."""
        return self._waiting() > 0

    def watch(self) -> None:
        """Begin a window in which the peer has to take its share."""
        now = self._loop.time()
        self._untaken = self._waiting()
        self._taken_by = now + self._limits.write_timeout
        self._alarm.set(min(self._taken_by, now + self._limits.linger_timeout))

    def check(self) -> None:
        """The alarm rang while bytes wait: cut off a peer that did not take its share.

        A window left over from an earlier answer does no harm: `pause_writing` opens a new one, and the
        idle connection that is checked here has had its whole `keep_alive_timeout` to read.
        """
        now = self._loop.time()
        if self._taken_by is None:
            self.watch()
        elif now < self._taken_by:
            self._alarm.set(min(self._taken_by, now + self._limits.linger_timeout))
        elif self._took() < self._limits.write_timeout * self._limits.min_body_rate:
            self._transport.abort()
        else:
            self.watch()

    def _took(self) -> int:
        return self._untaken - self._waiting()

    def _waiting(self) -> int:
        held = 0 if self._trickle is None else self._trickle.waiting
        return held + self._transport.get_write_buffer_size()
