"""Rules that name what a kernel wastes, with the line, figures, a remedy and where that is written.

`KernelMetrics` is what rules read: numbers by line and by kernel, under the names of `VOCABULARY`. The
emulator's come from `rules.counted`; whoever measures on a GPU fills the same names. `apply(RULES, kernel)`
gives the findings, the costliest first.
"""

from __future__ import annotations

from tessera.profiler.rules.rule import Advice, Hit, Resource, Rule, Source, apply
from tessera.profiler.rules.subject import VOCABULARY, KernelMetrics, LineMetrics, Meaning
from tessera.profiler.rules.table import RULES

__all__ = [
    "RULES",
    "VOCABULARY",
    "Advice",
    "Hit",
    "KernelMetrics",
    "LineMetrics",
    "Meaning",
    "Resource",
    "Rule",
    "Source",
    "apply",
]
