"""Writes a container in one pass: entries as they come, then the manifest, then the directory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import FileIO

from tessera.package.content import Blob
from tessera.package.digest import digests
from tessera.package.limits import DEFAULT_LIMITS
from tessera.package.manifest import MANIFEST, SIGNATURE, Entry, Manifest, manifest_to_json
from tessera.package.names import check_names
from tessera.package.records import DEFLATED, STORED, Slot, central_record, end_records, local_header

# The same data must give the same bytes: neither may depend on the machine.
_LEVEL = 6
_MEMORY_LEVEL = 8


@dataclass(frozen=True, slots=True)
class _Packed:
    """What came of one blob's data."""

    size: int
    crc: int
    sha256: str
    packed_size: int
    packed_sha256: str


def write_container(
    file: FileIO,
    blobs: Iterable[Blob],
    manifest: Callable[[tuple[Entry, ...]], Manifest],
    signature: Callable[[bytes], memoryview | None] = lambda document: None,  # noqa: ARG005
) -> None:
    """Write blobs, the manifest that `manifest` makes of their entries, and the ZIP directory.

    Args:
        file: An empty file, open for writing and seekable.
        blobs: In order of their paths. One at a time is in memory.
        manifest: From the entries to the whole manifest.
        signature: From the manifest as it is written to the signature over it, if there is one.

    Raises:
        IntegrityError: A path is unsafe or would collide with another.
    """
    slots: list[Slot] = []
    entries: list[Entry] = []
    for blob in blobs:
        slot, entry = _write_blob(file, blob, slots[-1].end if slots else 0)
        slots.append(slot)
        entries.append(entry)
    check_names([*(slot.name for slot in slots), MANIFEST])
    document = memoryview(manifest_to_json(manifest(tuple(entries))))
    slot, _ = _write_blob(
        file, Blob(MANIFEST, lambda: document, deflate=False), slots[-1].end if slots else 0
    )
    _write_end(file, [*slots, slot], signature(bytes(document)))


def write_signed(file: FileIO, body: memoryview, slots: list[Slot], signature: memoryview) -> None:
    """Write a container anew with a signature: every byte up to the end of its manifest stays.

    Args:
        file: An empty file, open for writing and seekable.
        body: The container up to the end of its manifest.
        slots: Its entries, the manifest last.
        signature: What becomes `META/model.sig`.
    """
    write_all(file, body)
    _write_end(file, slots, signature)


def _write_end(file: FileIO, slots: list[Slot], signature: memoryview | None) -> None:
    if signature is not None:
        slot, _ = _write_blob(file, Blob(SIGNATURE, lambda: signature, deflate=False), slots[-1].end)
        slots = [*slots, slot]
    directory = b"".join(map(central_record, slots))
    write_all(file, memoryview(directory + end_records(len(slots), len(directory), slots[-1].end)))


def write_all(file: FileIO, data: memoryview) -> None:
    """Write every byte of `data`; a raw file may take less than it is given."""
    while data:
        data = data[file.write(data) or 0 :]


def _write_blob(file: FileIO, blob: Blob, offset: int) -> tuple[Slot, Entry]:
    data = blob.open()
    deflated = blob.deflate and len(data) > 0
    method = DEFLATED if deflated else STORED
    packed = _write_data(file, Slot(blob.path, method, 0, 0, 0, offset), data)
    if deflated and not _worth_it(packed):
        # Kept as it is: deflating gained nothing, or so much that a reader would take it for a bomb.
        deflated, method = False, STORED
        packed = _write_data(file, Slot(blob.path, method, 0, 0, 0, offset), data)
    slot = Slot(blob.path, method, packed.crc, packed.packed_size, packed.size, offset)
    file.seek(offset)
    write_all(file, memoryview(local_header(slot)))
    file.seek(slot.end)
    entry = Entry(
        path=blob.path,
        size=packed.size,
        sha256=packed.sha256,
        compression="deflate" if deflated else "none",
        offset=slot.data_offset,
        packed_size=packed.packed_size if deflated else None,
        packed_sha256=packed.packed_sha256 if deflated else None,
    )
    return slot, entry


def _write_data(file: FileIO, slot: Slot, data: memoryview) -> _Packed:
    file.seek(slot.data_offset)
    file.truncate()
    if slot.method == STORED:
        sha256, crc = digests(data, lambda chunk: write_all(file, chunk))
        return _Packed(len(data), crc, sha256, len(data), sha256)
    machine = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY_LEVEL)
    packed = _Counted(file)

    def deflate(chunk: memoryview) -> None:
        packed.write(machine.compress(chunk))

    sha256, crc = digests(data, deflate)
    packed.write(machine.flush())
    return _Packed(len(data), crc, sha256, packed.size, packed.sha256.hexdigest())


class _Counted:
    """Deflated data on its way into the file."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.size = 0
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.size += len(data)
        write_all(self._file, memoryview(data))


def _worth_it(packed: _Packed) -> bool:
    bomb = (
        packed.size > DEFAULT_LIMITS.ratio_free_bytes
        and packed.size > DEFAULT_LIMITS.ratio * packed.packed_size
    )
    return packed.packed_size < packed.size and not bomb
