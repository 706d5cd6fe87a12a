"""What a server's processes hold: children, shared memory, descriptors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def children_of(parent: int) -> dict[str, int]:
    """Process of each child of a supervisor by its name, such as `front-0`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            words = (entry / "cmdline").read_bytes().split(b"\0")
            shown = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent and b"tessera.serve.processes.child" in words:
            started_as = words[words.index(b"tessera.serve.processes.child") + 1].decode()
            found[shown if shown.startswith(("front-", "owner-")) else started_as] = int(entry.name)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def mapped_memories(pid: int) -> int:
    """Shared memories of fronts that a process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sum("memfd:tessera-" in line for line in maps)


def resident_bytes(pid: int) -> int:
    """Memory of a process, shared memory included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> float:
    """Seconds until `condition` holds."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, "it never came true"
        time.sleep(0.01)
    return time.monotonic() - started
