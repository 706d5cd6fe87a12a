"""What of a report's long parts is put on the page, the weightiest first, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tessera.profiler.report_runs import AssemblyRow, SourceLine, SourceListing, TunedSweep, TunedTrial
from tessera.profiler.report_sweeps import ranked

ASSEMBLY_ROWS = 20_000
"""Instructions of PTX and SASS that one page holds at most."""
SOURCE_LINES = 2_000
"""Lines of source that one page holds at most."""
TABLE_TRIALS = 50
"""Configurations that the table of a sweep lists."""


@dataclass(frozen=True, slots=True)
class ShownSweep:
    """A sweep's table."""

    sweep: TunedSweep
    names: tuple[str, ...]
    """Columns of the configuration."""
    best: tuple[TunedTrial, ...]
    counts: tuple[tuple[str, int], ...]
    """How many ended how."""
    failed: tuple[tuple[str, str, int], ...]
    """Status, reason, how many; the most frequent first."""
    total: int
    ordered: bool
    """Whether the order of trying is on record."""


def fold_sources(listings: Sequence[SourceListing]) -> tuple[tuple[SourceListing, ...], tuple[str, ...]]:
    """The listings, cut to what a page can hold, and sentences about what was cut.

    Lines that executed most keep their instructions, then the longest.
    """
    total_lines = sum(len(one.lines) for one in listings)
    kept_lines = _keep(
        [(line.share or 0.0, len(line.ptx) + len(line.sass) > 0) for one in listings for line in one.lines],
        SOURCE_LINES,
    )
    flat = [line for one in listings for line in one.lines]
    rows = [len(line.ptx) + len(line.sass) for line in flat]
    order = sorted(kept_lines, key=lambda i: (-(flat[i].share or 0.0), -rows[i], i))
    room: dict[int, int] = {}
    left = ASSEMBLY_ROWS
    for i in order:
        room[i] = min(rows[i], left)
        left -= room[i]
    cut, start = [], 0
    for one in listings:
        numbers = range(start, start + len(one.lines))
        start += len(one.lines)
        cut.append(replace(one, lines=tuple(_cut(flat[i], room[i]) for i in numbers if i in room)))
    notes = []
    if len(room) < total_lines:
        notes.append(f"{len(room):,} of {total_lines:,} lines of source are shown, those that executed most.")
    shown, total = sum(room.values()), sum(rows)
    if shown < total:
        notes.append(
            f"{shown:,} of {total:,} instructions of PTX and SASS are shown, those of the lines that "
            "executed most; tessera inspect --ptx and --sass show all."
        )
    return tuple(cut), tuple(notes)


def _keep(weights: Sequence[tuple[float, bool]], count: int) -> list[int]:
    """Places of the weightiest, in their order."""
    chosen = sorted(range(len(weights)), key=lambda i: (*(-w for w in weights[i]), i))[:count]
    return sorted(chosen)


def _cut(line: SourceLine, room: int) -> SourceLine:
    if room >= len(line.ptx) + len(line.sass):
        return line
    ptx = min(len(line.ptx), max(room // 2, room - len(line.sass)))
    return replace(line, ptx=_head(line.ptx, ptx), sass=_head(line.sass, room - ptx))


def _head(rows: tuple[AssemblyRow, ...], count: int) -> tuple[AssemblyRow, ...]:
    left = len(rows) - count
    return rows if left <= 0 else (*rows[:count], AssemblyRow(-1, f"… {left:,} more"))


def fold_sweep(sweep: TunedSweep) -> ShownSweep:
    """The best configurations, and how many of the others ended how."""
    counts: dict[str, int] = {}
    failed: dict[tuple[str, str], int] = {}
    for trial in sweep.trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
        if trial.status != "ok":
            key = (trial.status, trial.reason)
            failed[key] = failed.get(key, 0) + 1
    often = sorted(failed.items(), key=lambda item: (-item[1], item[0]))[:10]
    return ShownSweep(
        sweep=sweep,
        names=tuple(dict.fromkeys(n for t in sweep.trials for n in sorted(t.configuration))),
        best=tuple(ranked(sweep)[:TABLE_TRIALS]),
        counts=tuple(sorted(counts.items())),
        failed=tuple((status, reason, count) for (status, reason), count in often),
        total=len(sweep.trials),
        ordered=all(t.number is not None for t in sweep.trials),
    )
