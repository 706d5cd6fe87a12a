"""Plays a recording at any speed, from anywhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from tessera.profiler.live.figures import Machine, Mark, Sample
from tessera.profiler.live.recording import Recording
from tessera.program.errors import ConfigError

SLOWEST, FASTEST = 0.01, 1000.0


class Feed(Protocol):
    """Where a screen gets its figures from: a `Sampler` or a `Player`."""

    @property
    def machine(self) -> Machine:
        """Driver and GPUs."""

    @property
    def latest(self) -> Sample | None:
        """The newest sample."""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Marks up to now."""

    def history(self, seconds: float) -> tuple[Sample, ...]:
        """Samples of the last `seconds`, the oldest first."""


class Player:
    """A recording as if it happened now.

    Args:
        recording: What to play.
        speed: Recorded seconds in one second, 0.01 to 1000.
        start_s: Where to begin.
        clock: Seconds that pass; for tests.

    Raises:
        ConfigError: A speed out of range.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        speed: float = 1.0,
        start_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recording = recording
        self._clock = clock
        self._speed = 1.0
        self._base_s = 0.0
        self._since = clock()
        self._paused = False
        self._window: deque[tuple[int, Sample]] = deque()
        self.set_speed(speed)
        self.seek(start_s)

    @property
    def machine(self) -> Machine:
        """The machine that was recorded."""
        return self.recording.machine

    @property
    def speed(self) -> float:
        """Recorded seconds in one second."""
        return self._speed

    @property
    def paused(self) -> bool:
        """Whether time stands still."""
        return self._paused

    @property
    def position_s(self) -> float:
        """Where it is, seconds since sampling started."""
        passed = 0.0 if self._paused else (self._clock() - self._since) * self._speed
        return min(self._base_s + passed, self.recording.duration_s)

    @property
    def ended(self) -> bool:
        """Whether the last sample is reached."""
        return self.position_s >= self.recording.duration_s

    def seek(self, seconds: float) -> None:
        """Go to a moment; one outside the recording is its nearest end."""
        self._base_s = min(max(seconds, 0.0), self.recording.duration_s)
        self._since = self._clock()

    def set_speed(self, speed: float) -> None:
        """Go on at another speed.

        Raises:
            ConfigError: Out of range.
        """
        if not SLOWEST <= speed <= FASTEST:
            raise ConfigError(
                f"a speed of {speed:g}; from {SLOWEST:g} to {FASTEST:g} are possible", hint="--speed 10"
            )
        self.seek(self.position_s)
        self._speed = speed

    def pause(self) -> None:
        """Stop time."""
        self.seek(self.position_s)
        self._paused = True

    def resume(self) -> None:
        """Let time go on."""
        self.seek(self.position_s)
        self._paused = False

    @property
    def latest(self) -> Sample | None:
        """The sample at the present position."""
        found = self.history(0.0)
        return found[-1] if found else None

    def history(self, seconds: float) -> tuple[Sample, ...]:
        """Samples of the last `seconds` before the position, the oldest first."""
        now = self.position_s
        last = self.recording.index_at(now)
        if last < 0:
            return ()
        first = self.recording.index_at(now - seconds) if seconds < now else 0
        self._move_window(first, last)
        return tuple(sample for index, sample in self._window if first <= index <= last)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Marks up to the position."""
        now = self.position_s * 1e9
        return tuple(mark for mark in self.recording.marks if mark.time_ns <= now)

    def _move_window(self, first: int, last: int) -> None:
        """Decode what is new only: a screen asks again and again for nearly the same samples."""
        window = self._window
        if not window or first < window[0][0] or first > window[-1][0] + 1 or last < window[0][0]:
            window.clear()
            begin = first
        else:
            begin = window[-1][0] + 1
        if begin <= last:
            window.extend(enumerate(self.recording.samples(begin, last + 1), begin))
        while window and window[0][0] < first and len(window) > _KEPT:
            window.popleft()


_KEPT = 20_000
"""Samples that stay decoded behind the window: half an hour at ten a second."""
