"""Reads a container file, strictly: nothing in it may be other than a writer would have put there."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from tessera.package.content import Finding, check_whole, compare_digest, inflate, map_file
from tessera.package.digest import digests
from tessera.package.limits import Limits
from tessera.package.manifest import MANIFEST, SIGNATURE, Entry, Manifest, manifest_from_json
from tessera.package.names import check_names
from tessera.package.records import (
    CENTRAL_FIELDS,
    DEFLATED,
    END_SIZE,
    LOCAL_FIELDS,
    MIN_CENTRAL,
    STORED,
    Slot,
    central_record,
    end_records,
    local_header,
    local_size,
    parse_central,
    parse_end,
)
from tessera.package.writer import write_all, write_signed
from tessera.program.errors import IntegrityError, PackageError

DIRECTORY = "zip central directory"
"""Stands for an entry's name where the directory itself is wrong."""
END = "zip end record"
"""Stands for an entry's name where the end of the file is wrong."""


class Archive:
    """A container file, memory-mapped. It is unmapped when the last array that lies in it goes."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path: Path | None = path
        self._limits = limits
        self._map = map_file(path, what=path.name, follow=True)
        try:
            self._slots = {slot.name: slot for slot in read_directory(self._map, limits)}
        except IntegrityError as error:
            # Here it is the file that is wrong, not something in it: "zip end record" alone names none.
            raise IntegrityError(f"{path}: {error.message}", hint=error.hint, **error.fields) from error
        # Kept as it was read: what a signature is held against must be what is used, even
        # if somebody writes into the mapped file meanwhile.
        self.document: bytes
        self.manifest: Manifest
        self.document, self.manifest = _read_manifest(self._map, self._slots, limits)
        _check_signature(self._map, self._slots)

    @property
    def signature(self) -> memoryview | None:
        """What is in `META/model.sig`, if it is there."""
        slot = self._slots.get(SIGNATURE)
        if slot is None:
            return None
        check_whole(self._map, what=SIGNATURE)
        return self._map[slot.data_offset : slot.end]

    def content(self, entry: Entry) -> memoryview:
        """The content of `entry`: a view of the file, or inflated."""
        check_whole(self._map, what=entry.path)
        slot = self._slots[entry.path]
        packed = self._map[slot.data_offset : slot.end]
        return packed if slot.method == STORED else inflate(entry, packed)

    def write(self, file: FileIO) -> None:
        """Copy the file, byte for byte, once all of it is known to be sound.

        Raises:
            IntegrityError: Something in it is damaged.
        """
        self._check_all()
        write_all(file, self._map)

    def write_signed(self, file: FileIO, signature: bytes) -> None:
        """Copy the file with another signature, or its first, once all of it is known to be sound.

        Raises:
            IntegrityError: Something in it is damaged.
        """
        self._check_all()
        slots = [slot for name, slot in self._slots.items() if name != SIGNATURE]
        write_signed(file, self._map[: slots[-1].end], slots, memoryview(signature))

    def _check_all(self) -> None:
        for finding in self.recheck():
            raise IntegrityError(
                f"{finding.entry}: {finding.problem}", hint="tessera package verify", entry=finding.entry
            )

    def recheck(self) -> Iterator[Finding]:
        """Whether the ZIP records and the manifest are still what they were, and the CRCs right."""
        try:
            check_whole(self._map, what=END)
            slots = read_directory(self._map, self._limits)
            by_name = {slot.name: slot for slot in slots}
            document, _ = _read_manifest(self._map, by_name, self._limits)
            _check_signature(self._map, by_name)
            if document != self.document:
                raise _fault(MANIFEST, "was replaced since the file was opened")
        except PackageError as error:
            yield Finding.of(error, MANIFEST)
            return
        for entry in self.manifest.entries:
            slot = self._slots[entry.path]
            try:
                sha256, crc = digests(self.content(entry))
                compare_digest(entry, sha256)
            except IntegrityError as error:
                yield Finding.of(error, entry.path)
                continue
            if crc != slot.crc:
                yield Finding(entry.path, "its CRC-32 is not that of its content")


def read_directory(data: memoryview, limits: Limits) -> list[Slot]:
    """Every entry of the container `data`, once every byte outside contents is as it must be.

    Raises:
        IntegrityError: Some byte is not; `fields["entry"]` names the entry.
    """
    count, size, offset = _read_end(data)
    if not 1 <= count <= limits.entries:
        raise _fault(DIRECTORY, f"{count} entries; allowed are 1 to {limits.entries}")
    if offset + size != len(data) - END_SIZE:
        raise _fault(DIRECTORY, f"is said to end at byte {offset + size}, not at {len(data) - END_SIZE}")
    if size < count * MIN_CENTRAL:
        raise _fault(DIRECTORY, f"{size} bytes cannot hold {count} entries")
    slots = _read_slots(data[offset : offset + size], count)
    check_names(slot.name for slot in slots)
    _check_order([slot.name for slot in slots])
    _check_sizes(slots, limits)
    _check_places(data, slots, offset)
    return slots


def _check_order(names: list[str]) -> None:
    """Everything sorted, then the manifest, then the signature where there is one."""
    if SIGNATURE in names[:-1]:
        raise _fault(SIGNATURE, "must be the last entry")
    body = names[:-1] if names[-1] == SIGNATURE else names
    if not body or body[-1] != MANIFEST:
        problem = "must be the last entry but for the signature" if MANIFEST in body else "is missing"
        raise _fault(MANIFEST, problem)
    if body[:-1] != sorted(body[:-1]):
        raise _fault(DIRECTORY, "the entries are not sorted by name")


def _read_end(data: memoryview) -> tuple[int, int, int]:
    if len(data) < END_SIZE:
        raise _fault(END, f"a file of {len(data)} bytes is no package, or was cut off")
    found = bytes(data[-END_SIZE:])
    count, size, offset = parse_end(found)
    # The same three numbers must give the same bytes; numbers beyond 64 bits cannot be written at all.
    if offset + size >= 1 << 63 or found != end_records(count, size, offset):
        raise _fault(END, _end_problem(data))
    return count, size, offset


def _end_problem(data: memoryview) -> str:
    # 64 KiB is the longest comment that other ZIP readers would look behind.
    tail = bytes(data[-END_SIZE - 65536 :])
    at = tail.rfind(b"PK\5\6")
    if at < 0:
        return "is missing: the file is no package, or was cut off"
    after = len(tail) - at - 22
    return f"is followed by {after} bytes" if after > 0 else "is not what a package ends with"


def _read_slots(directory: memoryview, count: int) -> list[Slot]:
    slots: list[Slot] = []
    position = 0
    for index in range(count):
        parsed = parse_central(directory[position:])
        if parsed is None:
            raise _fault(DIRECTORY, f"ends inside record {index} of {count}")
        slot, length = parsed
        if not (slot.name.isascii() and slot.name.isprintable()):
            raise _fault(DIRECTORY, f"the name {slot.name[:80]!r} holds more than printable ASCII")
        found = bytes(directory[position : position + length])
        if (expected := central_record(slot)) != found:
            field = _first_difference(CENTRAL_FIELDS, expected, found)
            raise _fault(DIRECTORY, f"the {field} of {slot.name!r} is not what a writer puts there")
        slots.append(slot)
        position += length
    if position != len(directory):
        raise _fault(DIRECTORY, f"{len(directory) - position} bytes after its last record")
    return slots


def _check_sizes(slots: list[Slot], limits: Limits) -> None:
    for slot in slots:
        if slot.method not in _METHOD_CHECKS:
            raise _fault(slot.name, f"compression method {slot.method} is neither stored (0) nor deflate (8)")
        _METHOD_CHECKS[slot.method](slot, limits)
    inflated = sum(slot.size for slot in slots if slot.method == DEFLATED)
    total = sum(slot.size for slot in slots)
    if inflated > limits.inflated_bytes:
        raise _fault(DIRECTORY, f"entries inflate to {inflated} bytes, more than {limits.inflated_bytes}")
    if total > limits.total_bytes:
        raise _fault(DIRECTORY, f"entries hold {total} bytes, more than {limits.total_bytes}")


def _check_stored(slot: Slot, limits: Limits) -> None:
    if slot.name == SIGNATURE and slot.size > limits.signature_bytes:
        raise _fault(slot.name, f"{slot.size} bytes, more than {limits.signature_bytes}")
    if slot.size != slot.packed_size:
        raise _fault(slot.name, f"stored, but its sizes differ: {slot.size} and {slot.packed_size}")


def _check_deflated(slot: Slot, limits: Limits) -> None:
    if slot.name in (MANIFEST, SIGNATURE):
        raise _fault(slot.name, "must be stored, not deflated")
    if slot.size > limits.ratio_free_bytes and slot.size > limits.ratio * slot.packed_size:
        raise _fault(
            slot.name, f"inflates {slot.packed_size} bytes to {slot.size}, more than {limits.ratio} times"
        )


_METHOD_CHECKS: dict[int, Callable[[Slot, Limits], None]] = {STORED: _check_stored, DEFLATED: _check_deflated}


def _check_places(data: memoryview, slots: list[Slot], directory_offset: int) -> None:
    """Every local header where the entry before it ends, equal to the directory; no byte between."""
    position = 0
    for slot in slots:
        if slot.header_offset != position:
            overlap = "overlaps the entry before it" if slot.header_offset < position else "leaves a gap"
            raise _fault(slot.name, f"begins at byte {slot.header_offset}, not at {position}: it {overlap}")
        length = local_size(slot.name, slot.method, position)
        if slot.packed_size > directory_offset or position + length + slot.packed_size > directory_offset:
            raise _fault(slot.name, f"its {slot.packed_size} bytes reach past the last entry")
        found = bytes(data[position : position + length])
        if (expected := local_header(slot)) != found:
            field = _first_difference(LOCAL_FIELDS, expected, found)
            if field == "name":
                raise _fault(DIRECTORY, f"it names {slot.name!r}, whose local header has another name")
            raise _fault(slot.name, f"the {field} in its local header is not what the directory says")
        position += length + slot.packed_size
    if position != directory_offset:
        raise _fault(DIRECTORY, f"{directory_offset - position} bytes between the last entry and it")


def _first_difference(fields: tuple[tuple[str, int], ...], expected: bytes, found: bytes) -> str:
    differences = (i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b)
    at = next(differences, min(len(expected), len(found)))
    name_end = fields[-1][1] + int.from_bytes(expected[dict(fields)["name length"] :][:2], "little")
    return "extra field" if at >= name_end else [name for name, offset in fields if offset <= at][-1]


def _read_manifest(data: memoryview, slots: dict[str, Slot], limits: Limits) -> tuple[bytes, Manifest]:
    """The manifest as it is written, and what it says."""
    slot = slots[MANIFEST]
    if slot.size > limits.manifest_bytes:
        raise _fault(MANIFEST, f"{slot.size} bytes, more than {limits.manifest_bytes}")
    document = bytes(data[slot.data_offset : slot.end])
    manifest = manifest_from_json(document, limits)
    if zlib.crc32(document) != slot.crc:
        raise _fault(MANIFEST, "its CRC-32 is not that of its content")
    paths = [entry.path for entry in manifest.entries]
    if paths != sorted(paths):
        raise _fault(MANIFEST, "its entries are not sorted by path")
    for name in sorted((slots.keys() - {SIGNATURE}) ^ {*paths, MANIFEST}):
        problem = "is not in the manifest" if name in slots else "is in the manifest, but not in the file"
        raise _fault(name, problem)
    for entry in manifest.entries:
        if _as_entry(slots[entry.path], entry) != entry:
            raise _fault(entry.path, "its size or place is not what the manifest says")
    return document, manifest


def _check_signature(data: memoryview, slots: dict[str, Slot]) -> None:
    # Whose it is, and whether it is right, only a key can tell: this is about damage.
    slot = slots.get(SIGNATURE)
    if slot is not None and zlib.crc32(data[slot.data_offset : slot.end]) != slot.crc:
        raise _fault(SIGNATURE, "its CRC-32 is not that of its content")


def _as_entry(slot: Slot, entry: Entry) -> Entry:
    deflated = slot.method == DEFLATED
    return Entry(
        path=slot.name,
        size=slot.size,
        sha256=entry.sha256,
        compression="deflate" if deflated else "none",
        offset=slot.data_offset,
        packed_size=slot.packed_size if deflated else None,
        packed_sha256=(entry.packed_sha256 or "missing") if deflated else None,
    )


def _fault(entry: str, problem: str) -> IntegrityError:
    return IntegrityError(
        f"{entry}: {problem}", hint="copy or download the package again, or build it again", entry=entry
    )
