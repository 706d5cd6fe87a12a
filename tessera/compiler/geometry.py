"""How many work items a kernel is launched over."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.program.dim import Dim

THREADS = 256
"""Threads of every generated GPU kernel."""
WARP = 32
"""Threads that run in step."""
CPU_CHUNK = 4096
"""Elements of one work item of an elementwise CPU kernel: some microseconds of work."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The grid of a launch, and the threads of a block (None: a CPU kernel)."""

    grid: tuple[Dim, Dim, Dim]
    threads: int | None = None
    dynamic_shared_bytes: int = 0
    """Shared memory of a block that the launch asks for."""
    persistent: bool = False
    """Whether blocks go on until all is done."""
