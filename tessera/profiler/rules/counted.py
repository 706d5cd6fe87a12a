"""What rules read, from the emulator: counters, the code, the trace of a block, the assembler's figures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tessera.profiler.rules.subject import VOCABULARY, KernelMetrics, LineMetrics

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters, Operation, Sums
    from tessera.profiler.emulated import KernelProfile, StaticOccupancy
    from tessera.profiler.source_lines import SourceFiles

Values = dict[tuple[str, int], dict[str, float]]
_OPERATIONS: dict[str, tuple[Operation, ...]] = {"ld": ("ld",), "st": ("st",), "atom": ("atom", "red")}
_LAUNCH = frozenset({"block_threads", "blocks", "warps"})
_STATIC = frozenset({"multiprocessors", "occupancy", "resident_blocks", "spill_bytes"})
_CODE = frozenset(name for name, meaning in VOCABULARY.items() if meaning.code) | {
    "tensor_instructions", "shuffles", "asynchronous_copies",
}  # fmt: skip
_TRACE = frozenset(name for name, meaning in VOCABULARY.items() if meaning.traced) | {"shared_bytes"}
COUNTED = frozenset(VOCABULARY) - _LAUNCH - _STATIC - _CODE - _TRACE
"""Names that counters alone are enough for."""
_DEFINITION = re.compile(r"^\s*(async\s+)?def\s|__global__")


def counters_metrics(counters: Counters, files: SourceFiles) -> KernelMetrics:
    """The numbers of a kernel of which nothing but counters is known.

    Args:
        counters: Of all of its launches.
        files: Where the source is read.
    """
    return _metrics(counters, files, COUNTED, {}, {})


def profiled_metrics(
    profile: KernelProfile, files: SourceFiles, held: StaticOccupancy | None = None
) -> KernelMetrics:
    """The numbers of a kernel that ran in the emulator.

    Args:
        profile: All of its launches.
        files: Where the source is read.
        held: How many of its blocks a multiprocessor holds, if that is known.
    """
    from tessera.profiler.rules.code import code_values
    from tessera.profiler.rules.traced import traced_values

    known = COUNTED | _LAUNCH | _CODE
    lines, kernel = code_values(profile.launches[0].module, profile.counters)
    largest = max(profile.launches, key=lambda each: each.grid[0] * each.grid[1] * each.grid[2])
    x, y, z = largest.block
    kernel |= {
        "block_threads": float(x * y * z),
        "blocks": float(largest.grid[0] * largest.grid[1] * largest.grid[2]),
        "warps": float(profile.counters.warps),
    }
    trace = next((each.trace for each in profile.launches if each.trace is not None), None)
    if trace is not None:
        known |= _TRACE
        found, of_kernel = traced_values(trace)
        kernel |= of_kernel
        for key, values in found.items():
            lines.setdefault(key, {}).update(values)
    if held is not None:
        known |= _STATIC if held.spill_bytes is not None else _STATIC - {"spill_bytes"}
        kernel |= _static(held)
    arch, limiter = ("", "") if held is None else (held.target, held.occupancy.limiter)
    return _metrics(profile.counters, files, known, lines, kernel, arch, limiter)


def _static(held: StaticOccupancy) -> dict[str, float]:
    from tessera.program.arch import FEWEST_MULTIPROCESSORS, MULTIPROCESSORS, parse_arch

    return {
        "multiprocessors": float(MULTIPROCESSORS.get(parse_arch(held.target).cc, FEWEST_MULTIPROCESSORS)),
        "occupancy": held.occupancy.ratio,
        "resident_blocks": float(held.occupancy.blocks),
        "spill_bytes": float(held.spill_bytes or 0),
    }


def _metrics(
    counters: Counters, files: SourceFiles, known: frozenset[str], lines: Values,
    kernel: Mapping[str, float], arch: str = "", limiter: str = "",
) -> KernelMetrics:  # fmt: skip
    from tessera.emulator.counters import LABEL, LineCounts

    found = []
    for line in counters.lines():
        values = sums_values(line) | lines.get((line.file, line.line), {})
        kept = {name: value for name, value in values.items() if value}
        found.append(LineMetrics(line.file, line.line, kept, files.line(line.file, line.line)))
    file, number = _definition(counters, files)
    rest = tuple(i for i in counters.instructions if not i.source_line)
    lineless = LineMetrics("", 0, sums_values(LineCounts(rest, "", 0))) if rest else None
    return KernelMetrics(
        kernel=", ".join(counters.kernels), label=LABEL, known=known, lines=tuple(found),
        values={**sums_values(counters), **kernel}, file=file, line=number, limiter=limiter, arch=arch,
        lineless=lineless,
    )  # fmt: skip


def _definition(counters: Counters, files: SourceFiles) -> tuple[str, int]:
    weight: dict[tuple[str, int], int] = {}
    for i in counters.instructions:
        if i.source_line and i.function in counters.kernels:
            weight[i.file, i.source_line] = weight.get((i.file, i.source_line), 0) + 1
    return definition(weight, files)


def definition(weight: Mapping[tuple[str, int], int], files: SourceFiles) -> tuple[str, int]:
    """Where a kernel begins: the head of the function that its first line of code is in.

    `("", 0)` where there are no lines.

    Args:
        weight: Instructions by file and line.
        files: Where the source is read.
    """
    if not weight:
        return "", 0
    # What is inlined from another file comes with that file's name.
    by_file: dict[str, int] = {}
    for (file, _), count in weight.items():
        by_file[file] = by_file.get(file, 0) + count
    file = max(by_file, key=lambda name: by_file[name])
    numbers = [line for name, line in weight if name == file]
    heads = [n for n, text in files.lines(file, 1, max(numbers)) if _DEFINITION.search(text)]
    return file, heads[-1] if heads else min(numbers)


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
