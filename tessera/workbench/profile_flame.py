"""Where the work is, line by line: a table that reads like a flame graph, and folded stacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.profiler.flame import Branch, Site, Stack, emulated_stacks, folded, grow, ncu_stacks
from tessera.profiler.source_lines import SourceFiles
from tessera.workbench.failure import short_path
from tessera.workbench.output import Column, note, print_table, terminal_width
from tessera.workbench.profile_tables import percent

if TYPE_CHECKING:
    from tessera.workbench.profile_ncu import HardwareCounts
    from tessera.workbench.profiling import Counted, Timed

SMALLEST = 0.005
"""Share of the whole below which a line is left out."""
ROWS = 20
"""Lines that are shown, the heaviest of all kernels."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_flame(stacks: Sequence[Stack], weight: str, files: SourceFiles) -> None:
    """A table: own and whole share of every line, under the kernel and the lines that call it."""
    root = grow(stacks)
    if not root.total:
        return
    wide = terminal_width() >= 100
    length = 20 if wide else 10
    branches = list(_walk(root))
    # What is above a line is never lighter than it: so it is among the heaviest too.
    heaviest = sorted(branches, key=lambda found: (-found[1].total, found[0]))[:ROWS]
    shown = {id(branch) for _, branch in heaviest if branch.total >= SMALLEST * root.total}
    small = len(branches) - len(shown)
    rows = [
        [percent(branch.total, root.total), percent(branch.own, root.total) if branch.own else "",
         bar(branch.total / root.total, length), "  " * depth + _place(branch, files)]
        for depth, branch in branches
        if id(branch) in shown
    ]  # fmt: skip
    # rich shrinks every column alike, and numbers are of no use in part.
    room = max(terminal_width() - sum(max(len(row[i]) for row in rows) for i in range(3)) - 12, 24)
    for row in rows:
        row[3] = row[3] if len(row[3]) <= room else row[3][: room - 1] + "…"
    print(f"where the work is, by {weight}")
    columns = [Column("Total", right=True), Column("Own", right=True), Column("Share"), Column("Line")]
    print_table(columns, rows)
    if small:
        print(f"and {small} smaller {'one' if small == 1 else 'ones'}; --flame has all\n")


def bar(share: float, length: int) -> str:
    """A bar of up to so many letters, in steps of an eighth."""
    eighths = round(max(0.0, min(share, 1.0)) * length * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "") or _EIGHTHS[1]


def write_counted(path: Path, results: Sequence[Counted]) -> None:
    """Folded stacks of counted programs; the weight is instructions that warps executed.

    Raises:
        PackageError: The file cannot be written.
    """
    _write(
        path,
        "".join(
            folded([_named(s, r.files) for s in emulated_stacks(r.profile.kernels)], r.profile.program.name)
            for r in results
        ),
    )


def write_measured(path: Path, timed: Timed, counters: HardwareCounts | None) -> None:
    """Folded stacks of a measured program: Nsight Compute's samples by line, else nanoseconds by kernel.

    Raises:
        PackageError: The file cannot be written.
    """
    stacks = [] if counters is None else ncu_stacks(counters.profile.instructions)[0]
    if not stacks:
        stacks = [Stack((Site(s.name),), s.total_ms * 1e6) for s in timed.profile.steps]
    files = SourceFiles() if counters is None else counters.files
    _write(path, folded([_named(stack, files) for stack in stacks], timed.program.name))


def _write(path: Path, text: str) -> None:
    from tessera.package.atomic import atomic_file

    with atomic_file(path) as file:
        file.write(text.encode())
    note(f"wrote {path}: for flamegraph.pl, or drop it on speedscope.app")


def _named(stack: Stack, files: SourceFiles) -> Stack:
    """The stack with paths as a reader finds them."""
    return Stack(
        tuple(
            replace(site, file=short_path(files.path(site.file))) if site.line else site
            for site in stack.sites
        ),
        stack.weight,
    )


def _walk(branch: Branch, depth: int = 0) -> Iterator[tuple[int, Branch]]:
    for below in branch.ordered():
        yield depth, below
        yield from _walk(below, depth + 1)


def _place(branch: Branch, files: SourceFiles) -> str:
    site = branch.site
    if not site.line:
        return site.name
    name = Path(files.path(site.file)).name if not files.generated(site.file) else "generated"
    text = files.line(site.file, site.line).strip()
    return f"{name}:{site.line}  {text}".rstrip()
