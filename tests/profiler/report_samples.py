"""Reports and results that several tests show."""

from __future__ import annotations

import dataclasses

from tessera.profiler.bench_result import BatchResult, BenchResult
from tessera.profiler.check import Check
from tessera.profiler.report_data import (
    Bars,
    BufferLife,
    Fact,
    Facts,
    Heatmap,
    KernelRow,
    LaunchPlan,
    LaunchRow,
    MemoryPlan,
    PackageEntry,
    ReportData,
    StageTime,
    Table,
    Text,
)
from tessera.profiler.report_runs import (
    AssemblyRow,
    ExecutionTrace,
    RecordedRun,
    RecordedSeries,
    SourceLine,
    SourceListing,
    TraceSpan,
    TunedSweep,
    TunedTrial,
)
from tessera.profiler.roof import RooflineChart, RooflinePoint, roofline_chart
from tessera.profiler.timing import Timing


def timing(name: str, median_ms: float) -> Timing:
    return Timing(
        name,
        400,
        median_ms,
        median_ms * 0.9,
        median_ms * 1.3,
        median_ms * 0.98,
        median_ms * 1.02,
        median_ms * 0.88,
    )


def bench(target: str = "digits.tsd") -> BenchResult:
    batches = tuple(
        BatchResult(
            batch=batch,
            sizes={"batch": batch},
            timing=timing("tessera", 0.05 + 0.004 * batch),
            baseline=timing("NumPy reference", 0.11 + 0.02 * batch),
            device_timing=None,
            per_second=batch / (0.05 + 0.004 * batch) * 1e3,
            bytes=40_000 + 300 * batch,
            flops=34_000 * batch,
            max_difference=3.1e-3,
        )
        for batch in (1, 8, 32, 128)
    )
    notes = ("No GPU here: measured on the cpu device.",)
    return BenchResult(target, "digits", "cpu", "Example CPU @ 2.4 GHz", batches, notes=notes)


def kernels(
    names: tuple[str, ...] = ("linear_relu_0", "linear_relu_1", "linear_softmax_2"),
) -> tuple[KernelRow, ...]:
    rows = []
    for i, name in enumerate(names):
        for j, target in enumerate(("sm_70", "sm_80", "sm_90")):
            spill = 48 if (i, j) == (1, 0) else 0
            rows.append(
                KernelRow(
                    program="digits",
                    kernel=name,
                    target=target,
                    registers=32 + 24 * i + 6 * j,
                    spill_bytes=spill,
                    shared_bytes=4096 * i,
                    threads=256,
                    occupancy=(1.0, 0.625, 0.5)[i] - 0.125 * (j == 0),
                    limiter="registers" if i else "warps",
                    binary_bytes=7_000 + 512 * (i + j),
                    cached=j == 1,
                )
            )
    cpu = [KernelRow("digits", name, "cpu-x86_64-v3", binary_bytes=21_344) for name in names]
    return (*rows, *cpu)


