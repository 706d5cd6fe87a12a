"""Files that may be replaced while a server runs."""

from __future__ import annotations

from pathlib import Path

State = tuple[int, ...] | None


def state_of(path: Path) -> State:
    """What changes when the file is replaced or written; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
