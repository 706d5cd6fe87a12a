"""Where the cache lies, and the form of its files; imports next to nothing, so that an answer is quick."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

_MAGIC = b"TESSERA-CACHE-1\n"
_HEAD_BYTES = len(_MAGIC) + 32


def default_folder() -> Path | None:
    """`$TESSERA_CACHE_DIR`, else `$XDG_CACHE_HOME/tessera`, else `~/.cache/tessera`; None without a home."""
    chosen = os.environ.get("TESSERA_CACHE_DIR")
    if chosen:
        return Path(chosen) / "kernels"
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        root = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:
        return None
    return root / "tessera" / "kernels"


def entry_path(folder: Path, key: str) -> Path:
    """The file of the entry under `key`, hexadecimal digits."""
    return folder / key[:2] / f"{key[2:]}.entry"


def read_entry(path: Path) -> bytes | None:
    """What was written, if it is there and whole; a file that was damaged is removed."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[_HEAD_BYTES:]
    if data.startswith(_MAGIC) and hashlib.sha256(body).digest() == data[len(_MAGIC) : _HEAD_BYTES]:
        # What is used stays: the time tells which entries go first.
        with suppress(OSError):
            os.utime(path)
        return body
    with suppress(OSError):
        path.unlink()
    return None


def write_entry(path: Path, body: bytes) -> None:
    """Write an entry, whole or not at all: other processes see the old file or the new one.

    Raises:
        OSError: The folder cannot be written, or there is no space.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{secrets.token_hex(8)}"
    try:
        with os.fdopen(
            os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
        ) as file:
            file.write(_MAGIC + hashlib.sha256(body).digest())
            file.write(body)
        beside.replace(path)
    except BaseException:
        # No space, or Ctrl-C.
        with suppress(OSError):
            beside.unlink()
        raise
