"""`tessera.toml`: a project's settings, which are the defaults of the commands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tessera.package.project_file import project_files
from tessera.program.errors import ConfigError, SourceLocation


@dataclass(frozen=True, slots=True)
class Project:
    """The settings of a project folder; all empty where there is no project file."""

    file: Path | None = None
    """The project file, if there is one."""
    name: str | None = None
    """What the project is called."""
    compile: Mapping[str, Any] = field(default_factory=dict)
    """Section `[compile]`."""
    bench: Mapping[str, Any] = field(default_factory=dict)
    """Section `[bench]`."""
    serve: Mapping[str, Any] = field(default_factory=dict)
    """Section `[serve]`."""
    specs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Sections `[specs.NAME]`: a spec such as `bf16[None,1024]` by argument, for functions without them."""

    @property
    def folder(self) -> Path | None:
        """The folder that relative paths in the project file start from."""
        return self.file.parent if self.file else None

    def arch(self) -> tuple[str, ...]:
        """`[compile] arch`, empty if not set."""
        return tuple(self.compile.get("arch", ()))

    def out(self) -> Path | None:
        """`[compile] out`, if set: the folder that compiled files go to."""
        out = self.compile.get("out")
        return None if out is None or self.folder is None else self.folder / str(out)

    def history(self) -> Path | None:
        """`[bench] history`, if set: the file that benchmarks are saved in."""
        file = self.bench.get("history")
        return None if file is None or self.folder is None else self.folder / str(file)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a setting may hold."""

    words: str
    types: tuple[type, ...]
    of: type | None = None

    def fits(self, value: object) -> bool:
        """Whether `value` is such a thing; True is no number."""
        if isinstance(value, bool) and bool not in self.types:
            return False
        if not isinstance(value, self.types):
            return False
        return self.of is None or (isinstance(value, list) and all(isinstance(v, self.of) for v in value))


_TEXT = _Kind('a text, such as "name"', (str,))
_COUNT = _Kind("a whole number", (int,))
_SWITCH = _Kind("true or false", (bool,))
_ARCHES = _Kind('a list of architectures, such as ["sm_80", "sm_90"]', (list,), str)

SETTINGS: dict[str, dict[str, _Kind]] = {
    "project": {"name": _TEXT},
    "compile": {
        "arch": _ARCHES,
        "out": _TEXT,
        "optimization_level": _COUNT,
        "fast_math": _SWITCH,
    },
    "bench": {"history": _TEXT},
}
"""Every setting by section and key. `[serve]` takes what `ServerConfig` takes, `[trust]` what
`TrustPolicy` does, `[specs.NAME]` any key."""


def find_project(start: Path) -> Project:
    """The project that `start` (a file or folder) belongs to.

    Raises:
        ConfigError: The project file is no TOML, or has an unknown or malformed setting.
    """
    for file in project_files(start):
        if file.is_file():
            return read_project(file)
    return Project()


def read_project(file: Path) -> Project:
    """The settings in `file`.

    Raises:
        ConfigError: As `find_project` says; `location` is the line of the setting.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{file.name} is no TOML: {error}", location=_place_in(str(error), file, text)
        ) from None
    for section, table in data.items():
        if section == "specs":
            _check_specs(table, file, text)
        elif section == "serve" and isinstance(table, dict):
            _check_serve(table, file, text)
        elif section == "trust":
            _check_trust(table, file, text)
        else:
            _check_section(section, table, file, text)
    return Project(
        file=file,
        name=data.get("project", {}).get("name"),
        compile=data.get("compile", {}),
        bench=data.get("bench", {}),
        serve=data.get("serve", {}),
        specs=data.get("specs", {}),
    )


def _check_section(section: str, table: object, file: Path, text: str) -> None:
    if section not in SETTINGS:
        known = (*SETTINGS, "serve", "specs", "trust")
        raise ConfigError(
            f"unknown section [{section}]" if isinstance(table, dict) else f"unknown key {section!r}",
            hint=_suggestion(section, known, "sections"),
            location=_find(text, file, None, section),
            key=section,
        )
    if not isinstance(table, dict):
        raise ConfigError(
            f"{section!r} must be a section",
            hint=f"write [{section}] on a line of its own",
            location=_find(text, file, None, section),
            key=section,
        )
    for key, value in table.items():
        kind = SETTINGS[section].get(key)
        place = _find(text, file, section, key)
        if kind is None:
            hint = _suggestion(key, tuple(SETTINGS[section]), f"keys of [{section}]")
            raise ConfigError(f"unknown key {key!r} in [{section}]", hint=hint, location=place, key=key)
        if not kind.fits(value):
            raise ConfigError(f"[{section}] {key} is {value!r}, not {kind.words}", location=place, key=key)


def _check_serve(table: dict[str, Any], file: Path, text: str) -> None:
    # 5 ms, and only for projects that have such a section.
    from tessera.serve.config import ServerConfig

    try:
        ServerConfig.load(table, environment={})
    except ConfigError as error:
        error.location = _find(text, file, "serve", str(error.fields.get("key")))
        raise


def _check_trust(table: object, file: Path, text: str) -> None:
    # 9 ms, and only for projects that have such a section.
    from tessera.package.trust import policy_of_table

    try:
        policy_of_table(table, file)
    except ConfigError as error:
        key = str(error.fields.get("key"))
        error.location = _find(text, file, None if key == "trust" else "trust", key)
        raise


def _check_specs(table: object, file: Path, text: str) -> None:
    example = '[specs.linear]\nx = "bf16[None,1024]"'
    if not isinstance(table, dict) or not all(isinstance(t, dict) for t in table.values()):
        raise ConfigError("specs stand in one section per function", hint=f"such as {example}", key="specs")
    for name, specs in table.items():
        for key, value in specs.items():
            if not isinstance(value, str):
                place = _find(text, file, f"specs.{name}", key)
                message = f"[specs.{name}] {key} is {value!r}, not a text"
                raise ConfigError(message, hint=f'such as {key} = "bf16[None,1024]"', location=place, key=key)


def _suggestion(word: str, known: tuple[str, ...], what: str) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"{what}: {', '.join(known)}"


def _place_in(message: str, file: Path, text: str) -> SourceLocation:
    """The place that a message of tomllib names; the last line if it says "at end of document"."""
    match = re.search(r"line (\d+), column (\d+)", message)
    if match:
        return SourceLocation(str(file), int(match[1]), int(match[2]) - 1)
    return SourceLocation(str(file), max(1, len(text.splitlines())))


def _find(text: str, file: Path, section: str | None, key: str) -> SourceLocation | None:
    """The line that sets `key` in `section`; with section None, the header or key `key` itself."""
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
        if header:
            inside = header[1].replace('"', "")
        setting = re.match(r'\s*"?([A-Za-z0-9_.-]+)"?\s*=', line)
        name = header[1].split(".")[0].strip() if header and section is None else setting and setting[1]
        if name == key and (section is None or inside == section):
            start = line.index(key)
            return SourceLocation(str(file), number, start, start + len(key))
    return None
