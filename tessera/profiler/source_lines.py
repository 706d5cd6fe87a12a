"""Lines of the user's source, by the file names that machine code has."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable

_GENERATED = re.compile(r"\.(cuda|cpu)\.[0-9a-f]{12}\.py$")
"""How the compiler names what it writes."""


class SourceFiles:
    """Reads lines of source.

    Args:
        path_of: The path that a file name in line information means.
    """

    def __init__(self, path_of: Callable[[str], str] = str) -> None:
        self._path_of = path_of
        self._paths: dict[str, str] = {}

    def path(self, file: str) -> str:
        """Where a file is."""
        if file not in self._paths:
            # What the compiler wrote in this process is kept under a name in brackets.
            written = f"<{file}>"
            self._paths[file] = written if written in linecache.cache else file and self._path_of(file)
            linecache.checkcache(self._paths[file])
        return self._paths[file]

    @staticmethod
    def generated(file: str) -> bool:
        """Whether a file holds code that the compiler wrote for operators."""
        return _GENERATED.search(file) is not None

    def line(self, file: str, number: int) -> str:
        """A line without its end; empty if it cannot be read."""
        return linecache.getline(self.path(file), number).rstrip() if file and number > 0 else ""

    def lines(self, file: str, first: int, last: int) -> list[tuple[int, str]]:
        """Lines with their numbers, from `first` to `last`; those that cannot be read are left out."""
        total = len(linecache.getlines(self.path(file))) if file else 0
        return [(n, self.line(file, n)) for n in range(max(first, 1), min(last, total) + 1)]
