"""What a package needs of a machine: versions and sizes, written as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tessera.program import bytesize
from tessera.program.errors import PackageError

_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}
_CLAUSE = re.compile(r"\s*(<=|>=|==|!=|<|>)\s*(\d{1,9}(?:\.\d{1,9}){0,4})\s*\Z")


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """Comma-separated conditions on a version, all of which must hold: `>=11.8,<13`."""

    clauses: tuple[tuple[str, tuple[int, ...]], ...]
    """Comparison and version of each condition."""

    @classmethod
    def parse(cls, text: str, *, what: str = "version") -> VersionSpec:
        """The conditions in `text`.

        Raises:
            PackageError: `text` is no such list of conditions.
        """
        matches = [_CLAUSE.match(part) for part in text.split(",")]
        if not all(matches):
            raise PackageError(
                f"{what}: {text!r} is not a version condition", hint="write it like '>=11.8' or '>=11.8,<13'"
            )
        return cls(tuple((m[1], _trimmed(m[2])) for m in matches if m))

    def allows(self, version: str) -> bool:
        """Whether every condition holds for `version`, such as `12.4`; trailing zeros do not count.

        Raises:
            PackageError: `version` does not start with a number.
        """
        match = re.match(r"\d{1,9}(?:\.\d{1,9})*", version)
        if not match:
            raise PackageError(f"{version!r} is not a version")
        found = _trimmed(match[0])
        return all(_COMPARE[op](found, wanted) for op, wanted in self.clauses)


def _trimmed(version: str) -> tuple[int, ...]:
    numbers = [int(n) for n in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def parse_bytes(text: str, *, what: str = "size") -> int:
    """The bytes that `16GB`, `512 MiB` or `4096` means. Units are powers of 1024, as GPU tools count.

    Raises:
        PackageError: `text` is no size.
    """
    size = bytesize.parse_bytes(text)
    if size is None:
        raise PackageError(f"{what}: {text!r} is not a size", hint="write it like '16GB' or '512MB'")
    return size


_KINDS: dict[str, Callable[[str, str], object]] = {
    "cuda": lambda text, what: VersionSpec.parse(text, what=what),
    "driver": lambda text, what: VersionSpec.parse(text, what=what),
    "compute_capability": lambda text, what: VersionSpec.parse(text, what=what),
    "python": lambda text, what: VersionSpec.parse(text, what=what),
    "tessera": lambda text, what: VersionSpec.parse(text, what=what),
    "memory": lambda text, what: parse_bytes(text, what=what),
    "host_memory": lambda text, what: parse_bytes(text, what=what),
}
"""Every requirement there is, and how it is read."""


def check_requirements(requirements: object) -> dict[str, str]:
    """`requirements` as given, once every one of them is known and can be read.

    Raises:
        PackageError: A requirement is unknown or malformed; the message names it.
    """
    if not isinstance(requirements, Mapping):
        raise PackageError(f"metadata.requirements must be a dict, not {type(requirements).__name__}")
    for name, text in requirements.items():
        if name not in _KINDS:
            raise PackageError(
                f"metadata.requirements: unknown requirement {name!r}", hint="known: " + ", ".join(_KINDS)
            )
        if not isinstance(text, str):
            raise PackageError(f"metadata.requirements.{name}: {text!r} is not a string")
        _KINDS[name](text, f"metadata.requirements.{name}")
    return dict(requirements)
