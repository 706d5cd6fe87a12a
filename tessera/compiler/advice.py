"""What a kernel's figures say that its author would want to know: spills, local memory, low occupancy."""

from __future__ import annotations

from collections.abc import Iterable

from tessera.program.arch import SM_LIMITS, is_cpu, parse_arch
from tessera.program.artifact import KernelBinary, Resources
from tessera.program.occupancy import limiter_of

LOW_OCCUPANCY = 0.25
"""Resident warps over the most there can be, below which latency is rarely hidden."""
_REMEDIES = {
    "registers": "fewer live variables, smaller tiles, or --maxrregcount",
    "shared memory": "smaller tiles or stages",
    "blocks": "more threads per block",
    "warps": "a block size that divides the threads of a multiprocessor",
    "block size": "fewer threads per block",
}


def resource_notes(binaries: Iterable[KernelBinary]) -> list[str]:
    """A line for each kernel and kind of trouble, with the targets that have it and what to do."""
    found: dict[tuple[str, str], list[str]] = {}
    for binary in binaries:
        if binary.format != "cubin" or is_cpu(binary.target) or binary.resources is None:
            continue
        for text in _troubles(binary.resources, binary.target):
            found.setdefault((binary.name, text), []).append(binary.target)
    return [f"{name} {text.replace('@', ', '.join(targets))}" for (name, text), targets in found.items()]


def _troubles(resources: Resources, target: str) -> Iterable[str]:
    if resources.spill_bytes:
        yield (
            f"spills {resources.spill_bytes} bytes of registers on @: "
            "keep fewer values alive at once, use smaller tiles, or raise --maxrregcount"
        )
    elif resources.stack_bytes:
        yield (
            f"keeps {resources.stack_bytes} bytes per thread in local memory on @: "
            "index local arrays by constants (unrolled loops), so that they become registers"
        )
    ratio = resources.occupancy
    # A block of few threads is a choice of its author's, and one that fills a multiprocessor alone too.
    if ratio is not None and 0 < ratio < LOW_OCCUPANCY and resources.threads:
        limiter = limiter_of(resources, target)
        most = SM_LIMITS[parse_arch(target).cc].threads
        warps = round(ratio * most / 32)
        yield f"keeps {warps} of {most // 32} warps on @, limited by {limiter}: {_REMEDIES[str(limiter)]}"
