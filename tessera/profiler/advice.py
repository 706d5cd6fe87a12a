"""What counted lines say about a kernel, in plain words: the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.profiler.rules import RULES, Advice, apply
from tessera.profiler.source_lines import SourceFiles

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters

__all__ = ["Advice", "advise"]


def advise(counters: Counters, files: SourceFiles) -> tuple[Advice, ...]:
    """What stands out among the lines of a kernel, the costliest first.

    Args:
        counters: Of one kernel.
        files: Where the source is read, for the names of arrays.
    """
    from tessera.profiler.rules.counted import kernel_metrics

    return apply(RULES, kernel_metrics(counters, files))
