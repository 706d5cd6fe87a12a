"""A segment of POSIX shared memory that belongs to a client.

It is read and written by system calls and never mapped: a client may shorten its segment at any time,
and touching a mapped page behind the new end would kill the process. What was read is a copy, which
the client cannot change between its check and its use.

Source: shm_overview(7), shm_open(3).
"""

from __future__ import annotations

import os
import re
import stat
import weakref
from http import HTTPStatus

from tessera.serve.request import RequestError

FOLDER = "/dev/shm"  # noqa: S108 - where the kernel keeps POSIX shared memory, not a temporary file
"""Where Linux shows the segments."""

_NAME = re.compile(r"/?(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,250}\Z")


class Segment:
    """An open segment; its descriptor is closed when nothing refers to it any more.

    So a request that reads it is not disturbed by another one that gives it up.

    Args:
        key: Its name, with or without a slash at its beginning.

    Raises:
        RequestError: There is none of that name, or it belongs to another user.
    """

    def __init__(self, key: str) -> None:
        self._name = checked_name(key)
        # A name without slashes cannot leave the folder; links are not followed, pipes not waited for.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(f"{FOLDER}/{self._name}", flags)
        except OSError as error:
            raise _unusable(self._name, error.strerror or "it cannot be opened") from error
        self._close = weakref.finalize(self, os.close, self._fd)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise _unusable(self._name, "it is no shared memory")
        if found.st_uid != os.geteuid():
            raise _unusable(self._name, "it belongs to another user")

    @property
    def size(self) -> int:
        """Its bytes, now."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, size: int, what: str) -> bytes:
        """A copy of `size` bytes from `offset` on.

        Args:
            offset: From its beginning.
            size: How many.
            what: Who wants them, for the message.

        Raises:
            RequestError: It has become shorter.
        """
        chunks: list[bytes] = []
        left = size
        while left:
            chunk = os.pread(self._fd, left, offset + size - left)
            if not chunk:
                raise self._too_short(offset, size, what)
            chunks.append(chunk)
            left -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def write(self, offset: int, data: bytes | memoryview, what: str) -> None:
        """Put `data` at `offset`.

        Args:
            offset: From its beginning.
            data: What.
            what: Whose it is, for the message.

        Raises:
            RequestError: It has become shorter, or the host has no memory left for it.
        """
        view = memoryview(data).cast("B")
        # Writing behind the end would make it longer, as it does with every file.
        if self.size < offset + len(view):
            raise self._too_short(offset, len(view), what)
        done = 0
        while done < len(view):
            try:
                done += os.pwrite(self._fd, view[done:], offset + done)
            except OSError as error:
                raise RequestError(
                    f"{what} cannot be written to the shared memory {self._name!r}: {error.strerror}",
                    hint=f"df {FOLDER}",
                    status=HTTPStatus.INSUFFICIENT_STORAGE,
                ) from error

    def _too_short(self, offset: int, size: int, what: str) -> RequestError:
        return RequestError(
            f"{what} is {size} bytes at {offset} of the shared memory {self._name!r}, "
            f"which has {self.size} bytes now",
            hint="do not shorten a segment that is registered",
        )


def checked_name(key: str) -> str:
    """The name of a segment, without the slash at its beginning.

    Raises:
        RequestError: It is no name, or one that leads elsewhere.
    """
    if not _NAME.match(key):
        raise RequestError(
            f"{key[:80]!r} is no name of shared memory",
            hint="up to 250 letters, digits and . _ -, with a slash before them or without",
        )
    return key.removeprefix("/")


def _unusable(name: str, why: str) -> RequestError:
    return RequestError(
        f"the shared memory {name!r} cannot be used: {why}",
        hint=f"ls -l {FOLDER}/{name} as the server's user",
    )
