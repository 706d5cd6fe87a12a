"""Rules of shared memory: banks, atomics, barriers, and bytes that nobody uses."""

from __future__ import annotations

from functools import partial

from tessera.profiler.rules import sources
from tessera.profiler.rules.rule import INSTRUCTIONS, SHARED_BYTES, TIME, WAVEFRONTS, Hit, Rule, cycles
from tessera.profiler.rules.subject import WARP, KernelMetrics, LineMetrics
from tessera.profiler.rules.wording import element, enough
from tessera.program.bytesize import format_bytes
from tessera.program.quantity import format_number

CONFLICTS = 1.2
"""Wavefronts over the ideal from which on a line is said to have bank conflicts."""
ALIKE = 0.9
"""Requests that differ as the first one does, over all, below which addresses come from data."""
MEETING = 4
"""Threads of a warp that meet in one place of an atomic."""
BARRIER_SHARE = 0.06
"""Barriers in a kernel's instructions, from which on they are many: one of sixteen."""
BARRIERS = 8
"""Of each warp, below which there is no loop of them."""
UNTOUCHED = 1024
"""Bytes of shared memory that may lie idle."""
_VERBS = {"ld": "loads", "st": "stores"}


def wavefronts(kernel: KernelMetrics) -> float:
    """Wavefronts of a kernel, of all operations."""
    return sum(kernel.total(f"shared_{op}_wavefronts") for op in ("ld", "st", "atom"))


