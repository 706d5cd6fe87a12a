"""What is known of a compiled kernel before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tessera.program.arch import FEWEST_MULTIPROCESSORS, MULTIPROCESSORS, parse_arch
from tessera.program.artifact import Artifact
from tessera.program.dim import evaluate
from tessera.program.occupancy import Occupancy, occupancy
from tessera.program.program import Choice, Compare, Launch, Step
from tessera.runtime.schedule import COMPARISONS


@dataclass(frozen=True, slots=True)
class StaticKernel:
    """One kernel of a configuration."""

    name: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    """Per block, static and dynamic."""
    occupancy: Occupancy
    fills: bool = True
    """Whether there are more blocks than a whole GPU holds at once: only then does occupancy limit it."""


def static_kernels(
    artifact: Artifact, target: str, sizes: dict[str, int], prefix: str = ""
) -> tuple[StaticKernel, ...]:
    """The GPU kernels of an artifact's only program, launched with these sizes.

    Args:
        artifact: With machine code for `target`.
        target: Full name of an architecture.
        sizes: Values of the symbols.
        prefix: What the names of those that count begin with.
    """
    plan = artifact.programs[0].plan_for(target)
    binaries = {b.name: b for b in artifact.binaries if b.format == "cubin" and b.target == target}
    found = []
    launches = (
        [each for each in _launches(plan.steps, sizes) if each.kernel.startswith(prefix)] if plan else []
    )
    for launch in launches:
        resources = binaries[launch.kernel].resources
        registers = (resources.registers if resources else None) or 0
        shared = ((resources.shared_bytes if resources else None) or 0) + evaluate(launch.shared_bytes, sizes)
        x, y, z = launch.block
        held = occupancy(parse_arch(target), threads=x * y * z, registers=registers, shared_bytes=shared)
        spills = (resources.spill_bytes if resources else None) or 0
        blocks = math.prod(evaluate(size, sizes) for size in launch.grid)
        processors = MULTIPROCESSORS.get(parse_arch(target).cc, FEWEST_MULTIPROCESSORS)
        fills = blocks > held.blocks * processors
        found.append(StaticKernel(launch.kernel, registers, spills, shared, held, fills))
    return tuple(found)


def _launches(steps: Sequence[Step], sizes: dict[str, int]) -> list[Launch]:
    """What runs with these sizes."""
    found: list[Launch] = []
    for step in steps:
        if isinstance(step, Choice):
            holds = (o for o in step.options if all(_holds(guard, sizes) for guard in o.guard))
            found += _launches(next(holds).steps, sizes)
        elif isinstance(step, Launch):
            found.append(step)
    return found


def _holds(guard: Compare, sizes: dict[str, int]) -> bool:
    return COMPARISONS[guard.op](evaluate(guard.lhs, sizes), evaluate(guard.rhs, sizes))
