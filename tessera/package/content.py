"""What a package is read from: a container file, a folder, or memory."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

from tessera.package.manifest import Entry, Manifest
from tessera.program.errors import IntegrityError, PackageError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a package."""

    entry: str
    """Name of the entry, or `zip central directory`, `zip end record`, or the file's own name."""
    problem: str
    """What is wrong, in words that do not repeat the entry."""

    @classmethod
    def of(cls, error: PackageError, entry: str) -> Finding:
        """What `error` says, of the entry that it names or else of `entry`."""
        named = str(error.fields.get("entry") or entry)
        # Before the entry may stand the file, which a list of its entries need not repeat.
        _, found, problem = error.message.partition(f"{named}: ")
        return cls(named, problem if found else error.message)


@dataclass(frozen=True, slots=True)
class Blob:
    """One entry that is to be written."""

    path: str
    open: Callable[[], memoryview]
    """Its bytes, a flat view of format `B`. Asked for when it is its turn: one at a time is in memory."""
    deflate: bool


class Source(Protocol):
    """Where the entries of a package lie. Contents are untrusted until hashed."""

    @property
    def path(self) -> Path | None:
        """The file or folder; None in memory."""

    @property
    def manifest(self) -> Manifest:
        """The manifest, consistent with the entries that are there."""

    @property
    def document(self) -> bytes:
        """The manifest as it is written."""

    @property
    def signature(self) -> memoryview | None:
        """The signature as it is written; None where there is none. It is untrusted."""

    def content(self, entry: Entry) -> memoryview:
        """The content of `entry`, read-only and of the stated size; memory-mapped where possible.

        Raises:
            IntegrityError: It cannot be had in that size.
        """

    def write(self, file: FileIO) -> None:
        """Write the package as a container.

        Raises:
            IntegrityError: Something in it is damaged.
        """

    def recheck(self) -> Iterator[Finding]:
        """What is wrong besides the contents of entries, as the file or folder is now."""


def check_digest(entry: Entry, data: memoryview) -> None:
    """Compare `data` with the digest in the manifest.

    Raises:
        IntegrityError: They differ.
    """
    compare_digest(entry, hashlib.sha256(data).hexdigest())


def compare_digest(entry: Entry, found: str) -> None:
    """Compare the digest `found` of the content of `entry` with that in the manifest.

    Raises:
        IntegrityError: They differ.
    """
    if found != entry.sha256:
        raise IntegrityError(
            f"{entry.path}: sha256 is {found[:16]}…, the manifest says {entry.sha256[:16]}…",
            hint="copy or download the package again, or build it again",
            entry=entry.path,
            found=found,
            expected=entry.sha256,
        )


def map_file(path: Path, *, what: str, most: int | None = None, follow: bool = False) -> memoryview:
    """The bytes of a regular file, mapped: 1 GiB costs less than 1 ms and its pages are shared.

    Args:
        path: The file.
        what: Name of the entry, for errors.
        most: Map one byte more than this at most.
        follow: Whether the file itself may be a symbolic link.

    Raises:
        IntegrityError: It is no regular file.
        PackageError: It cannot be read.
    """
    # Not blocking: a named pipe in the place of a file would wait for ever.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise IntegrityError(f"{what}: {path} is not a regular file", entry=what)
            size = status.st_size if most is None else min(status.st_size, most + 1)
            # Nothing cannot be mapped.
            return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else b"")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(path, error) from error


def check_whole(mapped: memoryview, *, what: str) -> None:
    """See that the file behind `map_file`'s bytes is still as long as they are.

    Reading behind the end of a file that was cut short since ends the process (SIGBUS).

    Raises:
        IntegrityError: It was cut short: most likely a new file is being copied over it.
    """
    # A mapping keeps a descriptor of its own and asks it.
    size = mapped.obj.size() if isinstance(mapped.obj, mmap.mmap) else len(mapped)
    if size < len(mapped):
        raise IntegrityError(
            f"{what}: the file had {len(mapped)} bytes when it was opened and has {size} now",
            hint="write a new package beside it and rename it (mv), instead of copying over it",
            entry=what,
        )


def unreadable(path: Path, error: OSError) -> PackageError:
    """The error for a file that the system does not let us read."""
    reason = error.strerror or str(error)
    return PackageError(f"cannot read {path}: {reason}", hint=f"ls -l {path}", file=str(path))


def inflate(entry: Entry, packed: memoryview) -> memoryview:
    """The content of deflated data, whose digest is checked first.

    Raises:
        IntegrityError: The data is not what was written, or does not inflate to the stated size.
    """
    if hashlib.sha256(packed).hexdigest() != entry.packed_sha256:
        raise IntegrityError(
            f"{entry.path}: its compressed data does not fit its digest",
            hint="copy or download the package again, or build it again",
            entry=entry.path,
        )
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than stated, so that too much is noticed and never held.
        data = machine.decompress(packed, entry.size + 1)
    except zlib.error as error:
        raise IntegrityError(f"{entry.path}: cannot be inflated: {error}", entry=entry.path) from None
    if len(data) != entry.size or not machine.eof or machine.unused_data:
        raise IntegrityError(
            f"{entry.path}: does not inflate to the {entry.size} bytes it states", entry=entry.path
        )
    return memoryview(data)
