"""The ZIP records of a package, byte for byte.

Every header has one form: ZIP64 always, 1980, Unix, mode 0644, no comments, no
data descriptors. A reader rebuilds the records from what they say and compares
bytes, so nothing can hide in a header. Stored weights are padded, by an extra
field of the local header, so that their data begins on a page.

Source: PKWARE APPNOTE.TXT 6.3.10; the padding field 0xD935 is that of Android's zipalign.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

STORED = 0
DEFLATED = 8
PAGE = 4096
"""Data of stored weights begins at a multiple of this, so that it can be memory-mapped."""
ALIGNED = "weights/"
"""The folder whose stored entries are aligned."""

_DOS_DATE_1980 = 0x0021
_VERSION = 45
_MADE_BY = 3 << 8 | _VERSION
_MODE = 0o100644 << 16
_FULL = 0xFFFFFFFF

_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_ZIP64 = struct.Struct("<2H2Q")
_PADDING = struct.Struct("<3H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_CENTRAL_ZIP64 = struct.Struct("<2H3Q")
_END = struct.Struct("<4sQ2H2L4Q4sLQL4s4H2LH")

END_SIZE = _END.size
"""Bytes of the three end records together."""
MIN_CENTRAL = _CENTRAL.size + _CENTRAL_ZIP64.size
"""Bytes of a central directory record with an empty name."""

LOCAL_FIELDS = (
    ("signature", 0),
    ("version needed", 4),
    ("flags", 6),
    ("compression method", 8),
    ("time", 10),
    ("date", 12),
    ("crc-32", 14),
    ("sizes", 18),
    ("name length", 26),
    ("extra length", 28),
    ("name", 30),
)
"""Fields of a local header by offset."""
CENTRAL_FIELDS = (
    ("signature", 0),
    ("version made by", 4),
    ("version needed", 6),
    ("flags", 8),
    ("compression method", 10),
    ("time", 12),
    ("date", 14),
    ("crc-32", 16),
    ("sizes", 20),
    ("name length", 28),
    ("extra length", 30),
    ("comment length", 32),
    ("disk number", 34),
    ("internal attributes", 36),
    ("external attributes (links, modes)", 38),
    ("offset", 42),
    ("name", 46),
)
"""Fields of a central directory record by offset."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One entry as the ZIP records describe it."""

    name: str
    method: int
    """`STORED` or `DEFLATED`."""
    crc: int
    """CRC-32 of the content."""
    packed_size: int
    """Bytes in the file."""
    size: int
    """Bytes of the content."""
    header_offset: int
    """Where the local header begins."""

    @property
    def data_offset(self) -> int:
        """Where the data begins."""
        return self.header_offset + local_size(self.name, self.method, self.header_offset)

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.data_offset + self.packed_size


def _padding_size(name: str, method: int, header_offset: int) -> int:
    if method != STORED or not name.startswith(ALIGNED):
        return 0
    bare = header_offset + _LOCAL.size + len(name) + _LOCAL_ZIP64.size + _PADDING.size
    return _PADDING.size + -bare % PAGE


def local_size(name: str, method: int, header_offset: int) -> int:
    """Bytes of the local header, padding included."""
    padding = _padding_size(name, method, header_offset)
    return _LOCAL.size + len(name) + _LOCAL_ZIP64.size + padding


def local_header(slot: Slot) -> bytes:
    """The local header of `slot`, padding included."""
    padding = _padding_size(slot.name, slot.method, slot.header_offset)
    head = _LOCAL.pack(
        b"PK\3\4",
        _VERSION,
        0,
        slot.method,
        0,
        _DOS_DATE_1980,
        slot.crc,
        _FULL,
        _FULL,
        len(slot.name),
        _LOCAL_ZIP64.size + padding,
    )
    extra = _LOCAL_ZIP64.pack(1, 16, slot.size, slot.packed_size)
    if padding:
        extra += _PADDING.pack(0xD935, padding - 4, PAGE).ljust(padding, b"\0")
    return head + slot.name.encode("ascii") + extra


def central_record(slot: Slot) -> bytes:
    """The central directory record of `slot`."""
    head = _CENTRAL.pack(
        b"PK\1\2",
        _MADE_BY,
        _VERSION,
        0,
        slot.method,
        0,
        _DOS_DATE_1980,
        slot.crc,
        _FULL,
        _FULL,
        len(slot.name),
        _CENTRAL_ZIP64.size,
        0,
        0,
        0,
        _MODE,
        _FULL,
    )
    extra = _CENTRAL_ZIP64.pack(1, 24, slot.size, slot.packed_size, slot.header_offset)
    return head + slot.name.encode("ascii") + extra


def end_records(count: int, central_size: int, central_offset: int) -> bytes:
    """The ZIP64 end record, its locator, and the end record."""
    return _END.pack(
        b"PK\6\6",
        44,
        _MADE_BY,
        _VERSION,
        0,
        0,
        count,
        count,
        central_size,
        central_offset,
        b"PK\6\7",
        0,
        central_offset + central_size,
        1,
        b"PK\5\6",
        0,
        0,
        0xFFFF,
        0xFFFF,
        _FULL,
        _FULL,
        0,
    )


def parse_end(data: bytes) -> tuple[int, int, int]:
    """Entry count, size and offset of the central directory that `data` (END_SIZE bytes) states."""
    fields = _END.unpack(data)
    return fields[6], fields[8], fields[9]


def parse_central(data: memoryview) -> tuple[Slot, int] | None:
    """The entry at the start of `data` and the bytes of its record; None if too little is there.

    The name is decoded as Latin-1, so that any bytes can be shown; names are checked later.
    """
    if len(data) < MIN_CENTRAL:
        return None
    fields = _CENTRAL.unpack_from(data)
    total = MIN_CENTRAL + fields[10]
    if len(data) < total:
        return None
    name = bytes(data[_CENTRAL.size : _CENTRAL.size + fields[10]]).decode("latin-1")
    _, _, size, packed_size, offset = _CENTRAL_ZIP64.unpack_from(data, _CENTRAL.size + fields[10])
    return Slot(name, fields[4], fields[7], packed_size, size, offset), total
