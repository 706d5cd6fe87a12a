"""`tessera profile --trace`: what was counted or measured, as a Chrome trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.profiler.trace import Sample, Slice, Trace, device_slices, host_slices, phase_slices
from tessera.workbench.output import note

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters
    from tessera.profiler.phases import Phases
    from tessera.runtime import Span
    from tessera.runtime.emulator_counts import CountedLaunch
    from tessera.workbench.profile_ncu import HardwareCounts
    from tessera.workbench.profiling import Counted, Timed


def write_timed(path: Path, timed: Timed, phases: Phases, counters: HardwareCounts | None) -> None:
    """The trace of a measured program: the host's work, and the GPU's by its own clock.

    Raises:
        PackageError: The file cannot be written.
    """
    clock = "CUDA events" if timed.times else "the host's clock"
    trace = Trace(
        {"program": timed.program.name, "device": timed.description, "label": f"measured by {clock}"}
    )
    _host(trace, phases, timed.spans, "measured")
    if timed.times:
        process = trace.process(f"{timed.description}: measured by CUDA events")
        slices = device_slices(process, trace.thread(process, "stream"), timed.spans)
        trace.add(*_with_counters(slices, counters))
        trace.count(*_moved(process, slices))
    _write(trace, path)


def _with_counters(slices: Sequence[Slice], counters: HardwareCounts | None) -> Iterator[Slice]:
    """Kernels of the first execution with what Nsight Compute counted in one of its own."""
    from dataclasses import replace

    launches = {} if counters is None else {launch.index: launch for launch in counters.profile.launches}
    for piece in slices:
        launch = launches.get(piece.args.get("step", -1)) if piece.args.get("execution") == 0 else None
        if piece.category == "kernel" and launch is not None and launch.kernel == piece.name:
            label = "Nsight Compute, another execution"
            yield replace(piece, args={**piece.args, label: dict(launch.metrics)})
        else:
            yield piece


def _moved(process: int, slices: Sequence[Slice]) -> Iterator[Sample]:
    """The rate of each copy."""
    for piece in slices:
        size = piece.args.get("bytes")
        if size is not None and piece.duration_ns:
            yield Sample(process, "copies (GB/s)", piece.start_ns, {"GB/s": size / piece.duration_ns})
            yield Sample(process, "copies (GB/s)", piece.end_ns, {"GB/s": 0})


def write_counted(path: Path, results: Sequence[Counted], phases: Phases) -> None:
    """The trace of counted programs: the host's time of the emulation, counters, and times by datasheets.

    Raises:
        PackageError: The file cannot be written.
    """
    from tessera.emulator.counters import LABEL

    names = ", ".join(result.profile.program.name for result in results)
    about = "host times are those of the emulation, GPU times are predicted from datasheets"
    trace = Trace({"program": names, "device": "emulator", "label": f"{LABEL}; {about}"})
    spans = [span for result in results for span in result.spans]
    process = _host(trace, phases, spans, "the emulation's, of no meaning for a GPU")
    launches = [pair for result in results for pair in _launches(result)]
    trace.count(*_counted(process, launches))
    _predicted(trace, launches)
    _write(trace, path)


def _launches(result: Counted) -> Iterator[tuple[Span, CountedLaunch]]:
    """Every launch with its span, in order."""
    left = {kernel.kernel: iter(kernel.launches) for kernel in result.profile.kernels}
    for span in result.spans:
        launch = next(left.get(span.name, iter(())), None) if span.kind == "kernel" else None
        if launch is not None:
            yield span, launch


def _counted(process: int, launches: Sequence[tuple[Span, CountedLaunch]]) -> Iterator[Sample]:
    """Counters of each launch, from its begin to its end."""
    for span, launch in launches:
        for name, values in _values(launch.counters).items():
            yield Sample(process, f"{name} (emulated, PTX level)", span.start_ns, values)
            yield Sample(process, f"{name} (emulated, PTX level)", span.end_ns, dict.fromkeys(values, 0))


def _values(counters: Counters) -> dict[str, dict[str, float]]:
    device, shared = counters.memory("global"), counters.memory("shared")
    return {
        "instructions": {"executed": counters.executed},
        "sectors": {"ideal": device.ideal, "more": device.excess},
        "shared wavefronts": {"ideal": shared.ideal, "conflicts": shared.excess},
        "operations": {"scalar": counters.flops, "tensor": counters.tensor_flops},
    }


def _predicted(trace: Trace, launches: Sequence[tuple[Span, CountedLaunch]]) -> None:
    """A row for each GPU with a datasheet: the least time of each launch, one after the other."""
    from tessera.profiler.prediction import predict

    if not launches:
        return
    process = trace.process("predicted from datasheets: least times, every sector from memory")
    start = launches[0][0].start_ns
    rows: dict[str, tuple[int, int]] = {}
    for span, launch in launches:
        for each in predict(launch.counters, launch.counters.moved_bytes):
            thread, at = rows.get(each.gpu) or (trace.thread(process, each.gpu), start)
            duration = round(each.worst_ms * 1e6)
            args: dict[str, Any] = {"label": "predicted", "bound": each.bound, "step": span.step}
            trace.add(Slice(process, thread, launch.kernel, "predicted", at, duration, args))
            rows[each.gpu] = thread, at + duration


def _host(trace: Trace, phases: Phases, spans: Sequence[Span], times: str) -> int:
    process = trace.process(f"host: times are {times}")
    thread = trace.thread(process, "tessera profile")
    trace.add(*phase_slices(process, thread, phases.found), *host_slices(process, thread, spans))
    return process


def _write(trace: Trace, path: Path) -> None:
    trace.write(path)
    note(f"wrote {path}: open it in ui.perfetto.dev or chrome://tracing")
