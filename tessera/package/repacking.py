"""Writes a package anew as a file: from an unpacked folder, or with its weights stored another way."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from tessera.package.atomic import atomic_file
from tessera.package.content import Blob
from tessera.package.manifest import Entry, Manifest
from tessera.package.package import Package
from tessera.package.records import ALIGNED
from tessera.package.writer import write_container
from tessera.program.errors import IntegrityError


def repack(package: Package, out: Path, *, deflate_weights: bool | None = None) -> bool:
    """Write `package` to the file `out`, once all of it is known to be sound.

    The signature goes along where it still holds: where the manifest, which says how each entry is
    stored, stays what it is.

    Args:
        package: The package, open.
        out: The file; it may be the package's own.
        deflate_weights: Whether weights are compressed; None leaves them as they are.

    Returns:
        Whether a signature was lost.

    Raises:
        IntegrityError: Something in the package is damaged; nothing was written.
        PackageError: The file cannot be written.
    """
    for finding in package.verify():
        raise IntegrityError(
            f"{finding.entry}: {finding.problem}", hint="tessera package verify", entry=finding.entry
        )
    signature = package.signature
    kept: list[bool] = []

    def signature_over(document: bytes) -> memoryview | None:
        holds = signature is not None and document == package.document
        kept.append(holds)
        return memoryview(signature) if signature is not None and holds else None

    def manifest_of(entries: tuple[Entry, ...]) -> Manifest:
        return msgspec.structs.replace(package.manifest, entries=entries)

    blobs = (
        Blob(entry.path, partial(_content, package, entry.path), deflate=_deflates(entry, deflate_weights))
        for entry in package.entries
    )
    with atomic_file(out) as file:
        write_container(file, blobs, manifest_of, signature_over)
    return signature is not None and not kept[0]


def _content(package: Package, path: str) -> memoryview:
    return package.files[path].content()


def _deflates(entry: Entry, weights: bool | None) -> bool:
    if entry.path.startswith(ALIGNED) and weights is not None:
        return weights
    # In a folder that was never a container nothing says how it is stored: as a writer does.
    stored = entry.path.startswith(ALIGNED) if entry.offset is None else entry.compression == "none"
    return not stored
