"""Steps of an execution end to end, as the trace of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.profiler.report_runs import ExecutionTrace, RooflineModel, RooflinePoint, TraceSpan

if TYPE_CHECKING:
    from tessera.profiler.emulated import EmulatedProfile
    from tessera.runtime.profile import StepProfile

COUNTED = "warp instructions"


def measured_trace(program: str, device: str, steps: Sequence[StepProfile]) -> ExecutionTrace:
    """Measured steps: each as long as its average call, one after the other.

    Args:
        program: What was executed.
        device: Where.
        steps: In any order.
    """
    spans: list[TraceSpan] = []
    start = 0.0
    for step in sorted(steps, key=lambda s: s.index):
        detail = f"step {step.index}, {step.calls} calls, {step.min_ms:.4g} to {step.max_ms:.4g} ms"
        spans.append(TraceSpan(step.name, start, step.mean_ms, detail))
        start += step.mean_ms
    called = max((step.calls for step in steps), default=0)
    note = "Each step is as long as its average call; steps are drawn one after the other, without pauses."
    return ExecutionTrace(program, device, "measured", "ms", tuple(spans), (note,) if called else ())


def emulated_trace(profile: EmulatedProfile) -> ExecutionTrace:
    """Launches in the emulator, kernel by kernel: as long as the instructions that their warps executed."""
    spans: list[TraceSpan] = []
    start = 0
    launches = sorted(
        ((launch.number, launch) for kernel in profile.kernels for launch in kernel.launches),
        key=lambda pair: pair[0],
    )
    for _, launch in launches:
        executed = launch.counters.executed
        detail = f"grid {launch.grid}, block {launch.block}"
        detail += f", {launch.shared_bytes:,} bytes of shared memory" if launch.shared_bytes else ""
        spans.append(TraceSpan(launch.kernel, start, executed, detail))
        start += executed
    note = "Lengths are instructions that warps executed, not time: nothing ran on a GPU."
    device = f"emulator, {profile.target}"
    return ExecutionTrace(profile.program.name, device, "emulated", COUNTED, tuple(spans), (note,))
