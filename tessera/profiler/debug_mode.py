"""The guide's `DebugMode`: what a loaded model does, step by step, and whether it leaks."""

from __future__ import annotations

import gc
import logging
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tessera.profiler.report_data import Bars, Block, Fact, Facts, ReportData, Table, Text
from tessera.program.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from tessera.runtime.model import Model
    from tessera.runtime.profile import StepProfile
    from tessera.runtime.timeline import Span

logger = logging.getLogger("tessera.debug")

WARM_UP = 3
LEAK_BYTES_PER_CALL = 256
"""Growth of Python's memory that is a leak; lists that grow now and then stay below."""


@dataclass(frozen=True, slots=True)
class ArraySummary:
    """What an array holds."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    least: float | None
    """None for an empty array, or one of NaNs alone."""
    most: float | None
    nans: int
    infinities: int


@dataclass(frozen=True, slots=True)
class Trace:
    """One execution."""

    device: str
    target: str
    """Code that ran, such as `cpu-x86_64-v3` or `sm_90 cubin`."""
    inputs: tuple[ArraySummary, ...]
    outputs: tuple[ArraySummary, ...]
    steps: tuple[StepProfile, ...]
    total_ms: float
    """Copies to a GPU and back included."""
    difference: float | None
    """Largest distance of an output to the program's own graph computed in float64; None without a graph."""
    spans: tuple[Span, ...] = ()
    """Every copy, launch and step of it, in order."""


@dataclass(frozen=True, slots=True)
class LeakCheck:
    """What was held after many calls and not before."""

    ok: bool
    calls: int
    device_bytes_per_call: float
    """Working memory of the device that is in use."""
    host_bytes_per_call: float
    """Memory of Python objects and arrays."""

    def __bool__(self) -> bool:
        return self.ok


