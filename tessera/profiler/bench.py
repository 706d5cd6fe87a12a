"""Measured times of a package, an artifact or a function, against a baseline in the same run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.profiler.bench_baseline import TOLERANCE, Baseline, agreement, check_baseline
from tessera.profiler.bench_busy import BUSY, busy_note, watch
from tessera.profiler.bench_program import BATCHES, Budget, ProgramBench
from tessera.profiler.bench_result import BatchResult, BenchResult
from tessera.profiler.check_machine import cpu_model
from tessera.program.artifact import Artifact
from tessera.program.dtype import as_dtype
from tessera.program.errors import InputError, OptionError, SpecError
from tessera.program.program import DEFAULT_PROGRAM, Program, default_program

if TYPE_CHECKING:
    from tessera.package import Package
    from tessera.runtime import ProgramSource


def bench_target(
    target: str | Path | Package | Artifact | Callable[..., object],
    *,
    device: str = "cpu",
    batch_sizes: Sequence[int] | None = None,
    seconds: float = 1.0,
    program: str | None = None,
    sizes: Mapping[str, int] | None = None,
    inputs: Callable[[int], Sequence[object]] | None = None,
    baseline: Baseline = True,
    warmup_seconds: float = 0.2,
    seed: int = 0,
    strict_device: bool = False,
    label: str | None = None,
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
        baseline: What to measure against: `numpy` (True), `torch`, `cupy` or `onnxruntime` computing the
            same graph, `none` (False), or a function of the program's inputs in their order, as NumPy
            arrays; for a function, another function. Outputs are compared before anything is timed.
        warmup_seconds: Time of calls that do not count, for each batch size and contender.
        seed: Of the random inputs.
        strict_device: Refuse another device than `device`.
        label: What the result calls the target; None: its own name.

    Raises:
        InputError: The target takes no such sizes, or a function came without `inputs`.
        OptionError: A time or batch size that is not positive, an unknown baseline, or one that does not
            know an operator of the graph.
        MissingDependencyError: The baseline is not installed.
        DeviceError: The device is not there and `strict_device` is on.
        PackageError: The file is no package.
    """
    budget = Budget(seconds, warmup_seconds)
    if batch_sizes is not None and (not batch_sizes or min(batch_sizes) < 1):
        raise OptionError(f"batch sizes {list(batch_sizes)}: at least one, each at least 1")
    compiled = getattr(target, "artifact", None)
    if isinstance(compiled, Artifact):
        # What a compiler returns is measured as compiled, also where it could be called.
        target = compiled
    if callable(target):
        return _bench_function(target, batch_sizes or BATCHES, inputs, baseline, budget, label)
    source, name = _open_source(target)
    bench = ProgramBench(
        source=source,
        target=label or name,
        program=_choose(source.programs, program),
        device=device,
        strict=strict_device,
        budget=budget,
        seed=seed,
        baseline=check_baseline(baseline),
    )
    return bench.run(batch_sizes, dict(sizes or {}))


def _bench_function(
    function: Callable[..., object],
    batch_sizes: Sequence[int],
    inputs: Callable[[int], Sequence[object]] | None,
    baseline: Baseline,
    budget: Budget,
    label: str | None,
) -> BenchResult:
    name = str(getattr(function, "__name__", None) or getattr(function, "name", None) or "function")
    if inputs is None:
        raise InputError(
            f"{name}: a function is measured with arguments, and none were given",
            hint="inputs=lambda batch: (numpy.ones((batch, 64), 'float32'),)",
        )
    if isinstance(baseline, str) and baseline not in ("numpy", "none"):
        raise OptionError(
            f"{name} is a function: it has no graph that {baseline} could compute",
            hint="baseline=another_function",
        )
    start = watch()
    rows = [
        _function_row(name, function, baseline if callable(baseline) else None, batch, inputs(batch), budget)
        for batch in batch_sizes
    ]
    others = start.others() if start else None
    notes = [busy_note(others)] if others is not None and others > BUSY else []
    wrong = any(row.agrees is False for row in rows)
    if wrong and callable(baseline):
        notes.append(f"Outputs differ from those of {getattr(baseline, '__name__', 'the baseline')}.")
    return BenchResult(
        label or name, None, "python", cpu_model(), tuple(rows), notes=tuple(notes), others=others
    )


def _function_row(
    name: str,
    function: Callable[..., object],
    other: Callable[..., object] | None,
    batch: int,
    given: Sequence[object],
    budget: Budget,
) -> BatchResult:
    arguments = tuple(given)
    calls: dict[str, Callable[[], object]] = {name: lambda: function(*arguments)}
    label, difference, agrees = "", None, None
    if other is not None:
        difference, agrees = _compared(function(*arguments), other(*arguments))
        label = f"{getattr(other, '__name__', 'baseline')} (baseline)"
        calls[label] = lambda: other(*arguments)
    timings = budget.measure(calls)
    return BatchResult(
        batch=batch,
        sizes={},
        timing=timings[name],
        baseline=timings.get(label),
        device_timing=None,
        per_second=batch / (timings[name].median_ms / 1e3),
        bytes=None,
        flops=None,
        max_difference=difference,
        agrees=agrees,
    )


def _compared(found: object, expected: object) -> tuple[float | None, bool | None]:
    """Difference of arrays, or of arrays by name, and whether they agree; None where they are no numbers."""
    import numpy as np

    pairs = expected if isinstance(expected, Mapping) else {"": expected}
    others = found if isinstance(found, Mapping) else {next(iter(pairs), ""): found}
    try:
        left = {str(name): np.asarray(others[name]) for name in pairs}
        right = {str(name): np.asarray(value) for name, value in pairs.items()}
        limits = {name: _rounding(value.dtype.name) for name, value in left.items()}
        return agreement(left, right, limits)
    except (KeyError, TypeError, ValueError):
        return None, None


def _rounding(name: str) -> float:
    try:
        return TOLERANCE.get(as_dtype(name).name, 0.0)
    except SpecError:
        return 0.0


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
