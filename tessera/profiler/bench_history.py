"""Saved benchmarks: one SQLite file that any number of processes may read and write."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tessera import __version__
from tessera.profiler.bench_result import BenchResult
from tessera.program.errors import ConfigError, HistoryError

FILE_NAME = "bench.sqlite"
VARIABLE = "TESSERA_DATA_DIR"
SCHEMA = 1
"""Version of the tables, in the file's `user_version`. A file of a later one is refused."""
APPLICATION = 0x54736272
"""`Tsbr`, in the file's `application_id`: tells our files from other people's."""
_WAIT_S = 30.0
"""How long a process waits for another that writes."""

_TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    made_at TEXT NOT NULL,
    version TEXT NOT NULL
);
CREATE INDEX runs_by_name ON runs (name);
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    target TEXT NOT NULL,
    program TEXT,
    device TEXT NOT NULL,
    hardware TEXT NOT NULL,
    document BLOB NOT NULL
);
CREATE INDEX results_by_run ON results (run);
CREATE INDEX results_by_target ON results (target);
"""


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What one call measured, as it was saved."""

    id: int
    name: str
    """What it was saved as; empty where nobody gave it a name."""
    made_at: datetime
    """When, in UTC."""
    version: str
    """Tessera's version."""
    results: tuple[BenchResult, ...]
    """One for each target."""