class DebugMode:
    """Traces a model's execution, measures its kernels, looks for leaks, writes a report.

        with DebugMode(verbose=True) as debug:
            model = load_model("deployment.tsd")
            debug.trace_execution(model, x)

    Args:
        verbose: Show Tessera's debug messages on stderr while the block lasts.
    """

    def __init__(self, verbose: bool = False) -> None:
        self._verbose = verbose
        self._handler: logging.Handler | None = None
        self._level = logging.NOTSET
        self._model: Model | None = None
        self._inputs: tuple[Any, ...] = ()
        self.trace: Trace | None = None
        """The last execution that was traced."""
        self.leaks: LeakCheck | None = None
        """The last look for leaks."""
        self.kernels: tuple[StepProfile, ...] = ()
        """The last measured kernels."""

    def __enter__(self) -> Self:
        if self._verbose:
            root = logging.getLogger("tessera")
            self._handler, self._level = logging.StreamHandler(sys.stderr), root.level
            self._handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
            root.addHandler(self._handler)
            root.setLevel(logging.DEBUG)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            root = logging.getLogger("tessera")
            root.removeHandler(self._handler)
            root.setLevel(self._level)
            self._handler = None

    def trace_execution(self, model: Model, *inputs: Any) -> Trace:
        """Run once and say what went in, what each step took, what came out.

        The model is loaded a second time, with measuring on. Other methods use the same model and inputs.

        Raises:
            InputError: Not the inputs that the program takes.
            DeviceError: The device failed.
        """
        from tessera.runtime.inputs import InputReader

        arrays = InputReader(model.program).read(inputs)
        names = [port.name for port in model.program.inputs]
        result, steps, total_ms, spans = _measured(model, inputs, calls=1)
        outputs = _by_name(model, result)
        found = Trace(
            device=model.runtime.device,
            target=model.runtime.targets[model.name],
            inputs=tuple(_summary(n, a) for n, a in zip(names, arrays, strict=True)),
            outputs=tuple(_summary(n, a) for n, a in outputs.items()),
            steps=steps,
            total_ms=total_ms,
            difference=_difference(model, dict(zip(names, arrays, strict=True)), outputs),
            spans=spans,
        )
        self._model, self._inputs, self.trace = model, inputs, found
        for line in _trace_lines(found):
            logger.debug("%s", line)
        return found

    def check_memory_leaks(self, calls: int = 50) -> LeakCheck:
        """Whether calls leave memory behind, on the device or in Python.

        Raises:
            ConfigError: Nothing was traced yet.
        """
        model = self._traced()
        for _ in range(WARM_UP):
            model(*self._inputs)
        device_before = model.runtime.memory_usage()["in_use_bytes"]
        host = _host_growth(lambda: model(*self._inputs), calls)
        device = (model.runtime.memory_usage()["in_use_bytes"] - device_before) / calls
        self.leaks = LeakCheck(device <= 0 and host < LEAK_BYTES_PER_CALL, calls, device, host)
        logger.debug("memory after %d calls: %s", calls, _leak_text(self.leaks))
        return self.leaks

    def profile_kernels(self, calls: int = 20) -> tuple[StepProfile, ...]:
        """Time of each step over `calls` executions, the slowest first.

        Raises:
            ConfigError: Nothing was traced yet.
        """
        _, steps, *_ = _measured(self._traced(), self._inputs, calls)
        self.kernels = tuple(sorted(steps, key=lambda step: -step.total_ms))
        for step in self.kernels:
            logger.debug("%s: %.4f ms (%.4f to %.4f)", step.name, step.mean_ms, step.min_ms, step.max_ms)
        return self.kernels

    def export_report(self, path: str | Path) -> Path:
        """Write what was found as one HTML page, with the package's own report below it.

        Raises:
            ConfigError: Nothing was traced yet, or the folder cannot be made.
            MissingDependencyError: Jinja is not installed.
        """
        from tessera.profiler.report import write_report
        from tessera.profiler.report_source import report_from_package
        from tessera.profiler.report_trace import timeline_trace

        model = self._traced()
        assert self.trace is not None  # noqa: S101 - set together with the model
        base: ReportData = report_from_package(model.package)
        sections = {"Debugging": tuple(_blocks(self.trace, self.leaks, self.kernels)), **base.sections}
        where = f"{self.trace.device}, {self.trace.target}"
        traces = (timeline_trace(model.name, where, self.trace.spans),) if self.trace.spans else ()
        title = f"{model.package.name}: debugging"
        return write_report(replace(base, title=title, sections=sections, traces=traces), path)

    def _traced(self) -> Model:
        if self._model is None:
            raise ConfigError("nothing was traced yet", hint="debug.trace_execution(model, x)")
        return self._model


def _measured(
    model: Model, inputs: Sequence[Any], calls: int
) -> tuple[Any, tuple[StepProfile, ...], float, tuple[Span, ...]]:
    """The result, time of each step and of the average execution, and every piece of work, measured."""
    from tessera.runtime.timeline import Timeline

    timeline = Timeline()
    runtime = model.package.create_runtime(device=model.runtime.device, enable_profiling=timeline)
    try:
        with runtime:
            for _ in range(WARM_UP):
                runtime.execute(model.name, *inputs)
            runtime.reset_profile()
            start = time.perf_counter()
            for _ in range(calls):
                result = runtime.execute(model.name, *inputs)
            total_ms = (time.perf_counter() - start) * 1e3 / calls
            profile = runtime.profile
    finally:
        runtime.close()
    return result, profile.steps if profile is not None else (), total_ms, timeline.spans


def _by_name(model: Model, result: Any) -> dict[str, Any]:
    return result if isinstance(result, dict) else {model.program.outputs[0].name: result}


