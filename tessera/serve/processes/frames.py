"""What fronts and owners write to each other: small frames on a stream socket.

A frame is its payload's length, its kind and the payload. Requests and answers that are ready in
one turn of an event loop go together in one frame and one system call, which is also what wakes
the other side.

Source: the layout below is this version's own; both sides are always of one version.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from tessera.program.errors import (
    DeviceError,
    InputError,
    OutOfMemoryError,
    OverloadedError,
    ServeError,
    ShapeError,
    SpecError,
    TesseraError,
)

HEAD = struct.Struct("<IB")
"""Length of the payload in bytes, kind."""

RUN = struct.Struct("<IIQd")
"""Request, layout, offset of its block, deadline in seconds of CLOCK_MONOTONIC."""

NUMBER = struct.Struct("<I")
"""A request."""

KIND_RUN = 1
"""Front to owner: `RUN` records."""
KIND_CANCEL = 2
"""Front to owner: requests that nobody waits for."""
KIND_LAYOUT = 3
"""Front to owner: a `LayoutFrame`."""
KIND_DONE = 4
"""Owner to front: requests whose outputs are in their blocks, or that were cancelled."""
KIND_FAILED = 5
"""Owner to front: a `FailedFrame`."""
KIND_MEMORY = 6
"""Owner to front: the device's name and memory, as JSON."""


class PartFrame(msgspec.Struct, frozen=True, array_like=True):
    """Where one tensor lies in a block."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class LayoutFrame(msgspec.Struct, frozen=True, array_like=True):
    """What a block looks like; later `RUN` records name it by its number."""

    number: int
    rows: int
    inputs: tuple[PartFrame, ...]
    outputs: tuple[PartFrame, ...]
    scalars: tuple[str, ...]
    """Inputs without axes: only requests with equal ones are stacked."""
    stacked: bool
    """Whether requests of this layout may be stacked at all."""


class FailedFrame(msgspec.Struct, frozen=True, array_like=True):
    """The error of one request."""

    request: int
    kind: str
    message: str
    hint: str | None
    retry_after_s: int | None


def frame(kind: int, payload: bytes) -> bytes:
    """One frame."""
    return HEAD.pack(len(payload), kind) + payload


class FrameReader:
    """Takes a stream apart into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and payload of every frame that is complete with `data`."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= HEAD.size:
            length, kind = HEAD.unpack_from(data, at)
            if end - at - HEAD.size < length:
                break
            at += HEAD.size
            yield kind, data[at : at + length]
            at += length
        self._rest = data[at:]


_KINDS: dict[str, type[TesseraError]] = {
    kind.__name__: kind
    for kind in (
        DeviceError,
        InputError,
        OutOfMemoryError,
        OverloadedError,
        ServeError,
        ShapeError,
        SpecError,
    )
}


def failed_frame(request: int, error: BaseException) -> bytes:
    """The frame that says `error` to whoever sent `request`."""
    name = type(error).__name__
    message = getattr(error, "message", None) or str(error) or name
    hint: Any = getattr(error, "hint", None)
    fields: Any = getattr(error, "fields", {})
    failed = FailedFrame(request, name, message, hint, fields.get("retry_after_s"))
    return frame(KIND_FAILED, msgspec.msgpack.encode(failed))


def error_of(failed: FailedFrame) -> Exception:
    """The error that `failed_frame` was given, as far as clients hear of it."""
    if failed.kind == "TimeoutError":
        return TimeoutError(failed.message)
    kind = _KINDS.get(failed.kind, ServeError)
    if failed.retry_after_s is not None:
        return kind(failed.message, hint=failed.hint, retry_after_s=failed.retry_after_s)
    return kind(failed.message, hint=failed.hint)
