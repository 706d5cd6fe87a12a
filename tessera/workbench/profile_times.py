"""What `tessera profile` measured on a device, for people: steps, copies, launches, overhead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from tessera.profiler.device_times import DeviceTimes, Piece
from tessera.program.bytesize import format_bytes
from tessera.workbench.draw import say_drawn
from tessera.workbench.output import (
    Column,
    note,
    number_text,
    print_table,
    print_wrapped,
    terminal_width,
    time_text,
)
from tessera.workbench.profile_tables import share

if TYPE_CHECKING:
    from tessera.workbench.profiling import Timed


def print_timed(result: Timed, seed: int) -> None:
    """A measured program: step by step, and on a GPU every copy and what is overhead."""
    say_drawn(result.inputs, seed)
    whole = [s.duration_ns / 1e6 for s in result.spans if s.kind == "execution"]
    middle = median(whole) if whole else result.profile.total_ms / max(result.profile.executions, 1)
    how = "measured by CUDA events" if result.times else "measured"
    print_wrapped(
        f"{result.program.name} on {result.description}: {how}, {result.profile.executions} executions, "
        f"median {time_text(middle)}",
    )
    if result.times:
        _print_pieces(result.times)
        _print_overhead(result.times)
    else:
        _print_steps(result)
    if result.dropped:
        note(
            f"{result.dropped} pieces were too many to keep one by one, for --trace and what is summed up by "
            "execution; fewer executions (--repeat) keep all"
        )


def _print_steps(result: Timed) -> None:
    steps = sum(step.total_ms for step in result.profile.steps)
    rows = [
        (str(step.index), step.name, str(step.calls), time_text(step.median_ms),
         time_text(step.min_ms), time_text(step.max_ms), share(step.total_ms, steps))
        for step in result.profile.steps
    ]  # fmt: skip
    right = ("Calls", "Median", "Least", "Most", "Share")
    print_table([Column("Step", right=True), Column("Kernel"), *(Column(t, right=True) for t in right)], rows)


def _print_pieces(times: DeviceTimes) -> None:
    # Narrow terminals have no room for all: --json has it.
    shown = [c for c in PIECE_COLUMNS if terminal_width() >= WIDE or c[0] not in ("Size", "Most")]
    columns = [Column("Step", right=True), Column("What"), *(Column(title, right=True) for title, _ in shown)]
    print_table(columns, [_piece_row(piece, times, [cell for _, cell in shown]) for piece in times.pieces])


def _piece_row(
    piece: Piece, times: DeviceTimes, cells: Sequence[Callable[[Piece, DeviceTimes], str]]
) -> list[str]:
    step = "" if piece.step is None else str(piece.step)
    what = {"kernel": piece.name, "allocate": "allocate"}.get(piece.kind, f"{piece.kind} {piece.name}")
    return [step, what, *(cell(piece, times) for cell in cells)]


WIDE = 100
"""Columns of a terminal that has room for everything."""
PIECE_COLUMNS: tuple[tuple[str, Callable[[Piece, DeviceTimes], str]], ...] = (
    ("Size", lambda p, _: "" if p.size_bytes is None else format_bytes(p.size_bytes)),
    ("Median", lambda p, _: time_text(p.median_ms)),
    ("Least", lambda p, _: time_text(p.min_ms)),
    ("Most", lambda p, _: time_text(p.max_ms)),
    ("GB/s", lambda p, _: "" if p.gbps is None else number_text(p.gbps, "{:.3g}")),
    ("Issued", lambda p, _: "" if p.host_ms is None else time_text(p.host_ms)),
    ("Share", lambda p, times: share(p.median_ms, times.whole_ms)),
)


def _print_overhead(times: DeviceTimes) -> None:
    empty = "" if times.empty_ms is None else (
        f" Two events with nothing in between are {time_text(times.empty_ms)} apart: so much of each time "
        "is the events'."
    )  # fmt: skip
    print_wrapped(
        f"of {time_text(times.whole_ms)} the kernels take {time_text(times.kernels_ms)} and the copies "
        f"{time_text(times.copies_ms)}; {time_text(times.overhead_ms)} are overhead: allocating, "
        f"launching ({time_text(times.launches_ms)} of the host), waiting. Issued: the host's time to "
        f"start a piece; allocating is the host's own.{empty}",
    )
