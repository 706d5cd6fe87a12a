"""Where a project file may stand: in a folder, or in one above it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROJECT_FILE = "tessera.toml"


def project_files(start: Path) -> Iterator[Path]:
    """Places of a project file for `start`, a file or folder, the nearest first; there need be none."""
    folder = start.resolve()
    for place in (folder, *folder.parents):
        yield place / PROJECT_FILE
