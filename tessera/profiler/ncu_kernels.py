"""What rules read of a kernel as a whole, from the metrics that Nsight Compute has of its launches.

Source: `rules.VOCABULARY`, which says of each name which metrics it is; Nsight Compute, Kernel Profiling
Guide, "Metrics Reference" (`launch__`, `device__attribute_`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tessera.profiler.ncu_csv import NcuLaunch
from tessera.profiler.rules.subject import WARP
from tessera.program.arch import MULTIPROCESSORS

LIMITS: Mapping[str, str] = {
    "launch__occupancy_limit_warps": "warps",
    "launch__occupancy_limit_blocks": "blocks",
    "launch__occupancy_limit_registers": "registers",
    "launch__occupancy_limit_shared_mem": "shared memory",
    "launch__occupancy_limit_barriers": "barriers",
}
"""Blocks that a multiprocessor holds if one thing alone limits them, and what that is."""
SUMS: Mapping[str, str] = {
    "instructions": "smsp__inst_executed.sum",
    "tensor_instructions": "sm__inst_executed_pipe_tensor.sum",
    **{
        f"global_{op}_{what}": f"l1tex__t_{what}_pipe_lsu_mem_global_op_{op}.sum"
        for op in ("ld", "st")
        for what in ("requests", "sectors")
    },
    **{
        f"shared_{op}_wavefronts": f"l1tex__data_pipe_lsu_wavefronts_mem_shared_op_{op}.sum"
        for op in ("ld", "st")
    },
}
"""Names whose number is that of all launches, added up."""
_THREADS = "smsp__thread_inst_executed_per_inst_executed.ratio"
_OCCUPANCY = "sm__maximum_warps_per_active_cycle_pct"


@dataclass(frozen=True, slots=True)
class LaunchNumbers:
    """Of all launches of one kernel."""

    values: Mapping[str, float]
    """By the names of `VOCABULARY`; what no metric tells is left out."""
    limiter: str = ""
    """What allows no more blocks on a multiprocessor; empty where that is not known."""
    arch: str = ""
    """`sm_90`."""


def launch_numbers(launches: Sequence[NcuLaunch]) -> LaunchNumbers:
    """The numbers of a kernel that its launches have.

    Args:
        launches: Of one kernel, at least one.
    """
    largest = max(launches, key=lambda launch: _blocks(launch) or 0.0)
    values: dict[str, float] = {}
    for name, metric in SUMS.items():
        _put(values, name, _added(launches, lambda launch, metric=metric: launch.metrics.get(metric)))  # type: ignore[misc]
    _put(values, "thread_instructions", _added(launches, _thread_instructions))
    _put(values, "blocks", _blocks(largest))
    _put(values, "block_threads", _threads(largest))
    _put(values, "warps", _added(launches, _warps))
    _put(values, "multiprocessors", _multiprocessors(largest))
    _put(values, "shared_bytes", largest.metrics.get("launch__shared_mem_per_block"))
    percent = largest.metrics.get(_OCCUPANCY)
    _put(values, "occupancy", None if percent is None else percent / 100)
    limits = {name: largest.metrics[name] for name in LIMITS if name in largest.metrics}
    least = min(limits, key=lambda name: limits[name], default="")
    _put(values, "resident_blocks", limits.get(least))
    major, _, minor = largest.cc.partition(".")
    return LaunchNumbers(values, LIMITS.get(least, ""), f"sm_{major}{minor}" if minor else "")


def _put(values: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        values[name] = value


def _added(launches: Sequence[NcuLaunch], of: Callable[[NcuLaunch], float | None]) -> float | None:
    """The sum over launches; None where one of them has no such number."""
    found = [of(launch) for launch in launches]
    known = [value for value in found if value is not None]
    return math.fsum(known) if len(known) == len(found) else None


def _thread_instructions(launch: NcuLaunch) -> float | None:
    executed, each = launch.metrics.get(SUMS["instructions"]), launch.metrics.get(_THREADS)
    return None if executed is None or each is None else executed * each


def _blocks(launch: NcuLaunch) -> float | None:
    return launch.metrics.get("launch__grid_size", _product(launch.grid))


def _threads(launch: NcuLaunch) -> float | None:
    return launch.metrics.get("launch__block_size", _product(launch.block))


def _warps(launch: NcuLaunch) -> float | None:
    blocks, threads = _blocks(launch), _threads(launch)
    return None if blocks is None or threads is None else blocks * math.ceil(threads / WARP)


def _product(text: str) -> float | None:
    """Of `(256, 1, 1)`."""
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    return float(math.prod(numbers)) if len(numbers) == 3 else None


def _multiprocessors(launch: NcuLaunch) -> float | None:
    counted = launch.metrics.get("device__attribute_multiprocessor_count")
    if counted is not None:
        return counted
    major, _, minor = launch.cc.partition(".")
    known = MULTIPROCESSORS.get((int(major), int(minor))) if major.isdigit() and minor.isdigit() else None
    return None if known is None else float(known)
