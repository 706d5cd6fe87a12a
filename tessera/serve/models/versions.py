"""Which of several versions is the latest, and which are served."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tessera.program.errors import ConfigError

_NUMBERS = re.compile(r"v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?\Z")

VersionKey = tuple[int, tuple[int, ...], tuple[tuple[int, int, str], ...]]


def version_key(version: str) -> VersionKey:
    """A sort key: later versions are larger.

    Numbers are compared part by part (`1.10` after `1.9`, `2` as `2.0`), a pre-release comes before
    its release, build metadata is ignored. What is no such version comes before all that are, in
    the order of its text.

    Source: Semantic Versioning 2.0.0, section 11.
    """
    found = _NUMBERS.match(version)
    if found is None:
        return (0, (), ((0, 0, version),))
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    if found[2] is None:
        return (1, tuple(numbers), _RELEASE)
    return (1, tuple(numbers), tuple(_identifier(part) for part in found[2].split(".")))


_RELEASE = ((2, 0, ""),)
"""After every identifier of a pre-release."""


def _identifier(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdigit() else (1, 0, part)


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of a model's versions are served."""

    latest: int | None = None
    """This many, the latest ones; None: all, or those that are named."""
    named: tuple[str, ...] | None = None
    """These."""

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """The policy that `latest`, `latest:2`, `all`, or versions with commas between them stand for.

        Raises:
            ConfigError: It is none of these.
        """
        kind, _, number = text.partition(":")
        if kind == "all" and not number:
            return cls()
        if kind == "latest" and (not number or number.isdecimal()) and (count := int(number or 1)):
            return cls(latest=count)
        named = tuple(part.strip() for part in text.split(","))
        if all(named) and ":" not in text:
            return cls(named=named)
        raise ConfigError(
            f"the version policy is {text!r}",
            hint='"latest", "latest:2", "all", or versions such as "1.0.0,2.0.0"',
            key="version_policy",
        )

    def choose(self, versions: Iterable[str]) -> list[str]:
        """Those of `versions` that are served, the latest first."""
        ordered = sorted(versions, key=version_key, reverse=True)
        if self.named is not None:
            return [version for version in ordered if version in self.named]
        return ordered[: self.latest]
