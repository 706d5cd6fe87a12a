"""Rules of global memory: what is loaded, stored or updated more often than need be."""

from __future__ import annotations

from tessera.profiler.rules import sources
from tessera.profiler.rules.memory import sectors_of
from tessera.profiler.rules.rule import ATOMICS, SECTORS, STORES, Hit, Rule
from tessera.profiler.rules.subject import KernelMetrics, LineMetrics
from tessera.profiler.rules.wording import element
from tessera.program.quantity import format_number

MOST = 0.5
"""Part of a line's accesses from which on a fault is said."""
RELOADED = 0.25
"""Part of a line's loads: of an accumulator, beside what it adds up, half."""
REREAD = 4
"""Requests of a block for one place, from which on shared memory would serve them."""
REREAD_TURNS = 16
"""Loads of each warp at a line, below which there is no loop to speak of."""
REREAD_SHARE = 0.25
"""Of the kernel's sectors, below which they do not matter."""
MEETING = 4
"""Threads of a warp that meet in one place of an atomic."""
GATHERED = 16
"""Atomics of a block for one place, from which on it would better add them up first."""
SHARED_PLACES = 12288
"""4-byte places that fit the 48 KiB of shared memory that every block may have."""


def _again(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    again, traced = line["global_ld_again"], line["global_ld_traced"]
    if not traced or again < MOST * traced:
        return None
    name = element(line.text, write=False, last=True).text
    share = f"{100 * again / traced:.0f} %"
    what = f"{share} of the loads of {name} are of what the thread had loaded shortly before"
    remedy = (
        "keep it in a variable, loaded once in front of the loop; in C++ declare what is only read const "
        "__restrict__, or the compiler may not"
    )
    return Hit(what, remedy, line["global_ld_sectors"] * again / traced, sectors_of(kernel))


def _own(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    own, traced = line["global_ld_own"], line["global_ld_traced"]
    if not traced or own < RELOADED * traced:
        return None
    name = element(line.text, write=False, last=True).text
    what = f"{100 * own / traced:.0f} % of the loads here are of what the thread itself had just stored"
    remedy = f"keep the value of {name} in a variable, and store it once at the end"
    return Hit(what, remedy, line["global_ld_sectors"] * own / traced, sectors_of(kernel))


def _overwritten(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    over, traced = line["global_st_overwritten"], line["global_st_traced"]
    if not traced or over < MOST * traced:
        return None
    name = element(line.text, write=True, last=True).text
    what = f"{100 * over / traced:.0f} % of the stores to {name} are overwritten before anybody loads them"
    remedy = "keep the value in a variable, and store it once behind the loop"
    return Hit(what, remedy, line["global_st_sectors"] * over / traced, sectors_of(kernel))


def _same_place(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    places, traced = line["global_st_places"], line["global_st_traced"]
    if not traced or places > (1 - MOST) * traced:
        return None
    name = element(line.text, write=True, last=True).text
    what = f"{format_number(traced / max(places, 1))} threads of a warp store to the same place, {name}"
    remedy = "let one of them store, such as lane 0; of several values only the last remains anyhow"
    saved = line["global_st_threads"] * (1 - places / traced)
    return Hit(what, remedy, saved, kernel.total("global_st_threads"))


def _reread(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    asked, places = line["global_ld_request_places"], line["global_ld_places"]
    turns = line["global_ld_executions"] / max(line["global_ld_warps"], 1)
    if not places or asked < REREAD * places or turns < REREAD_TURNS:
        return None
    if line["global_ld_sectors"] < REREAD_SHARE * sectors_of(kernel):
        return None
    if line["global_ld_again"] >= MOST * line["global_ld_traced"]:
        return None
    what = f"the warps of a block load each place {format_number(asked / places)} times from global memory"
    remedy = "let the block load a tile into shared memory once, and all its threads read it there"
    return Hit(what, remedy, line["global_ld_sectors"] * (1 - places / asked), sectors_of(kernel))


def _contended(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    places, traced = line["global_atom_places"], line["global_atom_traced"]
    if not places or traced < MEETING * places:
        return None
    threads = format_number(traced / places)
    what = f"{threads} threads of a warp update the same place of global memory, in turns"
    remedy = "add up in the warp first (shuffles, redux), then in the block, and update once for all"
    saved = line["global_atom_threads"] * (1 - places / traced)
    return Hit(what, remedy, saved, kernel.total("global_atom_threads"))


def _gathered(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    places, traced = line["global_atom_block_places"], line["global_atom_traced"]
    if not places or traced < GATHERED * places or places > SHARED_PLACES:
        return None
    if traced >= MEETING * line["global_atom_places"]:
        return None
    times = format_number(traced / places)
    what = f"a block updates {places:,.0f} places of global memory, each {times} times"
    remedy = "count in shared memory first, and add the block's sums to global memory once"
    saved = line["global_atom_threads"] * (1 - places / traced)
    return Hit(what, remedy, saved, kernel.total("global_atom_threads"))


_TRACED = ("global_ld_traced", "global_ld_sectors")

REUSE: tuple[Rule, ...] = (
    Rule(
        name="invariant-loads",
        fault="loads, again and again, of what a thread has loaded",
        needs=("global_ld_again", *_TRACED),
        when=f"{100 * MOST:.0f} % of a line's loads, with few others in between and no store by anybody",
        remedy="load it once, in front of the loop",
        resource=SECTORS,
        source=sources.DEVICE_MEMORY,
        line=_again,
    ),
    Rule(
        name="reloaded-stores",
        fault="loads of what the thread itself has just stored",
        needs=("global_ld_own", *_TRACED),
        when=f"{100 * RELOADED:.0f} % of a line's loads",
        remedy="keep the value in a variable, and store it once at the end",
        resource=SECTORS,
        source=sources.DEVICE_MEMORY,
        line=_own,
    ),
    Rule(
        name="overwritten-stores",
        fault="stores that nobody loads before the next",
        needs=("global_st_overwritten", "global_st_traced", "global_st_sectors"),
        when=f"{100 * MOST:.0f} % of a line's stores",
        remedy="store once, behind the loop",
        resource=SECTORS,
        source=sources.DEVICE_MEMORY,
        line=_overwritten,
    ),
    Rule(
        name="same-place-stores",
        fault="stores of many threads to one place",
        needs=("global_st_places", "global_st_traced", "global_st_threads"),
        when="half of a warp's threads or more",
        remedy="let one thread store",
        resource=STORES,
        source=sources.DEVICE_MEMORY,
        line=_same_place,
    ),
    Rule(
        name="block-rereads",
        fault="the same data loaded by many warps of a block",
        needs=("global_ld_request_places", "global_ld_places", "global_ld_executions", "global_ld_warps",
               "global_ld_again", *_TRACED),
        when=f"each place {REREAD} times, in a loop of {REREAD_TURNS} turns, "
        f"{100 * REREAD_SHARE:.0f} % of the kernel's sectors",
        remedy="load tiles into shared memory once",
        resource=SECTORS,
        source=sources.TILING,
        line=_reread,
    ),
    Rule(
        name="contended-atomics",
        fault="atomics of a warp that meet in one place of global memory",
        needs=("global_atom_places", "global_atom_traced", "global_atom_threads"),
        when=f"{MEETING} threads of a warp to each place",
        remedy="add up in the warp first (shuffles, redux)",
        resource=ATOMICS,
        source=sources.AGGREGATION,
        line=_contended,
    ),
    Rule(
        name="global-atomics",
        fault="atomics on global memory that a block could add up before",
        needs=("global_atom_block_places", "global_atom_places", "global_atom_traced", "global_atom_threads"),
        when=f"{GATHERED} updates of a block to each place, and places that fit shared memory",
        remedy="count in shared memory first",
        resource=ATOMICS,
        source=sources.HISTOGRAMS,
        line=_gathered,
    ),
)  # fmt: skip
"""Rules of what single threads and blocks do over time."""
