"""What `tessera profile` found, in the form that was asked for: tables, CSV or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.workbench import profile_data
from tessera.workbench.output import emit, note

if TYPE_CHECKING:
    from tessera.workbench.profile_ncu import HardwareCounts
    from tessera.workbench.profiling import Counted, Form, Timed


def show_counted(results: Sequence[Counted], form: Form, seed: int, gpus: Sequence[str] = ()) -> None:
    """Programs that were counted in the emulator, under the rooflines of GPU models.

    Args:
        results: What was counted.
        form: Tables, CSV or JSON.
        seed: Of inputs drawn at random.
        gpus: Names of models; none for one of the counted architecture.
    """
    from tessera.workbench.profile_tables import NOTHING, print_counted
    from tessera.workbench.roofline_tables import (
        charts,
        charts_data,
        default_gpus,
        print_charts,
        with_predictions,
    )

    if form != "text":
        for result in (r for r in results if not r.profile.kernels):
            note(f"{result.profile.program.name}: {NOTHING}", "warning")
    if form == "csv":
        profile_data.write_lines(results)
    elif form == "json":
        programs = [
            {
                **profile_data.counted_data(result),
                "roofline": charts_data(charts(result, gpus or default_gpus(result))),
            }
            for result in results
        ]
        emit({"programs": programs})
    else:
        for result in results:
            print_counted(with_predictions(result, gpus), seed)
            if result.profile.kernels:
                print_charts(charts(result, gpus or default_gpus(result)), whole=bool(gpus))


def show_timed(timed: Timed, found: HardwareCounts | None, form: Form, seed: int) -> None:
    """A program that was measured, with what Nsight Compute counted."""
    from tessera.workbench.profile_ncu import counters_data, print_counters
    from tessera.workbench.profile_times import print_timed

    if form == "csv":
        profile_data.write_steps(timed)
    elif form == "json":
        emit({**profile_data.timed_data(timed), "ncu": counters_data(found)})
    else:
        print_timed(timed, seed)
        if found is not None:
            print_counters(found)
