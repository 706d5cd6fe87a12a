"""The user's own editor, in place of the app for as long as it runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from textual.app import App, SuspendNotSupported

_PLUS_LINE = frozenset(
    {"vi", "vim", "nvim", "nano", "emacs", "emacsclient", "micro", "kak", "hx", "joe", "ne"}
)
"""Editors that take `+12` for line 12."""


def editor_command(path: Path, line: int, environment: dict[str, str] | None = None) -> list[str] | None:
    """The command that edits `path` at a 1-based line; None if there is no editor."""
    variables = dict(os.environ) if environment is None else environment
    words = shlex.split(variables.get("VISUAL") or variables.get("EDITOR") or "")
    if not words:
        found = next((name for name in ("nano", "vim", "vi") if shutil.which(name)), None)
        words = [found] if found else []
    if not words:
        return None
    at = [f"+{line}"] if Path(words[0]).name in _PLUS_LINE else []
    return [*words, *at, str(path)]


def edit(app: App[None], path: Path, line: int) -> str | None:
    """Edit a file; what went wrong, in words, or None."""
    command = editor_command(path, line)
    if command is None:
        return "no editor found: set the variable EDITOR"
    try:
        with app.suspend():
            status = subprocess.run(command, check=False).returncode
    except SuspendNotSupported:
        return "this terminal cannot start an editor from here"
    except OSError as error:
        return f"{command[0]} could not be started: {error.strerror}"
    return None if status == 0 else f"{command[0]} ended with status {status}"
