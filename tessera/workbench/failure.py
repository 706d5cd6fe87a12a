"""How an error looks: one clear block for a person, one object for a program."""

from __future__ import annotations

import errno
import linecache
import os
import shutil
import sys
import textwrap
import unicodedata
from typing import Any, TextIO

from tessera.program.errors import MissingDependencyError, SourceLocation, TesseraError, cause_of

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells have it."""

_TAB = 4
_CODES = {"red": "1;31", "blue": "1;34", "green": "1;32", "yellow": "1;33", "dim": "2"}


class UsageError(TesseraError):
    """A call of the command line that cannot be meant: a file that is not there, a wrong option."""

    exit_status = 2


class InterruptError(TesseraError):
    """Ctrl-C."""


class MachineError(TesseraError):
    """A file, disk or memory of this machine that does not do what is asked of it."""


_EXTRAS = {
    **dict.fromkeys(("numba", "numba_cuda", "llvmlite", "cuda"), "compile"),
    **dict.fromkeys(("textual", "tree_sitter"), "workbench"),
    **dict.fromkeys(("starlette", "httptools", "orjson", "prometheus_client"), "serve"),
    "elftools": "debug",
    **dict.fromkeys(("jinja2", "pynvml"), "profile"),
}
"""Packages by their import names, and the extra that brings them."""

_MACHINE_HINTS = {
    errno.ENOSPC: "df -h shows which disk is full",
    errno.EDQUOT: "the quota of this disk is used up",
    errno.EFBIG: "ulimit -f limits the size of files",
    errno.EACCES: "see who may read and write there: ls -ld {place}",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "the links lead nowhere: ls -l {place}",
    errno.EROFS: "choose a place you may write to",
    errno.ENOENT: "check the path; mkdir -p makes a folder that is missing",
    errno.ENOTDIR: "a file stands where a folder should: choose another path",
    errno.EISDIR: "this is a folder: name a file in it",
    errno.EEXIST: "it exists already: remove it, or choose another path",
}


def missing_package(error: ImportError, *, needed_for: str) -> MissingDependencyError | None:
    """The error for a package that an extra of Tessera brings; None if it is another one."""
    package = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(package)
    return None if extra is None else MissingDependencyError.extra(package, extra, needed_for=needed_for)


def failure_of_machine(error: OSError | MemoryError | ImportError) -> TesseraError | None:
    """What an error of Python's own means to the caller of a command; None if nothing better is known."""
    if isinstance(error, MemoryError):
        what = f"not enough memory: {text_of(error).partition(': ')[2] or 'an array does not fit'}"
        return MachineError(what, hint="give smaller sizes, such as --size n=1000")
    if isinstance(error, ImportError):
        return missing_package(error, needed_for="this command")
    if error.strerror is None:
        return None
    place = f"{error.filename}: " if error.filename is not None else ""
    hint = _MACHINE_HINTS.get(error.errno or 0, "run again with --debug to see where")
    hint = hint.format(place="PATH" if error.filename is None else error.filename)
    return MachineError(f"{place}{error.strerror}", hint=hint)


def text_of(error: BaseException) -> str:
    """`Kind: message` of an error that may be a stranger's: its message may fail, too."""
    try:
        return f"{type(error).__name__}: {cause_of(error) if isinstance(error, ImportError) else error}"
    except Exception:  # noqa: BLE001 - whatever a stranger's __str__ does
        return f"{type(error).__name__}, whose message cannot be shown"


def colored(stream: TextIO) -> bool:
    """Whether to write colours to `stream`. Source: https://no-color.org."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def visible(text: str) -> str:
    """`text` with control characters spelled out: it may come from a stranger's file."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf") else repr(c)[1:-1] for c in text
    )


def error_block(
    error: TesseraError, *, color: bool = False, context: int = 2, width: int | None = None
) -> str:
    """The error as lines of text: message, source excerpt with a caret, hint.

    Args:
        error: What to show.
        color: Whether to add terminal colours.
        context: Lines of source to show above the offending one.
        width: Columns of the terminal, where words are to go to the next line; None: they stay.
    """
    lines = [_labelled("error:", "red", error.message, color, width)]
    if error.location is not None:
        lines += _excerpt(error.location, color, context)
    if error.hint:
        lines.append(_labelled("hint:", "green", error.hint, color, width))
    return "\n".join(lines)


def _labelled(label: str, name: str, text: str, color: bool, width: int | None) -> str:
    """A coloured label and its text, in lines of whole words if there is a width."""
    lines = f"{label} {visible(text)}".split("\n")
    if width is not None:
        # A path or command that is longer than a line stays in one piece, to be copied.
        lines = [textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in lines]
    whole = "\n".join(lines)
    return paint(label, name, color) + whole[len(label) :]


def error_data(error: TesseraError) -> dict[str, Any]:
    """The error for `--json`."""
    place = error.location
    location = (
        None
        if place is None
        else {"file": place.file, "line": place.line, "column": place.column, "function": place.function}
    )
    fields = {key: value for key, value in error.fields.items() if _is_json(value)}
    return {
        **fields,
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "location": location,
    }


def paint(text: str, name: str, color: bool) -> str:
    """`text` in a colour, if colours are wanted."""
    return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if color else text


def _excerpt(place: SourceLocation, color: bool, context: int) -> list[str]:
    inside = f", in {place.function}" if place.function else ""
    lines = ["  " + paint("-->", "blue", color) + f" {visible(short_path(place.file))}:{place.line}{inside}"]
    linecache.checkcache(place.file)
    first = max(1, place.line - context)
    source = [(n, linecache.getline(place.file, n)) for n in range(first, place.line + 1)]
    if not source[-1][1].strip():
        return lines
    width = len(str(place.line))
    bar = paint("|", "blue", color)
    lines.append(f"{' ' * width} {bar}")
    lines += [
        f"{paint(str(n).rjust(width), 'blue', color)} {bar} {visible(text.rstrip().expandtabs(_TAB))}"
        for n, text in source
    ]
    start, length = _caret(source[-1][1].rstrip(), place)
    lines.append(f"{' ' * width} {bar} {' ' * start}{paint('^' * length, 'red', color)}")
    return lines


def _caret(text: str, place: SourceLocation) -> tuple[int, int]:
    """Where the caret starts and how many there are, in terminal columns."""
    if place.column is None:
        return _columns(text[: len(text) - len(text.lstrip())]), max(1, _columns(text.strip()))
    start = min(place.column, len(text))
    end = len(text) if place.end_column is None else min(place.end_column, len(text))
    if place.end_column is None:
        end = start + 1
    before = _columns(text[:start])
    return before, max(1, _columns(text[:end]) - before)


def _columns(text: str) -> int:
    shown = visible(text.expandtabs(_TAB))
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in shown
    )


def short_path(file: str) -> str:
    """`file` relative to the current folder, if it lies below it."""
    try:
        relative = os.path.relpath(file)
    except ValueError:
        return file
    return file if relative.startswith("..") else relative


def _is_json(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, (str, int, float, bool))


def show_error(error: TesseraError, stream: TextIO | None = None) -> None:
    """Write the block to stderr."""
    out = stream or sys.stderr
    # A log or a pipe gets each message in one line, to be searched.
    width = shutil.get_terminal_size().columns if out.isatty() else None
    print(error_block(error, color=colored(out), width=width), file=out)
