"""What a command says: data on stdout, talk on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from tessera.program.bytesize import format_bytes
from tessera.program.quantity import format_ms
from tessera.workbench.failure import colored, paint, visible
from tessera.workbench.streams import data_stream
from tessera.workbench.table_layout import Column, Part, fit

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else.")]
"""The option that every reporting command has."""

__all__ = [
    "Column", "JsonOption", "bytes_text", "emit", "note", "number_text", "only_json_on_stdout", "print_table",
    "print_wrapped", "progress", "stdout_console", "terminal_width", "time_text",
]  # fmt: skip

_UNBROKEN = 1000
"""Columns of a table that nobody sees in a terminal."""
_data_stream: TextIO | None = None


@contextlib.contextmanager
def only_json_on_stdout(*, to_the_end: bool = False) -> Iterator[None]:
    """Send to stderr all that is written to stdout, except by `emit`; see `streams.data_stream`."""
    global _data_stream
    with data_stream(to_the_end=to_the_end) as _data_stream:
        try:
            yield
        finally:
            _data_stream = None


def emit(data: Mapping[str, Any]) -> None:
    """Write one JSON object on stdout. NaN and infinity become null: JSON has neither."""
    stream = _data_stream or sys.stdout
    stream.write(json.dumps(_finite(data), ensure_ascii=False, default=str) + "\n")
    stream.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def note(text: str, kind: Literal["note", "warning"] = "note") -> None:
    """Say something on stderr."""
    label = paint(f"{kind}:", "yellow" if kind == "warning" else "blue", colored(sys.stderr))
    print(label, visible(text), file=sys.stderr)


def stdout_console() -> Console:
    """A Rich console on stdout that takes no markup: names and source may hold [brackets]."""
    # rich costs 43 ms; only those who draw tables pay.
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False, soft_wrap=False)


def terminal_width() -> int:
    """Columns to write on stdout: those of the terminal, 80 at least; in a file or a pipe, without end."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return _UNBROKEN
    return max(stdout_console().width, 80)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Draw a table on stdout that fits the terminal, 80 columns at least; in more than one part if it must.

    In a file or a pipe no name is broken over two lines, unless `COLUMNS` asks for it: `grep` reads lines.
    """
    width = terminal_width()
    for part in fit(columns, [[visible(cell) for cell in row] for row in rows], width):
        _draw(part, width, title)
        title = ""


def _draw(part: Part, width: int, title: str) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = stdout_console()
    console.width = width
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=Text(title) if title else None
    )
    table.title_justify = "left"
    for column in part.columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.wraps,
            overflow="fold" if column.wraps else "ellipsis",
        )
    for row in part.rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def print_wrapped(text: str, *, start: str = "", indent: str | None = None, color: str | None = None) -> None:
    """A paragraph on stdout of the terminal's width.

    Args:
        text: What it says.
        start: What its first line begins with.
        indent: What its further lines begin with; None: as many spaces as `start` has letters.
        color: Of the text, where stdout is a terminal that has colors.
    """
    further = " " * len(start) if indent is None else indent
    for line in textwrap.wrap(
        visible(text), terminal_width(), initial_indent=start, subsequent_indent=further
    ):
        print(line if color is None else paint(line, color, colored(sys.stdout)))


@contextlib.contextmanager
def progress(total: int, *, after_s: float = 1.0) -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr that appears once the work has taken `after_s` seconds.

    Yields:
        A function to call with how much of `total` is done, and what comes next.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _label: None
        return
    bar = _DelayedBar(total)
    timer = threading.Timer(after_s, bar.show)
    timer.daemon = True
    timer.start()
    try:
        yield bar.advance
    finally:
        timer.cancel()
        bar.close()


class _DelayedBar:
    """A Rich progress bar that a timer may start at any moment."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0.0
        self._label = ""
        self._lock = threading.Lock()
        self._bar: Any = None
        self._closed = False

    def advance(self, done: float, label: str) -> None:
        with self._lock:
            self._done, self._label = done, label
            self._refresh()

    def show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._closed:
                return
            console = Console(stderr=True, markup=False)
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                console=console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.add_task(self._label, total=self._total)
            self._bar.start()
            self._refresh()

    def _refresh(self) -> None:
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, description=visible(self._label), completed=self._done)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._bar is not None:
                self._bar.stop()


def bytes_text(count: int | None) -> str:
    """A size as a person reads it: `12.4 KiB`; `N/A` if unknown."""
    return "N/A" if count is None else format_bytes(count)


def time_text(milliseconds: float | None) -> str:
    """A time with the unit that fits: `3.41 µs`; `N/A` if unknown."""
    return "N/A" if milliseconds is None else format_ms(milliseconds)


def number_text(value: float | None, form: str = "{}") -> str:
    """A number, or `N/A` if unknown."""
    return "N/A" if value is None else form.format(value)
