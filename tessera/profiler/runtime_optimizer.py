"""The guide's `RuntimeOptimizer`: measures a package at several batch sizes and workers, and chooses."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.profiler.check_machine import available_cores
from tessera.profiler.gpu import read_gpus
from tessera.profiler.server_settings import ServerSettings
from tessera.program.bytesize import format_bytes
from tessera.program.errors import ConfigError, InputError, OptionError

if TYPE_CHECKING:
    from tessera.runtime import DeploymentPackage, Runtime

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
GOOD_ENOUGH = 0.95
"""Of the best throughput; more latency or memory is not worth the rest."""
LONGEST_POINT_S = 2.0
"""A slow model is measured by fewer calls than asked for; `Point.calls` says how many."""
_FEWEST_CALLS = 3


Examples = Iterable[object] | Mapping[str, Iterable[object]]
"""What `execute_batch` takes: a list of examples, stacked arrays, or stacked arrays by name."""


@dataclass(frozen=True, slots=True)
class Point:
    """One batch size with one number of workers, measured."""

    batch: int
    """Examples of one execution."""
    workers: int
    """Executions at the same time."""
    calls: int
    """Executions that were measured."""
    median_ms: float
    """Of one execution, stacking of its examples included."""
    p95_ms: float
    """Nineteen of twenty executions were as fast or faster."""
    items_per_s: float
    """Examples of all workers over the wall time."""
    peak_bytes: int
    """Most working memory that the device's pool held since the runtime was made for this point."""


@dataclass(frozen=True, slots=True)
class RuntimeProfile:
    """Every point that was measured."""

    package: str
    device: str
    """Device as it ran."""
    points: tuple[Point, ...]

    def at(self, batch: int, workers: int) -> Point | None:
        """The point with these values, if it was measured."""
        return next((p for p in self.points if (p.batch, p.workers) == (batch, workers)), None)


@dataclass(frozen=True, slots=True)
class Recommendations:
    """What the measured points suggest, and why."""

    optimal_batch_size: int
    """The smallest whose throughput is within 5 % of the best."""
    memory_pool_size: str
    """What the best point took, an eighth more, as `memory_pool_size=` takes it."""
    num_workers: int
    """The fewest whose throughput is within 5 % of the best."""
    reasons: tuple[str, ...]
    """A sentence for each, with the figures."""


@dataclass(frozen=True, slots=True)
class OptimizedConfig(ServerSettings):
    """Settings for a server, chosen from measured points."""

    max_batch_size: int
    workers: int
    memory_pool_size: str
    device: str
    point: Point
    """What was measured with these settings."""
    meets_latency: bool | None
    """Whether its 95th percentile is within the target; None without one."""
    meets_throughput: bool | None
    """Whether its throughput reaches the target; None without one."""
    notes: tuple[str, ...] = ()
    """What is missed, by how much, and what to try."""

    def to_settings(self) -> dict[str, str | int]:
        """By the names of `ProductionServer`'s settings."""
        return {
            "device": self.device,
            "max_batch_size": self.max_batch_size,
            "memory_pool_size": self.memory_pool_size,
            "workers": self.workers,
        }


