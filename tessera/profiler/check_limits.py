"""Checks of what a container or shell allows: processors, memory, processes, shared memory, open files."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterable
from pathlib import Path

from tessera.profiler.check import Check
from tessera.program.bytesize import format_bytes

CGROUP = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not written to
LOW_SHARED_BYTES = 128 << 20
"""Docker gives 64 MiB, which processes that exchange arrays use up at once."""
LOW_FILES = 4096
"""A server holds one for each connection; a package maps one for each file."""
LOW_PROCESSES = 512


def check_limits(root: Path = CGROUP) -> Iterable[Check]:
    """Each limit that a control group sets, in version 2 or 1 of their interface."""
    found = {
        "processors": _processors(root),
        "memory": _first_number(root / "memory.max", root / "memory/memory.limit_in_bytes"),
        "processes": _first_number(root / "pids.max", root / "pids/pids.max"),
    }
    if found["memory"] is not None and found["memory"] >= 1 << 60:
        # Version 1 has no word for no limit.
        found["memory"] = None
    if all(value is None for value in found.values()):
        yield Check("container limits", "ok", "none")
        return
    processors, memory, processes = found["processors"], found["memory"], found["processes"]
    if processors is not None:
        few = processors < 1
        yield Check(
            "container processors",
            "warning" if few else "ok",
            f"{processors:g} processors' time",
            "docker run --cpus=2, or the pod's resources.limits.cpu" if few else None,
        )
    if memory is not None:
        little = memory < 2 << 30
        yield Check(
            "container memory",
            "warning" if little else "ok",
            f"limit {format_bytes(memory)}",
            "docker run --memory=4g, or the pod's resources.limits.memory" if little else None,
        )
    if processes is not None:
        few = processes < LOW_PROCESSES
        yield Check(
            "container processes",
            "warning" if few else "ok",
            f"limit {processes:,.0f} processes and threads",
            "docker run --pids-limit=4096" if few else None,
        )


def _processors(root: Path) -> float | None:
    text = _text(root / "cpu.max")
    if text is not None:
        quota, _, period = text.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    quota_us, period_us = (_first_number(root / f"cpu/cpu.cfs_{n}_us") for n in ("quota", "period"))
    return None if quota_us is None or quota_us < 0 or not period_us else quota_us / period_us


def _first_number(*places: Path) -> float | None:
    for place in places:
        text = _text(place)
        if text is not None:
            return None if text == "max" else float(text)
    return None


def _text(place: Path) -> str | None:
    try:
        return place.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def check_shared_memory(place: Path = SHARED_MEMORY, low: int = LOW_SHARED_BYTES) -> Check:
    """Room that processes share."""
    name = "shared memory"
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return Check(name, "not applicable", f"N/A: no {place}")
    detail = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)} at {place}"
    if usage.total < low:
        return Check(name, "warning", f"{detail}; low", "docker run --shm-size=1g, or --ipc=host")
    return Check(name, "ok", detail)


def check_files(low: int = LOW_FILES) -> Check:
    """How many files this process may hold open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = [("no limit" if n == resource.RLIM_INFINITY else f"{n:,}") for n in (soft, hard)]
    detail = f"{shown[0]} open files, {shown[1]} at most"
    if soft != resource.RLIM_INFINITY and soft < low:
        enough = hard == resource.RLIM_INFINITY or hard >= low
        fix = "ulimit -n 65536" if hard == resource.RLIM_INFINITY or hard >= 65536 else f"ulimit -n {hard}"
        return Check(
            "open files",
            "warning",
            f"{detail}; low for a server",
            fix if enough else ("docker run --ulimit nofile=65536, or LimitNOFILE=65536 in the unit"),
        )
    return Check("open files", "ok", detail)
