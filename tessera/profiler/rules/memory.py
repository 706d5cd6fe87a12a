"""Rules of global memory: what passes through it, and what has to."""

from __future__ import annotations

from functools import partial

from tessera.profiler.rules import sources
from tessera.profiler.rules.rule import SECTORS, Hit, Rule
from tessera.profiler.rules.subject import WARP, KernelMetrics, LineMetrics
from tessera.profiler.rules.wording import element, enough, figure

WASTE = 1.2
"""Sectors over the ideal from which on a line is said to waste some."""
ALIGNED_WASTE = 1.5
"""Below it the waste is that of rows that begin inside a sector: one of five, or of three."""
LEAST = WARP // 8
"""Sectors below which nothing is worth a word."""
_VERBS = {"ld": "loads", "st": "stores", "atom": "updates"}


def _sectors(kernel: KernelMetrics) -> float:
    return sum(kernel.total(f"global_{op}_sectors") for op in _VERBS)


def _uncoalesced(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests, sectors = line[f"global_{op}_requests"], line[f"global_{op}_sectors"]
    ideal = line[f"global_{op}_ideal_sectors"]
    if not requests or sectors < ALIGNED_WASTE * ideal or sectors - ideal < LEAST:
        return None
    name = element(line.text, write=op != "ld")
    what = (
        f"{name.text} {_VERBS[op]} {figure(sectors / requests)} sectors per request "
        f"where {enough(ideal / requests)}"
    )
    spread = sectors / max(line[f"global_{op}_threads"], 1)
    return Hit(what, _order(spread, sectors / max(ideal, 1), name.indices), sectors - ideal, _sectors(kernel))


def _order(spread: float, ratio: float, indices: int) -> str:
    if spread > 0.8 and indices > 1:
        return (
            "threads of a warp walk down a column; make the fastest index threadIdx.x, or transpose through "
            "shared memory"
        )
    if spread > 0.8:
        return "neighbouring threads reach far apart; let thread i take element i"
    return f"neighbouring threads are about {ratio:.0f} elements apart; let them take neighbouring elements"


def _misaligned(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests, sectors = line[f"global_{op}_requests"], line[f"global_{op}_sectors"]
    ideal = line[f"global_{op}_ideal_sectors"]
    if not requests or not WASTE * ideal <= sectors < ALIGNED_WASTE * ideal or sectors - ideal < LEAST:
        return None
    name = element(line.text, write=op != "ld")
    what = (
        f"{name.text} {_VERBS[op]} {figure(sectors / requests)} sectors per request "
        f"where {enough(ideal / requests)}"
    )
    remedy = "a warp's bytes do not begin at a multiple of 32; pad the rows, or shift the first element"
    return Hit(what, remedy, sectors - ideal, _sectors(kernel))


def _needs(op: str) -> tuple[str, ...]:
    return tuple(f"global_{op}_{n}" for n in ("requests", "sectors", "ideal_sectors", "threads"))


COALESCING: tuple[Rule, ...] = tuple(
    Rule(
        name=f"uncoalesced-{_VERBS[op]}",
        fault=f"uncoalesced {_VERBS[op]} of global memory",
        needs=_needs(op),
        when=f"{ALIGNED_WASTE:g} times the sectors that as many bytes side by side take",
        remedy="let neighbouring threads take neighbouring elements: make the fastest index threadIdx.x",
        resource=SECTORS,
        source=sources.STRIDES,
        line=partial(_uncoalesced, op),
    )
    for op in ("ld", "st")
)
ALIGNMENT: tuple[Rule, ...] = tuple(
    Rule(
        name=f"misaligned-{_VERBS[op]}",
        fault=f"{_VERBS[op]} that begin inside a sector",
        needs=_needs(op),
        when=f"{WASTE:g} to {ALIGNED_WASTE:g} times the sectors that as many aligned bytes take",
        remedy="begin rows at multiples of 32 bytes: pad them, or shift the first element",
        resource=SECTORS,
        source=sources.MISALIGNED,
        line=partial(_misaligned, op),
    )
    for op in ("ld", "st")
)
MEMORY: tuple[Rule, ...] = (*COALESCING, *ALIGNMENT)
"""Rules of global memory."""