class RuntimeOptimizer:
    """Measures how a package runs on this machine, and chooses batch size, workers and memory.

    Args:
        model_package: A package: file, folder or open.
        device: `cuda:0`, `cpu`, `reference`; None: the first GPU, or the CPU without one.
        program: Which program of the package; None: the only one, or the one called `forward`.

    Raises:
        PackageError: It is no package.
    """

    def __init__(
        self,
        model_package: str | Path | DeploymentPackage,
        *,
        device: str | None = None,
        program: str | None = None,
    ) -> None:
        from tessera.runtime import DeploymentPackage

        self._package = (
            model_package
            if isinstance(model_package, DeploymentPackage)
            else DeploymentPackage.load(model_package)
        )
        self._device = device or ("cuda:0" if read_gpus().gpus else "cpu")
        self._program = program
        self._profile: RuntimeProfile | None = None

    def profile(
        self,
        test_inputs: Examples,
        num_iterations: int = 100,
        *,
        batch_sizes: Sequence[int] | None = None,
        workers: Sequence[int] | None = None,
    ) -> RuntimeProfile:
        """Measure executions at each batch size with one worker, then the best size with more.

        Args:
            test_inputs: Examples without the batch axis, in a list or stacked, as `execute_batch` takes
                them; they are used over and over where a batch needs more.
            num_iterations: Executions to measure at each point; fewer where they take over 2 s.
            batch_sizes: Which; None: 1, 2, 4, … 128.
            workers: Numbers of executions at the same time; None: 1, 2, 4, … up to the cores.

        Raises:
            InputError: There are no examples, or the program does not take them.
            OptionError: A number that is not positive.
            DeviceError: No device runs it.
        """
        counts = tuple(workers) if workers is not None else _powers(available_cores())
        batches = tuple(batch_sizes) if batch_sizes is not None else BATCHES
        if num_iterations < 1 or not counts or not batches or min(*counts, *batches) < 1:
            raise OptionError(
                f"num_iterations={num_iterations}, batch_sizes={list(batches)}, workers={list(counts)}: "
                "each at least 1",
                hint="num_iterations=100",
            )
        examples = list(_examples(test_inputs))
        if not examples:
            raise InputError("there are no test inputs", hint="test_inputs=[numpy.ones(64, 'float32')]")
        first = [self._measure(examples, batch, 1, num_iterations) for batch in sorted(set(batches))]
        best = _good_enough(first, lambda point: point.batch)
        rest = [
            self._measure(examples, best.batch, count, num_iterations) for count in sorted(set(counts) - {1})
        ]
        with self._runtime() as runtime:
            device = runtime.device
        self._profile = RuntimeProfile(self._package.name, device, (*first, *rest))
        return self._profile

    def analyze(self, profile: RuntimeProfile | None = None) -> Recommendations:
        """What the points suggest where only throughput counts; `optimize` reckons with targets.

        Raises:
            ConfigError: Nothing was measured yet.
        """
        profile = self._known(profile)
        alone = [point for point in profile.points if point.workers == 1]
        batch = _good_enough(alone, lambda point: point.batch)
        same = [point for point in profile.points if point.batch == batch.batch]
        chosen = _good_enough(same, lambda point: point.workers)
        single = min(alone, key=lambda point: point.batch)
        return Recommendations(
            optimal_batch_size=batch.batch,
            memory_pool_size=_pool_size(chosen.peak_bytes),
            num_workers=chosen.workers,
            reasons=(
                f"batches of {batch.batch}: {batch.items_per_s:,.0f} examples/s, "
                f"{batch.items_per_s / single.items_per_s:.1f} times those of {single.batch}, "
                f"{batch.median_ms:.3g} ms a batch",
                f"{chosen.workers} at a time: {chosen.items_per_s:,.0f} examples/s, "
                f"{chosen.items_per_s / batch.items_per_s:.2f} times those of one",
                f"memory: {format_bytes(chosen.peak_bytes)} were held, an eighth more is allowed",
            ),
        )

    def optimize(
        self, target_latency_ms: float | None = None, target_throughput_qps: float | None = None
    ) -> OptimizedConfig:
        """The measured point that answers most examples per second within the latency.

        Where none keeps the latency, the fastest one is taken, and `notes` says what is missed.

        Raises:
            ConfigError: Nothing was measured yet.
        """
        profile = self._known(None)
        fitting = [p for p in profile.points if target_latency_ms is None or p.p95_ms <= target_latency_ms]
        if fitting:
            best = max(p.items_per_s for p in fitting)
            good = [p for p in fitting if p.items_per_s >= GOOD_ENOUGH * best]
            chosen = min(good, key=lambda p: (p.p95_ms, p.workers))
        else:
            chosen = min(profile.points, key=lambda p: p.p95_ms)
        latency = None if target_latency_ms is None else chosen.p95_ms <= target_latency_ms
        throughput = None if target_throughput_qps is None else chosen.items_per_s >= target_throughput_qps
        notes = []
        if latency is False:
            notes.append(
                f"no setting keeps {target_latency_ms:g} ms: the fastest takes {chosen.p95_ms:.3g} ms "
                f"(95th percentile) on {profile.device}"
            )
        if target_throughput_qps is not None and not throughput:
            replicas = math.ceil(target_throughput_qps / chosen.items_per_s)
            notes.append(
                f"{chosen.items_per_s:,.0f} examples/s of {target_throughput_qps:,.0f} wanted: "
                f"serve {replicas} replicas, or allow more latency"
            )
        return OptimizedConfig(
            max_batch_size=chosen.batch,
            workers=chosen.workers,
            memory_pool_size=_pool_size(chosen.peak_bytes),
            device=profile.device,
            point=chosen,
            meets_latency=latency,
            meets_throughput=throughput,
            notes=tuple(notes),
        )

    def _known(self, profile: RuntimeProfile | None) -> RuntimeProfile:
        found = profile or self._profile
        if found is None:
            raise ConfigError(
                "nothing was measured yet", hint="optimizer.profile(test_inputs=…, num_iterations=100)"
            )
        return found

    def _runtime(self) -> Runtime:
        return self._package.create_runtime(device=self._device, memory_pool_size=None)

    def _measure(self, examples: Sequence[object], batch: int, workers: int, calls: int) -> Point:
        given = [examples[i % len(examples)] for i in range(batch)]
        front = () if self._program is None else (self._program,)
        runtime = self._runtime()
        try:
            with runtime:

                def call() -> None:
                    runtime.execute_batch(*front, given, max_batch_size=batch)

                for _ in range(_FEWEST_CALLS):
                    call()
                times, wall_s = _timed(call, workers, calls)
                peak = runtime.memory_usage()["peak_bytes"]
        finally:
            runtime.close()
        times.sort()
        return Point(
            batch=batch,
            workers=workers,
            calls=len(times),
            median_ms=statistics.median(times) * 1e3,
            p95_ms=times[min(int(0.95 * len(times)), len(times) - 1)] * 1e3,
            items_per_s=len(times) * batch / wall_s,
            peak_bytes=peak,
        )


