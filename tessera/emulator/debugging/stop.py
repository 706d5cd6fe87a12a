"""Where a debugger stands: the moment, the line, the threads, and why it stopped there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tessera.emulator.findings import Finding, Point

Reason = Literal[
    "start", "step", "breakpoint", "watchpoint", "finding", "exception", "interrupted", "moved", "end"
]
WARP = 32


@dataclass(frozen=True, slots=True)
class Focus:
    """The thread that is looked at."""

    block: Point
    warp: int
    lane: int

    @property
    def thread(self) -> int:
        """Its number in the block."""
        return self.warp * WARP + self.lane


@dataclass(frozen=True, slots=True)
class Access:
    """An access to memory that somebody watches."""

    number: int
    """Of the watchpoint."""
    expression: str
    thread: int
    write: bool
    before: str
    after: str
    """The value, in words; the same as before for a read."""
    clock: int
    """The moment before the instruction."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why and where the program stands still."""

    reason: Reason
    message: str
    clock: int
    """Instructions executed since the start."""
    kernel: str
    launch: int
    """Which launch, from 0."""
    function: str
    """The function of the source."""
    file: str
    """As the PTX names it; empty where unknown."""
    line: int
    """0 where none is known."""
    ptx_line: int
    instruction: str
    focus: Focus
    active: int
    """Lanes of the warp that execute the instruction, as bits."""
    depth: int
    """Calls under way, the kernel's own not counted."""
    breakpoint: int | None = None
    finding: Finding | None = None
    access: Access | None = None

    def data(self) -> dict[str, Any]:
        """The stop for JSON."""
        found = asdict(self)
        found["finding"] = self.finding.data() if self.finding is not None else None
        return found
