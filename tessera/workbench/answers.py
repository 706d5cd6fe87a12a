"""`tessera compile` answered from what it said before, without running the file or importing a compiler.

An answer is kept when the file and all that it imports are self-contained (`self_contained.py`). It holds
what was shown and written, and what it depends on: the bytes of those files, what else could be imported in
their place, the project file, the versions of everything installed, this environment and terminal. When all
is as it was, the command says the same again; otherwise the file is run and compiled as always, and kernels
that are known still come from the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.compiler.cache_file import default_folder, entry_path, read_entry, write_entry

_FORM = 1
_LARGEST_BYTES = 32 << 20
"""Answers that would write more are not kept."""
_NOT_ANSWERED = frozenset({"--timings", "--debug", "--help", "-h", "--emit"})
_VARIABLES = ("TESSERA_", "NUMBA", "CUDA", "PYTHON", "LLVM", "CC", "PATH", "COLUMNS", "LINES", "TERM",
              "COLORTERM", "NO_COLOR", "FORCE_COLOR", "TTY_", "LC_", "LANG")  # fmt: skip
_OWN = frozenset({"TESSERA_CACHE_DIR"})
"""Beginnings of the names of variables that may change what is made or how it is shown."""
_IMPORTABLE = (".py", ".pyc", ".so", ".pth", ".egg-link", ".dist-info", ".egg-info", ".zip")
_CLOCK_NS = 20_000_000
"""Coarsest step, in nanoseconds, of the clocks that file systems take their times from."""
PROJECT_FILE = "tessera.toml"


@dataclass(frozen=True, slots=True)
class Question:
    """A call of `tessera compile`, as it was when the process began."""

    place: Path
    """Where its answer is kept."""
    path: tuple[str, ...]
    """The import path."""
    installed: str
    """Digest of what the import path and Tessera itself held."""
    time_ns: int
    """When it was asked; files that are newer may not be those that were read."""


_asked: Question | None = None


def answer(arguments: Sequence[str]) -> int | None:
    """Say again what `tessera compile` said to these arguments, if nothing has changed; the exit status.

    None: the command has to be run. Costs a few milliseconds.
    """
    global _asked
    start = time.perf_counter()
    try:
        _asked = _question(arguments)
    except OSError:
        # A folder of the import path, or the current one, cannot be read.
        return None
    body = None if _asked is None else read_entry(_asked.place)
    if _asked is None or body is None:
        return None
    try:
        head, _, rest = body.partition(b"\n")
        found = json.loads(head)
        if found["depends"] != _state(found["files"], found["folders"], _asked):
            return None
        for name, size in found["written"]:
            _write(Path(name), rest[:size])
            rest = rest[size:]
    except (OSError, ValueError, KeyError):
        # Whatever is wrong, the command itself says it best.
        return None
    seconds = time.perf_counter() - start
    if found["json"] is not None:
        sys.stdout.write(json.dumps({**found["json"], "seconds": seconds}, ensure_ascii=False) + "\n")
        return 0
    before, after, notes = found["shown"]
    sys.stdout.write(f"{before}{seconds:.2f} s{after}")
    sys.stdout.flush()
    sys.stderr.write(notes)
    return 0


def keep(
    file: Path,
    project: Path | None,
    written: Iterable[Path],
    *,
    data: Mapping[str, Any] | None = None,
    shown: tuple[str, str, str] | None = None,
) -> None:
    """Keep what this process says, if it will hold as long as no file changes.

    Args:
        file: What was compiled.
        project: The project file that was read.
        written: Files that were made.
        data: What was said as JSON.
        shown: Text on stdout before and after the seconds, and text on stderr.
    """
    if _asked is None:
        return
    from tessera.workbench.self_contained import NotSelfContainedError, self_contained

    resolved = file.resolve()
    try:
        read = self_contained(resolved, _asked.path)
        contents = [(str(path), path.read_bytes()) for path in written]
        if sum(len(text) for _, text in contents) > _LARGEST_BYTES:
            return
        files = sorted({str(path) for path in read.values()})
        folders = sorted({str(Path(name).parent) for name in files})
        # Project files that are there, and those that would come first if they were.
        candidates = [folder / PROJECT_FILE for folder in (resolved.parent, *resolved.parent.parents)]
        files += map(str, candidates)
        if project != next(filter(Path.is_file, candidates), None) or _is_newer(files, _asked.time_ns):
            return
        head = {
            "files": files,
            "folders": folders,
            "depends": _state(files, folders, _asked),
            "written": [(name, len(text)) for name, text in contents],
            "json": data,
            "shown": shown,
        }
        body = json.dumps(head).encode() + b"\n" + b"".join(text for _, text in contents)
        write_entry(_asked.place, body)
    except (NotSelfContainedError, OSError):
        # Nothing is kept: the next call runs the file as this one did.
        return


def _question(arguments: Sequence[str]) -> Question | None:
    """The call, its answer named by the arguments, the folder, the environment and the terminal."""
    words = [word.partition("=")[0] for word in arguments]
    if words[:1] != ["compile"] or not _NOT_ANSWERED.isdisjoint(words):
        return None
    folder = default_folder()
    if folder is None:
        return None
    about = [
        _FORM,
        list(arguments),
        str(Path.cwd()),
        sorted((k, v) for k, v in os.environ.items() if k.startswith(_VARIABLES) and k not in _OWN),
        [_terminal(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        [sys.version, sys.executable, sys.path, list(sys.flags)],
        [*os.uname()],
    ]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    own = hashlib.sha256("".join(_sources(str(Path(__file__).parent.parent))).encode())
    own.update("".join(map(_importable, sys.path)).encode())
    return Question(entry_path(folder, key), tuple(sys.path), own.hexdigest(), time.time_ns())


def _terminal(stream: Any) -> list[Any]:
    try:
        return [stream.encoding, list(os.get_terminal_size(stream.fileno())) if stream.isatty() else None]
    except (AttributeError, OSError, ValueError):
        return [None]


def _state(files: Iterable[str], folders: Iterable[str], asked: Question) -> str:
    """Digest of what an answer depends on, as it is now."""
    found = hashlib.sha256(asked.installed.encode())
    for name in files:
        try:
            text = Path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            found.update(b"absent\0")
        else:
            found.update(hashlib.sha256(text).digest())
    found.update("".join(map(_importable, folders)).encode())
    return found.hexdigest()


def _is_newer(files: Iterable[str], time_ns: int) -> bool:
    """Whether a file was written since, or so shortly before that a clock might not tell."""
    stats = [Path(name).stat() for name in files if Path(name).exists()]
    return any(max(s.st_mtime_ns, s.st_ctime_ns) > time_ns - _CLOCK_NS for s in stats)


def _importable(folder: str) -> str:
    """Names in a folder that an import might find, and the versions of what is installed there."""
    try:
        with os.scandir(folder or ".") as entries:
            names = [e.name for e in entries if e.name.endswith(_IMPORTABLE) or e.is_dir()]
    except OSError:
        return f"{folder}: none\0"
    kept = sorted(name for name in names if name != "__pycache__" and not name.startswith("."))
    return "\0".join((folder, *kept, ""))


def _sources(folder: str) -> Iterable[str]:
    """Tessera's own files by size and time, as Python tells whether a module is compiled; 2 ms."""
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__":
                yield from _sources(entry.path)
        elif entry.name.endswith((".py", ".so")):
            about = entry.stat()
            yield f"{entry.path}\0{about.st_size}\0{about.st_mtime_ns}\0"


def _write(path: Path, data: bytes) -> None:
    """Write a file as the package does, whole or not at all, without what importing that costs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with os.fdopen(
            os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb"
        ) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
