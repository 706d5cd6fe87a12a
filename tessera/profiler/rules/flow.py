"""Rules of control flow and of launches: threads and multiprocessors that wait while others work."""

from __future__ import annotations

import math

from tessera.profiler.rules import sources
from tessera.profiler.rules.rule import INSTRUCTIONS, TIME, Hit, Rule, cycles
from tessera.profiler.rules.subject import WARP, KernelMetrics, LineMetrics
from tessera.program.bytesize import format_bytes
from tessera.program.quantity import format_number

DIVIDED = 0.1
"""Branches of a line that divide the warp, over all of it, below which they are edges of the data."""
LOST = 0.05
"""Places of threads in a kernel's instructions that go unused, over all, below which nobody would notice."""
BEHIND = 16
"""Instructions of a warp behind a branch that divided it, below which it is a store or two by one thread."""
LONG = 1024
"""Instructions of a warp from which on its work could be spread over more of them."""
TAIL = 0.25
"""Part of a GPU's time that the last wave of blocks leaves idle."""
TAIL_LONG = 512
"""Instructions of a warp, below which a launch is over before it matters."""
LOW_OCCUPANCY = 0.25
"""Warps of a multiprocessor over the most it holds, below which latency is rarely hidden."""
_FEWER = {
    "registers": "keep fewer values alive at once, use smaller tiles, or cap registers (max_registers)",
    "shared memory": "use smaller tiles or fewer stages",
    "blocks": "give each block more threads",
    "warps": "choose a block size that divides the threads of a multiprocessor",
    "block size": "give each block fewer threads",
}


