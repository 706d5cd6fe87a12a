"""What counted lines say about a kernel, in plain words: the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.profiler.rules import RULES, Advice, apply
from tessera.profiler.source_lines import SourceFiles

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters
    from tessera.profiler.emulated import EmulatedProfile

__all__ = ["Advice", "advise", "advise_profile"]


def advise(counters: Counters, files: SourceFiles) -> tuple[Advice, ...]:
    """What stands out among the lines of a kernel by its counters alone, the costliest first.

    Args:
        counters: Of one kernel.
        files: Where the source is read, for the names of arrays.
    """
    from tessera.profiler.rules.counted import counters_metrics

    return apply(RULES, counters_metrics(counters, files))


def advise_profile(profile: EmulatedProfile, files: SourceFiles) -> tuple[Advice, ...]:
    """What stands out among the kernels of a program, the costliest first.

    Args:
        profile: One execution; with traces, all rules have what they need.
        files: Where the source is read, for the names of arrays.
    """
    from tessera.profiler.rules.counted import profiled_metrics

    # Of the code that was counted; else of what there is.
    counted = profile.target.split()[0]
    held = {each.kernel: each for each in reversed(profile.occupancy)}
    held |= {each.kernel: each for each in profile.occupancy if each.target == counted}
    found = [
        each
        for kernel in profile.kernels
        for each in apply(RULES, profiled_metrics(kernel, files, held.get(kernel.kernel)))
    ]
    return tuple(sorted(found, key=lambda a: -a.cost))
