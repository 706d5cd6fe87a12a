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
    """What allows no more: `warps`, `blocks`, `registers`, `shared memory` or `block size`."""


def occupancy(arch: Architecture, *, threads: int, registers: int, shared_bytes: int) -> Occupancy:
    """Occupancy of a kernel with `threads` per block, `registers` per thread and
    `shared_bytes` (static and dynamic) per block.

    A kernel that cannot be launched there has 0 blocks.

    Raises:
        OptionError: `threads` is not positive, or a size is negative.

    Source: NVIDIA's `cuda_occupancy.h`, with the largest shared-memory carve-out.
    """
    if threads < 1 or registers < 0 or shared_bytes < 0:
        raise OptionError(
            f"occupancy of {threads} threads, {registers} registers, {shared_bytes} bytes of shared memory: "
            "a block has at least 1 thread and no negative sizes"
        )
    sm = SM_LIMITS[arch.cc]
    warps = -(-threads // _WARP)
    max_warps = sm.threads // _WARP
    limits = {
        "block size": 0 if threads > MAX_BLOCK_THREADS else sm.threads,
        "warps": max_warps // warps,
        "blocks": sm.blocks,
        "registers": _blocks_by_registers(registers, warps, sm.registers),
        "shared memory": _blocks_by_shared(shared_bytes, arch),
    }
    limiter = min(limits, key=lambda name: limits[name])
    blocks = limits[limiter]
    return Occupancy(blocks, blocks * warps, blocks * warps / max_warps, limiter)


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


def _blocks_by_shared(shared_bytes: int, arch: Architecture) -> int:
    sm = SM_LIMITS[arch.cc]
    if shared_bytes > sm.shared_optin_bytes:
        return 0
    unit = sm.shared_granularity_bytes
    per_block = -(-(shared_bytes + sm.shared_reserved_bytes) // unit) * unit
    return sm.shared_bytes // per_block if per_block else sm.blocks
