"""System shared memory: tensors that stand in a region of the client's, not in the request or its answer.

Triton, "Shared Memory Extension", for POSIX shared memory: a client makes a shared memory object, registers
a part of it under a name, and says in a request where in it an input stands and where an output is to go.

Why nothing is mapped: whoever made the object may shorten it at any time, and a process that touches a
mapping behind the end of its object is killed by SIGBUS.  A look at the size before does not help, for it
may change in between.  So tensors are copied with `preadv` and `pwrite`, which just read less, and what a
client writes into an input while it is being computed changes nothing.  The copy costs what it costs to take
the same bytes from a socket, or less.

Whoever may register can make this process read and write every shared memory object that its user may:
hence it is off by default, and an administrator's right where keys are configured.
"""

from __future__ import annotations

import os
import re
import stat
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oipserver.core.codec import encode_raw
from oipserver.core.errors import AlreadyExists, BadRequest, NotFound, Unsupported, printable
from oipserver.core.messages import Parameters, Tensor, TensorMetadata
from oipserver.core.reserved import SHARED_MEMORY

# Where Linux shows what `shm_open` makes.
FOLDER = "/dev/shm"  # noqa: S108
# Each holds a descriptor.
MAX_REGIONS = 256
MAX_NAME = 256

# As shm_open takes it: one name, with or without a slash in front.
_KEY = re.compile(r"/?([^/\0]{1,255})\Z")
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a region: bytes from the region's start, and how many."""

    region: str
    offset: int
    size: int


def read_place(parameters: Mapping[str, Any], tensor: str, regions: Regions) -> Place | None:
    """Where a tensor's parameters say that it stands or goes; None when they say nothing.

    Raises:
        Unsupported: shared memory is off.
        BadRequest: a parameter is missing or has the wrong type.
    """
    given = [name for name in SHARED_MEMORY if parameters.get(name) is not None]
    if not given:
        return None
    if not regions.enabled:
        raise Unsupported(
            f"tensor '{printable(tensor)}': parameter '{given[0]}' is not supported: shared memory is off"
        )
    region, offset, size = (parameters.get(name) for name in SHARED_MEMORY)
    if type(region) is not str:
        raise _wrong(tensor, SHARED_MEMORY[0], "a string", region)
    if size is None:
        raise _wrong(tensor, SHARED_MEMORY[2], "an unsigned integer", size)
    for name, value in zip(SHARED_MEMORY[1:], (offset, size), strict=True):
        if value is not None and (type(value) is not int or not 0 <= value <= _MOST):
            raise _wrong(tensor, name, "an unsigned integer", value)
    return Place(region, offset or 0, size)


def _wrong(tensor: str, parameter: str, expected: str, came: object) -> BadRequest:
    got = "nothing" if came is None else f"'{printable(came)}'"
    return BadRequest(f"tensor '{printable(tensor)}': {parameter} must be {expected}, got {got}")


