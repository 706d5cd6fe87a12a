"""Is this machine, toolchain, driver and package fit?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.profiler.check import Check
from tessera.profiler.check_conflicts import check_conflicts, check_library_path
from tessera.profiler.check_health import check_counters, check_health
from tessera.profiler.check_limits import check_files, check_limits, check_shared_memory
from tessera.profiler.check_machine import check_cache, check_cpu, check_disk, check_gpus, check_memory
from tessera.profiler.check_software import (
    check_c_compiler,
    check_libraries,
    check_packages,
    check_python,
)

if TYPE_CHECKING:
    from tessera.package import Package

CHECKS: tuple[Callable[[], Check | Iterable[Check]], ...] = (
    check_python,
    check_packages,
    check_conflicts,
    check_libraries,
    check_library_path,
    check_c_compiler,
    check_gpus,
    check_health,
    check_counters,
    check_cpu,
    check_memory,
    check_limits,
    check_shared_memory,
    check_files,
    check_cache,
    check_disk,
)
"""Every check of the machine, in the order in which they are shown."""


def diagnose(package: str | Path | Package | None = None) -> tuple[Check, ...]:
    """Check this machine and, if given, whether a package fits it.

    Works on any machine: what is not there is `not applicable` or a warning
    that says what works without it. Nothing is compiled, and
    GPUs are only asked how they are.

    Args:
        package: A `.tsc`, `.tsp` or `.tsd` file, its unpacked folder, or an open package.
    """
    found: list[Check] = []
    for check in CHECKS:
        answer = check()
        found.extend([answer] if isinstance(answer, Check) else answer)
    if package is not None:
        # The package room costs 70 ms of numpy; the machine's checks do not need it.
        from tessera.profiler.check_package import check_package

        found.extend(check_package(package))
    return tuple(found)
