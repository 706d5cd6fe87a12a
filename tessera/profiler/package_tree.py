"""The files of a package as the rows of a tree, with sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tessera.profiler.report_data import PackageEntry


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One folder or file."""

    name: str
    depth: int
    bytes: int
    """Of a folder: of everything in it."""
    share: float
    """Of the whole package, 0 to 1."""
    sha256: str | None
    folder: bool


@dataclass(slots=True)
class _Folder:
    bytes: int = 0
    folders: dict[str, _Folder] = field(default_factory=dict)
    files: dict[str, PackageEntry] = field(default_factory=dict)


def tree_rows(entries: Iterable[PackageEntry]) -> list[TreeRow]:
    """Folders before files, each by name; a folder's row comes before what it holds."""
    root = _Folder()
    for entry in entries:
        *parents, name = entry.path.split("/")
        folder = root
        folder.bytes += entry.bytes
        for parent in parents:
            folder = folder.folders.setdefault(parent, _Folder())
            folder.bytes += entry.bytes
        folder.files[name] = entry
    return list(_walk(root, 0, max(root.bytes, 1)))


def _walk(folder: _Folder, depth: int, total: int) -> Iterator[TreeRow]:
    for name, inner in sorted(folder.folders.items()):
        yield TreeRow(name + "/", depth, inner.bytes, inner.bytes / total, None, folder=True)
        yield from _walk(inner, depth + 1, total)
    for name, entry in sorted(folder.files.items()):
        yield TreeRow(name, depth, entry.bytes, entry.bytes / total, entry.sha256, folder=False)
