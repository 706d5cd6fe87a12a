"""Finds the package in the folder where a cloud put the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tessera.program.errors import ConfigError, PackageError

SUFFIXES = (".tsd", ".tsp", ".tsc")
"""Endings of packages; where there are several files, those of the first ending count."""

MAX_ENTRIES = 10_000
"""Files and folders that are looked at."""


def package_in(model: str) -> Path:
    """The only package in `model`, a folder, a package or a `file://` URI of one.

    Raises:
        PackageError: There is no such folder, no package in it, or several.
        ConfigError: It lies in a cloud's store.
    """
    scheme, separator, rest = model.partition("://")
    if separator and scheme != "file":
        raise ConfigError(
            f"the model is at {model}, and this server reads files",
            hint="copy it into the image or at the container's start, and set MODEL_PACKAGE to its path",
            key="package",
        )
    folder = Path(rest if separator else model)
    if folder.is_file() or (folder / "manifest.json").is_file():
        return folder
    if not folder.is_dir():
        raise PackageError(f"there is no folder {folder} with a model", hint="set MODEL_PACKAGE to a package")
    found = list(_packages(folder))
    for suffix in ("", *SUFFIXES):
        chosen = [path for path in found if path.suffix == suffix] if suffix else found
        if len(chosen) == 1:
            return chosen[0]
        if suffix and chosen:
            break
    names = ", ".join(str(path.relative_to(folder)) for path in sorted(found)[:5])
    raise PackageError(
        f"{folder} holds {len(found)} packages: {names}" if found else f"{folder} holds no package",
        hint="set MODEL_PACKAGE to the one to serve" if found else "put a .tsd file into the model's archive",
    )


def _packages(folder: Path) -> Iterator[Path]:
    """Packages below `folder`; what lies in an unpacked package is a part of it."""
    waiting, seen = [folder], 0
    while waiting and seen < MAX_ENTRIES:
        for path in sorted(waiting.pop().iterdir()):
            seen += 1
            if path.is_file() and path.suffix in SUFFIXES:
                yield path
            elif path.is_dir() and not path.is_symlink():
                if (path / "manifest.json").is_file():
                    yield path
                else:
                    waiting.append(path)
