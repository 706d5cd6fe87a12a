"""Hardware counters of a program's kernels, through Nsight Compute's command line.

The program runs in a process of its own under `ncu`, which writes a report; two more calls print the report's
raw page and its source page as CSV.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.profiler.check_health import COUNTERS_FIX
from tessera.profiler.ncu_csv import NcuLaunch, read_launches
from tessera.profiler.ncu_details import NcuFinding, read_findings
from tessera.profiler.ncu_launch import PREFIX
from tessera.profiler.ncu_source import Lines, NcuInstruction, NcuLine, lines_of, located, read_instructions
from tessera.program.errors import DeviceError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np

DURATION = "gpu__time_duration.sum"
METRICS = (
    DURATION,
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "l1tex__t_sector_hit_rate.pct",
    "lts__t_sector_hit_rate.pct",
    "launch__registers_per_thread",
    "device__attribute_multiprocessor_count",
    "smsp__inst_executed.sum",
    "smsp__thread_inst_executed_per_inst_executed.ratio",
    "sm__inst_executed_pipe_tensor.sum",
    "smsp__sass_branch_targets_threads_divergent.sum",
    *(
        f"l1tex__t_{what}_pipe_lsu_mem_{space}_op_{operation}.sum"
        for space in ("global", "local")
        for operation in ("ld", "st")
        for what in ("requests", "sectors")
    ),
    *(
        f"l1tex__data_{what}_mem_shared_op_{operation}.sum"
        for what in ("pipe_lsu_wavefronts", "bank_conflicts_pipe_lsu")
        for operation in ("ld", "st")
    ),
)
"""What is asked for; what a version or a GPU does not know is left out and named."""
SECTION = "SourceCounters"
"""Nsight Compute's name for what it counts instruction by instruction."""
SECTIONS = (SECTION, "LaunchStats", "Occupancy")
"""What is asked for besides: sections bring their metrics by the names of each version, and their rules."""
OPTIONAL = {"--import-source": "yes", "--clock-control": "none", "--target-processes": "all"}
"""Options that older versions may not know."""
TIMEOUT_S = 600
CHILD = (
    "import sys; sys.path.append(sys.argv.pop(1)); from tessera.profiler.ncu_launch import main; "
    "sys.exit(main(sys.argv[1:]))"
)
"""What Python runs under ncu: with `-P` and Tessera's folder last, so that no file of the current folder is
taken for a module."""
TRIES = 6
"""How often ncu is called again without what it does not know."""

_NO_PERMISSION = "ERR_NVGPUCTRPERM"
_UNKNOWN_METRIC = re.compile(r"Failed to find metric (?:regex:\^?)?(?P<name>[\w\\.]+)")
_UNKNOWN_OPTION = re.compile(r"unrecogni[sz]ed option '?(?P<name>--[\w-]+)")
_UNKNOWN_SECTION = re.compile(r"[Ss]ection.*not found|No section|Failed to find section")


@dataclass(frozen=True, slots=True)
class NcuProfile:
    """What Nsight Compute counted in one execution of a program."""

    version: str
    """Of Nsight Compute."""
    launches: tuple[NcuLaunch, ...]
    """In order."""
    instructions: tuple[NcuInstruction, ...]
    """Empty where it has no source page."""
    unknown: tuple[str, ...] = ()
    """What was asked for and this version or GPU does not know."""
    findings: tuple[NcuFinding, ...] = ()
    """What Nsight Compute's own rules say; those that tell what to do first."""

    @property
    def lines(self) -> tuple[NcuLine, ...]:
        """By source line, where the code has lines."""
        return tuple(lines_of(self.instructions))


@dataclass(slots=True)
class _Call:
    """One call of ncu, with what it is asked for."""

    program: str
    report: Path
    launch: Sequence[str]
    metrics: list[str] = field(default_factory=lambda: list(METRICS))
    options: dict[str, str] = field(default_factory=lambda: dict(OPTIONAL))
    sections: list[str] = field(default_factory=lambda: list(SECTIONS))

    def command(self) -> list[str]:
        options = [word for pair in self.options.items() for word in pair]
        sections = [word for name in self.sections for word in ("--section", name)]
        return [
            self.program, "--profile-from-start", "off", *options, *sections, "--metrics",
            ",".join(self.metrics), "--force-overwrite", "--export", str(self.report), *self.launch,
        ]  # fmt: skip

    def without(self, said: str) -> list[str]:
        """Ask no more for what ncu said it does not know; what that was."""
        # A metric is named as it was asked for, or as a pattern: regex:^name\\.(sum|min|…)$.
        unknown = [m["name"].replace("\\", "").rstrip(".") for m in _UNKNOWN_METRIC.finditer(said)]
        gone = [m for m in self.metrics if any(m == u or m.startswith(f"{u}.") for u in unknown)]
        self.metrics = [m for m in self.metrics if m not in gone]
        options = [m["name"] for m in _UNKNOWN_OPTION.finditer(said)]
        gone += [name for name in options if self.options.pop(name, None) is not None]
        lines = [line for line in said.splitlines() if _UNKNOWN_SECTION.search(line)]
        refused = [name for name in self.sections if any(name in line for line in lines)]
        self.sections = [name for name in self.sections if name not in refused]
        return [*gone, *(f"section {name}" for name in refused)]


def find_ncu() -> str | None:
    """The `ncu` of the path; None without one."""
    return shutil.which("ncu")


