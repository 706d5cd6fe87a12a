"""Is this machine fit, how fast is it, and what does a kernel cost: checks, benchmarks, reports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.profiler.advice import Advice, advise, advise_profile
    from tessera.profiler.bench import bench_target
    from tessera.profiler.bench_compare import Change, Comparison, compare
    from tessera.profiler.bench_export import export
    from tessera.profiler.bench_history import History, SavedRun
    from tessera.profiler.bench_result import BatchResult, BenchResult, Load, Peaks
    from tessera.profiler.bench_serving import bench_server
    from tessera.profiler.check import Check
    from tessera.profiler.checks import diagnose
    from tessera.profiler.cost import Cost, program_cost
    from tessera.profiler.datasheet import Datasheet
    from tessera.profiler.datasheets import DATASHEETS, find_datasheet
    from tessera.profiler.device_times import DeviceTimes
    from tessera.profiler.diagnostics import Diagnostics
    from tessera.profiler.emulated import EmulatedProfile, profile_emulated
    from tessera.profiler.flame import emulated_stacks, folded
    from tessera.profiler.live.player import Player
    from tessera.profiler.live.recorder import Recorder
    from tessera.profiler.live.recording import Recording
    from tessera.profiler.live.sampler import Sampler
    from tessera.profiler.ncu import NcuProfile, profile_ncu
    from tessera.profiler.occupancy_tables import Needs, WhatIf, what_if
    from tessera.profiler.plotly_figures import report_figures
    from tessera.profiler.prediction import Prediction, predict
    from tessera.profiler.report import write_report
    from tessera.profiler.report_data import ReportData
    from tessera.profiler.report_source import report_from_artifact, report_from_package
    from tessera.profiler.roof import (
        Ceiling,
        Roofline,
        RooflineChart,
        RooflinePoint,
        ceilings,
        roofline,
        roofline_chart,
    )
    from tessera.profiler.runtime_optimizer import RuntimeOptimizer
    from tessera.profiler.timing import Timing
    from tessera.profiler.trace import Trace
    from tessera.profiler.verdict import judge
    from tessera.profiler.work import Work, graph_work, kernel_works
    from tessera.program.occupancy import Occupancy, occupancy
    from tessera.runtime.nvtx import nvtx_ranges
    from tessera.runtime.timeline import Timeline

# Each name is imported on first use: benchmarks pull in numpy, reports a template engine.
_HOMES: dict[str, str] = {
    "Advice": "tessera.profiler.advice",
    "BatchResult": "tessera.profiler.bench_result",
    "BenchResult": "tessera.profiler.bench_result",
    "Ceiling": "tessera.profiler.roof",
    "Change": "tessera.profiler.bench_compare",
    "Check": "tessera.profiler.check",
    "Comparison": "tessera.profiler.bench_compare",
    "Cost": "tessera.profiler.cost",
    "DATASHEETS": "tessera.profiler.datasheets",
    "Datasheet": "tessera.profiler.datasheet",
    "DeviceTimes": "tessera.profiler.device_times",
    "Diagnostics": "tessera.profiler.diagnostics",
    "EmulatedProfile": "tessera.profiler.emulated",
    "History": "tessera.profiler.bench_history",
    "Load": "tessera.profiler.bench_result",
    "NcuProfile": "tessera.profiler.ncu",
    "Needs": "tessera.profiler.occupancy_tables",
    "Occupancy": "tessera.program.occupancy",
    "Peaks": "tessera.profiler.bench_result",
    "Player": "tessera.profiler.live.player",
    "Prediction": "tessera.profiler.prediction",
    "Recorder": "tessera.profiler.live.recorder",
    "Recording": "tessera.profiler.live.recording",
    "ReportData": "tessera.profiler.report_data",
    "Roofline": "tessera.profiler.roof",
    "RooflineChart": "tessera.profiler.roof",
    "RooflinePoint": "tessera.profiler.roof",
    "RuntimeOptimizer": "tessera.profiler.runtime_optimizer",
    "Sampler": "tessera.profiler.live.sampler",
    "SavedRun": "tessera.profiler.bench_history",
    "Timeline": "tessera.runtime.timeline",
    "Timing": "tessera.profiler.timing",
    "Trace": "tessera.profiler.trace",
    "WhatIf": "tessera.profiler.occupancy_tables",
    "Work": "tessera.profiler.work",
    "advise": "tessera.profiler.advice",
    "advise_profile": "tessera.profiler.advice",
    "bench_server": "tessera.profiler.bench_serving",
    "bench_target": "tessera.profiler.bench",
    "ceilings": "tessera.profiler.roof",
    "compare": "tessera.profiler.bench_compare",
    "diagnose": "tessera.profiler.checks",
    "emulated_stacks": "tessera.profiler.flame",
    "export": "tessera.profiler.bench_export",
    "find_datasheet": "tessera.profiler.datasheets",
    "folded": "tessera.profiler.flame",
    "graph_work": "tessera.profiler.work",
    "judge": "tessera.profiler.verdict",
    "kernel_works": "tessera.profiler.work",
    "nvtx_ranges": "tessera.runtime.nvtx",
    "occupancy": "tessera.program.occupancy",
    "predict": "tessera.profiler.prediction",
    "profile_emulated": "tessera.profiler.emulated",
    "profile_ncu": "tessera.profiler.ncu",
    "program_cost": "tessera.profiler.cost",
    "report_figures": "tessera.profiler.plotly_figures",
    "report_from_artifact": "tessera.profiler.report_source",
    "report_from_package": "tessera.profiler.report_source",
    "roofline": "tessera.profiler.roof",
    "roofline_chart": "tessera.profiler.roof",
    "what_if": "tessera.profiler.occupancy_tables",
    "write_report": "tessera.profiler.report",
}

__all__ = [
    "DATASHEETS",
    "Advice",
    "BatchResult",
    "BenchResult",
    "Ceiling",
    "Change",
    "Check",
    "Comparison",
    "Cost",
    "Datasheet",
    "DeviceTimes",
    "Diagnostics",
    "EmulatedProfile",
    "History",
    "Load",
    "NcuProfile",
    "Needs",
    "Occupancy",
    "Peaks",
    "Player",
    "Prediction",
    "Recorder",
    "Recording",
    "ReportData",
    "Roofline",
    "RooflineChart",
    "RooflinePoint",
    "RuntimeOptimizer",
    "Sampler",
    "SavedRun",
    "Timeline",
    "Timing",
    "Trace",
    "WhatIf",
    "Work",
    "advise",
    "advise_profile",
    "bench_server",
    "bench_target",
    "ceilings",
    "compare",
    "diagnose",
    "emulated_stacks",
    "export",
    "find_datasheet",
    "folded",
    "graph_work",
    "judge",
    "kernel_works",
    "nvtx_ranges",
    "occupancy",
    "predict",
    "profile_emulated",
    "profile_ncu",
    "program_cost",
    "report_figures",
    "report_from_artifact",
    "report_from_package",
    "roofline",
    "roofline_chart",
    "what_if",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
