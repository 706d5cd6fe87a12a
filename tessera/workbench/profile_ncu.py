"""`tessera profile --ncu`: hardware counters beside the times, from the same program and inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.program.bytesize import format_bytes
from tessera.program.errors import TesseraError
from tessera.workbench.failure import visible
from tessera.workbench.output import Column, note, print_table
from tessera.workbench.profile_flame import print_flame
from tessera.workbench.profile_tables import milliseconds, print_wrapped, short

if TYPE_CHECKING:
    from tessera.profiler.ncu import NcuProfile
    from tessera.profiler.ncu_csv import NcuLaunch
    from tessera.profiler.source_lines import SourceFiles
    from tessera.workbench.profiling import Timed

LABEL = "counted by Nsight Compute"
STALLS = 4
"""Reasons that are named for each kernel."""


def count_with_ncu(
    target: str, device: str, spec: Sequence[str] | None, timed: Timed, wanted: bool | None
) -> NcuProfile | None:
    """The counters, where they are wanted: without a word for or against them, where there is an ncu.

    Raises:
        TesseraError: They are asked for by name, and cannot be had.
    """
    from tessera.profiler.ncu import find_ncu, profile_ncu

    if wanted is False or (wanted is None and (timed.times is None or find_ncu() is None)):
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="tessera-profile-") as folder:
            package = _package(target, device, spec, Path(folder))
            return profile_ncu(package, timed.program.name, timed.inputs.values, device)
    except TesseraError as error:
        if wanted:
            raise
        note(f"no counters: {error.message}{f' ({error.hint})' if error.hint else ''}", "warning")
        return None


def _package(target: str, device: str, spec: Sequence[str] | None, folder: Path) -> Path:
    """A package of the target, with source lines where it is compiled here."""
    from tessera.runtime import parse_device
    from tessera.workbench.compilation import compile_request, make_request
    from tessera.workbench.opening import arch_for, package_path
    from tessera.workbench.source import is_package

    if is_package(target):
        return package_path(target)
    name = parse_device(device)
    request = make_request(target, [arch_for(name.kind, name.index)], spec, lineinfo=True)
    return Path(compile_request(request, single=True).kernels[0].save(folder / "profiled.tsc"))


def print_counters(found: NcuProfile, files: SourceFiles) -> None:
    """Counters of each launch, where the samples are by line, and what warps waited for."""
    from tessera.profiler.flame import ncu_stacks

    print(visible(f"\n{LABEL} {found.version}, clocks as they are, one execution"))
    rows = [
        [str(launch.index), launch.kernel, *(cell(launch) for _, cell in COLUMNS)]
        for launch in found.launches
    ]
    columns = [Column("Launch", right=True), Column("Kernel"), *(Column(t, right=True) for t, _ in COLUMNS)]
    print_table(columns, rows)
    if found.lines:
        stacks, weight = ncu_stacks(found.lines)
        print_flame(stacks, weight, files)
        _print_stalls(found)
    else:
        print_wrapped("", "no figures by line: this version of ncu has no source page, or the code no lines")
    if found.unknown:
        print_wrapped("", f"not known to this version or GPU: {', '.join(found.unknown)}")


def _print_stalls(found: NcuProfile) -> None:
    """What the warps of each kernel waited for, by samples."""
    for kernel in dict.fromkeys(line.kernel for line in found.lines):
        sums: dict[str, float] = {}
        for line in found.lines:
            for reason, samples in line.stalls.items() if line.kernel == kernel else ():
                sums[reason] = sums.get(reason, 0.0) + samples
        whole = sum(line.samples for line in found.lines if line.kernel == kernel)
        worst = sorted(sums.items(), key=lambda item: -item[1])[:STALLS]
        if whole and worst:
            said = ", ".join(f"{reason} {100 * samples / whole:.0f} %" for reason, samples in worst)
            print_wrapped("", f"{kernel}: of {short(whole)} samples warps waited for {said}")


def counters_data(found: NcuProfile | None) -> dict[str, Any] | None:
    """What was counted, for `--json`."""
    if found is None:
        return None
    return {
        "label": LABEL,
        "version": found.version,
        "unknown": list(found.unknown),
        "launches": [asdict(launch) for launch in found.launches],
        "lines": [
            {**asdict(line), "samples": line.samples, "executed": line.executed, "stalls": dict(line.stalls)}
            for line in found.lines
        ],
    }


def _metric(name: str, text: Callable[[float], str]) -> Callable[[NcuLaunch], str]:
    def cell(launch: NcuLaunch) -> str:
        value = launch.metrics.get(name)
        return "N/A" if value is None else text(value)

    return cell


def _moved(launch: NcuLaunch) -> str:
    parts = [launch.metrics.get(f"dram__bytes_{way}.sum") for way in ("read", "write")]
    known = [part for part in parts if part is not None]
    return format_bytes(int(sum(known))) if known else "N/A"


def _percent(value: float) -> str:
    return f"{value:.0f} %"


COLUMNS: tuple[tuple[str, Callable[[NcuLaunch], str]], ...] = (
    ("Time", _metric("gpu__time_duration.sum", lambda ns: milliseconds(ns / 1e6))),
    ("SM", _metric("sm__throughput.avg.pct_of_peak_sustained_elapsed", _percent)),
    ("Memory", _metric("gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed", _percent)),
    ("DRAM", _moved),
    ("L1 hit", _metric("l1tex__t_sector_hit_rate.pct", _percent)),
    ("L2 hit", _metric("lts__t_sector_hit_rate.pct", _percent)),
    ("Warps", _metric("sm__warps_active.avg.pct_of_peak_sustained_active", _percent)),
)
"""Of each launch: title and text."""
