"""Bytes per second over PCIe, from counters that wrap around.

The driver counts bytes in 32 bits (seen on an H200, driver 580.159): at 60 GB/s that is once around
in 72 ms. A counter that is read ten times a second would show 17 GB/s for 60, so the rate is measured
in windows too short to go around, once a second; reading the counters more often costs 0.16 ms each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tessera.profiler.live.nvml import why

WINDOW_S = 0.03
"""Length of a window: 143 GB/s go around once in it, more than 16 lanes of PCIe 6 carry."""
LONGEST_S = 0.06
"""A window that ended later than this, on a busy machine, says nothing: 16 lanes of PCIe 5 carry
63 GB/s, which go around in 0.068 s."""
_UNSIGNED_INT = 1
"""Type of a counter of 32 bits. Source: nvml.h, nvmlValueType_t."""

Answers = Mapping[str, tuple[int, int] | Exception]
"""Value and type of each counter, or why there is none."""


class PcieWindow:
    """Two readings of the counters, close together."""

    def __init__(self) -> None:
        self._first: Answers = {}
        self._since = 0.0

    def open(self, answers: Answers, lack: Callable[[str, str], None]) -> None:
        """Take the first reading.

        Args:
            answers: The counters.
            lack: Told of each that does not answer.
        """
        self._since = time.perf_counter()
        self._first = answers
        for name, answer in answers.items():
            if isinstance(answer, Exception):
                lack(name, why(answer))

    def close(
        self, answers: Answers, found: Callable[[str, float], None], lack: Callable[[str, str], None]
    ) -> None:
        """Take the second reading, and say the rates."""
        elapsed = time.perf_counter() - self._since
        for name, first in self._first.items():
            last = answers.get(name, first)
            if isinstance(first, Exception) or isinstance(last, Exception):
                continue
            rate = bytes_per_second(first, last, elapsed)
            if rate is None:
                lack(name, "this machine is too busy to read the counter before it wraps around")
            else:
                found(name, rate)
        self._first = {}


def bytes_per_second(first: tuple[int, int], last: tuple[int, int], elapsed_s: float) -> float | None:
    """Growth of a counter, once around at most; None where it may have been more.

    Args:
        first: Value and NVML type of the earlier reading.
        last: Of the later one.
        elapsed_s: Between the two.
    """
    narrow = first[1] == _UNSIGNED_INT
    if elapsed_s <= 0 or (narrow and elapsed_s > LONGEST_S):
        return None
    grown = last[0] - first[0]
    if narrow:
        grown %= 1 << 32
    return None if grown < 0 else grown / elapsed_s
