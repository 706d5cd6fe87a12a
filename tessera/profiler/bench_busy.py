"""How much of the machine other processes took while something was measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

BUSY = 0.2
"""Share of the processors that others may take before times are called those of a busy machine."""
_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Watch:
    """Processor times at one moment, in seconds."""

    busy: float
    """Of all processors, in any process."""
    total: float
    """Of all processors, idle or not."""
    own: float
    """Of this process and its children."""

    def others(self) -> float | None:
        """Share of the processors that others have taken since; None if too little time has passed."""
        now = watch()
        if now is None or now.total - self.total < 0.1:
            return None
        taken = (now.busy - self.busy) - (now.own - self.own)
        return min(1.0, max(0.0, taken / (now.total - self.total)))


def watch() -> Watch | None:
    """The processor times now; None where the system does not tell.

    Source: proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, in clock ticks.
    """
    try:
        ticks = [int(word) for word in _STAT.read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    if len(ticks) < 8:
        return None
    per_second = os.sysconf("SC_CLK_TCK")
    idle = ticks[3] + ticks[4]
    used = os.times()
    own = used.user + used.system + used.children_user + used.children_system
    return Watch((sum(ticks) - idle) / per_second, sum(ticks) / per_second, own)


def busy_note(others: float) -> str:
    """What to say of a machine that was not alone."""
    share = f"{100 * others:.0f} %"
    return f"Other processes took {share} of this machine's processors: these are times of a busy machine."
