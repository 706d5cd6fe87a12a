"""Sizes in bytes as people write and read them: `16GB`, `1.5 GiB`."""

from __future__ import annotations

import re

_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?\s*\Z", re.IGNORECASE)


def parse_bytes(text: str) -> int | None:
    """The bytes that `16GB`, `512 MiB` or `4096` means; None if `text` is no size.

    Units are powers of 1024, with or without the `i`, as GPU tools count.
    """
    match = _SIZE.match(text)
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else None


def format_bytes(count: float) -> str:
    """`count` bytes as a person reads them: `640 B`, `1.5 GiB`, `512 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
