"""A GPU program's launches again and again inside one execution, timed by the GPU's own events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tessera.runtime.profile import Recorder

if TYPE_CHECKING:
    from tessera.runtime.cuda_driver import Call, Driver, Stream

FLUSH_FACTOR = 2
"""How often over the L2 cache is overwritten: a cache that is not strictly least recently used keeps some."""
_WARM_UPS = 3
_AT_ONCE = 20
"""Rounds that are under way before the host waits for them."""


class Repeats(Recorder):
    """A recorder that has each execution of a GPU program run its launches many times.

    Give it to a runtime: `create_runtime("cuda:0", enable_profiling=Repeats())`. Copies to and from the
    GPU are made once. What an execution returns is not meant to be used: an output that starts as an
    input has been updated many times. Other devices take it for a plain `Recorder`.

    Args:
        seconds: Device time to spend on each kind of round, roughly.
        least: Rounds of each kind, at least.
        most: Rounds of each kind, at most.
    """

    def __init__(self, *, seconds: float = 0.2, least: int = 11, most: int = 1000) -> None:
        super().__init__()
        self._seconds = seconds
        self._least, self._most = least, most
        self._own_lock = threading.Lock()
        self.cold_ns: list[int] = []
        """Rounds before each of which the L2 cache was overwritten."""
        self.warm_ns: list[int] = []
        """Rounds that find in the L2 cache what the one before has left."""
        self.replayed = False
        """Whether a round is the replay of a CUDA graph, and not launch after launch from the host."""
        self.why_not = ""
        """Why it is not."""
        self.flushed_bytes = 0
        """Bytes that were overwritten before each cold round."""

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        with self._own_lock:
            self.cold_ns, self.warm_ns, self.replayed, self.why_not = [], [], False, ""

    def run(self, driver: Driver, stream: Stream, launches: Sequence[Call]) -> None:
        """Repeat `launches` on a stream of the current GPU.

        Raises:
            DeviceError: The GPU failed.
            OutOfMemoryError: There is no room for what the L2 cache is overwritten with.
        """
        if not launches:
            return
        for _ in range(_WARM_UPS):
            _launch_all(launches)
        driver.synchronize(stream)
        captured = driver.capture(launches, stream)
        work: Callable[[], object] = lambda: _launch_all(launches)  # noqa: E731
        if isinstance(captured, str):
            self.why_not = captured
        else:
            work, self.replayed = captured, True
        self.flushed_bytes = FLUSH_FACTOR * driver.l2_bytes
        if self.flushed_bytes:
            scratch = driver.allocate(self.flushed_bytes)
            flush = lambda: driver.fill(scratch.pointer, self.flushed_bytes, stream)  # noqa: E731
            cold = self._rounds(driver, stream, work, flush)
        else:
            cold = []
        warm = self._rounds(driver, stream, work, lambda: None)
        with self._own_lock:
            self.cold_ns += cold
            self.warm_ns += warm

    def _rounds(
        self, driver: Driver, stream: Stream, work: Callable[[], object], before: Callable[[], object]
    ) -> list[int]:
        times: list[int] = []
        wanted = self._least
        while len(times) < wanted:
            marks = []
            for _ in range(min(_AT_ONCE, wanted - len(times))):
                before()
                start = driver.mark(stream)
                work()
                marks.append((start, driver.mark(stream)))
            driver.synchronize(stream)
            times += [driver.elapsed_ns(start, end) for start, end in marks]
            fastest = max(min(times), 1)
            wanted = max(self._least, min(self._most, int(self._seconds * 1e9 / fastest)))
        return times


def _launch_all(launches: Sequence[Call]) -> None:
    for launch in launches:
        launch()
