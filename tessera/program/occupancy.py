"""How many blocks of a kernel a multiprocessor holds at once."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.program.arch import (
    FEWEST_MULTIPROCESSORS,
    MAX_BLOCK_THREADS,
    MULTIPROCESSORS,
    SM_LIMITS,
    Architecture,
    is_cpu,
    parse_arch,
)
from tessera.program.artifact import Resources
from tessera.program.errors import OptionError

_REGISTER_UNIT = 256
_MAX_REGISTERS = 256
_WARP = 32
_CARVEOUTS_KB = (0, 8, 16, 32, 64, 100, 132, 164, 196, 228)
"""Of the memory that L1 cache and shared memory divide, what may be shared: up to what there is."""
_OLD_CARVEOUTS_KB = {(7, 0): (0, 8, 16, 32, 64, 96), (7, 2): (0, 8, 16, 32, 64, 96), (7, 5): (32, 64)}
_ONE_BARRIER = frozenset({(10, 1), (12, 0), (12, 1)})
"""Multiprocessors with one barrier for each block that they hold; others, from Hopper on, have two."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Residency of one kernel on one architecture."""

    blocks: int
    """Blocks resident on a multiprocessor."""
    warps: int
    """Warps resident on a multiprocessor."""
    ratio: float
    """Resident warps over the most the multiprocessor holds, 0 to 1."""
    limiter: str
    """What allows no more: `warps`, `blocks`, `registers`, `shared memory`, `barriers` or `block size`."""