def default_history() -> Path:
    """`$TESSERA_DATA_DIR/bench.sqlite`, else in `$XDG_DATA_HOME/tessera` or `~/.local/share/tessera`.

    Raises:
        ConfigError: There is no home folder.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen) / FILE_NAME
    base = os.environ.get("XDG_DATA_HOME")
    try:
        root = Path(base) if base else Path.home() / ".local" / "share"
    except RuntimeError:
        raise ConfigError(
            "there is no home folder to keep benchmarks in", hint=f"set {VARIABLE} to a folder"
        ) from None
    return root / "tessera" / FILE_NAME


class History:
    """Saved benchmarks in one file, which is made when the first is saved.

    Args:
        path: The file; None: `default_history()`.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = default_history() if path is None else path

    def save(self, results: Sequence[BenchResult], *, name: str = "") -> SavedRun:
        """Save what one call measured, whole or not at all.

        Raises:
            HistoryError: The file cannot be written, or is no history.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        with self._opened(writing=True) as connection, self._transaction(connection):
            cursor = connection.execute(
                "INSERT INTO runs (name, made_at, version) VALUES (?, ?, ?)",
                (name, now.isoformat(), __version__),
            )
            number = int(cursor.lastrowid or 0)
            connection.executemany(
                "INSERT INTO results (run, target, program, device, hardware, document) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (number, r.target, r.program, r.device, r.hardware, msgspec.json.encode(r))
                    for r in results
                ],
            )
        return SavedRun(number, name, now, __version__, tuple(results))

    def runs(
        self, *, target: str | None = None, name: str | None = None, limit: int | None = None
    ) -> list[SavedRun]:
        """What was saved, the newest first; nothing where there is no file yet.

        Args:
            target: Only runs that measured this target.
            name: Only runs that were saved as this.
            limit: At most so many.

        Raises:
            HistoryError: The file cannot be read, or is no history.
        """
        conditions, values = ["1"], []
        if target is not None:
            conditions.append("id IN (SELECT run FROM results WHERE target = ?)")
            values.append(target)
        if name is not None:
            conditions.append("name = ?")
            values.append(name)
        return self._read(" AND ".join(conditions), (*values, -1 if limit is None else limit))

    def find(self, which: str, *, targets: Sequence[str] = ()) -> SavedRun:
        """The run with that number (`12` or `#12`), the newest of that name, or with `last` the newest.

        Args:
            which: A number, a name, or `last`.
            targets: With `last` and with a name: the newest run that measured one of these.

        Raises:
            ConfigError: There is none.
            HistoryError: The file cannot be read, or is no history.
        """
        number = which.removeprefix("#")
        if number.isdecimal() and len(number) < 19:
            found = self._read("id = ?", (int(number), 1))
        else:
            found = self.runs(name=None if which == "last" else which)
        for run in found:
            if number.isdecimal() or not targets or any(r.target in targets for r in run.results):
                return run
        of = f" of {', '.join(targets)}" if targets else ""
        raise ConfigError(
            f"{self.path} holds no run {which!r}{of}", hint="tessera bench --history lists what is saved"
        )

    def _read(self, condition: str, values: tuple[object, ...]) -> list[SavedRun]:
        if not self.path.exists():
            return []
        with self._opened(writing=False) as connection:
            rows = connection.execute(
                # The condition is one of ours; values are bound.
                f"SELECT id, name, made_at, version FROM runs WHERE {condition} ORDER BY id DESC LIMIT ?",  # noqa: S608
                values,
            ).fetchall()
            return [self._run(connection, *row) for row in rows]

    def _run(
        self, connection: sqlite3.Connection, number: int, name: str, made_at: str, version: str
    ) -> SavedRun:
        documents = connection.execute("SELECT document FROM results WHERE run = ? ORDER BY id", (number,))
        try:
            results = tuple(BenchResult.from_json(document) for (document,) in documents)
            return SavedRun(number, name, datetime.fromisoformat(made_at), version, results)
        except (ConfigError, ValueError, TypeError) as error:
            raise HistoryError(
                f"{self.path}: run {number} cannot be read: {error}",
                hint="it was written by another version, or damaged: compare with another run",
            ) from None

    @contextmanager
    def _opened(self, *, writing: bool) -> Iterator[sqlite3.Connection]:
        try:
            if writing:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                self._check(connection)
                yield connection
        except sqlite3.Error as error:
            raise self._failure(error) from error
        except OSError as error:
            raise HistoryError(
                f"{self.path}: {error.strerror}", hint=f"set {VARIABLE} to a folder that you may write"
            ) from error

    def _check(self, connection: sqlite3.Connection) -> None:
        """Whether the file is ours and of a version we know; a new one gets its tables."""
        if self._is_ours(connection):
            return
        self._use_wal(connection)
        with self._transaction(connection):
            # Another process may have made them while we waited.
            if not self._is_ours(connection):
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION:
            if version > SCHEMA:
                raise HistoryError(
                    f"{self.path} was written by a later Tessera: tables of version {version}, "
                    f"known are those up to {SCHEMA}",
                    hint="pip install --upgrade tessera, or choose another file with --database",
                )
            return True
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or tables:
            raise HistoryError(
                f"{self.path} is a database of something else",
                hint="choose another file with --database FILE",
            )
        return False

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Let readers and one writer work at once; file systems without shared memory keep the old way."""
        end = time.monotonic() + _WAIT_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait here as it does elsewhere.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            # Where the disk is full SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _failure(self, error: sqlite3.Error) -> HistoryError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        hints = {
            sqlite3.SQLITE_NOTADB: "no SQLite file: move it away, or choose another with --database FILE",
            sqlite3.SQLITE_CORRUPT: f"it is damaged: mv {self.path} {self.path}.damaged starts a new one",
            sqlite3.SQLITE_FULL: "the disk is full: df -h shows which",
            sqlite3.SQLITE_READONLY: f"choose another with --database FILE, or set {VARIABLE} to a folder "
            "that you may write",
            sqlite3.SQLITE_CANTOPEN: f"choose another with --database FILE, or set {VARIABLE} to a folder "
            "that you may write",
            sqlite3.SQLITE_BUSY: "another process holds it for long: try again",
            sqlite3.SQLITE_IOERR: "df -h and ulimit -f show whether there is room",
        }
        hint = hints.get(code, "choose another file with --database FILE")
        return HistoryError(f"{self.path}: {error}", hint=hint, file=str(self.path))
