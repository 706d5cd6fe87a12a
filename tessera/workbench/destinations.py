"""Where commands write: places that cannot be meant are refused before any work, missing folders are made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tessera.workbench.failure import MachineError, UsageError, failure_of_machine

Files = Mapping[str, Path | None]
"""By the option that names them; None: not given."""


def check_destinations(files: Files) -> None:
    """Whether files can be written: said before hours of work, not after them. Nothing is made yet.

    Raises:
        UsageError: One is a folder, or two are one file.
        MachineError: One is below a file, or where nothing may be written.
    """
    given = {option: path for option, path in files.items() if path is not None}
    for option, path in given.items():
        if path.is_dir():
            raise UsageError(
                f"{option} {path}: it is a folder", hint=f"name a file: {option} {path / 'FILE'}"
            )
    places = [path.absolute() for path in given.values()]
    if len(set(places)) < len(places):
        raise UsageError(f"{' and '.join(given)} name one file", hint="give each a name of its own")
    for option, path in given.items():
        _check_folder(option, path)


def make_folders(files: Files) -> None:
    """Make the folders of files that are about to be written, those above them too.

    Raises:
        MachineError: One cannot be made.
    """
    for option, path in files.items():
        if path is None:
            continue
        try:
            path.absolute().parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            known = failure_of_machine(error)
            raise MachineError(
                f"{option} {path}: its folder cannot be made: {known.message if known else error}",
                hint=f"choose another: {option} FILE",
            ) from None


def _check_folder(option: str, path: Path) -> None:
    there = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not there.is_dir():
        raise MachineError(
            f"{option} {path}: {there} is no folder", hint=f"choose another: {option} FILE; ls -ld {there}"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise MachineError(
            f"{option} {path}: nothing may be written in {there}",
            hint=f"choose a folder that you may write to: {option} FILE; ls -ld {there}",
        )