def full_report(name: str = "digits") -> ReportData:
    """A report with something in every section."""
    confusion = tuple(
        tuple(float(36 if i == j else (i + 2 * j) % 11 == 0) for j in range(10)) for i in range(10)
    )
    digits = tuple(str(i) for i in range(10))
    entries = (
        PackageEntry("manifest.json", 4_812),
        PackageEntry(f"programs/{name}.json", 9_321, "a1" * 32),
        PackageEntry("kernels/sm_70/linear_relu_0.cubin", 7_424, "b2" * 32),
        PackageEntry("kernels/sm_90/linear_relu_0.cubin", 8_192, "c3" * 32),
        PackageEntry("kernels/cpu-x86_64-v3/digits.so", 21_344, "d4" * 32),
        PackageEntry("weights/layer0.weight.bin", 65_536, "e5" * 32),
        PackageEntry("weights/layer1.weight.bin", 32_768, "f6" * 32),
        PackageEntry("config/model_config.json", 310, "07" * 32),
    )
    memory = MemoryPlan(
        program=name,
        target="cpu-x86_64-v3",
        sizes={"batch": 32},
        steps=("cast_0", "gemm", "bias_relu", "gemm", "bias_relu", "gemm", "softmax"),
        arena_bytes=40_960,
        buffers=(
            BufferLife("x_f32", 0, 8_192, 0, 1),
            BufferLife("h0", 8_192, 16_384, 1, 2),
            BufferLife("a0", 24_576, 16_384, 2, 3),
            BufferLife("h1", 0, 8_192, 3, 4),
            BufferLife("a1", 8_192, 8_192, 4, 5),
            BufferLife("logits", 0, 1_280, 5, 6),
        ),
        persistent_bytes=131_072,
    )
    launches = LaunchPlan(
        name,
        ("sm_80", "sm_90"),
        (
            LaunchRow(
                "0",
                "kernel",
                "linear_relu_0",
                "(cdiv(batch, 16), 8, 1)",
                "(256, 1, 1)",
                "4096",
                "x, layer0.weight, layer0.bias, h0, batch",
            ),
            LaunchRow(
                "1a",
                "kernel",
                "linear_relu_1_small",
                "(batch, 1, 1)",
                "(128, 1, 1)",
                "0",
                "h0, layer1.weight, out, batch",
                "batch <= 8",
            ),
            LaunchRow(
                "1b",
                "kernel",
                "linear_relu_1",
                "(cdiv(batch, 16), 4, 1)",
                "(256, 1, 1)",
                "8192",
                "h0, layer1.weight, out, batch",
            ),
        ),
    )
    return ReportData(
        title=f"{name} on real digits",
        subtitle="A small classifier: written in Python, compiled without a GPU, packaged, served, answered.",
        kernels=kernels(),
        stages=(
            StageTime("compile sm_70", 1.92, "3 kernels, 0 cached"),
            StageTime("compile sm_80", 0.61, "3 kernels, 3 cached"),
            StageTime("compile cpu", 2.4, "1 library"),
            StageTime("package", 0.04),
            StageTime("verify", 0.011),
            StageTime("serve 360 images", 0.82),
        ),
        package=f"{name} 0.1.0",
        entries=entries,
        memory=(memory,),
        launches=(launches,),
        benchmarks=(bench(),),
        sections={
            "Accuracy": (
                Facts(
                    (
                        Fact("accuracy", "97.2 %", "measured", "350 of 360 held-out images"),
                        Fact("equal to the reference", "360 of 360", "measured", "predictions over HTTP"),
                    )
                ),
                Heatmap("Confusion matrix", "predicted", "true digit", digits, digits, confusion, "measured"),
                Bars(
                    "Requests by batch size",
                    "requests",
                    ("1", "2–8", "9–32"),
                    (12.0, 88.0, 260.0),
                    "measured",
                ),
                Table(
                    "Served",
                    ("route", "status", "count", "p95 ms"),
                    (("/predict", 200, 360, 2.43), ("/ready", 200, 4, None)),
                    "measured",
                ),
                Text("The digits are the 8 × 8 images of scikit-learn."),
            )
        },
        checks=(
            Check("Python", "ok", "3.12.4 (needs 3.11 or newer)"),
            Check("GPU driver", "not applicable", "N/A: no NVIDIA driver on this machine"),
            Check(
                "numba",
                "warning",
                "0.71 is outside >=0.65,<0.70, which Tessera is tested with",
                "pip install 'tessera[compile]'",
            ),
            Check(
                "compile cache",
                "failure",
                "/root/.cache/tessera cannot be written",
                "set TESSERA_CACHE_DIR to a folder that you may write",
            ),
        ),
        environment={
            "tessera": "0.1.0",
            "Python": "3.12.4",
            "platform": "Linux x86_64",
            "CPU": "Example CPU @ 2.4 GHz, 8 cores",
        },
        notes=("Measured on this machine; your numbers will differ.",),
    )


STORE = "st.global.f32 [%rd9], %f4;"


