"""The headers of a CUDA C++ file: what it includes from its own and the given folders, transitively."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tessera.program.errors import CompileError, SourceLocation

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b[ \t]*(?:\"([^\"\n]+)\"|<([^>\n]+)>|(.*))", re.MULTILINE)
_LEXEME = re.compile(
    r'(?P<literal>R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')'
    r"|(?P<line>//[^\n]*\n|\n)|/\*.*?\*/|[ \t\r\f]+",
    re.DOTALL,
)
_ASKS_FOR_LINE = re.compile(r"__LINE__|\bassert\b|source_location|__builtin_LINE")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)


@dataclass(slots=True)
class Headers:
    """What a file includes. Toolkit headers are not among them: they are known by the toolkit's version."""

    texts: dict[str, str] = field(default_factory=dict)
    """Text by the name that `#include` gives."""
    paths: dict[str, Path] = field(default_factory=dict)
    """File by that name."""
    unknown: tuple[str, ...] = ()
    """`#include MACRO`: what these bring in cannot be told from the text."""


def meaning(text: str) -> str:
    """The source without what a compiler skips: comments, blank lines, all but one of several spaces.

    Where code can ask for its own line (`__LINE__`, `assert`), lines mean something: the text stays.
    """
    if _ASKS_FOR_LINE.search(text):
        return text
    plain = _LEXEME.sub(lambda m: m[0] if m["literal"] else "\n" if m["line"] else " ", text)
    return "\n".join(line for part in plain.split("\n") if (line := part.strip()))


def find_headers(path: Path, text: str, folders: Sequence[Path]) -> Headers:
    """The headers that a file includes from its folder and from `folders`, and those these include.

    Conditional includes count as taken.

    Raises:
        CompileError: Two different files are included by one name, or a header cannot be read.
    """
    found = Headers()
    waiting = [(path, text)]
    while waiting:
        file, content = waiting.pop()
        for line, quoted, name in _includes(content):
            if not name:
                found.unknown += (quoted,)
                continue
            header = _resolve(name, [file.parent, *folders] if quoted else folders)
            if header is None:
                continue
            known = found.paths.setdefault(name, header)
            if known != header:
                raise CompileError(
                    f"{name!r} is {known} in one place and {header} in another",
                    hint="include one of them by a longer path",
                    location=SourceLocation(str(file), line),
                )
            if name not in found.texts:
                found.texts[name] = read_source(header)
                waiting.append((header, found.texts[name]))
    return found


def read_source(path: Path) -> str:
    """The text of a source file.

    Raises:
        CompileError: It cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CompileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CompileError(f"{path} is not text: byte {error.start} is not UTF-8") from None


def _includes(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, a quoted name or the macro, and the name ("" for a macro)."""
    plain = _COMMENT.sub(lambda m: m[0] if m[0].startswith('"') else re.sub(r"[^\n]", " ", m[0]), text)
    for match in _INCLUDE.finditer(plain):
        line = plain.count("\n", 0, match.start()) + 1
        quoted, angled, macro = match.groups()
        yield (line, macro.strip(), "") if quoted is angled else (line, quoted or "", quoted or angled)


def _resolve(name: str, folders: Sequence[Path]) -> Path | None:
    return next((path.resolve() for folder in folders if (path := folder / name).is_file()), None)
