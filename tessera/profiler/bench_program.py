"""Measured times of one program of a package or artifact, against a baseline in the same run."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tessera.profiler.bench_baseline import (
    Baseline,
    Case,
    Contender,
    agreement,
    make_contender,
    named_outputs,
    tolerances,
)
from tessera.profiler.bench_busy import BUSY, busy_note, watch
from tessera.profiler.bench_ceiling import ceiling_of
from tessera.profiler.bench_result import BatchResult, BenchResult, StepTime
from tessera.profiler.check_machine import cpu_model
from tessera.profiler.cost import program_cost
from tessera.profiler.sizes import batch_symbol, choose_sizes, is_vector, random_inputs
from tessera.profiler.timing import Timing, measure, quantile, summarize
from tessera.program.errors import OptionError
from tessera.program.program import Program

if TYPE_CHECKING:
    import numpy as np

    from tessera.runtime import ProgramSource, Runtime
    from tessera.runtime.profile import Recorder

    Array = np.ndarray[Any, Any]

BATCHES = (1, 8, 32, 128)
VECTOR_SIZES = (1 << 10, 1 << 16, 1 << 20)
"""Sizes to measure where the only axis is the symbolic one, as for a saxpy."""
PROFILED_RUNS = 30
"""Executions whose steps are timed one by one, after the measurement."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to measure.

    Raises:
        OptionError: A time is not positive.
    """

    seconds: float
    """For each batch size, baseline included."""
    warmup_seconds: float
    """For each batch size and contender, of calls that do not count."""

    def __post_init__(self) -> None:
        finite = math.isfinite(self.seconds) and math.isfinite(self.warmup_seconds)
        if not (finite and self.seconds > 0 and self.warmup_seconds >= 0):
            raise OptionError(
                f"seconds={self.seconds}, warmup_seconds={self.warmup_seconds}: must be positive and finite",
                hint="seconds=1",
            )

    def measure(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
        """Times of the calls, in turns."""
        return measure(calls, seconds=self.seconds, warmup_seconds=self.warmup_seconds)


@dataclass(slots=True)
class ProgramBench:
    """Benchmark of one program."""

    source: ProgramSource
    target: str
    program: Program
    device: str
    strict: bool
    budget: Budget
    seed: int
    baseline: Baseline
    notes: list[str] = field(default_factory=list)

    def run(self, batch_sizes: Sequence[int] | None, given: Mapping[str, int]) -> BenchResult:
        """Measure each batch size, then the steps of each.

        Raises:
            TesseraError: As `bench_target` says.
        """
        batches = self._batches(batch_symbol(self.program), batch_sizes, given)
        if self.program.graph is None and self.baseline in (True, "numpy"):
            self.notes.append("No baseline: a raw kernel has no graph that NumPy could compute.")
        start = watch()
        with self._opened(profiling=False) as runtime:
            used, hardware = runtime.device, _hardware(runtime)
            measured = [self._measure(runtime, batch, given) for batch in batches]
        with self._opened(profiling=True) as runtime:
            rows = [(self._with_steps(runtime, row, inputs), inputs) for row, inputs in measured]
        if used.startswith("cuda"):
            rows = [(self._with_device_times(row, inputs), inputs) for row, inputs in rows]
        others = start.others() if start else None
        if others is not None and others > BUSY:
            self.notes.append(busy_note(others))
        return BenchResult(
            target=self.target,
            program=self.program.name,
            device=used,
            hardware=hardware,
            batches=tuple(row for row, _ in rows),
            notes=tuple(dict.fromkeys(self.notes)),
            peaks=ceiling_of(self.program, used, hardware),
            others=others,
        )

    def _batches(
        self, symbol: str | None, batch_sizes: Sequence[int] | None, given: Mapping[str, int]
    ) -> Sequence[int | None]:
        if symbol is None:
            if batch_sizes is not None:
                self.notes.append("Every size is fixed: batch sizes do not apply.")
            return [None]
        if symbol in given:
            if batch_sizes is not None and list(batch_sizes) != [given[symbol]]:
                raise OptionError(
                    f"batch sizes {', '.join(map(str, batch_sizes))} contradict {symbol} = {given[symbol]}, "
                    "which is the batch",
                    hint=f"give one of them: --batch, or --size {symbol}=…",
                )
            return [given[symbol]]
        return batch_sizes or (VECTOR_SIZES if is_vector(self.program) else BATCHES)

    @contextmanager
    def _opened(self, *, profiling: bool | Recorder) -> Iterator[Runtime]:
        from tessera.runtime import DeviceFallbackWarning, Runtime

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DeviceFallbackWarning)
            runtime = Runtime(
                self.source,
                self.device,
                memory_pool_size=None,
                enable_profiling=profiling,
                strict_device=self.strict,
            )
        for warning in caught:
            if issubclass(warning.category, DeviceFallbackWarning):
                reason = str(warning.message).removeprefix(f"{self.device}: ")
                self.notes.append(f"Measured on {runtime.device}, not {self.device}: {reason}")
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        with runtime:
            yield runtime
        runtime.close()

    def _measure(
        self, runtime: Runtime, batch: int | None, given: Mapping[str, int]
    ) -> tuple[BatchResult, dict[str, Array]]:
        values, assumed = choose_sizes(self.program, batch=batch, given=given)
        if assumed:
            listed = ", ".join(f"{name} = {values[name]}" for name in assumed)
            self.notes.append(f"Assumed {listed}: no size was given.")
        if batch == 0:
            self.notes.append("A batch of 0 has nothing to compute: it is the call alone that was measured.")
        inputs = random_inputs(self.program, values, seed=self.seed)
        name = self.program.name
        label = f"tessera {runtime.targets[name]}"
        calls: dict[str, Callable[[], object]] = {label: lambda: runtime.execute(name, inputs)}
        case = Case(self.program, inputs, self.source.constant, values, runtime.device)
        other = make_contender(self.baseline, case)
        difference, agrees = None, None
        if other is not None:
            # Before anything is timed: how fast a wrong answer comes says nothing.
            difference, agrees = self._compared(runtime.execute(name, inputs), other)
            calls[other.label] = other.call
        timings = self.budget.measure(calls)
        cost = program_cost(self.program, values)
        row = BatchResult(
            batch=batch,
            sizes=values,
            timing=timings[label],
            baseline=None if other is None else timings[other.label],
            device_timing=None,
            per_second=(1 if batch is None else batch) / (timings[label].median_ms / 1e3),
            bytes=cost.bytes,
            flops=cost.flops,
            max_difference=difference,
            agrees=agrees,
        )
        return row, inputs

    def _compared(self, found: object, other: Contender) -> tuple[float | None, bool]:
        outputs = named_outputs(self.program, found)
        expected = named_outputs(self.program, other.call())
        difference, agrees = agreement(outputs, expected, tolerances(self.program))
        if not agrees:
            by = "shapes or non-finite numbers" if difference is None else f"up to {difference:.3g}"
            self.notes.append(
                f"Outputs differ from those of {other.label} by {by}, more than rounding explains."
            )
        return difference, agrees

    def _with_steps(self, runtime: Runtime, row: BatchResult, inputs: Mapping[str, Array]) -> BatchResult:
        """`row` with the time of each step."""
        name = self.program.name
        by_step: dict[tuple[int, str], list[float]] = {}
        for repetition in range(PROFILED_RUNS + 1):
            runtime.reset_profile()
            runtime.execute(name, inputs)
            profile = runtime.profile
            if profile is None or repetition == 0:
                continue
            for step in profile.steps:
                by_step.setdefault((step.index, step.name), []).append(step.total_ms)
        steps = tuple(
            StepTime(index, step, quantile(sorted(times), 0.5))
            for (index, step), times in sorted(by_step.items())
        )
        return dataclasses.replace(row, steps=steps)

    def _with_device_times(self, row: BatchResult, inputs: Mapping[str, Array]) -> BatchResult:
        """`row` with the times of a GPU's kernels alone, by its events."""
        from tessera.runtime.repeats import Repeats

        repeats = Repeats(seconds=self.budget.seconds / 4)
        with self._opened(profiling=repeats) as runtime:
            runtime.execute(self.program.name, inputs)
        if not repeats.warm_ns:
            return row
        how = "graph replay" if repeats.replayed else "launches"
        if repeats.why_not:
            self.notes.append(
                f"No CUDA graph: {repeats.why_not}; times on the device hold gaps between launches."
            )
        warm = summarize(f"kernels alone, CUDA events, {how}, L2 warm", repeats.warm_ns)
        cold = warm
        if repeats.cold_ns:
            cold = summarize(f"kernels alone, CUDA events, {how}, L2 flushed", repeats.cold_ns)
        return dataclasses.replace(row, device_timing=cold, warm_timing=warm)


def _hardware(runtime: Runtime) -> str:
    return runtime.device_description if runtime.device.startswith("cuda") else cpu_model()
