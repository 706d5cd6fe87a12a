"""`tessera workbench`, also `tessera-workbench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def workbench(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The project.")] = Path(),
) -> None:
    """Open the terminal app."""
    from tessera.program.errors import MissingDependencyError
    from tessera.workbench.failure import UsageError

    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", hint=f"tessera new {folder}")
    try:
        import textual  # noqa: F401
    except ModuleNotFoundError:
        raise MissingDependencyError.extra("textual", "workbench", needed_for="the terminal app") from None
    # textual costs 165 ms.
    from tessera.workbench.app import WorkbenchApp

    WorkbenchApp(folder).run()
