"""Rules of shared memory: banks, atomics, barriers."""

from __future__ import annotations

from functools import partial

from tessera.profiler.rules import sources
from tessera.profiler.rules.rule import WAVEFRONTS, Hit, Rule
from tessera.profiler.rules.subject import KernelMetrics, LineMetrics
from tessera.profiler.rules.wording import element, enough, figure

CONFLICTS = 1.2
"""Wavefronts over the ideal from which on a line is said to have bank conflicts."""
_VERBS = {"ld": "loads", "st": "stores"}


def wavefronts(kernel: KernelMetrics) -> float:
    """Wavefronts of a kernel, of all operations."""
    return sum(kernel.total(f"shared_{op}_wavefronts") for op in ("ld", "st", "atom"))


def _conflicts(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests, passes = line[f"shared_{op}_requests"], line[f"shared_{op}_wavefronts"]
    ideal = line[f"shared_{op}_ideal_wavefronts"]
    if not requests or passes < CONFLICTS * ideal:
        return None
    name = element(line.text, write=op != "ld", last=True)
    what = (
        f"{name.text} {_VERBS[op]} in {figure(passes / requests)} wavefronts per request "
        f"where {enough(ideal / requests)}"
    )
    remedy = "threads of a warp meet in the same bank; " + (
        "pad each row of the shared array by one element"
        if name.indices > 1
        else "let neighbouring threads take neighbouring elements"
    )
    return Hit(what, remedy, passes - ideal, wavefronts(kernel))


def _contention(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests, passes = line["shared_atom_requests"], line["shared_atom_wavefronts"]
    ideal = line["shared_atom_ideal_wavefronts"]
    if not requests or passes < 2 * ideal:
        return None
    what = f"atomics take {figure(passes / requests)} turns per request"
    remedy = "threads of a warp update the same place; add up in the warp first, or spread the places"
    return Hit(what, remedy, passes - ideal, wavefronts(kernel))


CONFLICT_RULES: tuple[Rule, ...] = tuple(
    Rule(
        name=f"bank-conflict-{_VERBS[op]}",
        fault=f"bank conflicts of shared {_VERBS[op]}",
        needs=tuple(f"shared_{op}_{n}" for n in ("requests", "wavefronts", "ideal_wavefronts")),
        when=f"{CONFLICTS:g} wavefronts where one would do",
        remedy="pad rows of the shared array by one element, or swizzle its columns",
        resource=WAVEFRONTS,
        source=sources.BANKS,
        line=partial(_conflicts, op),
    )
    for op in ("ld", "st")
)
SHARED: tuple[Rule, ...] = (
    *CONFLICT_RULES,
    Rule(
        name="shared-contention",
        fault="atomics of a warp that meet in one place of shared memory",
        needs=tuple(f"shared_atom_{n}" for n in ("requests", "wavefronts", "ideal_wavefronts")),
        when="two turns or more of each request",
        remedy="add up in the warp first (shuffles, redux), or give each warp places of its own",
        resource=WAVEFRONTS,
        source=sources.ATOMICS,
        line=_contention,
    ),
)
"""Rules of shared memory."""
