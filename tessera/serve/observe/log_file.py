"""A log file that is rotated by size and by time, by several processes at once if need be."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path


class LogFile:
    """Appends to `path`; old ones are `path.1` (the newest) to `path.N`.

    A file that somebody else has moved away (another process of the server, logrotate) is opened anew.

    Args:
        path: Where; folders are made.
        max_bytes: A file of so many bytes is put aside; 0: never for its size.
        rotate_every_s: A file from an earlier period is put aside, periods counted from 1970 in UTC
            (86400: at midnight); None: never for its age.
        backup_count: Old files that are kept.
        clock: Seconds since 1970.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 0,
        rotate_every_s: float | None = None,
        backup_count: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._every_s = rotate_every_s
        self._backups = backup_count
        self._clock = clock
        self._descriptor = -1
        self._inode = -1
        self._size = 0
        self._torn = False
        self._period: int | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, data: bytes) -> None:
        """Append `data`, which ends in a line feed.

        Raises:
            OSError: It could not be written whole; a part of it may have been.
        """
        if self._is_elsewhere():
            self._open()
        if self._is_due(len(data)):
            self._rotate()
        # What is written after half a line must not become a part of it.
        view = memoryview(b"\n" + data if self._torn else data)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]
            self._torn = bool(view)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self.close()
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        found = os.fstat(self._descriptor)
        self._inode, self._size = found.st_ino, found.st_size
        self._period = self._period_of(found.st_mtime if found.st_size else self._clock())

    def _period_of(self, seconds: float) -> int | None:
        return None if self._every_s is None else int(seconds // self._every_s)

    def _is_elsewhere(self) -> bool:
        if self._descriptor < 0:
            return True
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return True
        self._size = found.st_size
        return found.st_ino != self._inode

    def _is_due(self, coming: int) -> bool:
        if not self._size:
            self._period = self._period_of(self._clock())
            return False
        too_large = 0 < self._max_bytes < self._size + coming
        return too_large or self._period_of(self._clock()) != self._period

    def _rotate(self) -> None:
        """Put the file aside, unless another process has just done so."""
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._is_elsewhere():
                self._shift()
            self._open()
        finally:
            os.close(lock)

    def _shift(self) -> None:
        if not self._backups:
            os.truncate(self._path, 0)
            return
        for number in range(self._backups - 1, 0, -1):
            older = self._backup(number)
            if older.exists():
                older.replace(self._backup(number + 1))
        self._path.replace(self._backup(1))

    def _backup(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class StandardError:
    """The process' standard error as a log."""

    def write(self, data: bytes) -> None:
        """Write all of `data`.

        Raises:
            OSError: Nobody reads it any more, or its disk is full.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(2, view) :]

    def close(self) -> None:
        """Nothing: it is not ours."""
