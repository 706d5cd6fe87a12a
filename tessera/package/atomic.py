"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tessera.program.errors import PackageError, WriteError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _WholeFile(FileIO):
    """A file without a buffer, of which a write is all or an error: a full disk would take a part."""

    def write(self, data: Buffer, /) -> int:
        """Write every byte."""
        left = memoryview(data).cast("B")
        size = left.nbytes
        while left:
            left = left[super().write(left) or 0 :]
        return size


@contextmanager
def atomic_file(path: Path, *, mode: int | None = None, replace: bool = True) -> Iterator[FileIO]:
    """A new file that takes the place of `path` when the block ends well, and vanishes when not.

    It is written beside `path`, flushed to the disk and renamed, so that after a crash or a power
    cut `path` is the old file or the new one, never a mixture.

    Args:
        path: The file.
        mode: Its permissions from the first moment on, whatever the umask; None: those of any new file.
        replace: Whether a file that is there already gives way.

    Raises:
        PackageError: The file cannot be written: no folder, no permission, no space. A device or a pipe
            is not replaced.
    """
    _check_place(path)
    temporary = _beside(path)
    try:
        # Mode 666 less the umask, as for any file that a user saves; `tempfile` would make it private.
        with _WholeFile(
            os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, (mode or 0o666) & 0o666),
            "w+",
        ) as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            # A link fails where a name is taken, which a rename does not.
            os.link(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        _fail("write", path, error)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: object, *, indent: int = 2) -> None:
    """JSON text in a file of UTF-8 that appears whole or not at all, as `atomic_file` makes it.

    Args:
        path: The file; what was there gives way.
        value: What `json.dumps` takes; no number that JSON lacks.
        indent: Spaces a level.

    Raises:
        WriteError: The file cannot be written.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with atomic_file(path) as file:
            file.write(text.encode())
    except PackageError as error:
        raise WriteError(error.message, hint=error.hint, file=str(path)) from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder that becomes `path` when the block ends well, and vanishes when not.

    Raises:
        PackageError: `path` exists and is not an empty folder, or cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise PackageError(f"{path} exists and is not an empty folder", hint="give another folder")
    temporary = _beside(path)
    try:
        temporary.mkdir()
        yield temporary
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _fail("write", path, error)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_place(path: Path) -> None:
    """See that a file can take the place of `path`: renamed over /dev/null, it would be there for everybody.

    Raises:
        PackageError: It cannot.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        _fail("write", path, error)
    if stat.S_ISDIR(mode):
        raise PackageError(f"{path} is a folder", hint="give a file name, or use unpack() for a folder")
    if not stat.S_ISREG(mode):
        raise PackageError(
            f"{path} is a device or a pipe, which a file cannot replace", hint="give a file name"
        )


def _beside(path: Path) -> Path:
    # Cut, so that a long name stays under the 255 bytes that file systems allow.
    return path.parent / f".{path.name[:60]}.{secrets.token_hex(8)}.tmp"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Some network file systems refuse to sync a folder; the file itself is on the disk by then.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fail(verb: str, path: Path, error: OSError) -> NoReturn:
    hint = {
        errno.ENOENT: f"mkdir -p {path.parent}",
        errno.EACCES: "choose a folder you may write to",
        errno.EPERM: "choose a folder you may write to",
        errno.EROFS: "choose a folder you may write to",
        errno.ENAMETOOLONG: "give a shorter name",
        errno.ENOTDIR: f"ls -ld {path.parent}",
        errno.ELOOP: f"ls -l {path}",
    }.get(error.errno or 0, f"df -h {path.parent}")
    reason = error.strerror or str(error)
    raise PackageError(f"cannot {verb} {path}: {reason}", hint=hint, file=str(path)) from error
