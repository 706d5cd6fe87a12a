"""Measured times of a package, an artifact or a function, against NumPy in the same run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.profiler.bench_result import BatchResult, BenchResult, StepTime
from tessera.profiler.check_machine import cpu_model
from tessera.profiler.cost import Cost, program_cost
from tessera.profiler.sizes import batch_symbol, choose_sizes, is_vector, random_inputs
from tessera.profiler.timing import Timing, measure, quantile, summarize
from tessera.program.artifact import Artifact
from tessera.program.errors import InputError, OptionError
from tessera.program.program import DEFAULT_PROGRAM, Program, default_program

if TYPE_CHECKING:
    import numpy as np

    from tessera.package import Package
    from tessera.runtime import ProgramSource, Runtime

    Array = np.ndarray[Any, Any]

BATCHES = (1, 8, 32, 128)
VECTOR_SIZES = (1 << 10, 1 << 16, 1 << 20)
"""Sizes to measure where the only axis is the symbolic one, as for a saxpy."""
PROFILED_RUNS = 30
"""Executions whose steps are timed one by one, after the measurement."""
BASELINE = "NumPy reference"


def bench_target(
    target: str | Path | Package | Artifact | Callable[..., object],
    *,
    device: str = "cpu",
    batch_sizes: Sequence[int] | None = None,
    seconds: float = 1.0,
    program: str | None = None,
    sizes: Mapping[str, int] | None = None,
    inputs: Callable[[int], Sequence[object]] | None = None,
    baseline: bool | Callable[..., object] = True,
    warmup_seconds: float = 0.2,
    seed: int = 0,
    strict_device: bool = False,
) -> BenchResult:
    """Measure `target` on `device`, for each batch size, interleaved with a baseline.

    A time is that of one whole call, with copies to a GPU and back; on a GPU
    the time of its kernels alone is measured too, by CUDA events.

    Args:
        target: A package (file, folder or open), an artifact or what holds one as `.artifact`, or
            a function to call.
        device: `cpu`, `cuda:0`, `reference`. Where the device is missing and `strict_device`
            is off, the result says on what it was measured instead.
        batch_sizes: Values of the batch symbol; None: 1, 8, 32, 128 (for vectors 2**10, 2**16, 2**20).
        seconds: Time to measure for, for each batch size, baseline included.
        program: Which program of the package; None: the only one, or the one called `forward`.
        sizes: Values of further symbolic sizes; others are taken as 256, and the result says so.
        inputs: For a function: its arguments for a batch size.
        baseline: Whether to measure NumPy on the same graph; for a function, another function.
        warmup_seconds: Time of calls that do not count, for each batch size and contender.
        seed: Of the random inputs.
        strict_device: Refuse another device than `device`.

    Raises:
        InputError: The target takes no such sizes, or a function came without `inputs`.
        OptionError: A time or batch size that is not positive.
        DeviceError: The device is not there and `strict_device` is on.
        PackageError: The file is no package.
    """
    budget = _Budget(seconds, warmup_seconds)
    if batch_sizes is not None and (not batch_sizes or min(batch_sizes) < 1):
        raise OptionError(f"batch sizes {list(batch_sizes)}: at least one, each at least 1")
    compiled = getattr(target, "artifact", None)
    if isinstance(compiled, Artifact):
        # What a compiler returns is measured as compiled, also where it could be called.
        target = compiled
    if callable(target):
        return _bench_function(target, batch_sizes or BATCHES, inputs, baseline, budget)
    source, name = _open_source(target)
    bench = _ProgramBench(
        source=source,
        target=name,
        program=_choose(source.programs, program),
        device=device,
        strict=strict_device,
        budget=budget,
        seed=seed,
        baseline=bool(baseline),
    )
    return bench.run(batch_sizes, dict(sizes or {}))


@dataclass(frozen=True, slots=True)
class _Budget:
    seconds: float
    warmup_seconds: float

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.warmup_seconds < 0:
            raise OptionError(
                f"seconds={self.seconds}, warmup_seconds={self.warmup_seconds}: must be positive",
                hint="seconds=1",
            )

    def measure(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
        return measure(calls, seconds=self.seconds, warmup_seconds=self.warmup_seconds)


def _bench_function(
    function: Callable[..., object],
    batch_sizes: Sequence[int],
    inputs: Callable[[int], Sequence[object]] | None,
    baseline: bool | Callable[..., object],
    budget: _Budget,
) -> BenchResult:
    name = str(getattr(function, "__name__", None) or getattr(function, "name", None) or "function")
    if inputs is None:
        raise InputError(
            f"{name}: a function is measured with arguments, and none were given",
            hint="inputs=lambda batch: (numpy.ones((batch, 64), 'float32'),)",
        )
    other = baseline if callable(baseline) else None
    results = []
    for batch in batch_sizes:
        arguments = tuple(inputs(batch))
        calls: dict[str, Callable[[], object]] = {name: lambda a=arguments: function(*a)}  # type: ignore[misc]
        label = ""
        if other is not None:
            label = f"{getattr(other, '__name__', 'baseline')} (baseline)"
            calls[label] = lambda a=arguments, f=other: f(*a)  # type: ignore[misc]
        timings = budget.measure(calls)
        difference = _difference(function(*arguments), other(*arguments)) if other is not None else None
        results.append(_row(batch, {}, timings[name], timings.get(label), None, difference, ()))
    return BenchResult(name, None, "python", cpu_model(), tuple(results))


class _ProgramBench:
    """Benchmark of one program of a package or artifact."""

    def __init__(
        self,
        *,
        source: ProgramSource,
        target: str,
        program: Program,
        device: str,
        strict: bool,
        budget: _Budget,
        seed: int,
        baseline: bool,
    ) -> None:
        self.source = source
        self.target = target
        self.program = program
        self.device = device
        self.strict = strict
        self.budget = budget
        self.seed = seed
        self.baseline = baseline
        self.notes: list[str] = []

    def run(self, batch_sizes: Sequence[int] | None, given: Mapping[str, int]) -> BenchResult:
        symbol = batch_symbol(self.program)
        batches = self._batches(symbol, batch_sizes, given)
        if self.program.graph is None and self.baseline:
            self.notes.append("No baseline: a raw kernel has no graph that NumPy could compute.")
        with self._opened(profiling=False) as runtime:
            used, hardware = runtime.device, _hardware(runtime)
            measured = [self._measure(runtime, batch, given) for batch in batches]
        with self._opened(profiling=True) as runtime:
            rows = [self._with_steps(runtime, *row) for row in measured]
        return BenchResult(
            target=self.target,
            program=self.program.name,
            device=used,
            hardware=hardware,
            batches=tuple(rows),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    def _batches(
        self, symbol: str | None, batch_sizes: Sequence[int] | None, given: Mapping[str, int]
    ) -> Sequence[int | None]:
        if symbol is None:
            if batch_sizes is not None:
                self.notes.append("Every size is fixed: batch sizes do not apply.")
            return [None]
        if symbol in given:
            return [given[symbol]]
        return batch_sizes or (VECTOR_SIZES if is_vector(self.program) else BATCHES)

    @contextmanager
    def _opened(self, *, profiling: bool) -> Iterator[Runtime]:
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
        inputs = random_inputs(self.program, values, seed=self.seed)
        name = self.program.name
        label = f"tessera {runtime.targets[name]}"
        calls: dict[str, Callable[[], object]] = {label: lambda: runtime.execute(name, inputs)}
        reference = self._reference(inputs)
        difference = None
        if reference is not None:
            calls[BASELINE] = reference
            difference = _difference(runtime.execute(name, inputs), reference())
        timings = self.budget.measure(calls)
        cost = program_cost(self.program, values)
        row = _row(batch, values, timings[label], timings.get(BASELINE), cost, difference, ())
        return row, inputs

    def _reference(self, inputs: Mapping[str, Array]) -> Callable[[], object] | None:
        graph = self.program.graph
        if not self.baseline or graph is None:
            return None
        from tessera.reference import run_graph

        constants = {name: self.source.constant(name) for name in graph.leaves("constant")}
        return lambda: run_graph(graph, inputs, constants)

    def _with_steps(self, runtime: Runtime, row: BatchResult, inputs: Mapping[str, Array]) -> BatchResult:
        """`row` with the time of each step, and of all of them where a GPU's events measured them."""
        import dataclasses

        name = self.program.name
        by_step: dict[tuple[int, str], list[float]] = {}
        totals: list[int] = []
        for repetition in range(PROFILED_RUNS + 1):
            runtime.reset_profile()
            runtime.execute(name, inputs)
            profile = runtime.profile
            if profile is None or repetition == 0:
                continue
            totals.append(round(sum(s.total_ms for s in profile.steps) * 1e6))
            for step in profile.steps:
                by_step.setdefault((step.index, step.name), []).append(step.total_ms)
        steps = tuple(
            StepTime(index, step, quantile(sorted(times), 0.5))
            for (index, step), times in sorted(by_step.items())
        )
        on_gpu = runtime.device.startswith("cuda") and any(totals)
        device_timing = summarize("kernels alone", totals) if on_gpu else None
        return dataclasses.replace(row, steps=steps, device_timing=device_timing)


