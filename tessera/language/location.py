"""The user's own source line, as seen from inside an operator."""

from __future__ import annotations

import dis
import inspect
import linecache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

from tessera.program.errors import SourceLocation

_ROOT = Path(__file__).resolve().parents[1]
# Not the whole of Tessera: models may come with it too, as examples and project templates do.
_LIBRARY_FILES = (
    str(_ROOT / "__init__.py"),
    *(f"{_ROOT / room}/" for room in ("language", "reference", "program")),
)
_LIBRARY_NAMES = ("numpy", "functools", "contextlib")


def _is_library(frame: FrameType) -> bool:
    if frame.f_code.co_filename.startswith(_LIBRARY_FILES):
        return True
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in _LIBRARY_NAMES


def caller_line() -> tuple[str | None, int | None]:
    """File and line of the innermost frame that is the user's. A few microseconds: for every node."""
    frame = _caller_frame()
    return (frame.f_code.co_filename, frame.f_lineno) if frame else (None, None)


def caller_location() -> SourceLocation | None:
    """Where the user called, with columns: for an error."""
    frame = _caller_frame()
    return _at(frame.f_code, frame.f_lineno, frame.f_lasti) if frame else None


def _caller_frame() -> FrameType | None:
    frame = inspect.currentframe()
    while frame is not None and _is_library(frame):
        frame = frame.f_back
    return frame


def raised_location(traceback: TracebackType | None) -> SourceLocation | None:
    """The innermost user line that an exception passed through; in an installed package if in no other."""
    places: dict[bool, SourceLocation] = {}
    while traceback is not None:
        frame = traceback.tb_frame
        if not _is_library(frame):
            installed = "site-packages" in frame.f_code.co_filename
            places[installed] = _at(frame.f_code, traceback.tb_lineno, traceback.tb_lasti)
        traceback = traceback.tb_next
    return places.get(False) or places.get(True)


def _at(code: CodeType, line: int, instruction: int) -> SourceLocation:
    positions = next(islice(code.co_positions(), instruction // 2, None), None)
    start = end = None
    if positions and positions[0] == line:
        _, last_line, start, end = positions
        text = linecache.getline(code.co_filename, line)
        start = _characters(text, start)
        end = _characters(text, end) if last_line == line else None
    return SourceLocation(code.co_filename, line, start, end, code.co_name)


def _characters(text: str, offset: int | None) -> int | None:
    """Python counts columns in UTF-8 bytes, readers in characters."""
    return None if offset is None else len(text.encode()[:offset].decode(errors="ignore"))


def definition_location(fn: Any) -> SourceLocation | None:
    """The line of the `def` of a Python function (after its decorators), if it has source."""
    code = _code(fn)
    if code is None:
        return None
    first = code.co_firstlineno
    # co_firstlineno is the first decorator's; the def follows within a few lines.
    for line in range(first, first + 64):
        text = linecache.getline(code.co_filename, line)
        if text.lstrip().startswith(("def ", "async def ")):
            column = len(text) - len(text.lstrip())
            return SourceLocation(code.co_filename, line, column, None, code.co_name)
    return SourceLocation(code.co_filename, first, function=code.co_name)


def return_location(fn: Any) -> SourceLocation | None:
    """The line of the only `return` of a function; None if it has several, or none."""
    code = _code(fn)
    if code is None:
        return None
    lines = {
        i.positions.lineno
        for i in dis.get_instructions(code)
        if i.opname in ("RETURN_VALUE", "RETURN_CONST") and i.positions and i.positions.lineno
    }
    text = {line: linecache.getline(code.co_filename, line).strip() for line in lines}
    found = [line for line in lines if text[line].startswith("return")]
    return SourceLocation(code.co_filename, found[0], function=code.co_name) if len(found) == 1 else None


def _code(fn: Any) -> CodeType | None:
    code = getattr(inspect.unwrap(getattr(fn, "__func__", fn)), "__code__", None)
    return code if isinstance(code, CodeType) else None