def _conflicts(op: str, kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests, passes = line[f"shared_{op}_requests"], line[f"shared_{op}_wavefronts"]
    ideal = line[f"shared_{op}_ideal_wavefronts"]
    if not requests or passes < CONFLICTS * ideal:
        return None
    # No padding helps where the data say which bank it is.
    if line[f"shared_{op}_alike"] < ALIKE * line[f"shared_{op}_shapes"]:
        return None
    name = element(line.text, write=op != "ld", last=True)
    what = (
        f"{name.text} {_VERBS[op]} in {format_number(passes / requests)} wavefronts per request "
        f"where {enough(ideal / requests)}"
    )
    remedy = "threads of a warp meet in the same bank; " + (
        "pad each row of the shared array by one element"
        if name.indices > 1
        else "pad rows, swizzle columns (index ^ row), or let neighbouring threads take neighbouring elements"
    )
    return Hit(what, remedy, passes - ideal, wavefronts(kernel))


def _contention(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests, passes = line["shared_atom_requests"], line["shared_atom_wavefronts"]
    ideal, places = line["shared_atom_ideal_wavefronts"], line["shared_atom_places"]
    if not requests or passes < 2 * ideal:
        return None
    if "shared_atom_places" in kernel.known and line["shared_atom_traced"] < MEETING * places:
        return None
    what = f"atomics take {format_number(passes / requests)} turns per request"
    remedy = "threads of a warp update the same place; add up in the warp first, or spread the places"
    return Hit(what, remedy, passes - ideal, wavefronts(kernel))


def _needless(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    traced, idle = line["barriers_traced"], line["barriers_idle"]
    if traced < 2 or idle < traced:
        return None
    what = (
        f"none of the {traced:.0f} barriers of a block here has anything to order: no thread touches, in "
        "front of it, what another writes behind, nor reverse"
    )
    remedy = "leave the barrier out, or put one behind the loop"
    return Hit(what, remedy, line["barriers"], kernel["instructions"])


def _many(kernel: KernelMetrics) -> Hit | None:
    barriers, instructions = kernel["barriers"], kernel["instructions"]
    if barriers < BARRIER_SHARE * instructions or barriers < BARRIERS * kernel["warps"]:
        return None
    if kernel["block_threads"] <= WARP:
        return None
    what = f"every {format_number(instructions / barriers)} instructions of a warp is a barrier of its block"
    remedy = "do more between two barriers: larger tiles, several elements per thread, a warp for itself"
    return Hit(what, remedy, cycles(kernel) * barriers / instructions, cycles(kernel))


def _tree(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    steps = line["shared_tree_steps"]
    if not steps or kernel["shuffles"]:
        return None
    what = f"the last {steps:.0f} steps of this reduction, of 16 threads and less, go through shared memory"
    remedy = (
        "let the last 32 values be added up by one warp with shuffles (cuda.shfl_down_sync), without barriers"
    )
    return Hit(what, remedy, line["instructions"] / 2, kernel["instructions"])


def _unused(kernel: KernelMetrics) -> Hit | None:
    idle, total = kernel["shared_untouched_bytes"], kernel["shared_bytes"]
    # Stages of a pipeline lie idle where there are few turns: that is a matter of sizes.
    if idle < UNTOUCHED or idle < total / 2 or kernel["tensor_instructions"]:
        return None
    what = f"{format_bytes(int(idle))} of {format_bytes(int(total))} of shared memory are never touched"
    remedy = "ask for less: more blocks fit a multiprocessor, or its level-1 cache is larger"
    return Hit(what, remedy, idle, total)


SHARED: tuple[Rule, ...] = (
    *(
        Rule(
            name=f"bank-conflict-{_VERBS[op]}",
            fault=f"bank conflicts of shared {_VERBS[op]}",
            needs=tuple(f"shared_{op}_{n}" for n in ("requests", "wavefronts", "ideal_wavefronts")),
            when=f"{CONFLICTS:g} wavefronts where one would do, whatever the data",
            remedy="pad rows of the shared array by one element, or swizzle its columns",
            resource=WAVEFRONTS,
            source=sources.BANKS,
            line=partial(_conflicts, op),
        )
        for op in ("ld", "st")
    ),
    Rule(
        name="shared-contention",
        fault="atomics of a warp that meet in one place of shared memory",
        needs=tuple(f"shared_atom_{n}" for n in ("requests", "wavefronts", "ideal_wavefronts")),
        when=f"{MEETING} threads of a warp to each place",
        remedy="add up in the warp first (shuffles, redux), or give each warp places of its own",
        resource=WAVEFRONTS,
        source=sources.ATOMICS,
        line=_contention,
    ),
    Rule(
        name="needless-barriers",
        fault="barriers in a loop that order nothing",
        needs=("barriers_traced", "barriers_idle", "barriers", "instructions"),
        when="two or more of a block at a line, and no access in front of any meets one behind it",
        remedy="leave the barrier out",
        resource=INSTRUCTIONS,
        source=sources.BARRIERS,
        line=_needless,
        hides_in_kernel=("many-barriers",),
    ),
    Rule(
        name="tree-reduction",
        fault="the end of a reduction in shared memory",
        needs=("shared_tree_steps", "shuffles", "instructions"),
        when="steps of 16, 8, 4, 2 and 1 threads, and no shuffle in the kernel",
        remedy="add up the last 32 values with shuffles",
        resource=INSTRUCTIONS,
        source=sources.REDUCTIONS,
        line=_tree,
        hides=("divergence",),
        hides_in_kernel=("many-barriers", "divergence"),
    ),
    Rule(
        name="many-barriers",
        fault="little work between barriers",
        needs=("barriers", "instructions", "warps", "block_threads"),
        when=f"{100 * BARRIER_SHARE:.0f} % of the kernel's instructions, {BARRIERS} or more of each warp",
        remedy="do more between two barriers: larger tiles, several elements per thread",
        resource=TIME,
        source=sources.BARRIERS,
        kernel=_many,
    ),
    Rule(
        name="unused-shared-memory",
        fault="shared memory that is asked for and not used",
        needs=("shared_untouched_bytes", "shared_bytes", "tensor_instructions"),
        when=f"{UNTOUCHED} bytes or more, and half of it, outside of tensor cores",
        remedy="ask for less",
        resource=SHARED_BYTES,
        source=sources.SHARED_BYTES,
        kernel=_unused,
    ),
)
"""Rules of shared memory."""