class Region:
    """A registered part of a shared memory object, held open until nobody needs it.

    Args:
        offset, size: of the part, in bytes.

    Raises:
        BadRequest: the name is none, there is no such object, or it is smaller than said.
    """

    def __init__(self, name: str, key: str, offset: int, size: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.size = size
        _check_name(name)
        self._descriptor = _open(key)
        weakref.finalize(self, os.close, self._descriptor)
        available = os.fstat(self._descriptor).st_size
        if size <= 0 or offset < 0 or offset + size > available:
            raise BadRequest(
                f"region '{printable(name)}': byte_size {printable(size)} at offset {printable(offset)} "
                f"is not within the {available} bytes of '{printable(key)}'"
            )

    def read(self, offset: int, size: int) -> memoryview:
        """A copy of so many bytes.

        Raises:
            BadRequest: the object was shortened since it was registered.
        """
        data = left = np.empty(size, np.uint8).data  # bytearray would write zeros first
        position = self.offset + offset
        while left:
            count = os.preadv(self._descriptor, [left], position)
            if not count:
                raise self._shortened()
            left, position = left[count:], position + count
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at a place.

        Raises:
            BadRequest: the object was shortened since it was registered, or the system has no memory for it.
        """
        left, position = memoryview(data), self.offset + offset
        # Writing behind the end would make it longer, at the cost of everybody's memory.
        if position + len(left) > os.fstat(self._descriptor).st_size:
            raise self._shortened()
        try:
            while left:
                count = os.pwrite(self._descriptor, left, position)
                left, position = left[count:], position + count
        except OSError as error:
            raise BadRequest(f"region '{printable(self.name)}' cannot be written: {error.strerror}") from None

    def _shortened(self) -> BadRequest:
        return BadRequest(
            f"region '{printable(self.name)}': '{printable(self.key)}' is shorter than when it was registered"
        )


class Regions:
    """The registered regions, by name.

    Registered and forgotten on the event loop; looked up by any thread.

    Args:
        enabled: there may be any.
        max_bytes: of the tensors that one request takes from regions.
    """

    def __init__(self, enabled: bool = False, max_bytes: int = 64 * 2**20) -> None:
        self.enabled = enabled
        self.max_bytes = max_bytes
        self._regions: dict[str, Region] = {}

    def check_enabled(self) -> None:
        """Unsupported, when shared memory is off."""
        if not self.enabled:
            raise Unsupported("shared memory is off; the setting shared_memory turns it on")

    def add(self, region: Region) -> None:
        """Register a region.

        Raises:
            AlreadyExists: its name is taken.
            BadRequest: there are too many.
        """
        if region.name in self._regions:
            raise AlreadyExists(f"region '{printable(region.name)}' is registered already")
        if len(self._regions) >= MAX_REGIONS:
            raise BadRequest(f"{MAX_REGIONS} regions are registered, no more are taken")
        self._regions[region.name] = region

    def remove(self, name: str) -> None:
        """Forget one region; as Triton does, one that is not known is no mistake.  "" forgets all."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def listed(self, name: str = "") -> Sequence[Region]:
        """Every region, or the one called `name`.

        Raises:
            NotFound: there is none of that name.
        """
        return [self._known(name)] if name else list(self._regions.values())

    def find(self, place: Place, tensor: str) -> Region:
        """The region of a place.

        Raises:
            NotFound: there is none of that name.
            BadRequest: the place is not within it.
        """
        region = self._known(place.region)
        if place.offset + place.size > region.size:
            raise BadRequest(
                f"tensor '{printable(tensor)}': {place.size} bytes at offset {place.offset} are not within "
                f"the {region.size} bytes of region '{printable(place.region)}'"
            )
        return region

    def _known(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise NotFound(f"no shared memory region '{printable(name)}'")
        return region


OFF = Regions()


class SharedInputs:
    """Takes the inputs of one request from regions, up to a limit for all of them."""

    __slots__ = ("_left", "_regions")

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._left = regions.max_bytes

    def take(self, parameters: Mapping[str, Any], tensor: str) -> memoryview | None:
        """The bytes of a tensor that stands in a region; None when its parameters name none.

        Raises:
            Unsupported: shared memory is off.
            NotFound: there is no such region.
            BadRequest: a parameter is wrong, or the tensor is too large or not within the region.
        """
        place = read_place(parameters, tensor, self._regions)
        if place is None:
            return None
        region = self._regions.find(place, tensor)
        self._left -= place.size
        if self._left < 0:
            raise BadRequest(
                f"tensor '{printable(tensor)}': a request may take {self._regions.max_bytes} bytes from "
                "shared memory"
            )
        return region.read(place.offset, place.size)


class SharedOutput:
    """Puts one output of a request, or of requests like it, into a region.

    The region is looked up again for every answer: it may be gone, or be another, by then.

    Raises:
        NotFound: there is no such region.
        BadRequest: the place is not within it.
    """

    __slots__ = ("_place", "_regions")

    def __init__(self, regions: Regions, place: Place, tensor: str) -> None:
        regions.find(place, tensor)
        self._regions = regions
        self._place = place

    def bind(self, declared: TensorMetadata, batched: bool, rows: int) -> None:
        """Every output may go into a region."""

    def deliver(self, tensor: Tensor) -> Tensor:
        """The output without its data, which is in the region then, as in `raw_output_contents`.

        Raises:
            NotFound, BadRequest: the region is gone, or has no room for the output.
        """
        place, region = self._place, self._regions.find(self._place, tensor.name)
        data = encode_raw(tensor.data, tensor.datatype)
        if len(data) > place.size:
            raise BadRequest(
                f"output '{tensor.name}' has {len(data)} bytes, its place in region "
                f"'{printable(place.region)}' has {place.size}"
            )
        region.write(place.offset, data)
        where: Parameters = dict(zip(SHARED_MEMORY, (place.region, place.offset, len(data)), strict=True))
        return Tensor(tensor.name, tensor.datatype, tensor.data, {**tensor.parameters, **where}, True)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise BadRequest(
            f"a region's name must be 1 to {MAX_NAME} printable characters, got '{printable(name)}'"
        )


def _open(key: str) -> int:
    """The descriptor of a shared memory object, by its name alone: no path leads out of the folder.

    Raises:
        BadRequest: it is no name, or there is no such object that may be opened.
    """
    found = _KEY.match(key)
    if found is None or found[1] in (".", ".."):
        raise BadRequest(
            f"key must be the name of a shared memory object, with no '/' but one in front, "
            f"got '{printable(key)}'"
        )
    # Not to be led elsewhere by a link, nor to wait for the other end of a pipe.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(f"{FOLDER}/{found[1]}", flags)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a name"
        raise BadRequest(f"shared memory object '{printable(key)}' cannot be opened: {why}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadRequest(f"'{printable(key)}' is no shared memory object")
    return descriptor
