"""Ceilings of GPU models, points under them, and verdicts in words: predicted, from datasheets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.profiler import DATASHEETS, Work, ceilings, find_datasheet, judge, roofline, roofline_chart
from tessera.profiler.datasheet import PIPES
from tessera.program.arch import SM_LIMITS
from tessera.program.errors import OptionError
from tessera.program.occupancy import Occupancy

FULL = Occupancy(blocks=8, warps=64, ratio=1.0, limiter="warps")
MODELS = ("V100 SXM2", "T4", "A100 SXM 80 GB", "A100 SXM 40 GB", "A100 PCIe 80 GB", "A100 PCIe 40 GB",
          "A10", "A30", "L4", "L40S", "RTX 3090", "RTX 4090", "RTX 5090", "H100 PCIe", "H100 SXM", "H200 SXM",
          "B200", "GB10", "RTX PRO 6000")  # fmt: skip
COPY = Work("copy", (), 2e9, 2e9, "emulated, PTX level", 1, 1 << 20, 256, request_bytes=512.0, resident=FULL)


def test_every_common_gpu_has_a_datasheet_with_its_document() -> None:
    assert set(MODELS) <= set(DATASHEETS)
    for sheet in DATASHEETS.values():
        assert "NVIDIA" in sheet.document
        assert sheet.capability in SM_LIMITS
        assert sheet.multiprocessors > 0
        rates = [sheet.rate(pipe) for pipe in PIPES]
        assert all(rate is None or 0 < rate < 1e5 for rate in rates)


def test_tensor_cores_are_as_much_faster_as_their_types_are_smaller() -> None:
    for sheet in DATASHEETS.values():
        if sheet.f16_tflops and sheet.i8_tops and sheet.name not in ("RTX 3080", "RTX 3090", "RTX 3090 Ti",
                                                                     "RTX 4080", "RTX 4090", "RTX 5080",
                                                                     "RTX 5090", "RTX 2080 Ti"):  # fmt: skip
            assert sheet.i8_tops / sheet.f16_tflops == pytest.approx(2, rel=0.02), sheet.name
        if sheet.bf16_tflops and sheet.tf32_tflops:
            assert sheet.bf16_tflops / sheet.tf32_tflops == pytest.approx(2, rel=0.03), sheet.name
        if sheet.f8_tflops and sheet.f16_tflops:
            assert sheet.f8_tflops / sheet.f16_tflops == pytest.approx(2, rel=0.03), sheet.name


@pytest.mark.parametrize(
    ("called", "model"),
    [
        ("H200", "H200 SXM"),
        ("NVIDIA H200", "H200 SXM"),
        ("h100 pcie", "H100 PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80 GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80 GB"),
        ("Tesla V100-SXM2-16GB", "V100 SXM2"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("RTX 3090", "RTX 3090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA GB10", "GB10"),
    ],
)
def test_a_gpu_is_found_by_what_people_and_drivers_call_it(called: str, model: str) -> None:
    assert find_datasheet(called).name == model


@pytest.mark.parametrize(
    ("called", "message", "hint"),
    [
        ("H1000", "no datasheet for the GPU 'H1000'", "did you mean H100 SXM"),
        ("RTX 4091", "no datasheet", "RTX 4090"),
        ("A100x", "no datasheet", "did you mean A100 SXM 80 GB"),
        ("H300", "no datasheet", "did you mean H100 SXM or H100 PCIe or H100 NVL or H200 SXM?"),
        ("RTX 4070", "no datasheet", "did you mean RTX 4080 or RTX 4090?"),
        ("GB300", "no datasheet", "did you mean GB200?"),
        ("A100", "several GPUs are called 'A100': A100 SXM 80 GB", "name one of them"),
        ("RTX 4090 Laptop GPU", "no datasheet", "did you mean RTX 4090"),
        ("", "no datasheet for the GPU ''", "known: V100 SXM2"),
        ("Radeon", "no datasheet", "known: "),
    ],
)
def test_an_unknown_gpu_is_refused_with_near_names(called: str, message: str, hint: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        roofline_chart(called)
    assert hint in (caught.value.hint or "")


@given(st.text(max_size=30))
def test_any_text_is_a_gpu_or_an_error_with_a_hint(text: str) -> None:
    try:
        found = find_datasheet(text)
    except OptionError as error:
        hint = error.hint
    else:
        hint = DATASHEETS[found.name].name
    assert hint


def test_every_ceiling_says_where_it_comes_from() -> None:
    for name in DATASHEETS:
        for ceiling in ceilings(name):
            assert ceiling.rate > 0
            assert ceiling.source
            assert f"({ceiling.origin})" in ceiling.label
            assert (ceiling.kind == "memory") == (ceiling.unit == "TB/s")


def test_measured_ceilings_of_the_h200_lie_below_its_datasheet() -> None:
    chart = roofline_chart("H200")
    measured = [c for c in chart.ceilings if c.origin == "measured"]
    assert {c.name for c in measured} == {f"{t} tensor" for t in ("tf32", "bf16", "f16", "f8", "i8")}
    for ceiling in measured:
        assert "docs/matmul.md" in ceiling.source
        assert ceiling.rate < chart.ceiling(ceiling.name).rate
    assert chart.ceiling("bf16 tensor").origin == "datasheet"
    assert chart.ceiling("bf16 tensor", "measured").rate == 767


def test_l2_bandwidth_is_computed_where_a_document_gives_its_width() -> None:
    assert roofline_chart("A100 PCIe 40 GB").ceiling("L2").rate == pytest.approx(7.22, abs=0.01)
    chart = roofline_chart("H200")
    assert any("L2" in note for note in chart.notes)
    with pytest.raises(OptionError, match="no ceiling 'L2'") as caught:
        chart.ceiling("L2")
    assert "DRAM" in (caught.value.hint or "")


def test_the_roof_rises_to_the_ridge_and_is_flat_behind_it() -> None:
    chart = roofline_chart("A100 SXM 80 GB")
    low, ridge, high = chart.roof("bf16 tensor")
    assert ridge == (pytest.approx(312 / 2.039), 312.0)
    assert low == (0.01, pytest.approx(0.01 * 2.039))
    assert high == (1e4, 312.0)
    assert chart.ridge("bf16 tensor") == pytest.approx(312 / 2.039)
    # A line that begins behind the ridge is flat.
    assert chart.roof("f32", least=100.0) == ((100.0, 19.5), (1e4, 19.5))


@pytest.mark.parametrize("work", [(0, 1), (1, 0), (-1, 1), (math.nan, 1), (1, math.inf)])
def test_a_roofline_of_no_work_is_refused(work: tuple[float, float]) -> None:
    with pytest.raises(OptionError, match="needs work"):
        roofline("H200", flops=work[0], bytes_moved=work[1])


# -- verdicts -----------------------------------------------------------------------------------


def test_a_copy_is_bound_by_memory() -> None:
    point = judge(COPY, "H200")
    assert point.bound == "memory"
    assert point.verdict == "memory-bound (DRAM): 2 GB take 417 µs at 4.8 TB/s; it computes next to nothing"
    assert point.predicted_ms == pytest.approx(2e9 / 4.8e12 * 1e3 + 2e-3)
    assert (point.pipe, point.intensity, point.attainable) == ("", None, None)


def test_accesses_far_apart_are_named() -> None:
    point = judge(replace(COPY, worst_bytes=9e9), "H200")
    assert "4.5 times the bytes it needs" in point.remedy


def test_a_large_product_is_bound_by_tensor_cores() -> None:
    n = 8192
    work = Work("gemm", (("bf16 tensor", 2.0 * n**3),), 6.0 * n * n, 6.0 * n * n, "graph")
    point = judge(work, "H200")
    assert point.bound == "compute"
    assert point.verdict.startswith(
        "compute-bound (bf16 tensor): 1.1 T operations take 1.11 ms at 989 TFLOP/s, DRAM 83.9 µs; "
    )
    assert "8-bit operands (f8, i8): 2 times the rate" in point.remedy
    assert point.attainable == 989
    assert judge(replace(work, operations=(("f32", 2.0 * n**3),)), "H200").remedy.startswith(
        "if these are products of matrices, tensor cores (tf32"
    )


def test_little_work_is_bound_by_its_launch() -> None:
    point = judge(replace(COPY, bytes=1e6, worst_bytes=1e6), "H200")
    assert point.bound == "launch"
    assert point.verdict == "launch-bound: the launch takes 2 µs, the work 208 ns"
    assert "10 times the work" in point.remedy
    assert (
        "3 launches take 6 µs" in judge(replace(COPY, bytes=1e6, worst_bytes=1e6, launches=3), "H200").verdict
    )


def test_fewer_blocks_than_multiprocessors_are_bound_by_latency() -> None:
    work = replace(COPY, operations=(("f32", 1e10),), bytes=1e6, worst_bytes=1e6, blocks=12)
    point = judge(work, "H200")
    assert point.bound == "latency"
    assert "12 blocks for 132 SMs, 120 stand idle: 1.64 ms instead of 149 µs" in point.verdict
    assert "1 block for 132 SMs, 131" in judge(replace(work, blocks=1), "H200").verdict


def test_blocks_that_do_not_divide_evenly_are_bound_by_latency() -> None:
    work = replace(COPY, operations=(("f32", 1e10),), bytes=1e6, worst_bytes=1e6, blocks=133)
    point = judge(work, "H200")
    assert "133 blocks for 132 SMs, 1 of them have 2, the others 1: 296 µs instead of 149 µs" in point.verdict
    # A hundred blocks on each leave no gap that counts.
    assert judge(replace(work, blocks=13201), "H200").bound == "compute"


def test_few_warps_with_narrow_loads_are_bound_by_latency() -> None:
    held = Occupancy(blocks=1, warps=8, ratio=0.125, limiter="shared memory")
    point = judge(replace(COPY, request_bytes=128.0, resident=held), "H200")
    assert point.bound == "latency"
    assert "8 warps on an SM keep 270 kB under way, 4.8 TB/s need 2.4 MB" in point.verdict
    assert "limited by shared memory" in point.remedy
    # The same warps with wide loads would do more.
    wide = judge(replace(COPY, request_bytes=512.0, resident=held), "H200")
    assert wide.predicted_ms < point.predicted_ms


def test_shared_memory_can_be_the_level_that_limits() -> None:
    point = judge(replace(COPY, bytes=1e6, worst_bytes=1e6, shared_bytes=1e11), "H200")
    assert point.verdict.startswith("memory-bound (shared memory): 100 GB take")


def test_l2_can_be_the_level_that_limits() -> None:
    point = judge(replace(COPY, bytes=1e6, worst_bytes=1e11), "A100 SXM 80 GB")
    assert point.verdict.startswith("memory-bound (L2): 100 GB take 13.9 ms at 7.22 TB/s")


def test_units_that_a_gpu_lacks_are_an_error() -> None:
    with pytest.raises(OptionError, match="V100 SXM2: its datasheet has no rate for bf16 tensor"):
        judge(replace(COPY, operations=(("bf16 tensor", 1e9),)), "V100")


counts = st.floats(1, 1e15)
works = st.builds(
    Work,
    st.just("w"),
    st.lists(
        st.tuples(st.sampled_from(("f32", "f64")), counts), max_size=2, unique_by=lambda count: count[0]
    ).map(tuple),
    st.floats(0, 1e13), st.floats(0, 1e13), st.just("graph"), st.integers(1, 50),
    st.none() | st.integers(1, 1 << 24), st.none() | st.integers(1, 1024), st.floats(0, 1e13),
    st.none() | st.floats(32, 4096), st.none() | st.just(FULL),
)  # fmt: skip


@given(works, st.sampled_from(sorted(DATASHEETS)))
def test_nothing_is_predicted_faster_than_its_ceilings(work: Work, gpu: str) -> None:
    sheet, point = DATASHEETS[gpu], judge(work, gpu)
    least = (
        max([work.bytes / sheet.memory_tb_s, *(n / (sheet.rate(p) or 1) for p, n in work.operations)]) / 1e9
    )
    assert point.predicted_ms >= least * (1 - 1e-9)
    assert point.verdict.startswith(f"{point.bound}-bound")
    assert point.remedy
    if point.attainable is not None:
        assert point.attainable <= sheet.rate(point.pipe)


@given(works, st.sampled_from(sorted(DATASHEETS)), st.floats(1, 100))
def test_more_work_never_takes_less_time(work: Work, gpu: str, times: float) -> None:
    more = replace(
        work, bytes=work.bytes * times, operations=tuple((p, n * times) for p, n in work.operations)
    )
    assert judge(more, gpu).predicted_ms >= judge(work, gpu).predicted_ms * (1 - 1e-9)
