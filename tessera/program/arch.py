"""GPU architectures and CPU levels: their names, limits, and which runs what."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tessera.program.errors import ArchitectureError

_NAME = re.compile(r"(?:sm_|compute_)(\d+)(\d)([af]?)\Z")


@dataclass(frozen=True, slots=True, order=True)
class Architecture:
    """One compile target of NVIDIA's, such as `sm_90a`."""

    major: int
    minor: int
    suffix: str = ""
    """`a`: runs on exactly this architecture; `f`: on its family; empty: on later minors too."""

    @property
    def name(self) -> str:
        """`sm_90a`."""
        return f"sm_{self.major}{self.minor}{self.suffix}"

    @property
    def cc(self) -> tuple[int, int]:
        """Compute capability, as in `cc=(9, 0)`."""
        return self.major, self.minor

    def runs_on(self, device: tuple[int, int]) -> bool:
        """Whether a cubin for this architecture loads on a device of that compute capability.

        Source: CUDA C++ Programming Guide, "Binary Compatibility" and
        "Architecture-Specific Features".
        """
        if self.suffix == "a":
            return device == self.cc
        return device[0] == self.major and device[1] >= self.minor


@dataclass(frozen=True, slots=True)
class SmLimits:
    """What one streaming multiprocessor offers."""

    threads: int
    """Resident threads."""
    blocks: int
    """Resident blocks."""
    shared_bytes: int
    """Shared memory of the multiprocessor."""
    shared_optin_bytes: int
    """Most shared memory of one block."""
    shared_reserved_bytes: int
    """Shared memory the system takes from each block."""
    shared_granularity_bytes: int
    """Shared memory is handed out in multiples of this."""
    registers: int = 65536
    """32-bit registers."""


def _limits(
    threads: int, blocks: int, shared_kb: int, optin_kb: int, reserved_kb: int, granularity: int
) -> SmLimits:
    return SmLimits(threads, blocks, shared_kb << 10, optin_kb << 10, reserved_kb << 10, granularity)


SM_LIMITS: dict[tuple[int, int], SmLimits] = {
    (7, 0): _limits(2048, 32, 96, 96, 0, 256),
    (7, 2): _limits(2048, 32, 96, 96, 0, 256),
    (7, 5): _limits(1024, 16, 64, 64, 0, 256),
    (8, 0): _limits(2048, 32, 164, 163, 1, 128),
    (8, 6): _limits(1536, 16, 100, 99, 1, 128),
    (8, 7): _limits(1536, 16, 164, 163, 1, 128),
    (8, 9): _limits(1536, 24, 100, 99, 1, 128),
    (9, 0): _limits(2048, 32, 228, 227, 1, 128),
    (10, 0): _limits(2048, 32, 228, 227, 1, 128),
    (10, 1): _limits(1536, 24, 228, 227, 1, 128),
    (10, 3): _limits(2048, 32, 228, 227, 1, 128),
    (12, 0): _limits(1536, 24, 100, 99, 1, 128),
    (12, 1): _limits(1536, 24, 100, 99, 1, 128),
}
"""Limits by compute capability. Source: CUDA C++ Programming Guide, "Technical Specifications
per Compute Capability", and `cuda_occupancy.h`; of 10.1, which CUDA 13 calls 11.0, as that."""

MULTIPROCESSORS: dict[tuple[int, int], int] = {
    (7, 0): 80, (7, 5): 40, (8, 0): 108, (8, 6): 84, (8, 9): 142, (9, 0): 132, (10, 0): 148,
}  # fmt: skip
"""Of V100, T4, A100, A40, L40S, H100, B200. Source: their datasheets."""
FEWEST_MULTIPROCESSORS = 64
"""Taken for the GPUs of other capabilities."""
MAX_BLOCK_THREADS = 1024
"""Most threads of a block."""
MAX_BLOCK = (1024, 1024, 64)
"""Most threads of a block along x, y and z."""
MAX_GRID = (2**31 - 1, 65535, 65535)
"""Most blocks along x, y and z. Of every architecture; source for all three: CUDA C++ Programming
Guide, "Technical Specifications per Compute Capability"."""

