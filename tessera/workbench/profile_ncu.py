"""`tessera profile --ncu`: hardware counters beside the times, from the same program and inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.profiler.ncu_details import URGENT, NcuFinding
from tessera.profiler.ncu_rules import LABEL, advise_measured
from tessera.profiler.source_lines import SourceFiles
from tessera.program.bytesize import format_bytes
from tessera.program.errors import TesseraError
from tessera.workbench.failure import visible
from tessera.workbench.output import Column, note, print_table, print_wrapped, time_text
from tessera.workbench.profile_data import advice_data
from tessera.workbench.profile_flame import print_flame
from tessera.workbench.profile_tables import print_advice, short

if TYPE_CHECKING:
    from tessera.profiler.ncu import NcuProfile
    from tessera.profiler.ncu_csv import NcuLaunch
    from tessera.profiler.ncu_source import NcuLine
    from tessera.profiler.rules import Advice
    from tessera.workbench.profiling import Timed

STALLS = 4
"""Reasons that are named for each kernel."""


@dataclass(frozen=True, slots=True)
class HardwareCounts:
    """What Nsight Compute counted, and what it says of the source."""

    profile: NcuProfile
    files: SourceFiles
    advice: tuple[Advice, ...]
    """Of all kernels, the costliest first."""


def count_with_ncu(
    target: str, device: str, spec: Sequence[str] | None, timed: Timed, wanted: bool | None
) -> HardwareCounts | None:
    """The counters, where they are wanted: without a word for or against them, where there is an ncu.

    Raises:
        TesseraError: They are asked for by name, and cannot be had.
    """
    from tessera.profiler.ncu import find_ncu, profile_ncu

    if wanted is False or (wanted is None and (timed.times is None or find_ncu() is None)):
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="tessera-profile-") as folder:
            package, files = _package(target, device, spec, Path(folder))
            found = profile_ncu(package, timed.program.name, timed.inputs.values, device)
            label = f"{LABEL} on {timed.description}"
            return HardwareCounts(
                found, files, advise_measured(found.instructions, files, label, found.launches)
            )
    except TesseraError as error:
        if wanted:
            raise
        note(f"no counters: {error.message}{f' ({error.hint})' if error.hint else ''}", "warning")
        return None


def _package(target: str, device: str, spec: Sequence[str] | None, folder: Path) -> tuple[Path, SourceFiles]:
    """A package of the target, with source lines where it is compiled here, and where the source is."""
    from tessera.runtime import parse_device
    from tessera.workbench.checking import path_of
    from tessera.workbench.compilation import compile_request, make_request
    from tessera.workbench.opening import arch_for, package_path, trusted_package
    from tessera.workbench.source import is_package
    from tessera.workbench.trusting import policy_for

    if is_package(target):
        path = package_path(target)
        if policy_for(path) is None:
            return path, SourceFiles()
        # Another process opens it, which knows no policy: it gets a copy of what was checked.
        return trusted_package(target).save(folder / "trusted.tsd"), SourceFiles()
    name = parse_device(device)
    request = make_request(target, [arch_for(name.kind, name.index)], spec, lineinfo=True)
    compiled = compile_request(request, single=True)
    entry = compiled.entries[0]
    package = Path(compiled.kernels[0].save(folder / "profiled.tsc"))
    return package, SourceFiles(lambda name: path_of(name, entry, target))


def print_counters(counts: HardwareCounts) -> None:
    """Counters of each launch, what stands out, where the samples are by line, what warps waited for."""
    from tessera.profiler.flame import ncu_stacks

    found, lines = counts.profile, counts.profile.lines

    print(visible(f"\n{LABEL} {found.version}, clocks as they are, one execution"))
    rows = [
        [str(launch.index), launch.kernel, *(cell(launch) for _, cell in COLUMNS)]
        for launch in found.launches
    ]
    columns = [Column("Launch", right=True), Column("Kernel"), *(Column(t, right=True) for t, _ in COLUMNS)]
    print_table(columns, rows)
    # Where a version lacks columns, nothing found does not mean that nothing is there.
    if counts.advice:
        print_advice(counts.advice, counts.files, several=len({x.kernel for x in found.launches}) > 1)
        print()
    _print_findings(found.findings)
    if lines:
        stacks, weight = ncu_stacks(found.instructions)
        print_flame(stacks, weight, counts.files)
        _print_stalls(lines)
    else:
        print_wrapped("no figures by line: this version of ncu has no source page, or the code no lines")
    if found.unknown:
        print_wrapped(f"not known to this version or GPU: {', '.join(found.unknown)}")


def _print_stalls(lines: Sequence[NcuLine]) -> None:
    """What the warps of each kernel waited for, by samples."""
    for kernel in dict.fromkeys(line.kernel for line in lines):
        sums: dict[str, float] = {}
        for line in lines:
            for reason, samples in line.stalls.items() if line.kernel == kernel else ():
                sums[reason] = sums.get(reason, 0.0) + samples
        whole = sum(line.samples for line in lines if line.kernel == kernel)
        worst = sorted(sums.items(), key=lambda item: -item[1])[:STALLS]
        if whole and worst:
            said = ", ".join(f"{reason} {100 * samples / whole:.0f} %" for reason, samples in worst)
            print_wrapped(f"{kernel}: of {short(whole)} samples warps waited for {said}")


def _print_findings(found: Sequence[NcuFinding]) -> None:
    """What Nsight Compute's own rules say, beside ours."""
    urgent = [finding for finding in found if finding.kind in URGENT]
    if not urgent:
        return
    print("Nsight Compute's own rules")
    several = len({finding.kernel for finding in urgent}) > 1
    for number, finding in enumerate(urgent, 1):
        where = f"{finding.kernel}, {finding.section}" if several else finding.section
        scope, percent = finding.speedup_scope or "global", finding.speedup_percent
        gain = "" if percent is None else f" (estimated speedup: {percent:.3g} %, {scope})"
        print_wrapped(f"{where}: {finding.text}{gain}", start=f"{number}. ")
    print()


def counters_data(counts: HardwareCounts | None) -> dict[str, Any] | None:
    """What was counted, for `--json`."""
    if counts is None:
        return None
    found, files = counts.profile, counts.files
    return {
        "label": LABEL,
        "version": found.version,
        "unknown": list(found.unknown),
        "launches": [asdict(launch) for launch in found.launches],
        "lines": [
            {
                **asdict(line),
                "file": files.path(line.file),
                "source": files.line(line.file, line.line) or line.source,
                "samples": line.samples,
                "executed": line.executed,
                "stalls": dict(line.stalls),
            }
            for line in found.lines
        ],
        "advice": advice_data(counts.advice, files),
        "rules": [asdict(finding) for finding in found.findings],
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
    ("Time", _metric("gpu__time_duration.sum", lambda ns: time_text(ns / 1e6))),
    ("SM", _metric("sm__throughput.avg.pct_of_peak_sustained_elapsed", _percent)),
    ("Memory", _metric("gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed", _percent)),
    ("DRAM", _moved),
    ("L1 hit", _metric("l1tex__t_sector_hit_rate.pct", _percent)),
    ("L2 hit", _metric("lts__t_sector_hit_rate.pct", _percent)),
    ("Warps", _metric("sm__warps_active.avg.pct_of_peak_sustained_active", _percent)),
)
"""Of each launch: title and text."""
