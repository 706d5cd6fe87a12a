"""One execution, piece by piece, as the trace of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.profiler.report_runs import ExecutionTrace, TraceSpan
from tessera.program.bytesize import format_bytes

if TYPE_CHECKING:
    from tessera.profiler.emulated import EmulatedProfile
    from tessera.runtime.profile import StepProfile
    from tessera.runtime.timeline import Span

COUNTED = "warp instructions"


def timeline_trace(program: str, device: str, spans: Sequence[Span]) -> ExecutionTrace:
    """The last execution of a timeline: every launch, copy and kernel when it was, on its clock.

    Args:
        program: What was executed.
        device: Where, in words.
        spans: Of a `Timeline`.
    """
    last = max((span.execution for span in spans), default=0)
    own = [span for span in spans if span.execution == last and (span.step is None or span.duration_ns >= 0)]
    starts = {track: min((s.start_ns for s in own if s.track == track), default=0) for track in _TRACKS}
    found = [
        TraceSpan(
            name=f"{span.kind} {span.name}".strip() if span.kind != "kernel" else span.name,
            start=(span.start_ns - starts[span.track]) / 1e6,
            length=span.duration_ns / 1e6,
            track=_TRACKS[span.track] if span.kind != "execution" else "execution",
            detail=_detail(span),
        )
        for span in own
    ]
    notes = []
    if any(span.track == "device" for span in own):
        notes.append("The GPU's clock and the host's begin at 0 each: they are not in step with one another.")
    notes.append(f"Execution {last + 1} of those measured; each was as warm as the ones before it made it.")
    return ExecutionTrace(program, device, "measured", "ms", tuple(found), tuple(notes))


_TRACKS = {"host": "host", "device": "GPU"}


def _detail(span: Span) -> str:
    parts: list[str] = [span.kind] if span.step is None else [f"{span.kind}, step {span.step}"]
    if span.size_bytes is not None:
        parts.append(format_bytes(span.size_bytes))
    return ", ".join(parts)


def measured_trace(program: str, device: str, steps: Sequence[StepProfile]) -> ExecutionTrace:
    """Measured steps of which single calls were not kept: each as long as its average call.

    Args:
        program: What was executed.
        device: Where, in words.
        steps: In any order.
    """
    spans: list[TraceSpan] = []
    start = 0.0
    for step in sorted(steps, key=lambda s: s.index):
        detail = f"step {step.index}, {step.calls} calls, {step.min_ms:.4g} to {step.max_ms:.4g} ms"
        spans.append(TraceSpan(step.name, start, step.mean_ms, "steps", detail))
        start += step.mean_ms
    note = "Each step is as long as its average call; steps are drawn one after the other, without pauses."
    return ExecutionTrace(program, device, "measured", "ms", tuple(spans), (note,))


def emulated_trace(profile: EmulatedProfile) -> ExecutionTrace:
    """Launches in the emulator in their order, as long as the instructions that their warps executed."""
    spans: list[TraceSpan] = []
    start = 0
    for launch in profile.launches:
        executed = launch.counters.executed
        detail = f"grid {launch.grid}, block {launch.block}"
        detail += f", {format_bytes(launch.shared_bytes)} of shared memory" if launch.shared_bytes else ""
        spans.append(TraceSpan(launch.kernel, start, executed, "launches", detail))
        start += executed
    note = "Lengths are instructions that warps executed, not time: nothing ran on a GPU."
    device = f"emulator, {profile.target}"
    return ExecutionTrace(profile.program.name, device, "emulated", COUNTED, tuple(spans), (note,))