def _timed(call: Callable[[], None], workers: int, calls: int) -> tuple[list[float], float]:
    """Seconds of each call, and of all together, made by `workers` threads."""
    left = iter(range(calls))
    lock = threading.Lock()
    end = time.perf_counter() + LONGEST_POINT_S

    def more() -> bool:
        with lock:
            number = next(left, None)
        return number is not None and (number < _FEWEST_CALLS or time.perf_counter() < end)

    def work() -> list[float]:
        took = []
        while more():
            start = time.perf_counter()
            call()
            took.append(time.perf_counter() - start)
        return took

    with ThreadPoolExecutor(workers) as pool:
        start = time.perf_counter()
        parts = [pool.submit(work) for _ in range(workers)]
        times = [second for part in parts for second in part.result()]
        return times, time.perf_counter() - start


def _good_enough(points: Sequence[Point], size: Callable[[Point], int]) -> Point:
    """The smallest of the points that are within 5 % of the best throughput."""
    best = max(point.items_per_s for point in points)
    return min((p for p in points if p.items_per_s >= GOOD_ENOUGH * best), key=size)


def _examples(given: Examples) -> Iterator[object]:
    """Examples one by one, from a list of them, stacked arrays, or a mapping of stacked arrays."""
    if isinstance(given, Mapping):
        arrays = list(given.values())
        for row in zip(*arrays, strict=True):
            yield dict(zip(given, row, strict=True))
    else:
        yield from given


def _powers(most: int) -> tuple[int, ...]:
    """1, 2, 4, … up to `most`."""
    return tuple(1 << i for i in range(most.bit_length()))


def _pool_size(peak_bytes: int) -> str:
    """An eighth more, in whole megabytes, as the runtime reads it."""
    return f"{max(-(-peak_bytes * 9 // 8 // (1 << 20)), 1)}MB"
