"""Reads an unpacked package: the same files in a folder, with the same manifest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from io import FileIO
from pathlib import Path

import msgspec

from tessera.package.content import Blob, Finding, check_digest, map_file, unreadable
from tessera.package.limits import Limits
from tessera.package.manifest import MANIFEST, SIGNATURE, Entry, Manifest, manifest_from_json
from tessera.package.names import check_names
from tessera.package.writer import write_container
from tessera.program.errors import IntegrityError, PackageError, SignatureError


class Tree:
    """A folder that holds exactly what its manifest says, as regular files."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path: Path | None = path
        self._root = path
        self._limits = limits
        # Kept as it was read: what a signature is held against must be what is used, even
        # if another manifest takes its place on the disk meanwhile.
        self.document: bytes
        self.manifest: Manifest
        self.document, self.manifest = self._read()

    def _read(self) -> tuple[bytes, Manifest]:
        # The manifest first: what is no package at all should say so, not name a stray file.
        if not (self._root / MANIFEST).exists():
            raise IntegrityError(
                f"{self._root}: the folder has no {MANIFEST}, so it is no unpacked package",
                hint=f"if it holds packages: tessera serve --repository {self._root}",
                entry=MANIFEST,
            )
        document = bytes(map_file(self._root / MANIFEST, what=MANIFEST, most=self._limits.manifest_bytes))
        manifest = manifest_from_json(document, self._limits)
        sizes = self._sizes()
        check_names(sizes)
        wanted = {entry.path: entry for entry in manifest.entries}
        for name in sorted((sizes.keys() - {SIGNATURE}) ^ {*wanted, MANIFEST}):
            problem = (
                "is not in the manifest" if name in sizes else "is in the manifest, but not in the folder"
            )
            raise IntegrityError(f"{name}: {problem}", hint=f"ls {self._root}", entry=name)
        for entry in manifest.entries:
            if sizes[entry.path] != entry.size:
                raise IntegrityError(
                    f"{entry.path}: {sizes[entry.path]} bytes, the manifest says {entry.size}",
                    entry=entry.path,
                )
        if sizes.get(SIGNATURE, 0) > self._limits.signature_bytes:
            raise IntegrityError(f"{SIGNATURE}: {sizes[SIGNATURE]} bytes", entry=SIGNATURE)
        if sum(sizes.values()) > self._limits.total_bytes:
            raise IntegrityError(f"{self._root}: more than {self._limits.total_bytes} bytes", entry=MANIFEST)
        return document, manifest

    def _sizes(self) -> dict[str, int]:
        """Size of every regular file, by its path in the package."""
        sizes: dict[str, int] = {}
        folders = [self._root]
        try:
            while folders:
                with os.scandir(folders.pop()) as items:
                    for item in items:
                        self._add(item, sizes, folders)
        except OSError as error:
            raise unreadable(self._root, error) from error
        return sizes

    def _add(self, item: os.DirEntry[str], sizes: dict[str, int], folders: list[Path]) -> None:
        name = Path(item.path).relative_to(self._root).as_posix()
        status = item.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            folders.append(Path(item.path))
        elif stat.S_ISREG(status.st_mode):
            sizes[name] = status.st_size
        else:
            raise IntegrityError(
                f"{name}: is a symbolic link or a special file, not a regular one", entry=name
            )
        if len(sizes) + len(folders) > self._limits.entries:
            raise IntegrityError(f"{self._root}: more than {self._limits.entries} files", entry=MANIFEST)

    @property
    def signature(self) -> memoryview | None:
        """What is in `META/model.sig`, if it is there."""
        path, most = self._root / SIGNATURE, self._limits.signature_bytes
        if not os.path.lexists(path):
            return None
        data = map_file(path, what=SIGNATURE, most=most)
        if len(data) > most:
            raise IntegrityError(f"{SIGNATURE}: more than {most} bytes", entry=SIGNATURE)
        return data

    def _manifest_of(self, entries: tuple[Entry, ...]) -> Manifest:
        """The manifest with these entries."""
        return msgspec.structs.replace(self.manifest, entries=entries)

    def _blobs(self) -> Iterator[Blob]:
        """Every entry to write, sorted by path; contents are checked as they are read."""
        for entry in self.manifest.entries:
            yield Blob(entry.path, partial(self._checked, entry), deflate=entry.compression == "deflate")

    def _checked(self, entry: Entry) -> memoryview:
        data = self.content(entry)
        check_digest(entry, data)
        return data

    def content(self, entry: Entry) -> memoryview:
        """The file of `entry`, memory-mapped."""
        data = map_file(self._root / entry.path, what=entry.path, most=entry.size)
        if len(data) != entry.size:
            raise IntegrityError(
                f"{entry.path}: {len(data)} bytes, the manifest says {entry.size}", entry=entry.path
            )
        return data

    def write(self, file: FileIO) -> None:
        """Write the package as a container.

        Raises:
            IntegrityError: A file is damaged.
            SignatureError: The folder is signed, but a container of it has another manifest.
        """
        write_container(file, self._blobs(), self._manifest_of, self._signature_over)

    def _signature_over(self, document: bytes) -> memoryview | None:
        signature = self.signature
        if signature is not None and document != self.document:
            raise SignatureError(
                f"{SIGNATURE}: the signature is over the folder's manifest, which has no places in a file",
                hint=f"rm {self._root / SIGNATURE}, save again, and sign the file: tessera package sign",
                entry=SIGNATURE,
                rule="manifest",
            )
        return signature

    def recheck(self) -> Iterator[Finding]:
        """Whether the folder still holds what its manifest says."""
        try:
            if self._read()[0] != self.document:
                yield Finding(MANIFEST, "was replaced since the folder was opened")
        except PackageError as error:
            yield Finding.of(error, MANIFEST)
        for entry in self.manifest.entries:
            try:
                check_digest(entry, self.content(entry))
            except PackageError as error:
                yield Finding.of(error, entry.path)