def listing(
    kernel: str = "saxpy", text: str = "    y[i] = a * x[i] + y[i]", last: str = STORE
) -> SourceListing:
    """A kernel of five lines; the third is hot, the fourth has none of its own."""
    lines = (
        SourceLine(10, "def saxpy(a, x, y):", ("2.0 %", "", ""), 0.02),
        SourceLine(11, "    i = cuda.grid(1)", ("18.0 %", "", ""), 0.18, ptx=rows(3), sass=rows(2, step=16)),
        SourceLine(
            12,
            text,
            ("80.0 %", "8 / 4", "131,072"),
            0.8,
            advice=("x[i] loads 8 sectors per request, ideal 4: let neighbours take neighbours",),
            ptx=(
                *rows(6),
                AssemblyRow(99, last, 2048),
            ),
            sass=rows(9, step=16),
        ),
        SourceLine(30, "    return", ("", "", "")),
    )
    return SourceListing(
        program="saxpy",
        kernel=kernel,
        file="kernels.py",
        columns=(("instructions", "of the kernel's"), ("sectors", "and the ideal"), ("FLOP", "operations")),
        lines=lines,
        device="emulator, sm_90 ptx",
        sizes={"n": 65_536},
        ptx_target="sm_90",
        sass_target="sm_90",
    )


def rows(count: int, step: int = 1) -> tuple[AssemblyRow, ...]:
    return tuple(AssemblyRow(40 + i * step, f"add.s64 %rd{i}, %rd{i + 1}, 4;", 2048) for i in range(count))


def sweep(kernel: str = "transpose", configurations: int = 24, *, numbered: bool = True) -> TunedSweep:
    """Costs that fall and rise with the tile; every seventh configuration was pruned."""
    trials = []
    for i in range(configurations):
        tile, rows_, unroll = 8 << (i % 3), 1 << (i // 3 % 4), 1 + i // 12
        pruned = i % 7 == 6
        cost = 0.01 + 0.002 * ((i * 37) % 101) / 101 + 0.001 * unroll
        trials.append(
            TunedTrial(
                {"TILE": tile, "ROWS": rows_, "UNROLL": unroll},
                "pruned" if pruned else "ok",
                None if pruned else cost,
                i + 1 if numbered else None,
                "no block fits a multiprocessor" if pruned else "",
                32 + i % 9,
                0,
                0.75,
            )
        )
    return TunedSweep(kernel, "sm_90", "H100 SXM", "cost model 1", "predicted", {"rows": 256}, tuple(trials))


def recorded(gpus: int = 2, seconds: int = 60) -> RecordedRun:
    names = tuple(f"{i} Example GPU" for i in range(gpus))
    series = tuple(
        RecordedSeries(
            name,
            figure,
            unit,
            tuple(float(t) for t in range(seconds)),
            tuple(None if t == 7 else float((t * 7 + g * 13) % 100) for t in range(seconds)),
            0.0,
            48.5,
            99.0,
        )
        for figure, unit in (("utilization", "%"), ("power", "W"))
        for g, name in enumerate(names)
    )
    return RecordedRun(
        label="recorded on Example GPU",
        driver="580.1",
        gpus=names,
        duration_s=float(seconds),
        samples=seconds * 10,
        interval_s=0.1,
        series=series,
        marks=((3.0, "warm-up"), (20.0, "steady")),
        throttling=((names[0], "power cap", 0.25),),
        notes=("N/A, as the GPUs did not report it: NVLink sent.",),
    )


def trace(name: str = "linear_0") -> ExecutionTrace:
    return ExecutionTrace(
        program="digits",
        device="cpu, Example CPU",
        origin="measured",
        unit="ms",
        spans=(
            TraceSpan("upload x", 0.0, 0.02, "host", "upload, 8 KiB"),
            TraceSpan(name, 0.02, 0.4, "host", "kernel, step 0"),
            TraceSpan("linear_1", 0.43, 0.2, "host", "kernel, step 1"),
        ),
        notes=("Execution 5 of those measured.",),
    )


def roof(name: str = "linear_0") -> RooflineChart:
    point = RooflinePoint(
        name=name,
        pipe="f32",
        operations=2e9,
        bytes=1e8,
        worst_bytes=3e8,
        attainable=40.0,
        predicted_ms=0.05,
        bound="memory",
        verdict="memory-bound: 100 MB take 30 µs",
        remedy="move less",
        origin="emulated, PTX level",
        measured_ms=0.09,
    )
    return roofline_chart("H100 SXM", (point,))


def everything(name: str = "digits", kernel: str = "linear_0") -> ReportData:
    """A report with every section."""
    return dataclasses.replace(
        full_report(name),
        rooflines=(roof(kernel),),
        sweeps=(sweep(kernel),),
        sources=(listing(kernel) if kernel == "linear_0" else listing(kernel, kernel, kernel),),
        traces=(trace(kernel),),
        recordings=(recorded(),),
    )