def _divergence(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    divided, branches = line["divergent_branches"], line["branches"]
    if divided < 2 or divided < DIVIDED * branches:
        return None
    instructions = kernel["instructions"]
    idle = WARP * instructions - kernel["thread_instructions"]
    behind = line["divergence_instructions"]
    if "divergence_idle" in kernel.known and behind < BEHIND * divided:
        return None
    lost = line["divergence_idle"] if "divergence_idle" in kernel.known else idle
    if lost < LOST * WARP * instructions:
        return None
    what = f"{100 * divided / branches:.0f} % of the branches of warps here divide the warp"
    if behind:
        active = line["divergence_threads"] / behind
        threads = format_number(active)
        what += f"; {threads} of {WARP} threads are active in the {behind:,.0f} instructions behind"
    remedy = (
        "let the 32 threads of a warp decide alike, such as by a multiple of 32 instead of single threads"
    )
    return Hit(what, remedy, lost / WARP, instructions)


def _partial(kernel: KernelMetrics) -> Hit | None:
    threads = kernel["block_threads"]
    if not threads % WARP:
        return None
    warps = math.ceil(threads / WARP)
    what = (
        f"blocks of {threads:.0f} threads are {warps} warps of {WARP}: "
        f"{warps * WARP - threads:.0f} threads of each block never run"
    )
    up, down = warps * WARP, (warps - 1) * WARP
    remedy = f"make a block a multiple of {WARP} threads: {down or up}{f' or {up}' if down else ''}"
    saved = kernel["instructions"] * (1 - threads / (warps * WARP))
    return Hit(what, remedy, saved, kernel["instructions"])


def _long(kernel: KernelMetrics, least: int) -> bool:
    return kernel["instructions"] >= least * max(kernel["warps"], 1)


def _few(kernel: KernelMetrics) -> Hit | None:
    blocks, processors = kernel["blocks"], kernel["multiprocessors"]
    if blocks >= processors or not _long(kernel, LONG):
        return None
    what = (
        f"with these sizes, {blocks:.0f} block{'s' if blocks > 1 else ''} "
        f"keep{'' if blocks > 1 else 's'} {blocks:.0f} of the {processors:.0f} multiprocessors of "
        f"{kernel.arch} busy, and each warp executes "
        f"{kernel['instructions'] / max(kernel['warps'], 1):,.0f} instructions"
    )
    remedy = "split the work among more blocks: fewer elements per thread, smaller blocks, or parts of a sum"
    return Hit(what, remedy, cycles(kernel) * (1 - blocks / processors), cycles(kernel))


def _tail(kernel: KernelMetrics) -> Hit | None:
    room = kernel["resident_blocks"] * kernel["multiprocessors"]
    if not room or not _long(kernel, TAIL_LONG):
        return None
    waves = kernel["blocks"] / room
    idle = 1 - waves / math.ceil(waves)
    if waves <= 1 or idle < TAIL:
        return None
    what = (
        f"{kernel['blocks']:,.0f} blocks are {waves:.2f} waves of the {room:,.0f} that {kernel.arch} holds "
        f"at once: the last wave leaves {100 * idle:.0f} % of the time of its multiprocessors idle"
    )
    remedy = (
        "let the blocks be a multiple of what the GPU holds, smaller, or loop over the work (grid-stride)"
    )
    return Hit(what, remedy, cycles(kernel) * idle, cycles(kernel))


def _occupancy(kernel: KernelMetrics) -> Hit | None:
    ratio = kernel["occupancy"]
    if not 0 < ratio <= LOW_OCCUPANCY or kernel["tensor_instructions"] or kernel["asynchronous_copies"]:
        return None
    # With fewer blocks than fit, their number is what limits.
    if kernel["blocks"] <= kernel["resident_blocks"] * kernel["multiprocessors"]:
        return None
    what = (
        f"{100 * ratio:.0f} % of the warps that a multiprocessor of {kernel.arch} could hold are there, "
        f"limited by {kernel.limiter}"
    )
    remedy = _FEWER.get(kernel.limiter, "take less of it per block")
    return Hit(what, remedy, cycles(kernel) * (1 - ratio), cycles(kernel))


def _spills(kernel: KernelMetrics) -> Hit | None:
    spilled = kernel["spill_bytes"]
    if not spilled:
        return None
    what = f"each thread spills {format_bytes(int(spilled))} of registers to local memory on {kernel.arch}"
    remedy = "keep fewer values alive at once, use smaller tiles, or allow more registers (max_registers)"
    # A register goes to memory and comes back; four bytes are a request of a warp.
    saved = min(kernel["warps"] * spilled / 4, kernel["instructions"])
    return Hit(what, remedy, saved, kernel["instructions"] + saved)


FLOW: tuple[Rule, ...] = (
    Rule(
        name="divergence",
        fault="branches that divide warps",
        needs=("branches", "divergent_branches", "instructions", "thread_instructions"),
        when=f"{100 * DIVIDED:.0f} % of the branches of a line, and {100 * LOST:.0f} % of the places of "
        f"threads in the kernel's instructions, {BEHIND} instructions or more behind each",
        remedy="let the 32 threads of a warp decide alike",
        resource=INSTRUCTIONS,
        source=sources.BRANCHES,
        line=_divergence,
    ),
    Rule(
        name="partial-warps",
        fault="blocks that are no multiple of 32 threads",
        needs=("block_threads", "instructions"),
        when="any",
        remedy="make a block a multiple of 32 threads",
        resource=INSTRUCTIONS,
        source=sources.BLOCKS,
        kernel=_partial,
    ),
    Rule(
        name="few-blocks",
        fault="fewer blocks than multiprocessors",
        needs=("blocks", "multiprocessors", "instructions", "warps"),
        when=f"and {LONG} instructions or more of each warp, that others could share",
        remedy="split the work among more blocks",
        resource=TIME,
        source=sources.BLOCKS,
        kernel=_few,
    ),
    Rule(
        name="tail",
        fault="a last wave of blocks that leaves multiprocessors idle",
        needs=("blocks", "multiprocessors", "resident_blocks", "instructions", "warps"),
        when=f"{100 * TAIL:.0f} % of the time, in launches of more than one wave",
        remedy="let the blocks be a multiple of what the GPU holds, or loop over the work",
        resource=TIME,
        source=sources.LAUNCH,
        kernel=_tail,
    ),
    Rule(
        name="low-occupancy",
        fault="too few warps on a multiprocessor",
        needs=("occupancy", "resident_blocks", "multiprocessors", "blocks", "tensor_instructions",
               "asynchronous_copies"),
        when=f"{100 * LOW_OCCUPANCY:.0f} % or less, with more blocks than fit, outside of tensor cores",
        remedy="take less of what limits it: registers, shared memory, or blocks of few threads",
        resource=TIME,
        source=sources.OCCUPANCY,
        kernel=_occupancy,
    ),
    Rule(
        name="spills",
        fault="registers that do not suffice",
        needs=("spill_bytes", "warps", "instructions"),
        when="any",
        remedy="keep fewer values alive at once, or allow more registers",
        resource=INSTRUCTIONS,
        source=sources.REGISTERS,
        kernel=_spills,
    ),
)  # fmt: skip
"""Rules of control flow, launches and what a multiprocessor holds."""
