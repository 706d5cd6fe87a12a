"""What rules read, from the emulator's counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tessera.profiler.rules.subject import VOCABULARY, KernelMetrics, LineMetrics

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters, LineCounts, Operation, Sums
    from tessera.profiler.source_lines import SourceFiles

_OPERATIONS: dict[str, tuple[Operation, ...]] = {"ld": ("ld",), "st": ("st",), "atom": ("atom", "red")}
COUNTED = frozenset(name for name, meaning in VOCABULARY.items() if not meaning.traced)
"""Names that counters alone are enough for."""


def kernel_metrics(counters: Counters, files: SourceFiles) -> KernelMetrics:
    """The numbers of one kernel.

    Args:
        counters: Of all of its launches.
        files: Where the source is read.
    """
    from tessera.emulator.counters import LABEL

    lines = tuple(
        LineMetrics(line.file, line.line, line_values(line), files.line(line.file, line.line))
        for line in counters.lines()
    )
    name = ", ".join(counters.kernels)
    return KernelMetrics(name, LABEL, COUNTED, lines, sums_values(counters))


def sums_values(sums: Sums) -> dict[str, float]:
    """Numbers that lines and kernels have alike."""
    found: dict[str, float] = {
        "instructions": sums.executed,
        "thread_instructions": sums.threads,
        "branches": sums.branches,
        "divergent_branches": sums.divergent,
        "barriers": sums.count("barrier"),
        "fp64_instructions": sums.count("fp64"),
    }
    for op, operations in _OPERATIONS.items():
        device, shared = sums.memory("global", *operations), sums.memory("shared", *operations)
        found |= {
            f"global_{op}_requests": device.requests,
            f"global_{op}_sectors": device.passes,
            f"global_{op}_ideal_sectors": device.ideal,
            f"global_{op}_threads": device.threads,
            f"global_{op}_bytes": device.asked_bytes,
            f"shared_{op}_requests": shared.requests,
            f"shared_{op}_wavefronts": shared.passes,
            f"shared_{op}_ideal_wavefronts": shared.ideal,
            f"shared_{op}_threads": shared.threads,
        }
    local = sums.memory("local")
    return found | {"local_requests": local.requests, "local_sectors": local.passes}


def line_values(line: LineCounts) -> Mapping[str, float]:
    """The numbers of a line; what did not happen is left out."""
    found = sums_values(line) | {"fp64_of_fp32": _doubles(line)}
    return {name: value for name, value in found.items() if value}


def _doubles(line: LineCounts) -> int:
    """Float64 arithmetic of a line that begins and ends with float32."""
    widens = any(i.mnemonic.startswith("cvt") and i.mnemonic.endswith(".f64.f32") for i in line.instructions)
    narrows = any(i.mnemonic.startswith("cvt") and i.mnemonic.endswith(".f32.f64") for i in line.instructions)
    return line.count("fp64") if widens and narrows else 0
