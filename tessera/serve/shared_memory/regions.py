"""Regions of shared memory by name: registered by clients, and named by their tensors.

Source: Triton Inference Server, docs/protocol/extension_shared_memory.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tessera.program.errors import ServeError
from tessera.serve.request import RequestError
from tessera.serve.security.exposure import is_loopback
from tessera.serve.shared_memory.segment import Segment, checked_name

MAX_REGIONS = 1024
"""Regions at once; each holds a file descriptor."""

REGION = "shared_memory_region"
"""The parameter of a tensor that lies in shared memory."""

_SIZE = "shared_memory_byte_size"
_OFFSET = "shared_memory_offset"


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a segment, by the name that a client gave it."""

    name: str
    key: str
    """The segment's name, as it came."""
    offset: int
    """Where it begins in the segment."""
    size: int
    """Its bytes."""
    segment: Segment


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies. It stays there, whoever unregisters the region meanwhile."""

    region: Region
    offset: int
    """Where it begins in the region."""
    size: int
    """Bytes that it may take."""

    def read(self, what: str) -> bytes:
        """A copy of all of it.

        Raises:
            RequestError: The segment has become shorter.
        """
        return self.region.segment.read(self.region.offset + self.offset, self.size, what)

    def write(self, data: bytes | memoryview, what: str) -> None:
        """Put `data` at its beginning.

        Raises:
            RequestError: It is larger than the place, or the segment has become shorter.
        """
        size = memoryview(data).nbytes
        if size > self.size:
            raise RequestError(
                f"{what} is {size} bytes, but {_SIZE} says {self.size}",
                hint="make the region larger, or ask for less at once",
            )
        self.region.segment.write(self.region.offset + self.offset, data, what)

    def parameters(self, size: int) -> dict[str, Any]:
        """What an answer says of a tensor of `size` bytes that lies here."""
        found: dict[str, Any] = {REGION: self.region.name, _SIZE: size}
        return {**found, _OFFSET: self.offset} if self.offset else found


class Regions:
    """The regions that clients registered with one server. Lives on one event loop.

    Args:
        allowed: Whether there may be any; a text: those whose segment's name begins with it.
        max_bytes: Most bytes of one tensor.
    """

    def __init__(self, allowed: bool | str, max_bytes: int) -> None:
        self._allowed = allowed
        self._max_bytes = max_bytes
        self._regions: dict[str, Region] = {}

    @property
    def offered(self) -> bool:
        """Whether there may be any."""
        return self._allowed is not False

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Take up a region.

        Args:
            name: What requests call it.
            key: The segment's name.
            offset: Where it begins in the segment.
            size: Its bytes.

        Raises:
            RequestError: It may not be used, is not there, or is not as large.
        """
        self._check_allowed(key)
        if not name:
            raise RequestError("the region has no name")
        if name in self._regions:
            raise RequestError(
                f"there is a shared-memory region {name[:80]!r} already",
                hint="unregister it first",
                status=HTTPStatus.CONFLICT,
            )
        if offset < 0 or size < 1:
            raise RequestError(f"the region {name[:80]!r} has {size} bytes at {offset}, which is none")
        if len(self._regions) >= MAX_REGIONS:
            raise RequestError(
                f"there are {MAX_REGIONS} shared-memory regions, which is the most",
                hint="unregister those that are not needed",
                status=HTTPStatus.TOO_MANY_REQUESTS,
            )
        segment = Segment(key)
        if segment.size < offset + size:
            raise RequestError(
                f"the region {name[:80]!r} is {size} bytes at {offset} of the shared memory {key[:80]!r}, "
                f"which has {segment.size} bytes"
            )
        self._regions[name] = Region(name, key, offset, size, segment)

    def _check_allowed(self, key: str) -> None:
        if self._allowed is False:
            raise RequestError(
                "this server takes no shared memory",
                hint="start it with shared_memory = true, or send tensors in the request",
                status=HTTPStatus.NOT_IMPLEMENTED,
            )
        if isinstance(self._allowed, str) and not checked_name(key).startswith(self._allowed):
            raise RequestError(
                f"the shared memory {key[:80]!r} may not be used: names begin with {self._allowed!r} here",
                hint="the server's setting shared_memory says how names begin",
                status=HTTPStatus.FORBIDDEN,
            )

    def unregister(self, name: str | None = None) -> None:
        """Give up a region, or all of them; one that is not there is no error."""
        if name is None:
            self._regions.clear()
        else:
            self._regions.pop(name, None)

    def status(self, name: str | None = None) -> list[Region]:
        """The region `name`, or all of them.

        Raises:
            RequestError: There is none of that name.
        """
        return [self._found(name)] if name else list(self._regions.values())

    def place(self, what: str, parameters: Mapping[str, Any]) -> Place | None:
        """Where the tensor lies whose parameters these are; None: not in shared memory.

        Args:
            what: Such as `input 'x'`, for messages.
            parameters: Those of the tensor.

        Raises:
            RequestError: There is no such region, or the place is not within it.
        """
        name = parameters.get(REGION)
        if name is None:
            return None
        if not isinstance(name, str):
            raise RequestError(f"{what}: {REGION} is {str(name)[:80]!r}, not a name")
        region = self._found(name, what)
        size = _number(what, _SIZE, parameters.get(_SIZE))
        offset = _number(what, _OFFSET, parameters.get(_OFFSET, 0))
        if offset + size > region.size:
            raise RequestError(
                f"{what} is {size} bytes at {offset} of the shared-memory region {name[:80]!r}, "
                f"which has {region.size} bytes"
            )
        if size > self._max_bytes:
            raise RequestError(
                f"{what} is {size} bytes in shared memory; the limit is {self._max_bytes}",
                hint="send fewer rows at once, or raise max_body_bytes",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        return Place(region, offset, size)

    def _found(self, name: str, what: str = "") -> Region:
        region = self._regions.get(name)
        if region is None:
            if self._allowed is False and what:
                raise RequestError(
                    f"{what} is in shared memory, which this server does not take",
                    hint="start it with shared_memory = true, or send bytes in the request",
                )
            raise RequestError(
                f"{what + ': ' if what else ''}there is no shared-memory region {name[:80]!r}",
                hint="register it first",
                status=HTTPStatus.BAD_REQUEST if what else HTTPStatus.NOT_FOUND,
            )
        return region


NO_REGIONS = Regions(allowed=False, max_bytes=0)
"""Those of a server that takes none."""


def check_client(address: str | None) -> None:
    """Memory is shared within one machine: others may not ask a server to open any.

    Args:
        address: Where the request comes from; None if it is not known.

    Raises:
        RequestError: From another machine.
    """
    if address is not None and not is_loopback(address):
        raise RequestError(
            f"shared memory is for clients on this machine, and {address} is another one",
            hint="connect to 127.0.0.1, or send tensors in the request",
            status=HTTPStatus.FORBIDDEN,
        )


def no_cuda_memory() -> ServeError:
    """The error of memory on a GPU."""
    return RequestError(
        "this server takes no CUDA shared memory",
        hint="use system shared memory, or send tensors in the request",
        status=HTTPStatus.NOT_IMPLEMENTED,
    )


def _number(what: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RequestError(f"{what}: {name} is {str(value)[:80]!r}, not a number of bytes")
    return value