def _summary(name: str, value: Any) -> ArraySummary:
    import numpy as np

    array: np.ndarray[Any, Any] = np.asarray(value)
    wide = array.astype(np.float64)
    finite = wide[~np.isnan(wide)]
    return ArraySummary(
        name=name,
        dtype=str(array.dtype),
        shape=array.shape,
        least=float(finite.min()) if finite.size else None,
        most=float(finite.max()) if finite.size else None,
        nans=int(np.isnan(wide).sum()),
        infinities=int(np.isinf(wide).sum()),
    )


def _difference(model: Model, inputs: dict[str, Any], outputs: dict[str, Any]) -> float | None:
    """Of finite elements; infinite where one is finite and the other is not."""
    import numpy as np

    from tessera.reference import run_graph

    program = model.program
    if program.graph is None:
        return None
    constants = {c.name: model.package.constant(c.name) for c in program.constants}
    wanted = run_graph(program.graph, inputs, constants, precision="f64")
    largest = 0.0
    for name, value in outputs.items():
        ours, theirs = np.asarray(value).astype(np.float64), wanted[name].astype(np.float64)
        both = np.isfinite(ours) & np.isfinite(theirs)
        if not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
            return float("inf")
        largest = max(largest, float(np.abs(ours[both] - theirs[both]).max(initial=0.0)))
    return largest


def _host_growth(call: Callable[[], object], calls: int) -> float:
    """Bytes that Python holds more after each call, garbage collected."""
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        # Caches fill in the first calls under tracing.
        for _ in range(WARM_UP):
            call()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(calls):
            call()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        if started:
            tracemalloc.stop()
    return (after - before) / calls


def _leak_text(leaks: LeakCheck) -> str:
    verdict = "no leak" if leaks.ok else "LEAK"
    return (
        f"{verdict}: {leaks.device_bytes_per_call:.0f} bytes of the device and "
        f"{leaks.host_bytes_per_call:.0f} of Python held after each of {leaks.calls} calls"
    )


def _trace_lines(trace: Trace) -> list[str]:
    arrays = [f"{kind} {_array_text(a)}" for kind, group in _groups(trace) for a in group]
    steps = [f"step {s.index} {s.name}: {s.mean_ms:.4f} ms" for s in trace.steps]
    difference = "N/A: no graph" if trace.difference is None else f"{trace.difference:.3g}"
    return [
        f"executed on {trace.device} ({trace.target}) in {trace.total_ms:.4f} ms",
        *arrays,
        *steps,
        f"largest difference to the graph in float64: {difference}",
    ]


def _groups(trace: Trace) -> tuple[tuple[str, tuple[ArraySummary, ...]], ...]:
    return (("input", trace.inputs), ("output", trace.outputs))


def _array_text(array: ArraySummary) -> str:
    shown = "N/A" if array.least is None else f"{array.least:.4g} to {array.most:.4g}"
    return (
        f"{array.name}: {array.dtype}{list(array.shape)}, {shown}, NaN {array.nans}, inf {array.infinities}"
    )


def _blocks(trace: Trace, leaks: LeakCheck | None, kernels: Sequence[StepProfile]) -> list[Block]:
    difference = "N/A" if trace.difference is None else f"{trace.difference:.3g}"
    blocks: list[Block] = [
        Facts(
            (
                Fact("device", trace.device, detail=trace.target),
                Fact("one execution", f"{trace.total_ms:.4f} ms", "measured"),
                Fact("difference to float64", difference, "measured"),
            )
        ),
        Table(
            "Arrays",
            ("", "name", "dtype", "shape", "least", "most", "NaN", "infinite"),
            tuple(
                (kind, a.name, a.dtype, str(list(a.shape)), a.least, a.most, a.nans, a.infinities)
                for kind, group in _groups(trace)
                for a in group
            ),
            "measured",
        ),
    ]
    if leaks is not None:
        blocks.append(Text(_leak_text(leaks)))
    if kernels:
        blocks.append(
            Bars(
                "Time of each step",
                "ms",
                tuple(s.name for s in kernels),
                tuple(s.mean_ms for s in kernels),
                "measured",
            )
        )
    return blocks
