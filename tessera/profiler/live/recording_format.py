r"""Bytes of a recording: frames that are only ever appended, so that a killed recorder costs one frame.

    file  = "TSLIVE1\n" frame*
    frame = length:u32 crc:u32 kind:u8 time:u64 body          little-endian

`length` is the body's, `crc` the CRC-32 of kind, time and body, `time` nanoseconds since sampling
started, `body` MessagePack. The first frame is the header. A sample is whole or what changed
since the one before; at least every hundredth is whole, so that seeking reads a hundred at most.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

import msgspec

from tessera.profiler.live.figures import Figures

MAGIC = b"TSLIVE1\n"
VERSION = 1
"""A reader refuses a later one; figures may be added without a new version."""
WHOLE_EVERY = 100
"""Samples from one that is whole to the next."""
LONGEST_BODY = 16 << 20
"""Bytes; a longer frame is damage, not data."""

PREFIX = struct.Struct("<IIBQ")
_CHECKED = struct.Struct("<BQ")


class Kind(IntEnum):
    """What a frame holds. A reader skips kinds that it does not know."""

    HEADER = 0
    WHOLE = 1
    CHANGES = 2
    MARK = 3
    END = 4
    """Written when the recorder was closed, not killed."""


ProcessBody = tuple[int, str, int | None, str, int | None]
InstanceBody = tuple[int, int | None, str, int | None, int | None]


class StateBody(msgspec.Struct, array_like=True, frozen=True):
    """What is said of a GPU beside its figures."""

    processes: list[ProcessBody] | None
    instances: list[InstanceBody]
    missing: dict[str, str]
    fault: str | None


class GpuBody(msgspec.Struct, array_like=True, frozen=True):
    """One GPU of a whole sample. `figures` are in the header's order."""

    figures: list[int | None]
    state: StateBody


class WholeBody(msgspec.Struct, array_like=True, frozen=True):
    """A sample in full."""

    gpus: list[GpuBody]
    launches: list[tuple[str, int]]


class ChangeBody(msgspec.Struct, array_like=True, frozen=True):
    """What changed on one GPU: places and values of figures in turns."""

    gpu: int
    figures: list[int | None]
    state: StateBody | None = None
    """None: as before."""


class ChangesBody(msgspec.Struct, array_like=True, frozen=True):
    """What changed since the sample before."""

    gpus: list[ChangeBody]
    launches: list[tuple[str, int]]


class DeviceBody(msgspec.Struct, frozen=True):
    """One GPU in the header; the fields are those of `figures.Device`."""

    index: int
    name: str
    uuid: str | None
    bus_id: str | None
    capability: tuple[int, int] | None
    mig: bool
    max_sm_clock_mhz: int | None
    max_pcie_generation: int | None
    max_pcie_width: int | None


class HeaderBody(msgspec.Struct, frozen=True):
    """The first frame."""

    version: int
    label: str
    """What to call the recording on a screen, such as `recorded on NVIDIA H200`."""
    started_unix_s: float
    interval_s: float
    driver: str | None
    cuda_version: tuple[int, int] | None
    devices: list[DeviceBody]
    figures: tuple[str, ...] = Figures._fields
    """Names, in the order of `GpuBody.figures`."""


def frame(kind: Kind, time_ns: int, body: bytes) -> bytes:
    """One frame."""
    crc = zlib.crc32(body, zlib.crc32(_CHECKED.pack(kind, time_ns)))
    return PREFIX.pack(len(body), crc, kind, time_ns) + body


def is_intact(crc: int, kind: int, time_ns: int, body: bytes | memoryview) -> bool:
    """Whether a frame's sum fits."""
    return zlib.crc32(body, zlib.crc32(_CHECKED.pack(kind, time_ns))) == crc
