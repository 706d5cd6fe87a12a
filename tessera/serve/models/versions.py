"""Which of several versions is the latest."""

from __future__ import annotations

import re

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