def occupancy(
    arch: Architecture,
    *,
    threads: int,
    registers: int,
    shared_bytes: int,
    barriers: int = 1,
    carveout_percent: int | None = None,
) -> Occupancy:
    """Occupancy of a kernel with `threads` per block, `registers` per thread and
    `shared_bytes` (static and dynamic) per block.

    A kernel that cannot be launched there has 0 blocks.

    Args:
        arch: The architecture.
        threads: Of a block.
        registers: Of a thread.
        shared_bytes: Of a block, static and dynamic.
        barriers: Named barriers that a block uses.
        carveout_percent: Part of the memory shared with the L1 cache that the kernel asks to have as shared
            memory, 0 to 100; None for the most, which is what the driver chooses where nobody asks.

    Raises:
        OptionError: `threads` is not positive, a size is negative, or a percentage is none.

    Source: NVIDIA's `cuda_occupancy.h`.
    """
    limits = block_limits(
        arch, threads=threads, registers=registers, shared_bytes=shared_bytes, barriers=barriers,
        carveout_percent=carveout_percent,
    )  # fmt: skip
    warps, max_warps = -(-threads // _WARP), SM_LIMITS[arch.cc].threads // _WARP
    limiter = min(limits, key=lambda name: limits[name])
    blocks = limits[limiter]
    return Occupancy(blocks, blocks * warps, blocks * warps / max_warps, limiter)


def block_limits(
    arch: Architecture,
    *,
    threads: int,
    registers: int,
    shared_bytes: int,
    barriers: int = 1,
    carveout_percent: int | None = None,
) -> dict[str, int]:
    """Blocks that each resource of a multiprocessor allows, by the name it has as a limiter.

    Takes what `occupancy` takes, and raises what it does.
    """
    if threads < 1 or registers < 0 or shared_bytes < 0 or barriers < 0:
        raise OptionError(
            f"occupancy of {threads} threads, {registers} registers, {shared_bytes} bytes of shared memory, "
            f"{barriers} barriers: a block has at least 1 thread and no negative sizes"
        )
    if carveout_percent is not None and not 0 <= carveout_percent <= 100:
        raise OptionError(
            f"a carve-out of {carveout_percent} %: it is 0 to 100 % of a multiprocessor's memory"
        )
    sm = SM_LIMITS[arch.cc]
    warps = -(-threads // _WARP)
    limits = {
        "block size": 0 if threads > MAX_BLOCK_THREADS else sm.threads,
        "warps": sm.threads // _WARP // warps,
        "blocks": sm.blocks,
        "registers": _blocks_by_registers(registers, warps, sm.registers),
        "shared memory": _blocks_by_shared(shared_bytes, arch, carveout_percent),
    }
    if arch.major >= 9 and barriers:
        limits["barriers"] = sm.blocks * (1 if arch.cc in _ONE_BARRIER else 2) // barriers
    return limits


def best_block_size(
    arch: Architecture, *, registers: int, shared_bytes: int, max_threads: int = MAX_BLOCK_THREADS
) -> int:
    """The largest block size with which most threads are resident; 0 where no block fits.

    Args:
        arch: The architecture.
        registers: Of a thread.
        shared_bytes: Of a block, whatever its size.
        max_threads: Launch bound: the most threads that the kernel was compiled for.

    Raises:
        OptionError: A bound that is not positive, or a negative size.

    Source: `cudaOccMaxPotentialOccupancyBlockSize` of NVIDIA's `cuda_occupancy.h`.
    """
    if max_threads < 1:
        raise OptionError(f"a launch bound of {max_threads} threads: a block has at least 1")
    bound = min(max_threads, MAX_BLOCK_THREADS)
    best = most = 0
    for aligned in range(-(-bound // _WARP) * _WARP, 0, -_WARP):
        threads = min(bound, aligned)
        held = occupancy(arch, threads=threads, registers=registers, shared_bytes=shared_bytes)
        if held.blocks * threads > most:
            best, most = threads, held.blocks * threads
    return best


def limiter_of(resources: Resources | None, target: str) -> str | None:
    """What allows no more blocks of a compiled kernel on a multiprocessor of `target`.

    None for a CPU target, and where the assembler's figures or the launch are not known.

    Raises:
        ArchitectureError: There is no such target.
    """
    if resources is None or is_cpu(target) or resources.registers is None or not resources.threads:
        return None
    shared_bytes = (resources.shared_bytes or 0) + (resources.dynamic_shared_bytes or 0)
    return occupancy(
        parse_arch(target),
        threads=resources.threads,
        registers=resources.registers,
        shared_bytes=shared_bytes,
    ).limiter


def resident_blocks(arch: Architecture, *, threads: int, shared_bytes: int, registers: int = 0) -> int:
    """Blocks that a whole GPU of an architecture holds at once; at least 1."""
    each = occupancy(arch, threads=threads, registers=registers, shared_bytes=shared_bytes).blocks
    return max(each * MULTIPROCESSORS.get(arch.cc, FEWEST_MULTIPROCESSORS), 1)


def _blocks_by_registers(registers: int, warps: int, available: int) -> int:
    per_warp = -(-max(registers, 1) * _WARP // _REGISTER_UNIT) * _REGISTER_UNIT
    if registers > _MAX_REGISTERS:
        return 0
    # Each of the four sub-partitions allocates on its own.
    if per_warp * (-(-warps // 4) * 4) > available:
        return 0
    return (available // 4 // per_warp) * 4 // warps


def _blocks_by_shared(shared_bytes: int, arch: Architecture, carveout_percent: int | None) -> int:
    sm = SM_LIMITS[arch.cc]
    if shared_bytes > sm.shared_optin_bytes:
        return 0
    unit = sm.shared_granularity_bytes
    per_block = -(-(shared_bytes + sm.shared_reserved_bytes) // unit) * unit
    percent = 100 if carveout_percent is None else carveout_percent
    pool = _carveout(sm.shared_bytes * percent // 100, arch)
    if pool < per_block:
        # What is asked for is a preference: one block always gets what it needs.
        pool = _carveout(per_block, arch)
    return pool // per_block if per_block else sm.blocks


def _carveout(wanted: int, arch: Architecture) -> int:
    """Bytes of shared memory that a multiprocessor is set up with where so many are wanted."""
    steps = (kb << 10 for kb in _OLD_CARVEOUTS_KB.get(arch.cc, _CARVEOUTS_KB))
    most = SM_LIMITS[arch.cc].shared_bytes
    return next((step for step in steps if wanted <= step <= most), most)
