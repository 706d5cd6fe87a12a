"""What `tessera profile` found, in the form that was asked for: tables, CSV or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.workbench import profile_data
from tessera.workbench.output import emit

if TYPE_CHECKING:
    from tessera.profiler.ncu import NcuProfile
    from tessera.workbench.profiling import Counted, Form, Timed


def show_counted(results: Sequence[Counted], form: Form, seed: int) -> None:
    """Programs that were counted in the emulator."""
    from tessera.workbench.profile_tables import print_counted

    if form == "csv":
        profile_data.write_lines(results)
    elif form == "json":
        emit({"programs": [profile_data.counted_data(result) for result in results]})
    else:
        for result in results:
            print_counted(result, seed)


def show_timed(timed: Timed, found: NcuProfile | None, form: Form, seed: int) -> None:
    """A program that was measured, with what Nsight Compute counted."""
    from tessera.profiler.source_lines import SourceFiles
    from tessera.workbench.profile_ncu import counters_data, print_counters
    from tessera.workbench.profile_times import print_timed

    if form == "csv":
        profile_data.write_steps(timed)
    elif form == "json":
        emit({**profile_data.timed_data(timed), "ncu": counters_data(found)})
    else:
        print_timed(timed, seed)
        if found is not None:
            print_counters(found, SourceFiles())
