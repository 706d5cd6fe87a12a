"""Rules of global memory: what its sectors carry, and how they are asked for."""

from __future__ import annotations

from functools import partial

from tessera.profiler.rules import sources
from tessera.profiler.rules.rule import REQUESTS, SECTORS, Hit, Rule
from tessera.profiler.rules.subject import WARP, KernelMetrics, LineMetrics
from tessera.profiler.rules.wording import element, enough
from tessera.program.quantity import format_number

WASTE = 1.2
"""Sectors over the ideal from which on a line is said to waste some."""
ALIGNED_WASTE = 1.5
"""Below it the waste is that of rows that begin inside a sector: one of five, or of three."""
GAPS_WASTE = 2.5
"""The same where many threads of a warp take no part."""
WHOLE = 0.75
"""Threads of a warp that take part, below which there are gaps between them."""
LEAST = WARP // 8
"""Sectors below which nothing is worth a word."""
MOST = 0.5
"""Part of a line's accesses from which on they are taken for all."""
RUN = 0.4
"""Part of the places of a line from which on its threads walk along rows of their own; of two arrays, one."""
NARROW_BYTES = 1
"""Of a thread: a whole warp of them asks for one sector."""
NARROW_SHARE = 0.25
"""Of the kernel's requests, below which narrow ones do not matter."""
_VERBS = {"ld": "loads", "st": "stores", "atom": "updates"}


def sectors_of(kernel: KernelMetrics) -> float:
    """Sectors of global memory of a kernel, of all operations."""
    return sum(kernel.total(f"global_{op}_sectors") for op in _VERBS)


def requests_of(kernel: KernelMetrics) -> float:
    """Requests to global memory of a kernel, of all operations."""
    return sum(kernel.total(f"global_{op}_requests") for op in _VERBS)


def _wasted(op: str, line: LineMetrics) -> str:
    requests, name = line[f"global_{op}_requests"], element(line.text, write=op != "ld").text
    return (
        f"{name} {_VERBS[op]} {format_number(line[f'global_{op}_sectors'] / requests)} sectors per request "
        f"where {enough(line[f'global_{op}_ideal_sectors'] / requests)}"
    )


def _scattered(op: str, line: LineMetrics) -> float:
    """Sectors beyond the ideal of a line whose threads do not load side by side; else 0."""
    sectors, ideal = line[f"global_{op}_sectors"], line[f"global_{op}_ideal_sectors"]
    # Threads that a branch left out leave gaps; no order of the elements closes those.
    whole = line[f"global_{op}_threads"] >= WHOLE * WARP * line[f"global_{op}_requests"]
    least = ALIGNED_WASTE if whole else GAPS_WASTE
    if sectors < least * ideal or sectors - ideal < LEAST:
        return 0.0
    return sectors - ideal


def _by_vectors(op: str, line: LineMetrics) -> bool:
    """Whether each thread takes neighbours one by one: a vector then wastes nothing."""
    traced = line[f"global_{op}_traced"]
    return bool(traced) and line[f"vector_{op}_members"] >= MOST * traced


