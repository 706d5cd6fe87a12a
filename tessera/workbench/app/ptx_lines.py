"""Which source line each line of PTX came from.

Source: PTX ISA, "Debugging Directives: .file, .loc".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', re.MULTILINE)
_LOC = re.compile(r"^\s*\.loc\s+(\d+)\s+(\d+)\s+\d+(.*)$")
_INLINED = re.compile(r"inlined_at\s+(\d+)\s+(\d+)")
_END = re.compile(r"^\s*(\}|\.visible|\.entry|\.func|\.section)")


@dataclass(frozen=True, slots=True)
class LineMap:
    """The two ways between PTX and one source file."""

    source_of: tuple[int | None, ...]
    """For each PTX line, in order, its 1-based source line, if known."""
    ptx_of: dict[int, tuple[int, ...]]
    """For each source line that has instructions, the 0-based PTX lines."""


def line_map(ptx: str, file_name: str) -> LineMap:
    """Match PTX lines with the lines of the source file called `file_name` (without folders).

    An instruction that was inlined from another file counts for the line that called it.
    """
    files = {int(number): path.rsplit("/", 1)[-1] for number, path in _FILE.findall(ptx)}
    wanted = {number for number, name in files.items() if name == file_name}
    source_of: list[int | None] = []
    current: int | None = None
    for line in ptx.splitlines():
        location = _LOC.match(line)
        if location:
            current = _line_in(location, wanted)
        elif _END.match(line):
            current = None
        source_of.append(current)
    return LineMap(tuple(source_of), _inverse(source_of))


def first_location(ptx: str) -> int:
    """The 0-based line where a kernel's code begins: its first `.loc`, or the first line if it has none."""
    return next((i for i, line in enumerate(ptx.splitlines()) if _LOC.match(line)), 0)


def with_source(ptx: str, file_name: str, source: list[str]) -> str:
    """The PTX with the text of the source line behind every `.loc` that begins another one.

    Args:
        ptx: PTX with `.loc` lines.
        file_name: Name of the source file, without folders.
        source: Its lines.
    """
    shown: list[str] = []
    last: int | None = None
    for line, origin in zip(ptx.splitlines(), line_map(ptx, file_name).source_of, strict=True):
        comment = ""
        if _LOC.match(line) and origin is not None and origin != last and origin <= len(source):
            comment = f"\t// {file_name}:{origin}: {source[origin - 1].strip()}"
        last = origin
        shown.append(line + comment)
    return "\n".join(shown)


def _line_in(location: re.Match[str], wanted: set[int]) -> int | None:
    if int(location[1]) in wanted:
        return int(location[2]) or None
    callers = _INLINED.findall(location[3])
    return next((int(line) for number, line in callers if int(number) in wanted and int(line)), None)


def _inverse(source_of: list[int | None]) -> dict[int, tuple[int, ...]]:
    found: dict[int, list[int]] = {}
    for index, line in enumerate(source_of):
        if line is not None:
            found.setdefault(line, []).append(index)
    return {line: tuple(indices) for line, indices in found.items()}
