"""Compiled kernels on disk, found by what they were made from.

An entry is one file: a digest, then what it is the digest of. Files appear by
rename, so that a reader sees a whole entry or none, and processes may share the
folder. An entry that was damaged is found by its digest, dropped, and made anew.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tessera.compiler.cache_file import default_folder, entry_path, read_entry, write_entry
from tessera.compiler.fingerprint import digest, own_digest
from tessera.compiler.numba_adapter import versions
from tessera.compiler.options import ToolOptions
from tessera.program.artifact import Resources

DEFAULT_MAX_BYTES = 4 << 30
"""Size at which the least recently written entries go."""
_PRUNE_INTERVAL_S = 86400


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one compilation made."""

    files: dict[str, bytes]
    """By format: `ptx`, `cubin`, `so`."""
    resources: Resources | None = None
    """Of a cubin, without the launch's part."""
    tool: str = ""
    """The linker that made a `so`."""


class CompileCache:
    """A folder of entries.

    Args:
        folder: Where; None keeps nothing and finds nothing.
        max_bytes: Size of the folder beyond which old entries are removed.
    """

    def __init__(self, folder: Path | None, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self.failure: str | None = None
        """Why an entry could not be written, if one could not."""

    @classmethod
    def default(cls) -> CompileCache:
        """`$TESSERA_CACHE_DIR`, else `$XDG_CACHE_HOME/tessera`, else `~/.cache/tessera`."""
        return cls(default_folder())

    @classmethod
    def off(cls) -> CompileCache:
        """A cache that keeps nothing."""
        return cls(None)

    def get(self, key: str | None) -> Entry | None:
        """The entry under `key`, if it is there and whole."""
        path = self._path(key)
        body = read_entry(path) if path is not None else None
        if path is None or body is None:
            return None
        try:
            return msgspec.msgpack.decode(body, type=Entry)
        except (msgspec.DecodeError, msgspec.ValidationError):
            with suppress(OSError):
                path.unlink()
            return None

    def put(self, key: str | None, entry: Entry) -> None:
        """Keep `entry` under `key`. A folder that cannot be written is noted in `failure`, no more."""
        path = self._path(key)
        if path is None:
            return
        try:
            write_entry(path, msgspec.msgpack.encode(entry))
            self._prune_sometimes()
        except OSError as error:
            self.failure = f"the compile cache {self.folder} could not be written: {error}"

    def _path(self, key: str | None) -> Path | None:
        return None if key is None or self.folder is None else entry_path(self.folder, key)

    def _prune_sometimes(self) -> None:
        """Remove old entries when the folder has outgrown its limit; looks once a day."""
        assert self.folder is not None  # noqa: S101 - narrows the type
        stamp = self.folder / "pruned"
        with suppress(OSError):
            if time.time() - stamp.stat().st_mtime < _PRUNE_INTERVAL_S:
                return
        stamp.touch()
        self.prune()

    @property
    def max_bytes(self) -> int:
        """Size of the folder beyond which old entries are removed."""
        return self._max_bytes

    def contents(self) -> list[tuple[float, int, Path]]:
        """Every entry, oldest first: when it was last used (seconds since 1970), bytes, file."""
        found = []
        for path in self.folder.glob("??/*.entry") if self.folder is not None else ():
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
        return sorted(found)

    def prune(self, max_bytes: int | None = None) -> int:
        """Remove what was not used for longest until the folder is within its limit; how many entries went.

        Args:
            max_bytes: Another limit than the cache's own; 0 removes everything.
        """
        limit = self._max_bytes if max_bytes is None else max_bytes
        found = self.contents()
        total = sum(size for _, size, _ in found)
        removed = 0
        for _, size, path in found:
            if total <= limit:
                break
            path.unlink(missing_ok=True)
            total -= size
            removed += 1
        return removed


@cache
def toolchain() -> Mapping[str, str]:
    """Versions of everything that decides what machine code comes out."""
    return {
        "python": ".".join(map(str, sys.version_info[:3])) + sys.implementation.name,
        **versions(),
        "tessera": own_digest(),
    }


def entry_key(options: ToolOptions, parts: Mapping[str, Any]) -> str:
    """The key of what `parts` (JSON data) become under `options` with this toolchain.

    Tilings show in the text of the kernels that they shape, which is among the parts: others are found again.
    """
    options = replace(options, tilings=())
    return digest({"options": asdict(options), "tools": dict(toolchain()), "parts": dict(parts)})
