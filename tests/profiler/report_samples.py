"""Reports and results that several tests show."""

from __future__ import annotations

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
