"""Whether a batch is so short that handing it to a thread would cost more than running it.

Waking a thread and coming back takes two system calls and two changes of the interpreter's lock, some
50 to 100 µs on a busy machine; a small network of 64 rows takes less. So models that cannot block, native
code on the CPU, run short batches on the event loop itself, as measured while they run, in time of the
processor: a busy machine makes a thread no better. Everything else runs in threads, without the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tessera.serve.model import Model, RuntimeModel, zeros_of

T = TypeVar("T")

LIMIT_S = 0.0003
"""Longest batch that the event loop runs itself: nobody else is served meanwhile."""

_TRIES = 3

_LOOK_EVERY = 16
"""Batches of which one is measured: asking for the processor's time is a system call."""


class InPlace:
    """What batches of each size cost, from measurements.

    Args:
        model: Loaded and warm.
        rows: Rows of a full batch.
        symbol: The size that counts rows; None: the program is not stacked.
    """

    def __init__(self, model: Model, rows: int, symbol: str | None) -> None:
        # Code of somebody else's may wait for anything; a kernel of a package only computes.
        self._is_allowed = isinstance(model, RuntimeModel) and model.device == "cpu" and symbol is not None
        self._fixed_s = self._per_row_s = 0.0
        self._scale = 1.0
        self._runs = 0
        if self._is_allowed and symbol is not None:
            one_s, full_s = (_seconds(model, count, symbol) for count in (1, rows))
            self._per_row_s = max(0.0, full_s - one_s) / max(1, rows - 1)
            self._fixed_s = one_s - min(one_s, self._per_row_s)

    def runs(self, rows: int) -> bool:
        """Whether the event loop should run a batch of `rows`."""
        if not self._is_allowed:
            return False
        if self._expected_s(rows) * self._scale <= LIMIT_S:
            return True
        self._scale = max(1.0, 0.98 * self._scale)
        return False

    def run(self, rows: int, call: Callable[[], T]) -> T:
        """What `call` gives, a batch of `rows`. Now and then what it cost is looked at."""
        self._runs += 1
        if self._runs % _LOOK_EVERY:
            return call()
        started_s = time.thread_time()
        result = call()
        ratio = (time.thread_time() - started_s) / max(self._expected_s(rows), 1e-6)
        # Upwards at once, down slowly: batches that got long go to threads for a while.
        self._scale = max(ratio, self._scale + 0.2 * (ratio - self._scale))
        return result

    def _expected_s(self, rows: int) -> float:
        return self._fixed_s + rows * self._per_row_s


def _seconds(model: Model, rows: int, symbol: str) -> float:
    """The least that a batch of zeros took."""
    inputs = zeros_of(model.program, rows, symbol)
    least = float("inf")
    for _ in range(_TRIES):
        started = time.thread_time()
        model.infer_batch(inputs)
        least = min(least, time.thread_time() - started)
    return least
