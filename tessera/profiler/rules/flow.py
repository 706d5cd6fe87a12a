"""Rules of control flow: threads that wait while others of their warp work."""

from __future__ import annotations

from tessera.profiler.rules import sources
from tessera.profiler.rules.rule import INSTRUCTIONS, Hit, Rule
from tessera.profiler.rules.subject import WARP, KernelMetrics, LineMetrics
from tessera.profiler.rules.wording import figure

DIVIDED = 0.1
"""Branches of a line that divide the warp, over all of it, below which they are edges of the data."""
LOST = 0.05
"""Places of threads in a kernel's instructions that go unused, over all, below which nobody would notice."""

IDLE_SHARE = 0.02
"""Instructions of a line, over all, from which on its idle threads are said."""


def _divergence(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    divided, branches = line["divergent_branches"], line["branches"]
    if divided < 2 or divided < DIVIDED * branches:
        return None
    instructions = kernel["instructions"]
    idle = WARP * instructions - kernel["thread_instructions"]
    lost = line["divergence_idle"] if "divergence_idle" in kernel.known else idle
    if lost < LOST * WARP * instructions:
        return None
    what = f"{100 * divided / branches:.0f} % of the branches of warps here divide the warp"
    behind = line["divergence_instructions"]
    if behind:
        active = line["divergence_threads"] / behind
        what += f"; {figure(active)} of {WARP} threads are active in the {behind:,.0f} instructions behind"
    remedy = (
        "let the 32 threads of a warp decide alike, such as by a multiple of 32 instead of single threads"
    )
    return Hit(what, remedy, lost / WARP, instructions)


def _idle(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    executed, total = line["instructions"], kernel["instructions"]
    if not executed or executed < IDLE_SHARE * total:
        return None
    active = line["thread_instructions"] / executed
    if active > WARP / 2:
        return None
    what = f"{figure(active)} of {WARP} threads are active in the instructions of this line"
    remedy = "it runs after a branch that few threads take, or in blocks of less than 32 threads"
    return Hit(what, remedy, executed - line["thread_instructions"] / WARP, total)


FLOW: tuple[Rule, ...] = (
    Rule(
        name="divergence",
        fault="branches that divide warps",
        needs=("branches", "divergent_branches", "instructions", "thread_instructions"),
        when=f"{100 * DIVIDED:.0f} % of the branches of a line, and {100 * LOST:.0f} % of the kernel's "
        "instructions go unused by threads",
        remedy="let the 32 threads of a warp decide alike",
        resource=INSTRUCTIONS,
        source=sources.BRANCHES,
        line=_divergence,
    ),
    Rule(
        name="idle-threads",
        fault="few threads of a warp at work",
        needs=("instructions", "thread_instructions"),
        when=f"half of a warp or less, in {100 * IDLE_SHARE:.0f} % of the kernel's instructions",
        remedy="give the work of few threads to a whole warp, or let whole warps leave",
        resource=INSTRUCTIONS,
        source=sources.BRANCHES,
        line=_idle,
    ),
)
"""Rules of control flow."""
