"""A forger of containers: right in everything but what a test makes wrong."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tessera.package.manifest import Entry, Manifest, ProgramRow, WeightRow, manifest_to_json
from tessera.package.records import DEFLATED, STORED, Slot, central_record, end_records, local_header
from tessera.program import dtype as dt


@dataclass
class Forged:
    """One entry of a forged container."""

    name: str
    data: bytes = b"1234"
    method: int = STORED
    packed: bytes | None = None
    """Bytes in the file, where they shall not be those of `data`."""
    edit: Callable[[Slot], Slot] = lambda slot: slot
    """What the directory says of the entry, from what it should say."""
    local: Callable[[bytes], bytes] = lambda header: header
    central: Callable[[bytes], bytes] = lambda record: record
    listed: bool = True
    """Whether the manifest lists it."""


@dataclass
class Forger:
    """Writes containers that are right in everything but what a test makes wrong."""

    path: Path
    entries: list[Forged] = field(default_factory=list)
    manifest: Callable[[Manifest], Manifest] = lambda manifest: manifest
    document: Callable[[bytes], bytes] = lambda document: document
    end: Callable[[bytes], bytes] = lambda records: records
    whole: Callable[[bytes], bytes] = lambda data: data
    order: Callable[[list[Forged]], list[Forged]] = lambda entries: entries
    count: int | None = None
    last: list[Forged] = field(default_factory=list)
    """What follows the manifest, as a signature does."""

    def write(self) -> Path:
        out, slots, listed = b"", [], []
        for forged in self.order(sorted(self.entries, key=lambda e: e.name)):
            out, slot = self._append(out, forged)
            slots.append((forged, slot))
            if forged.listed:
                listed.append(_entry(forged, slot))
        manifest = Manifest(
            kind="tsd",
            name="forged",
            version="1",
            weights=tuple(
                WeightRow(name=e.path[8:-4], dtype=dt.u8, shape=(e.size,), path=e.path)
                for e in listed
                if e.path.startswith("weights/")
            ),
            runtime=tuple(e.path for e in listed if e.path.startswith("runtime/")),
            programs=tuple(
                ProgramRow(name=e.path[9:-5], path=e.path) for e in listed if e.path.startswith("programs/")
            ),
            entries=tuple(listed),
        )
        document = self.document(manifest_to_json(self.manifest(manifest)))
        out, slot = self._append(out, Forged("manifest.json", document))
        slots.append((Forged("manifest.json"), slot))
        for forged in self.last:
            out, slot = self._append(out, forged)
            slots.append((forged, slot))
        directory = b"".join(f.central(central_record(f.edit(s))) for f, s in slots)
        count = len(slots) if self.count is None else self.count
        self.path.write_bytes(
            self.whole(out + directory + self.end(end_records(count, len(directory), len(out))))
        )
        return self.path

    def _append(self, out: bytes, forged: Forged) -> tuple[bytes, Slot]:
        packed = forged.packed
        if packed is None:
            packed = deflate(forged.data) if forged.method == DEFLATED else forged.data
        slot = Slot(
            forged.name, forged.method, zlib.crc32(forged.data), len(packed), len(forged.data), len(out)
        )
        return out + forged.local(local_header(slot)) + packed, slot


def deflate(data: bytes) -> bytes:
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return machine.compress(data) + machine.flush()


def _entry(forged: Forged, slot: Slot) -> Entry:
    deflated = forged.method == DEFLATED
    packed = forged.packed if forged.packed is not None else deflate(forged.data)
    return Entry(
        path=forged.name,
        size=slot.size,
        sha256=hashlib.sha256(forged.data).hexdigest(),
        compression="deflate" if deflated else "none",
        offset=slot.data_offset,
        packed_size=slot.packed_size if deflated else None,
        packed_sha256=hashlib.sha256(packed).hexdigest() if deflated else None,
    )


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    """`data` with `new` at `offset`."""
    return data[:offset] + new + data[offset + len(new) :]