KNOWN: tuple[str, ...] = tuple(
    f"sm_{major}{minor}{suffix}"
    for major, minor in SM_LIMITS
    for suffix in (("", "a", "f") if major >= 10 else ("", "a") if (major, minor) == (9, 0) else ("",))
)
"""Every architecture that the CUDA 12.9 toolchain compiles for and that has tensor cores."""


def parse_arch(name: str) -> Architecture:
    """The architecture called `name`, such as `sm_90a` or `compute_80`.

    Raises:
        ArchitectureError: There is no such architecture.
    """
    match = _NAME.match(name) if isinstance(name, str) else None
    arch = Architecture(int(match[1]), int(match[2]), match[3]) if match else None
    if arch is None or arch.name not in KNOWN:
        raise ArchitectureError(
            f"unknown architecture {name!r}", hint=_nearest_hint(str(name)), architecture=str(name)
        )
    return arch


def _nearest_hint(name: str) -> str:
    near = _nearest(name)
    return (f"did you mean {' or '.join(near)}? " if near else "") + "known: cpu, " + ", ".join(KNOWN)


def _nearest(name: str) -> list[str]:
    """The architectures before and after one that there is not; else what is written most like it."""
    import difflib

    match = _NAME.match(name)
    if match is None:
        return difflib.get_close_matches(name, (*KNOWN, "cpu"), n=1, cutoff=0.5)
    wanted = (int(match[1]), int(match[2]))
    same = sorted(cc for cc in SM_LIMITS if f"sm_{cc[0]}{cc[1]}{match[3]}" in KNOWN)
    around = [cc for cc in same if cc < wanted][-1:] + [cc for cc in same if cc > wanted][:1]
    if wanted in SM_LIMITS:
        # It is there without the suffix.
        return [f"sm_{wanted[0]}{wanted[1]}"]
    return [f"sm_{cc[0]}{cc[1]}{match[3]}" for cc in around]


CPU_LEVELS: dict[str, frozenset[str]] = {
    "cpu-x86_64-v2": frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    "cpu-x86_64-v3": frozenset(
        {
            "cx16",
            "lahf_lm",
            "popcnt",
            "sse4_1",
            "sse4_2",
            "ssse3",
            "avx",
            "avx2",
            "bmi1",
            "bmi2",
            "f16c",
            "fma",
            "movbe",
        }
    ),
    "cpu-aarch64": frozenset(),
}
"""CPU targets and the `/proc/cpuinfo` flags each needs. Source: x86-64 psABI, micro-architecture levels."""


def is_cpu(target: str) -> bool:
    """Whether `target` names a CPU level (`cpu` alone means this machine's)."""
    return target == "cpu" or target.startswith("cpu-")


def host_cpu_targets() -> tuple[str, ...]:
    """The CPU targets that this machine runs, best first."""
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return ("cpu-aarch64",)
    flags = _cpu_flags()
    levels = [name for name, needs in CPU_LEVELS.items() if name.startswith("cpu-x86_64") and needs <= flags]
    return tuple(reversed(levels)) if machine in ("x86_64", "amd64") else ()


def _cpu_flags() -> frozenset[str]:
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def resolve_target(name: str) -> str:
    """The full target that `name` means: `cpu` becomes this machine's level, the rest is checked.

    Raises:
        ArchitectureError: There is no such target, or this machine has no known CPU level.
    """
    if name == "cpu":
        levels = host_cpu_targets()
        if not levels:
            raise ArchitectureError(
                f"no CPU target for this machine ({platform.machine()})",
                hint="known: " + ", ".join(CPU_LEVELS),
            )
        return levels[0]
    if isinstance(name, str) and is_cpu(name):
        if name not in CPU_LEVELS:
            raise ArchitectureError(f"unknown CPU target {name!r}", hint="known: " + ", ".join(CPU_LEVELS))
        return name
    return parse_arch(name).name


def best_match(available: Iterable[str], device: tuple[int, int]) -> str | None:
    """The cubin architecture to load on a device of compute capability `device`, if any.

    Exact architecture-specific code first, then the highest minor that the device has.
    """
    fit = [a for a in map(parse_arch, available) if a.runs_on(device)]
    return max(fit, key=lambda a: (a.minor, a.suffix == "a", a.suffix == "f")).name if fit else None
