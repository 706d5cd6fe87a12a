"""`tessera new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.workbench.output import JsonOption

FILES: dict[str, str] = {
    "kernels.py": "kernels.py.txt",
    "tessera.toml": "tessera.toml.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
    "tests/test_kernels.py": "tests/test_kernels.py.txt",
}
"""What a new project holds, and the template of each."""


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Write a project."""
    from tessera.workbench.output import emit

    files = write_project(folder)
    if as_json:
        emit({"path": str(folder), "files": [str(f.relative_to(folder)) for f in files]})
        return
    print(f"wrote {len(files)} files to {folder}/")
    move = f"cd {folder} && " if folder.resolve() != Path.cwd() else ""
    print(f"next: {move}tessera compile kernels.py")


def write_project(folder: Path) -> list[Path]:
    """Write a project into `folder`, which must be new or empty.

    Raises:
        UsageError: Something is there already, or the folder cannot be written.
    """
    from importlib.resources import files

    from tessera.workbench.failure import UsageError

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "a folder with files in it" if folder.is_dir() else "a file"
        raise UsageError(f"{folder} is {what} already", hint="choose a new folder: nothing is overwritten")
    templates = files("tessera.workbench") / "templates" / "project"
    written = []
    try:
        for name, template in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = (templates / template).read_text(encoding="utf-8")
            path.write_text(text.replace("@NAME@", _project_name(folder)), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from None
    return written


def _project_name(folder: Path) -> str:
    """The folder's name in the letters that a package may have."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in folder.resolve().name)
    return name.strip("-_") or "project"
