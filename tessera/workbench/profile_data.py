"""What `tessera profile` found, for programs: JSON and CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters, LineCounts, Sums
    from tessera.profiler.device_times import DeviceTimes
    from tessera.profiler.emulated import KernelProfile
    from tessera.profiler.rules import Advice
    from tessera.profiler.source_lines import SourceFiles
    from tessera.workbench.profiling import Counted, Timed

SPACES = ("global", "shared", "local")


def counted_data(result: Counted) -> dict[str, Any]:
    """One counted program."""
    from tessera.emulator.counters import LABEL

    profile = result.profile
    return {
        "name": profile.program.name,
        "device": "emulator",
        "label": LABEL,
        "target": profile.target,
        "seconds": profile.seconds,
        "inputs": {name: list(value.shape) for name, value in result.inputs.values.items()},
        "drawn": list(result.inputs.drawn),
        "sizes": result.sizes,
        "kernels": [_kernel_data(kernel, result) for kernel in profile.kernels],
        "advice": advice_data(result.advice, result.files),
        "occupancy": [asdict(each) for each in profile.occupancy],
        "predicted": [
            {"gpu": p.gpu, "label": "predicted from the datasheet", "arithmetic_ms": p.arithmetic_ms,
             "best_memory_ms": p.best_memory_ms, "worst_memory_ms": p.worst_memory_ms, "bound": p.bound}
            for p in result.predictions
        ],
    }  # fmt: skip


def advice_data(found: Sequence[Advice], files: SourceFiles) -> list[dict[str, Any]]:
    """What rules found."""
    return [
        {"kind": a.kind, "kernel": a.kernel, "file": files.path(a.file), "line": a.line, "what": a.what,
         "remedy": a.remedy, "gain": a.gain, "resource": a.resource, "cost": a.cost, "label": a.label,
         "source": asdict(a.source)}
        for a in found
    ]  # fmt: skip


def _kernel_data(kernel: KernelProfile, result: Counted) -> dict[str, Any]:
    counters = kernel.counters
    return {
        "name": kernel.kernel,
        "launches": [
            {"grid": list(each.grid), "block": list(each.block), "shared_bytes": each.shared_bytes}
            for each in kernel.launches
        ],
        **_sums_data(counters),
        "instructions": {k: asdict(sums) for k, sums in counters.by_kind().items()},
        "metrics": dict(counters.metrics()),
        "lines": [
            {"file": result.files.path(line.file), "line": line.line,
             "source": result.files.line(line.file, line.line), **_sums_data(line)}
            for line in counters.lines()
        ],
    }  # fmt: skip


def _sums_data(sums: Sums) -> dict[str, Any]:
    return {
        "executed": sums.executed,
        "threads": sums.threads,
        "threads_on": sums.threads_on,
        "branches": sums.branches,
        "divergent": sums.divergent,
        "barriers": sums.count("barrier"),
        "flops": sums.flops_by_precision(),
        "tensor_flops": sums.tensor_flops_by_type(),
        "memory": {space: _access_data(sums, space) for space in SPACES},
    }


def _access_data(sums: Sums, space: Any) -> dict[str, int]:
    access = sums.memory(space)
    passes = "wavefronts" if space == "shared" else "sectors"
    return {
        "requests": access.requests,
        "threads": access.threads,
        "asked_bytes": access.asked_bytes,
        passes: access.passes,
        f"ideal_{passes}": access.ideal,
    }


def timed_data(result: Timed) -> dict[str, Any]:
    """One measured program."""
    profile = result.profile
    return {
        "name": result.program.name,
        "device": profile.device,
        "label": "measured",
        "executions": profile.executions,
        "total_ms": profile.total_ms,
        "inputs": {name: list(value.shape) for name, value in result.inputs.values.items()},
        "drawn": list(result.inputs.drawn),
        "steps": [{**asdict(step), "mean_ms": step.mean_ms} for step in profile.steps],
        "times": _times_data(result.times),
    }


def _times_data(times: DeviceTimes | None) -> dict[str, Any] | None:
    if times is None:
        return None
    pieces = [{**asdict(piece), "gbps": piece.gbps} for piece in times.pieces]
    return {**asdict(times), "pieces": pieces, "overhead_ms": times.overhead_ms, "label": "CUDA events"}


COLUMNS = (
    "program", "kernel", "file", "line", "executed", "threads", "threads_on", "global_requests",
    "global_sectors", "global_ideal_sectors", "shared_requests", "shared_wavefronts", "bank_conflicts",
    "local_requests", "branches", "divergent", "flops", "tensor_flops", "source",
)  # fmt: skip


def write_lines(results: Sequence[Counted]) -> None:
    """One row per line of source, as CSV on stdout; what belongs to no line has line 0."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(COLUMNS)
    for result in results:
        for kernel in result.profile.kernels:
            for line in (*kernel.counters.lines(), *_without_line(kernel.counters)):
                out.writerow(_row(result, kernel, line))


def _without_line(counters: Counters) -> list[LineCounts]:
    from tessera.emulator.counters import LineCounts

    own = tuple(i for i in counters.instructions if not i.source_line)
    return [LineCounts(own, "", 0)] if own else []


def _row(result: Counted, kernel: KernelProfile, line: LineCounts) -> list[Any]:
    device, shared, local = (line.memory(space) for space in SPACES)  # type: ignore[arg-type]
    files = result.files
    return [
        result.profile.program.name, kernel.kernel, files.path(line.file), line.line, line.executed,
        line.threads, line.threads_on, device.requests, device.passes, device.ideal, shared.requests,
        shared.passes, shared.excess, local.requests, line.branches, line.divergent, line.flops,
        line.tensor_flops, files.line(line.file, line.line).strip(),
    ]  # fmt: skip


def write_steps(result: Timed) -> None:
    """One row per step, as CSV on stdout."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("program", "device", "step", "name", "calls", "median_ms", "mean_ms", "min_ms", "max_ms"))
    for step in result.profile.steps:
        out.writerow(
            (step.program, result.profile.device, step.index, step.name, step.calls,
             step.median_ms, step.mean_ms, step.min_ms, step.max_ms)
        )  # fmt: skip
