"""Configurations that are not worth running, by what the assembler says of them."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.profiler.tuning.static import StaticKernel

MOST_SPILL_BYTES = 128
"""Of a thread: beyond, a kernel waits for its own registers."""
LEAST_SHARE = 0.25
"""Of the warps that the reference configuration keeps resident: with fewer, and fewer than `FEW_WARPS`,
latency shows."""
FEW_WARPS = 8
"""Resident on a multiprocessor: two for each scheduler. A grid that leaves multiprocessors free is not
judged by it: small blocks may share the work better."""


def why_pruned(kernels: Sequence[StaticKernel], reference: Sequence[StaticKernel]) -> str | None:
    """Why a configuration need not be run; None if it must be.

    Args:
        kernels: Its kernels.
        reference: Those of the configuration that it is compared with.
    """
    for kernel in kernels:
        held = kernel.occupancy
        if held.blocks == 0:
            return f"{kernel.name}: no block fits a multiprocessor, by {held.limiter}"
    spills, usual = _spills(kernels), _spills(reference)
    if spills > max(MOST_SPILL_BYTES, usual):
        return f"{spills} bytes of registers spill per thread; allowed are {max(MOST_SPILL_BYTES, usual)}"
    warps, most = _warps(kernels), _warps(reference)
    limited = all(k.fills for k in kernels)
    if limited and warps < FEW_WARPS and warps < LEAST_SHARE * most:
        return f"{warps} warps resident on a multiprocessor, {most} in the reference configuration"
    return None


def _spills(kernels: Sequence[StaticKernel]) -> int:
    return max((k.spill_bytes for k in kernels), default=0)


def _warps(kernels: Sequence[StaticKernel]) -> int:
    return min((k.occupancy.warps for k in kernels), default=0)
