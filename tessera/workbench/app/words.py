"""What the app says: titles, the status line, and what to do where there is nothing yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.workbench.failure import short_path, visible

if TYPE_CHECKING:
    from tessera.workbench.app.compile_job import CompiledKernel, CompileJob
    from tessera.workbench.app.session import Session

DEFAULT_ARCHES = ("sm_70", "sm_80", "sm_90")
"""Offered where the project file names none: V100, A100, H100."""
NOTHING_HERE = (
    "There are no files here.\n\nPress n to write an example project into this folder, or q to quit."
)
COMPILING = "Compiling …\n\nesc stops it."

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def title(folder: Path, width: int) -> str:
    """`Tessera · ~/kernels`: the folder, its end kept where the terminal is too narrow for it.

    The current folder goes by its name.
    """
    path = short_path(str(folder))
    if path == ".":
        path = Path.cwd().name
    home = str(Path.home())
    if path.startswith(home + os.sep):
        path = "~" + path.removeprefix(home)
    room = max(width - len("Tessera · ") - 2, 8)
    shown = visible(path)
    return "Tessera · " + (shown if len(shown) <= room else "…" + shown[-(room - 1) :])


def ptx_title(session: Session) -> str:
    """`PTX · saxpy · sm_90`, with the count where there are several kernels."""
    kernel, count = session.kernel(), len(session.kernels())
    if kernel is None:
        return f"PTX · {session.arch}"
    several = f" · {session.kernel_index % count + 1} of {count} ([ ])" if count > 1 else ""
    return f"PTX · {kernel.name} · {kernel.arch}{several}"


def why_no_ptx(session: Session) -> str:
    """What to do where there is no PTX to show."""
    place = session.place
    if place is None:
        return "PTX of a kernel is shown here."
    if place.file.problem:
        return f"{place.path.name} is no valid Python\n\n{place.file.problem}\n\nPress e to edit it."
    if not (place.file.definitions or place.file.uses_tessera):
        return f"{place.path.name} has no kernel, function or Module.\n\nChoose a file that has some."
    name = place.definition.name if place.definition else place.path.name
    if session.result() is None:
        return f"{name} is not compiled yet.\n\nPress c to compile it for {_listed(session.arches)}."
    return f"{name} has no kernel for {session.arch}.\n\nPress c to compile it again."


def status(session: Session, *, stale: bool) -> str:
    """The line above the keys."""
    from tessera.workbench.app.compile_job import Failure

    result = session.result()
    if result is not None and isinstance(result.outcome, Failure):
        return f"{session.arch} · did not compile · e edits, c compiles again"
    kernel, place = session.kernel(), session.place
    if place is None:
        return f"{session.arch} · no files · n writes an example project"
    if not (place.file.definitions or place.file.uses_tessera):
        return f"{session.arch} · nothing to compile in {place.path.name}"
    if kernel is None:
        return f"{session.arch} · not compiled · c compiles"
    if stale:
        return f"changed, c compiles · {kernel.status}"
    return kernel.status + (" · cached" if kernel.cached else "")


def progress(job: CompileJob, elapsed_s: float) -> str:
    """The status line while something is compiled."""
    frame = _FRAMES[int(elapsed_s * 10) % len(_FRAMES)]
    name = job.target.rsplit("/", 1)[-1]
    return f"{frame} compiling {name} for {_listed(job.arches)} … {elapsed_s:.1f} s (esc stops)"


def cubins(kernels: list[CompiledKernel]) -> str:
    """`2 cubins`, and how many of them were known already."""
    cached = sum(kernel.cached for kernel in kernels)
    text = "1 cubin" if len(kernels) == 1 else f"{len(kernels)} cubins"
    return text + (f", {cached} cached" if cached else "")


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