def _uncoalesced(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    wasted = _scattered(op, line)
    if not wasted or _by_vectors(op, line):
        return None
    spread = line[f"global_{op}_sectors"] / max(line[f"global_{op}_threads"], 1)
    ratio = line[f"global_{op}_sectors"] / max(line[f"global_{op}_ideal_sectors"], 1)
    name = element(line.text, write=op != "ld")
    remedy = _order(spread, ratio, name.indices, gathered=name.text.count("[") > max(name.indices, 1))
    return Hit(_wasted(op, line), remedy, wasted, sectors_of(kernel))


def _order(spread: float, ratio: float, indices: int, *, gathered: bool) -> str:
    if gathered and indices <= 1:
        return "the indices come from memory; sort them, or load what they mean side by side"
    if spread > 0.8 and indices > 1:
        return (
            "threads of a warp walk down a column; make the fastest index threadIdx.x, or transpose through "
            "shared memory"
        )
    if spread > 0.8:
        return "neighbouring threads reach far apart; let thread i take element i"
    return f"neighbouring threads are about {ratio:.0f} elements apart; let them take neighbouring elements"


def _thread_runs(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    wasted, places = _scattered(op, line), line[f"run_{op}_places"]
    if not wasted or _by_vectors(op, line) or line[f"run_{op}_followers"] < RUN * places:
        return None
    name = element(line.text, write=op != "ld")
    remedy = (
        "each thread walks along a row of its own; let the threads of a warp walk along one row together"
        if name.indices > 1
        else "each thread walks through a piece of its own; start at the thread's number and step by the "
        "number of threads (a grid-stride loop), or give a row to a warp"
    )
    return Hit(_wasted(op, line), remedy, wasted, sectors_of(kernel))


def _misaligned(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests, sectors = line[f"global_{op}_requests"], line[f"global_{op}_sectors"]
    ideal = line[f"global_{op}_ideal_sectors"]
    if not requests or not WASTE * ideal <= sectors < ALIGNED_WASTE * ideal or sectors - ideal < LEAST:
        return None
    # Neighbours that overlap, as in a stencil, cannot all begin at a sector.
    if op == "ld" and line["global_ld_common"] >= MOST * line["global_ld_traced"] > 0:
        return None
    remedy = "a warp's bytes do not begin at a multiple of 32; pad the rows, or shift the first element"
    return Hit(_wasted(op, line), remedy, sectors - ideal, sectors_of(kernel))


def _vectors(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    heads, wide = line[f"vector_{op}_heads"], line[f"vector_{op}_bytes"]
    traced, requests = line[f"global_{op}_traced"], line[f"global_{op}_requests"]
    if not heads or not _by_vectors(op, line) or not requests:
        return None
    count = wide * line[f"global_{op}_threads"] / max(line[f"global_{op}_bytes"], 1)
    one = "load" if op == "ld" else "store"
    what = (
        f"each thread {_VERBS[op]} {count:.0f} neighbours one by one, {count:.0f} requests where 1 suffices"
    )
    remedy = f"{one} {wide:.0f} bytes at once, as a vector: float2 or float4, tessera.gpu.{one}_f32x4"
    saved = requests * heads / traced * (count - 1)
    return Hit(what, remedy, saved, requests_of(kernel))


def _narrow(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests, threads = line[f"global_{op}_requests"], line[f"global_{op}_threads"]
    if requests < NARROW_SHARE * requests_of(kernel) or not requests:
        return None
    if line[f"global_{op}_bytes"] > NARROW_BYTES * threads or threads < MOST * WARP * requests:
        return None
    places = line["global_ld_request_places" if op == "ld" else "global_st_places"]
    if _scattered(op, line) or places < 0.9 * line[f"global_{op}_traced"]:
        return None
    name = element(line.text, write=op != "ld").text
    what = f"{name} {_VERBS[op]} 1 byte per thread, {format_number(threads / requests)} bytes per request"
    remedy = "let each thread take 4 or 16 neighbouring bytes, in one access"
    return Hit(what, remedy, requests * 0.75, requests_of(kernel))


def _merged(kernel: KernelMetrics) -> Hit | None:
    own = kernel.lineless
    if own is None:
        return None
    requests, sectors, ideal = (
        sum(own[f"global_{op}_{what}"] for op in _VERBS) for what in ("requests", "sectors", "ideal_sectors")
    )
    if not requests or sectors < ALIGNED_WASTE * ideal or sectors - ideal < LEAST:
        return None
    what = (
        f"accesses that no one line is known of take {format_number(sectors / requests)} sectors per request "
        f"where {enough(ideal / requests)}"
    )
    remedy = (
        "the compiler merged them from several lines, such as both sides of an if: look for the same index "
        "there (tessera inspect --ptx), and let neighbouring threads take neighbouring elements"
        if kernel.lines
        else "its code has no lines of source: compile it with them (lineinfo), or profile its source"
    )
    return Hit(what, remedy, sectors - ideal, sum(kernel[f"global_{op}_sectors"] for op in _VERBS))


def _needs(op: str, *names: str) -> tuple[str, ...]:
    return tuple(f"global_{op}_{n}" for n in ("requests", "sectors", "ideal_sectors", "threads", *names))


def _rules(op: str) -> tuple[Rule, ...]:
    verbs = _VERBS[op]
    return (
        Rule(
            name=f"uncoalesced-{verbs}",
            fault=f"uncoalesced {verbs} of global memory",
            needs=_needs(op),
            when=f"{ALIGNED_WASTE:g} times the sectors that as many bytes side by side take",
            remedy="let neighbouring threads take neighbouring elements: make the fastest index threadIdx.x",
            resource=SECTORS,
            source=sources.STRIDES,
            line=partial(_uncoalesced, op),
        ),
        Rule(
            name=f"thread-runs-{verbs}",
            fault=f"{verbs} by threads that each walk alone through a row or piece",
            needs=(*_needs(op, "traced", "bytes"), f"run_{op}_places", f"run_{op}_followers"),
            when=f"as uncoalesced-{verbs}, and {100 * RUN:.0f} % of a thread's places follow one of its own",
            remedy="start at the thread's number and step by the number of threads (a grid-stride loop), or "
            "give a row to a warp",
            resource=SECTORS,
            source=sources.GRID_STRIDE,
            line=partial(_thread_runs, op),
            hides=(f"uncoalesced-{verbs}",),
        ),
        Rule(
            name=f"misaligned-{verbs}",
            fault=f"{verbs} that begin inside a sector",
            needs=_needs(op),
            when=f"{WASTE:g} to {ALIGNED_WASTE:g} times the sectors that as many aligned bytes take, of "
            "places that no other thread needs",
            remedy="begin rows at multiples of 32 bytes: pad them, or shift the first element",
            resource=SECTORS,
            source=sources.MISALIGNED,
            line=partial(_misaligned, op),
        ),
        Rule(
            name=f"scalar-{verbs}",
            fault=f"{verbs} of neighbours one by one",
            needs=(
                *_needs(op, "traced", "bytes"),
                *(f"vector_{op}_{n}" for n in ("members", "heads", "bytes")),
            ),
            when="each thread takes 2, 4 or 8 neighbours that an aligned vector of up to 16 bytes holds",
            remedy="take 8 or 16 bytes at once: float2, float4; tessera.gpu.load_f32x4",
            resource=REQUESTS,
            source=sources.VECTORS,
            line=partial(_vectors, op),
        ),
        Rule(
            name=f"narrow-{verbs}",
            fault=f"{verbs} of single bytes",
            needs=_needs(op, "traced", "bytes"),
            when=f"a byte per thread, side by side, in {100 * NARROW_SHARE:.0f} % of the kernel's requests",
            remedy="let each thread take 4 or 16 neighbouring bytes, in one access",
            resource=REQUESTS,
            source=sources.VECTORS,
            line=partial(_narrow, op),
        ),
    )


_MERGED = Rule(
    name="merged-accesses",
    fault="uncoalesced accesses that come from no single line",
    needs=(*_needs("ld"), *_needs("st")),
    when=f"as uncoalesced-loads, {ALIGNED_WASTE:g} times the sectors, of all such accesses together",
    remedy="look for the index that several lines have, such as both sides of an if, and let neighbouring "
    "threads take neighbouring elements",
    resource=SECTORS,
    source=sources.STRIDES,
    kernel=_merged,
)
MEMORY: tuple[Rule, ...] = (*_rules("ld"), *_rules("st"), _MERGED)
"""Rules of what single requests carry."""
