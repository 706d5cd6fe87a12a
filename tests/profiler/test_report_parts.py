"""What reports are made of: recordings thinned, sweeps ranked, source lines gathered, long parts cut."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import listing, rows, sweep

from tessera.compiler.tuning.record import Record
from tessera.profiler import roofline_chart
from tessera.profiler.charts import OCCUPANCY_KERNELS, memory_chart, occupancy_chart
from tessera.profiler.charts_roofline import roofline_figure
from tessera.profiler.charts_runs import DRAWN_LINES, drawn_trials
from tessera.profiler.live.figures import Device, Figures, Machine, Reading, Sample
from tessera.profiler.live.recorder import Recorder
from tessera.profiler.report_data import BufferLife, KernelRow, MemoryPlan, ReportData
from tessera.profiler.report_fold import ASSEMBLY_ROWS, fold_sources, fold_sweep
from tessera.profiler.report_live import KEPT, recorded_run
from tessera.profiler.report_runs import TunedSweep, TunedTrial
from tessera.profiler.report_summary import summarize
from tessera.profiler.report_sweeps import best_so_far, heat_axes, ranked, sweeps_of
from tessera.profiler.report_trace import timeline_trace
from tessera.runtime.timeline import Span
from tessera.workbench.reporting import ptx_places


def record_power(path: Path, watts: list[int | None]) -> Path:
    device = Device(0, "Example GPU", None, None, (9, 0), mig=False, max_sm_clock_mhz=None,
                    max_pcie_generation=None, max_pcie_width=None)  # fmt: skip
    machine = Machine("580.1", (13, 0), (device,))
    with Recorder(path, machine, interval_s=0.1, started_unix_s=0.0) as recorder:
        for i, power in enumerate(watts):
            figures = Figures(
                power_mw=None if power is None else power * 1000, throttle_reasons=4 if i % 4 == 0 else 0
            )
            recorder.write(Sample(i * 100_000_000, (Reading(figures),)))
    return path


def test_recording_that_is_thinned_keeps_every_peak_and_says_so(tmp_path: Path) -> None:
    watts: list[int | None] = [200 + (i * 7919) % 53 for i in range(5000)]
    watts[1234], watts[4321] = 700, 20
    run = recorded_run(record_power(tmp_path / "run.tslive", watts))
    (power,) = run.series
    known = [w for w in watts if w is not None]
    assert (power.least, power.most) == (20, 700)
    assert power.mean == pytest.approx(sum(known) / len(known), rel=1e-9)
    assert max(v for v in power.values if v is not None) == 700
    assert min(v for v in power.values if v is not None) == 20
    assert power.times_s[power.values.index(700)] == pytest.approx(123.4)
    assert len(power.values) <= 2 * KEPT
    assert list(power.times_s) == sorted(power.times_s)
    assert "least and the greatest sample" in run.notes[0]
    assert run.throttling == (("Example GPU", "power cap", 0.25),)


def test_recording_with_gaps_breaks_the_curve_and_counts_none_as_unknown(tmp_path: Path) -> None:
    watts: list[int | None] = [100] * 20 + [None] * 20 + [300] * 20
    (power,) = recorded_run(record_power(tmp_path / "run.tslive", watts)).series
    assert None in power.values
    assert power.mean == pytest.approx(200)


def test_recording_that_comes_with_tessera_shows_its_marks() -> None:
    run = recorded_run("demo")
    assert run.gpus == ("NVIDIA H200",)
    assert [text for _, text in run.marks][:3] == ["idle", "copy", "matmul"]
    assert {s.figure for s in run.series} >= {"utilization", "power", "SM clock"}
    assert any("NVLink" in note for note in run.notes)


def record(cost: float | None, trial: int | None, **configuration: int) -> Record:
    return Record(
        kernel="k", kernel_hash="aa", target="sm_90", gpu="H100 SXM", driver="cost model 1", kind="predicted",
        bucket={"n": 1024}, sizes={"n": 1000}, configuration=configuration,
        status="ok" if cost is not None else "compile", cost_ms=cost, trial=trial,
    )  # fmt: skip


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30, unique=True), st.randoms())
def test_best_so_far_follows_the_order_of_trying_whatever_the_files(
    costs: list[float], shuffler: object
) -> None:
    records = [record(cost, i, BLOCK=32 * i) for i, cost in enumerate(costs, 1)]
    shuffler.shuffle(records)  # type: ignore[attr-defined]
    (found,) = sweeps_of(records)
    steps = best_so_far(found)
    assert [t.cost_ms for t in found.trials] == costs
    assert steps[-1][1] == min(costs)
    assert all(cost == min(costs[:place]) for place, cost in steps)
    assert ranked(found)[0].cost_ms == min(costs)


def test_sweep_without_order_on_record_has_no_curve() -> None:
    (found,) = sweeps_of([record(1.0, None, BLOCK=32), record(2.0, 1, BLOCK=64)])
    assert best_so_far(found) == []


def test_heatmap_takes_the_two_values_that_change_the_cost_most() -> None:
    trials = tuple(
        TunedTrial({"A": a, "B": b, "IDLE": i}, "ok", 1.0 + 10 * a + 5 * b + 0.001 * i)
        for a in range(3) for b in range(3) for i in range(3)
    )  # fmt: skip
    found = TunedSweep("k", "sm_90", "g", "d", "predicted", {}, trials)
    assert heat_axes(found) == ("A", "B")


def test_sweep_of_thousands_draws_the_best_and_an_even_choice() -> None:
    good = ranked(sweep(configurations=5000))
    drawn = drawn_trials(good)
    assert len(drawn) <= DRAWN_LINES
    assert drawn[:100] == good[:100]
    assert drawn[-1].cost_ms == pytest.approx(good[-1].cost_ms, rel=0.05)
    shown = fold_sweep(sweep(configurations=5000))
    assert shown.total == 5000
    assert sum(count for _, count in shown.counts) == 5000
    assert shown.failed == (("pruned", "no block fits a multiprocessor", 714),)


def test_fold_keeps_the_code_of_the_hottest_lines() -> None:
    base = listing()
    cold = dataclasses.replace(base.lines[1], share=0.01, ptx=rows(ASSEMBLY_ROWS), sass=())
    hot = dataclasses.replace(base.lines[2], share=0.9, ptx=rows(ASSEMBLY_ROWS - 10), sass=())
    (cut,), notes = fold_sources((dataclasses.replace(base, lines=(cold, hot)),))
    assert cut.lines[1] == hot
    assert len(cut.lines[0].ptx) == 11
    assert cut.lines[0].ptx[-1].text == f"… {ASSEMBLY_ROWS - 10:,} more"
    assert "20,000 of 39,990 instructions" in notes[0]


def test_fold_of_little_cuts_nothing() -> None:
    assert fold_sources((listing(),)) == ((listing(),), ())


def test_timeline_trace_shows_the_last_execution_on_each_clock() -> None:
    spans = [
        Span("host", "execution", "net", 1_000_000, 900_000, execution=0),
        Span("host", "execution", "net", 9_000_000, 500_000, execution=1),
        Span("host", "launch", "k", 9_100_000, 20_000, step=0, execution=1),
        Span("device", "kernel", "k", 40_000, 300_000, step=0, execution=1),
        Span("device", "download", "y", 350_000, 50_000, size_bytes=4096, execution=1),
    ]
    trace = timeline_trace("net", "cuda:0", spans)
    assert [(s.name, s.track, round(s.start, 3), round(s.length, 3)) for s in trace.spans] == [
        ("execution net", "execution", 0.0, 0.5),
        ("launch k", "host", 0.1, 0.02),
        ("k", "GPU", 0.0, 0.3),
        ("download y", "GPU", 0.31, 0.05),
    ]
    assert trace.spans[-1].detail == "download, 4.0 KiB"
    assert "not in step" in trace.notes[0]


PTX = """\
.version 8.7
.visible .entry k(.param .u64 p)
{
\t.file\t1 "/home/me/kernels.py"
\t.loc\t1 12 0
\tld.param.u64 %rd1, [p];
\tadd.s64 %rd2, %rd1, 4; // four
\t.loc\t1 13 0
\tret;
}
"""


def test_ptx_that_was_not_counted_is_placed_by_its_line_information() -> None:
    assert ptx_places(PTX) == {6: ("kernels.py", 12), 7: ("kernels.py", 12), 9: ("kernels.py", 13)}


def test_occupancy_of_many_kernels_draws_those_with_the_least() -> None:
    many = [KernelRow("p", f"k{i}", "sm_90", occupancy=(i * 37 % 100) / 100) for i in range(100)]
    chart = occupancy_chart(many)
    assert chart is not None
    (bars,) = chart.figure["data"]
    assert sorted(bars["x"]) == list(range(OCCUPANCY_KERNELS))
    assert "40 of 100 kernels" in chart.about


def test_memory_chart_of_a_thousand_buffers_has_a_trace_for_each_colour() -> None:
    buffers = tuple(BufferLife(f"b{i}", 256 * (i % 4), 256, i, i + 1) for i in range(1000))
    steps = tuple(f"s{i}" for i in range(1001))
    chart = memory_chart("m", MemoryPlan("p", "sm_90", {}, steps, 1024, buffers))
    *bars, line = chart.figure["data"]
    assert len(bars) == 8
    assert sum(len(each["x"]) for each in bars) == 1000
    assert max(line["y"]) == 512
    assert len(chart.figure["layout"]["xaxis"]["tickvals"]) <= 30


def test_summary_names_the_best_configuration_and_its_gpu() -> None:
    facts = {fact.label: fact for fact in summarize(ReportData("x", sweeps=(sweep(),)))}
    tuned = facts["tuned kernel"]
    assert tuned.origin == "predicted"
    assert tuned.value == "11 µs"
    assert tuned.detail == "transpose, best of 24 for H100 SXM: ROWS=1 TILE=8 UNROLL=1"


def test_slopes_of_memories_are_told_apart_without_colour() -> None:
    for gpu in ("V100 SXM2", "A100 SXM 80 GB", "H200 SXM"):
        figure = roofline_figure("roof", roofline_chart(gpu, [])).figure
        slopes = [trace["line"] for trace in figure["data"] if trace["line"]["color"] == "var:--muted"]
        assert len({(line["dash"], line["width"]) for line in slopes}) == len(slopes) >= 1
