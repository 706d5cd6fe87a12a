"""Samples all GPUs from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from tessera.profiler.live.figures import Machine, Mark, Sample
from tessera.profiler.live.gpu_reader import GpuReader, Tier
from tessera.profiler.live.nvml import Nvml
from tessera.profiler.live.pcie import WINDOW_S
from tessera.program.errors import ConfigError
from tessera.runtime import launches

T = TypeVar("T")

FASTEST_S = 0.02
"""Shortest interval: polling more often holds the driver's lock against the program it watches."""
SLOW_INTERVAL_S = 1.0
"""Interval of what is dear: processes, links, memory clock."""
RARE_INTERVAL_S = 5.0
"""Interval of what is dearest: the energy counter takes 3 ms of processor time on an H200."""
HANGING_S = 5.0
"""Longest wait for the thread's end."""
HISTORY_S = 600.0
"""Time that the ring buffer holds."""

Listener = Callable[[Sample], None]


class Sampler:
    """Samples every GPU of this machine until stopped.

    One thread reads, so a GPU that answers slowly delays the others' samples, not your program.
    Samples lie in a ring buffer; marks and the kernels that this process launches are kept beside them.

        with Sampler(interval_s=0.1) as sampler:
            work()
        print(sampler.latest)

    Args:
        interval_s: Between two samples, 0.02 s at least.
        slow_interval_s: Between two readings of processes, links and the memory clock. Energy, ECC,
            the memory's temperature and fans are read every fifth time.
        history_s: How long samples are kept.

    Raises:
        ConfigError: An interval out of range.
        DeviceError: There is no driver, or it does not answer.
        MissingDependencyError: nvidia-ml-py is not installed.
    """

    def __init__(
        self,
        interval_s: float = 0.1,
        *,
        slow_interval_s: float = SLOW_INTERVAL_S,
        history_s: float = HISTORY_S,
    ) -> None:
        if not FASTEST_S <= interval_s <= 3600:
            raise ConfigError(
                f"a sampling interval of {interval_s} s; from {FASTEST_S} to 3600 s are possible",
                hint="--interval 0.1 samples ten times a second",
            )
        self.interval_s = interval_s
        self._slow_interval_ns = int(max(slow_interval_s, interval_s) * 1e9)
        self._rare_interval_ns = int(self._slow_interval_ns * RARE_INTERVAL_S / SLOW_INTERVAL_S)
        self._nvml = Nvml()
        self.machine: Machine
        """The driver and its GPUs."""
        self.machine, handles = self._nvml.machine()
        self._names: dict[int, str] = {}
        self._readers = [
            GpuReader(self._nvml, handle, device, self._names)
            for handle, device in zip(handles, self.machine.devices, strict=True)
        ]
        length = max(int(history_s / interval_s), 2)
        self._samples: deque[Sample] = deque(maxlen=length)
        self._marks: deque[Mark] = deque(maxlen=length)
        self._launched: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._mark_listeners: list[Callable[[Mark], None]] = []
        self.failures: list[str] = []
        """What stopped a listener (a full disk, say), in words; sampling goes on."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._started_ns = time.monotonic_ns()
        self.started_unix_s = time.time()
        """When sampling started, seconds since 1970."""
        self._due_ns = {Tier.SLOW: 0, Tier.RARE: 0}
        self._window_open = False

    def __enter__(self) -> Sampler:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Sampler:
        """Take the first sample now, and the others from a thread."""
        if self._thread is None and not self._stop.is_set():
            launches.observe(self._launch)
            self.sample()
            self._thread = threading.Thread(target=self._loop, name="tessera-gpu-sampler", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and let go of the driver. A stopped sampler keeps its samples.

        A thread that waits for a driver which does not answer is left behind after 5 s.
        """
        self._stop.set()
        launches.forget(self._launch)
        if self._thread is not None:
            self._thread.join(timeout=HANGING_S)
            if self._thread.is_alive():
                return
            self._thread = None
        self._nvml.close()

    @property
    def latest(self) -> Sample | None:
        """The newest sample; None before the first."""
        samples = self._samples
        return samples[-1] if samples else None

    @property
    def age_s(self) -> float | None:
        """Time since the newest sample was begun: long where the driver does not answer."""
        latest = self.latest
        return None if latest is None else (time.monotonic_ns() - self._started_ns - latest.time_ns) / 1e9

    def history(self, seconds: float) -> tuple[Sample, ...]:
        """Samples of the last `seconds`, the oldest first."""
        with self._lock:
            found = tuple(self._samples)
        if not found:
            return ()
        oldest = found[-1].time_ns - int(seconds * 1e9)
        return tuple(sample for sample in found if sample.time_ns >= oldest)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Marks, the oldest first."""
        with self._lock:
            return tuple(self._marks)

    def mark(self, text: str) -> Mark:
        """Say something about this moment; recordings and charts show it."""
        made = Mark(time.monotonic_ns() - self._started_ns, text)
        with self._lock:
            self._marks.append(made)
        self._tell(self._mark_listeners, made)
        return made

    def listen(self, listener: Listener, on_mark: Callable[[Mark], None] | None = None) -> None:
        """Call `listener` with each further sample, on the sampling thread.

        One that raises OSError is not called again, and `failures` says why.
        """
        self._listeners.append(listener)
        if on_mark is not None:
            self._mark_listeners.append(on_mark)

    def sample(self, tier: Tier | None = None) -> Sample:
        """Read all GPUs now. The thread does this; without `start`, call it yourself.

        Args:
            tier: How much to read; None: what is due.
        """
        now = time.monotonic_ns()
        tier = self._due(now) if tier is None else tier
        if tier is Tier.RARE:
            # Numbers of processes are used again.
            self._names.clear()
        readings = tuple(reader.read(tier) for reader in self._readers)
        self._window_open = tier >= Tier.SLOW
        with self._lock:
            launched, self._launched = self._launched, Counter()
        made = Sample(now - self._started_ns, readings, tuple(sorted(launched.items())))
        with self._lock:
            self._samples.append(made)
        self._tell(self._listeners, made)
        return made

    def _due(self, now_ns: int) -> Tier:
        """The highest tier that is due; half an interval early is near enough."""
        half = int(self.interval_s * 0.5e9)
        found = Tier.FAST
        for tier, interval in ((Tier.SLOW, self._slow_interval_ns), (Tier.RARE, self._rare_interval_ns)):
            if now_ns + half >= self._due_ns[tier]:
                self._due_ns[tier] = now_ns + interval
                found = tier
        return found

    def _tell(self, listeners: list[Callable[[T], None]], news: T) -> None:
        for listener in tuple(listeners):
            try:
                listener(news)
            except OSError as error:
                listeners.remove(listener)
                self.failures.append(f"stopped: {error.strerror or error}")

    def _launch(self, program: str, kernel: str, device: str) -> None:
        del program
        # What the emulator or the CPU runs is nothing that NVML could see.
        if device.startswith("cuda"):
            with self._lock:
                self._launched[kernel] += 1

    def _loop(self) -> None:
        """Sample at fixed times; times that were missed are left out, not made up for."""
        due = time.monotonic()
        while True:
            due = max(due + self.interval_s, time.monotonic())
            if self._window_open:
                # The rates over PCIe show in the next sample.
                if self._stop.wait(min(WINDOW_S, self.interval_s / 2)):
                    return
                self._window_open = False
                for reader in self._readers:
                    reader.end_window()
            if self._stop.wait(max(due - time.monotonic(), 0)):
                return
            self.sample()
