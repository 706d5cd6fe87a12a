"""How long a counted launch takes on a GPU, by its datasheet: to rank configurations, no measurement.

A launch is bound by the busiest of five resources: memory, instruction issue, arithmetic, tensor cores and
shared memory; most of what the others do goes on meanwhile. Two things keep it from their rates: blocks that
do not divide evenly among the multiprocessors, and warps too few to have enough bytes under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.profiler.datasheet import Datasheet, f32_lanes
from tessera.profiler.datasheets import DATASHEETS
from tessera.profiler.prediction import TENSOR_SHARE
from tessera.program.arch import MULTIPROCESSORS, Architecture
from tessera.program.errors import OptionError

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters
    from tessera.program.occupancy import Occupancy

MODEL = "cost model 1"
"""Its version: records of another are not compared with this one's."""
LAUNCH_MS = 2e-3
"""Of one kernel, even if it does nothing."""
LATENCY_S = 500e-9
"""From a load to its data, from memory that is busy: an assumption, as is the next."""
OVERLAP = 0.9
"""Part of what the other resources do that hides behind the busiest: an assumption."""
LOADS_UNDER_WAY = 2
"""Of one warp, on average."""
_SCHEDULERS = 4
_LOCAL_PASSES = 2
"""A spilled register is stored and loaded."""


@dataclass(frozen=True, slots=True)
class LaunchWork:
    """One launch, as counted, and what its kernel takes of a multiprocessor."""

    counters: Counters
    blocks: int
    """Of the grid."""
    threads: int
    """Of a block."""
    occupancy: Occupancy
    spill_bytes: int
    """Of a thread: PTX does not have them, so that nobody counted them."""


@dataclass(frozen=True, slots=True)
class PredictedCost:
    """The time of one execution."""

    ms: float
    bound: str
    """What most of the time goes by."""


def datasheet_for(arch: Architecture) -> Datasheet:
    """The GPU that predictions for an architecture are made for.

    Raises:
        OptionError: There is no datasheet of one.
    """
    found = [s for s in DATASHEETS.values() if s.capability == arch.cc]
    if not found:
        known = ", ".join(dict.fromkeys(f"sm_{a}{b}" for a, b in (s.capability for s in DATASHEETS.values())))
        raise OptionError(
            f"{arch.name}: no datasheet to predict costs by",
            hint=f"--arch with one of: {known}; or --device cuda:0",
        )
    return found[0]


def predicted_cost(launches: Sequence[LaunchWork], arch: Architecture) -> PredictedCost:
    """The time of launches, one after the other.

    Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009; for bytes under way Little's law,
    as in Volkov, "Better performance at lower occupancy", GTC 2010.
    """
    sheet = datasheet_for(arch)
    total, by_bound = 0.0, dict[str, float]()
    for launch in launches:
        times = _times_ms(launch, sheet, arch)
        bound = max(times, key=lambda name: times[name])
        rest = sum(times.values()) - times[bound]
        total += times[bound] + (1 - OVERLAP) * rest + LAUNCH_MS
        by_bound[bound] = by_bound.get(bound, 0.0) + times[bound]
    return PredictedCost(total, max(by_bound, key=lambda name: by_bound[name], default="launch"))


def _times_ms(launch: LaunchWork, sheet: Datasheet, arch: Architecture) -> dict[str, float]:
    counters, processors = launch.counters, MULTIPROCESSORS.get(arch.cc, sheet.multiprocessors)
    # The multiprocessor with the most blocks is the last to end.
    uneven = -(-launch.blocks // processors) * processors / max(launch.blocks, 1)
    cycles = sheet.f32_tflops * 1e12 / (2 * f32_lanes(arch.cc))
    spilled = launch.spill_bytes * launch.blocks * launch.threads * _LOCAL_PASSES
    moved = counters.memory("global").moved_bytes + counters.memory("local").moved_bytes + spilled
    instructions = counters.executed + spilled / 4 / 32
    times = {
        "memory": moved / (sheet.memory_tb_s * 1e12) / _hidden(launch, sheet, processors),
        "instructions": uneven * instructions / (_SCHEDULERS * cycles),
        "shared memory": uneven * counters.memory("shared").passes / cycles,
        "arithmetic": uneven * _scalar_s(counters, sheet),
        "tensor cores": uneven * _tensor_s(counters, sheet),
    }
    return {name: seconds * 1e3 for name, seconds in times.items()}


def _hidden(launch: LaunchWork, sheet: Datasheet, processors: int) -> float:
    """The part of memory's rate that the resident warps can ask for."""
    access = launch.counters.memory("global")
    if not access.requests:
        return 1.0
    busy = min(launch.blocks, launch.occupancy.blocks * processors)
    warps = busy * -(-launch.threads // 32)
    under_way = warps * LOADS_UNDER_WAY * access.moved_bytes / access.requests
    return min(1.0, max(under_way / LATENCY_S, 1.0) / (sheet.memory_tb_s * 1e12))


def _scalar_s(counters: Counters, sheet: Datasheet) -> float:
    rates = {"fp64": sheet.f64_tflops or sheet.f32_tflops}
    return sum(
        count / (rates.get(precision, sheet.f32_tflops) * 1e12)
        for precision, count in counters.flops_by_precision().items()
    )


def _tensor_s(counters: Counters, sheet: Datasheet) -> float:
    # V100's table has no rate: its tensor cores do 8 times the work of its other units.
    rate = sheet.bf16_tflops or 8 * sheet.f32_tflops
    return sum(
        count / (rate * TENSOR_SHARE.get(kind, 1.0) * 1e12)
        for kind, count in counters.tensor_flops_by_type().items()
    )
