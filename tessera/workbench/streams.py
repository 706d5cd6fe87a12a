"""stdout and stderr of this process, whatever state they are in, and JSON alone on stdout."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, Literal, TextIO

_STDOUT, _STDERR = 1, 2


def make_usable() -> None:
    """Put the null device where stdout or stderr is closed, and let no letter stop the output."""
    # Lowest descriptor first: each one opened takes the place of the one that was closed.
    if sys.stdout is None:
        sys.stdout = _writer(os.open(os.devnull, os.O_WRONLY))
    if sys.stderr is None:
        sys.stderr = _writer(os.open(os.devnull, os.O_WRONLY))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name need not be UTF-8, nor the terminal.
        sys.stdout.reconfigure(errors="backslashreplace")


def flush_stdout() -> bool:
    """Flush; if that fails (the reader has gone, the disk is full) forget the rest, also at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        forget_stdout()
        return False
    return True


def forget_stdout() -> None:
    """Nothing more is written to stdout."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def data_stream(*, to_the_end: bool) -> Iterator[TextIO]:
    """A stream to stdout for data alone.

    Everything else that is written there goes to stderr: by `print`, by the user's own files, by
    libraries in C and by child processes.

    Args:
        to_the_end: Whether it stays so after the block, for what runs as the process ends.
    """
    if not _is_descriptor(sys.stdout, _STDOUT):
        # Something in this process captures it.
        stream = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield stream
        return
    sys.stdout.flush()
    saved = os.dup(_STDOUT)
    stream = _writer(os.dup(saved))
    os.dup2(_STDERR, _STDOUT)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()
        if not to_the_end:
            os.dup2(saved, _STDOUT)
        os.close(saved)


class Copy:
    """A stream that keeps what goes through it; all else about it is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.text = ""
        """All that was written."""

    def write(self, text: str) -> int:
        """Write and keep `text`."""
        self.text += text
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def copied(name: Literal["stdout", "stderr"]) -> Iterator[Copy]:
    """Keep what the block writes to `sys.stdout` or `sys.stderr`."""
    stream = getattr(sys, name)
    copy = Copy(stream)
    setattr(sys, name, copy)
    try:
        yield copy
    finally:
        setattr(sys, name, stream)


def _writer(descriptor: int) -> TextIO:
    # A lone surrogate, as in a file's name that is not UTF-8, becomes \udcff: JSON's own escape.
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False
