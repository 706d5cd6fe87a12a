"""Time of each step of the programs a runtime executes."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Time of one step over all executions."""

    program: str
    """Name of the program."""
    index: int
    """Place among the steps of its plan, counted after choices are made."""
    name: str
    """The kernel's name, or `gemm`."""
    calls: int
    """How often it ran."""
    total_ms: float
    """Time of all calls."""
    min_ms: float
    """Time of the fastest call."""
    max_ms: float
    """Time of the slowest call."""
    median_ms: float | None = None
    """Time of the call in the middle; None where single calls are not kept (see `Timeline`)."""

    @property
    def mean_ms(self) -> float:
        """Time of the average call."""
        return self.total_ms / self.calls


@dataclass(frozen=True, slots=True)
class Profile:
    """What a runtime measured since it was created or last reset."""

    device: str
    """Where it ran."""
    executions: int
    """How often a program was executed."""
    total_ms: float
    """Time of all executions, with copies to and from the device."""
    steps: tuple[StepProfile, ...]
    """Steps in the order in which they first ran."""


class Recorder:
    """Collects times; any number of threads may add to it at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[tuple[str, int, str], list[int]] = {}
        self._executions = 0
        self._total_ns = 0

    def add_step(self, program: str, index: int, name: str, ns: int) -> None:
        """One call of a step took `ns`."""
        with self._lock:
            entry = self._steps.setdefault((program, index, name), [0, 0, ns, ns])
            entry[0] += 1
            entry[1] += ns
            entry[2] = min(entry[2], ns)
            entry[3] = max(entry[3], ns)

    def add_execution(self, ns: int, program: str = "", start_ns: int | None = None) -> None:  # noqa: ARG002
        """One execution of a program took `ns`, since `start_ns` by `time.perf_counter_ns`."""
        with self._lock:
            self._executions += 1
            self._total_ns += ns

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._steps.clear()
            self._executions = self._total_ns = 0

    def snapshot(self, device: str) -> Profile:
        """What was collected so far."""
        with self._lock:
            steps = tuple(
                StepProfile(program, index, name, calls, total / 1e6, low / 1e6, high / 1e6)
                for (program, index, name), (calls, total, low, high) in self._steps.items()
            )
            return Profile(device, self._executions, self._total_ns / 1e6, steps)
