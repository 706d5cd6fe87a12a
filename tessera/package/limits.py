"""Caps that keep a hostile package from exhausting a reader."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a reader accepts. Raise a cap for packages you made yourself."""

    entries: int = 65_536
    """Entries in the container, the manifest included."""
    manifest_bytes: int = 64 << 20
    """Size of `manifest.json`."""
    document_bytes: int = 256 << 20
    """Size of any other entry that is parsed: programs and configuration."""
    signature_bytes: int = 64 << 20
    """Size of `META/model.sig`, and of a provenance statement beside a package."""
    json_depth: int = 128
    """Nesting of lists and objects in any JSON document."""
    ratio: int = 200
    """Inflated size over deflated size of one entry. A writer stores what packs tighter."""
    ratio_free_bytes: int = 1 << 20
    """Entries up to this size may pack tighter than `ratio`."""
    inflated_bytes: int = 64 << 30
    """Inflated size of all deflated entries together."""
    total_bytes: int = 16 << 40
    """Size of all entries together."""


DEFAULT_LIMITS = Limits()
"""What `Package.load` accepts unless told otherwise."""