def profile_ncu(
    package: Path,
    program: str,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    device: str = "cuda:0",
    *,
    ncu: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> NcuProfile:
    """Run a program of a package once under Nsight Compute.

    Args:
        package: A package; with line information in its code for figures by line.
        program: Which of its programs.
        inputs: By name; scalars as arrays of rank 0.
        device: `cuda:0`.
        ncu: The program to call; by default the one on the path.
        timeout_s: When to give up: ncu runs each kernel some ten times over.

    Raises:
        MissingDependencyError: There is no ncu.
        DeviceError: It may not read counters, failed, hung, or saw no kernel.
        RecordingError: What it printed is torn.
    """
    import numpy as np

    called = ncu or find_ncu()
    if called is None:
        raise MissingDependencyError(
            "Nsight Compute's ncu is not on the path",
            hint="it comes with the CUDA toolkit (nsight-compute); add its folder to PATH. "
            "Times need no ncu: --no-ncu",
        )
    version = _version(called, timeout_s)
    with tempfile.TemporaryDirectory(prefix="tessera-ncu-") as folder:
        values = Path(folder) / "inputs.npz"
        # A prefix: savez has arguments of its own that an input may be called like.
        arrays: dict[str, Any] = {f"{PREFIX}{name}": np.asarray(value) for name, value in inputs.items()}
        np.savez(values, **arrays)
        root = str(Path(__file__).parents[2])
        launch = [
            sys.executable,
            "-P",
            "-c",
            CHILD,
            root,
            str(package.resolve()),
            program,
            str(values),
            device,
        ]
        # Version 2026.3 has another ending for reports unless one is given.
        call = _Call(called, Path(folder) / "report.ncu-rep", launch)
        unknown = _collect(call, timeout_s)
        page = [called, "--import", str(call.report), "--csv", "--print-units", "base"]
        launches = read_launches(_run([*page, "--page", "raw"], timeout_s)[1])
        by_line = SECTION in call.sections
        tables = _tables(package, program, launches) if by_line else {}
        instructions = _instructions(page, tables, timeout_s) if by_line else []
        findings = _findings(page, timeout_s)
    if not launches:
        raise DeviceError("ncu saw no kernel of the program", hint="tessera run PKG --device cuda:0")
    return NcuProfile(version, tuple(launches), tuple(instructions), tuple(unknown), findings)


def _collect(call: _Call, timeout_s: float) -> list[str]:
    """Have ncu write its report; what it does not know."""
    unknown: list[str] = []
    for _ in range(TRIES):
        status, out, err = _run(call.command(), timeout_s)
        said = out + err
        if _NO_PERMISSION in said:
            raise DeviceError(
                f"ncu may not read this GPU's counters ({_NO_PERMISSION})",
                hint=f"as root: {COUNTERS_FIX}. In a container: docker run --cap-add SYS_ADMIN. "
                "Times need no counters: --no-ncu",
            )
        if status == 0 and call.report.exists():
            return unknown
        gone = call.without(said)
        if not gone:
            raise DeviceError(
                f"ncu {_ended(status)} and wrote no report: {_tail(said)}",
                hint="tessera run PKG --device cuda:0 shows whether the program runs without it",
                status=status,
            )
        unknown += gone
    raise DeviceError(
        f"ncu still finds things it does not know after {TRIES} calls: {', '.join(unknown)}",
        hint="use a newer Nsight Compute; times need none: --no-ncu",
    )


def _tables(package: Path, program: str, launches: Sequence[NcuLaunch]) -> Mapping[str, Lines]:
    from tessera.profiler.ncu_lines import line_tables

    kernels = [launch.kernel for launch in launches]
    return line_tables(package, program, kernels, launches[0].cc) if launches else {}


def _instructions(page: Sequence[str], tables: Mapping[str, Lines], timeout_s: float) -> list[NcuInstruction]:
    """Instructions with the lines that their code names; else with those that ncu finds."""
    listing: list[NcuInstruction] = []
    # Machine code is what older versions show unasked.
    for view in ([], ["--print-source", "cuda,sass"]):
        status, out, _ = _run([*page, "--page", "source", *view], timeout_s)
        found = located(read_instructions(out), tables) if status == 0 else []
        if any(each.line for each in found):
            return found
        listing = listing or found
    return listing


def _findings(page: Sequence[str], timeout_s: float) -> tuple[NcuFinding, ...]:
    """What Nsight Compute's own rules say; nothing where this version prints no such page."""
    status, out, _ = _run([*page, "--page", "details"], timeout_s)
    return read_findings(out) if status == 0 else ()


def _version(ncu: str, timeout_s: float) -> str:
    status, out, err = _run([ncu, "--version"], timeout_s)
    found = re.search(r"Version (\d[\w.]*)", out)
    if status or found is None:
        # A launcher without the tool behind it says so and ends well.
        raise DeviceError(
            f"{ncu} is no Nsight Compute that works: {_tail(out + err)}",
            hint="install nsight-compute, or put another ncu first on PATH",
            status=status,
        )
    return found[1]


def _run(command: Sequence[str], timeout_s: float) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command, in a process group of its own that never outlives it."""
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C", "TESSERA_STRICT_DEVICE": "1"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise DeviceError(
            f"{command[0]} cannot be started: {error.strerror or error}",
            hint=f"{command[0]} --version; times need no ncu: --no-ncu",
        ) from error
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"ncu did not end within {timeout_s:g} s and was stopped",
            hint="smaller inputs (--size): ncu runs each kernel some ten times. "
            "nvidia-smi shows whether the GPU still answers",
        ) from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _tail(said: str) -> str:
    """The last lines of what was said, ncu's errors first."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("==ERROR==", "error:"))]
    return " | ".join((errors or lines)[-4:])[:600] or "it said nothing"
