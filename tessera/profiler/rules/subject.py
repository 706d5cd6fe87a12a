"""What rules read: numbers of a kernel and of its lines, by names that every source of numbers shares.

The emulator's counters fill all of them; a profiler on a GPU fills those that it measures, and says in
`KernelMetrics.known` which these are. A rule that needs another says nothing. `VOCABULARY` says what each
name means and how Nsight Compute calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WARP = 32


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one name stands for."""

    text: str
    """With its unit."""
    ncu: str = ""
    """Nsight Compute's metric; of several, they are added up. `(LDG)`: of such instructions alone. Empty: it
    has none."""
    traced: bool = False
    """Whether it follows from what single threads of one block did, one access after the other."""


@dataclass(frozen=True, slots=True)
class LineMetrics:
    """One line of source."""

    file: str
    line: int
    values: Mapping[str, float]
    text: str = ""
    """The line itself, for the names of its arrays; empty if it cannot be read."""

    def __getitem__(self, name: str) -> float:
        """A number that the source knows; of what did not happen there is none: 0."""
        return self.values.get(name, 0.0)


@dataclass(frozen=True, slots=True)
class KernelMetrics:
    """One kernel: all of its launches in one execution."""

    kernel: str
    label: str
    """Where the numbers come from: `emulated, PTX level`, `measured on NVIDIA H200`."""
    known: frozenset[str]
    """Names that the source of the numbers counts at all, of lines or of kernels."""
    lines: tuple[LineMetrics, ...]
    """Those that have numbers, in the order of the source."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Of the kernel as a whole."""
    file: str = ""
    line: int = 0
    """Where it is defined; 0 if that is not known."""
    limiter: str = ""
    """What allows no more blocks on a multiprocessor: `registers`, `shared memory`, `blocks`, `warps`."""
    arch: str = ""
    """The architecture that `limiter` and occupancy are of: `sm_90`."""

    def __getitem__(self, name: str) -> float:
        """A number of the kernel that the source knows; of what did not happen there is none: 0."""
        return self.values.get(name, 0.0)

    def total(self, name: str) -> float:
        """A number of all lines together."""
        return sum(line[name] for line in self.lines)


_SECTORS = "memory_l2_theoretical_sectors_global"
_WAVEFRONTS = "memory_l1_wavefronts_shared"
_REQUESTS = "memory_l1_tag_requests_global"

VOCABULARY: dict[str, Meaning] = {
    # Lines and kernels alike.
    "instructions": Meaning("instructions executed by warps", "inst_executed"),
    "thread_instructions": Meaning("instructions executed by threads", "thread_inst_executed"),
    "branches": Meaning("branches executed by warps", "smsp__sass_branch_targets"),
    "divergent_branches": Meaning(
        "branches at which the threads of a warp went apart", "smsp__sass_branch_targets_threads_divergent"
    ),
    "barriers": Meaning("barriers executed by warps", "inst_executed (BAR)"),
    "fp64_instructions": Meaning(
        "float64 arithmetic, instructions of warps", "inst_executed (DADD DMUL DFMA)"
    ),
    **{
        f"global_{op}_{what}": Meaning(f"{text} of global {verb}", f"{name} ({sass})")
        for op, verb, sass in (
            ("ld", "loads", "LDG"),
            ("st", "stores", "STG"),
            ("atom", "atomics", "ATOMG RED"),
        )
        for what, text, name in (
            ("requests", "requests of warps", _REQUESTS),
            ("sectors", "sectors of 32 bytes", _SECTORS),
            ("ideal_sectors", "sectors if the threads' bytes lay side by side", f"{_SECTORS}_ideal"),
            ("threads", "accesses of threads", "thread_inst_executed_true"),
            ("bytes", "bytes that threads asked for", ""),
        )
    },
    **{
        f"shared_{op}_{what}": Meaning(f"{text} of shared {verb}", f"{name} ({sass})")
        for op, verb, sass in (("ld", "loads", "LDS"), ("st", "stores", "STS"), ("atom", "atomics", "ATOMS"))
        for what, text, name in (
            ("requests", "requests of warps", "inst_executed"),
            ("wavefronts", "wavefronts", _WAVEFRONTS),
            ("ideal_wavefronts", "wavefronts without bank conflicts", f"{_WAVEFRONTS}_ideal"),
            ("threads", "accesses of threads", "thread_inst_executed_true"),
        )
    },
    "fp64_of_fp32": Meaning(
        "float64 arithmetic of lines that widen float32, and narrow the result or have a constant, "
        "instructions of warps"
    ),
    "local_requests": Meaning("requests to local memory", "inst_executed (LDL STL)"),
    "local_sectors": Meaning("sectors of local memory", "memory_l2_theoretical_sectors_local"),
}  # fmt: skip
"""Every name that a rule may read. Nsight Compute's names are those of its source page."""
