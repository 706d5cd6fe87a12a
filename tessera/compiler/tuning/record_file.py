"""The file of tuning records: whole after every record, whatever happens to the process that writes it."""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tessera.compiler.tuning.record import Record
from tessera.package.atomic import atomic_file
from tessera.program.errors import ConfigError, TesseraError, WriteError

FORMAT = "tessera autotune"
VERSION = 1


class _File(msgspec.Struct, frozen=True):
    format: str
    version: int
    records: list[Record]


class RecordFile:
    """Tuning records in a JSON file, in one order whatever the order they came in.

    Any number of processes may add to it at once: each addition reads the file, merges and replaces it,
    under a lock beside it.

    Args:
        path: The file; it need not be there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def read(self) -> list[Record]:
        """All records; none if there is no file.

        Raises:
            ConfigError: It is damaged, or not a file of tuning records; the message names the place.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            folder = isinstance(error, IsADirectoryError)
            raise ConfigError(
                f"cannot read {self.path}: {error.strerror}",
                hint=f"name a file in it: {self.path / 'autotune_cache.json'}"
                if folder
                else f"ls -l {self.path}",
                file=str(self.path),
            ) from None
        return decode(data, self.path)

    def check(self) -> None:
        """Refuse what `add` will refuse, before anything was tried.

        Raises:
            ConfigError: The file is damaged.
            WriteError: Its folder is not there, or may not be written.
        """
        with sole_writer(self.path):
            self.read()

    def add(self, records: Iterable[Record]) -> None:
        """Add records; one with the key of another takes its place.

        Raises:
            ConfigError: The file is damaged.
            WriteError: It cannot be written.
        """
        with sole_writer(self.path):
            found = {record.key: record for record in self.read()}
            found |= {record.key: record for record in records}
            try:
                with atomic_file(self.path) as file:
                    file.write(encode(found.values()))
            except TesseraError as error:
                raise WriteError(error.message, hint=error.hint, file=str(self.path)) from None


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold the lock beside a file, so that reading, merging and replacing it is one step for all processes.

    Raises:
        WriteError: The folder is not there, or may not be written.
    """
    lock = path.parent / f".{path.name}.lock"
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise WriteError(
            f"cannot write {path}: {error.strerror}",
            hint=f"mkdir -p {path.parent}" if missing else "choose a folder you may write to",
            file=str(path),
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        # What a process that was killed left half written.
        for left in path.parent.glob(f".{glob.escape(path.name[:60])}.*.tmp"):
            with suppress(OSError):
                left.unlink()
        yield
    finally:
        os.close(handle)


def encode(records: Iterable[Record]) -> bytes:
    """The file's bytes: one record a line, sorted by key."""
    lines = [msgspec.json.encode(r, order="sorted") for r in sorted(records, key=lambda r: r.key)]
    head = f'{{"format": "{FORMAT}", "version": {VERSION}, "records": ['.encode()
    return head + b"\n" + b",\n".join(lines) + b"\n]}\n"


def decode(data: bytes, path: Path) -> list[Record]:
    """The records of a file's bytes.

    Raises:
        ConfigError: It is damaged, of a newer version, or something else.
    """
    hint = f"restore it, or start anew: rm {path}"
    try:
        head = msgspec.json.decode(data, type=dict[str, object])
        if head.get("format") != FORMAT:
            raise ConfigError(
                f"{path} is JSON, but not a file of tuning records: its format is {head.get('format')!r}",
                hint="give another file, or import it: tessera tune … --import FILE (Kernel Tuner's T4)",
                file=str(path),
            )
        if head.get("version") != VERSION:
            raise ConfigError(
                f"{path} is of version {head.get('version')!r}; this Tessera reads version {VERSION}",
                hint=f"update tessera, or {hint}",
                file=str(path),
            )
        return msgspec.json.decode(data, type=_File).records
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {_place(data, error)}", hint=hint, file=str(path)) from None


def _place(data: bytes, error: Exception) -> str:
    """What is wrong, with the line where the parser knows a byte."""
    text = str(error)
    _, found, rest = text.partition("(byte ")
    if not found or not rest.rstrip(")").isdigit():
        return text
    line = data.count(b"\n", 0, int(rest.rstrip(")"))) + 1
    return f"line {line}: {text}"