def _row(
    batch: int | None,
    sizes: dict[str, int],
    timing: Timing,
    baseline: Timing | None,
    cost: Cost | None,
    difference: float | None,
    steps: tuple[StepTime, ...],
) -> BatchResult:
    return BatchResult(
        batch=batch,
        sizes=sizes,
        timing=timing,
        baseline=baseline,
        device_timing=None,
        per_second=(batch or 1) / (timing.median_ms / 1e3),
        bytes=None if cost is None else cost.bytes,
        flops=None if cost is None else cost.flops,
        max_difference=difference,
        steps=steps,
    )


def _difference(found: object, expected: object) -> float | None:
    """Largest absolute difference of arrays, or of arrays by name; None where they are no numbers."""
    import numpy as np

    if isinstance(expected, Mapping):
        by_name = found if isinstance(found, Mapping) else {next(iter(expected), ""): found}
        parts = [_difference(by_name[name], expected[name]) for name in expected]
        return max((p for p in parts if p is not None), default=None)
    try:
        left, right = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if left.shape != right.shape or not left.size:
        return None
    gap = np.abs(left - right)
    # Equal infinities differ by nan; so does a nan where both have one.
    gap[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
    largest = float(gap.max())
    return largest if np.isfinite(largest) else None


def _open_source(target: str | Path | Package | Artifact) -> tuple[ProgramSource, str]:
    from tessera.runtime import ArtifactSource, DeploymentPackage

    if isinstance(target, Artifact):
        return ArtifactSource(target), ", ".join(p.name for p in target.programs) or "artifact"
    if isinstance(target, str | Path):
        return DeploymentPackage.load(target), Path(target).name
    return target, target.path.name if target.path else target.name


def _choose(programs: Mapping[str, Program], name: str | None) -> Program:
    if name is None:
        name = default_program(programs) or DEFAULT_PROGRAM
    if name not in programs:
        raise InputError(
            f"which program to measure? there is none called {name!r}",
            hint="program=… of: " + (", ".join(programs) or "none: the package holds no program"),
        )
    return programs[name]


def _hardware(runtime: Runtime) -> str:
    return runtime.device_description if runtime.device.startswith("cuda") else cpu_model()
