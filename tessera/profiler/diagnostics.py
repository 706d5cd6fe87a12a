"""The guide's `Diagnostics`: questions about a machine and a package, answered yes or no, with reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.profiler.check_machine import MINIMUM_CAPABILITY, MINIMUM_DRIVER_CUDA, available_memory
from tessera.profiler.gpu import GpuState, read_gpus
from tessera.program.dim import evaluate
from tessera.program.errors import ConfigError

if TYPE_CHECKING:
    from tessera.package import Package
    from tessera.profiler.bench_result import BatchResult, BenchResult
    from tessera.program.program import Program

DEFAULT_TARGET_LATENCY_MS = 10.0
"""Where neither the caller nor the package's `config/runtime_config.json` states a target."""
MAX_BATCH = 32
"""Batch size that memory is reckoned for: the runtime's own `max_batch_size`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A yes or no (as a bool) that says why."""

    ok: bool
    detail: str
    """What was found, measured against what is needed."""
    fix: str | None = None
    """What to do about a no."""

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """Memory that is free and memory that a package needs, in GB of 2**30 bytes."""

    available: float
    required: float
    """0 where no package was named."""
    device: str
    """Where it was looked: `cuda:0`, or `cpu` (the machine's own memory) without a GPU."""


@dataclass(frozen=True, slots=True)
class Performance:
    """How fast a package answers on this machine."""

    latency: float
    """Measured median of one execution at batch size 1, milliseconds."""
    target_latency: float
    """What it should be, milliseconds."""
    recommendations: tuple[str, ...]
    """What to try, the most promising first."""
    device: str
    """Where it was measured."""
    result: BenchResult
    """Every measured figure."""


class Diagnostics:
    """Questions about this machine and a package. Every answer is measured now; nothing is kept.

    Without a GPU the two questions about CUDA answer no, with a reason: nothing
    here can run a cubin. Memory and performance are then those of the CPU, and say so.

    Args:
        package: A package that `check_memory` reckons with. `verify_package` sets it, too.
    """

    def __init__(self, package: str | Path | Package | None = None) -> None:
        self._package = package

    def check_cuda_version(self, required: str = ".".join(map(str, MINIMUM_DRIVER_CUDA))) -> Verdict:
        """Whether the driver takes programs of CUDA `required`, such as `11.8`."""
        needed = _version(required)
        state = read_gpus()
        if state.cuda_version is None:
            detail = f"CUDA N/A: {_why_no_gpu(state)}; needs {required}"
            return Verdict(ok=False, detail=detail, fix=state.fix)
        found = ".".join(map(str, state.cuda_version))
        fix = None if state.cuda_version >= needed else "update the NVIDIA driver"
        return Verdict(state.cuda_version >= needed, f"CUDA {found}; needs {required}", fix)

    def check_gpu_capability(self, required: str = ".".join(map(str, MINIMUM_CAPABILITY))) -> Verdict:
        """Whether some GPU here has compute capability `required`, such as `7.0`, or more."""
        needed = _version(required)
        state = read_gpus()
        best = max((gpu.capability for gpu in state.gpus if gpu.capability), default=None)
        if best is None:
            detail = f"compute capability N/A: {_why_no_gpu(state)}; needs {required}"
            return Verdict(ok=False, detail=detail, fix=state.fix)
        fix = None if best >= needed else f"use a GPU of compute capability {required} or more"
        return Verdict(best >= needed, f"compute capability {best[0]}.{best[1]}; needs {required}", fix)

    def verify_package(self, path: str | Path) -> Verdict:
        """Whether the package loads and every byte in it is what its manifest says."""
        from tessera.profiler.check_package import check_package

        for check in check_package(path, gpus=GpuState(reason="not asked")):
            if check.name == "package integrity" and check.status == "ok":
                self._package = path
                return Verdict(ok=True, detail=check.detail)
            if check.status == "failure":
                return Verdict(ok=False, detail=check.detail, fix=check.fix)
        raise AssertionError("a package is whole or damaged")

    def check_memory(self, package: str | Path | Package | None = None) -> MemoryStatus:
        """Free memory of the first GPU (without one: of this machine), and what a package needs.

        Args:
            package: Which; None: the one that was verified last. Without any, `required` is 0.

        Raises:
            PackageError: `package` is no package.
        """
        package = package if package is not None else self._package
        required = 0 if package is None else package_bytes(package)
        gpus = read_gpus().gpus
        if gpus and gpus[0].memory_free_bytes is not None:
            return MemoryStatus(gpus[0].memory_free_bytes / 2**30, required / 2**30, "cuda:0")
        available, _ = available_memory()
        return MemoryStatus((available or 0) / 2**30, required / 2**30, "cpu")

    def benchmark_model(
        self,
        path: str | Path,
        *,
        target_latency_ms: float | None = None,
        device: str | None = None,
        seconds: float = 0.5,
    ) -> Performance:
        """Measure one execution at batch size 1, and at 32 for comparison.

        Args:
            path: The package.
            target_latency_ms: What a call should take; None: `target_latency_ms` of the package's
                runtime configuration, else 10 ms.
            device: None: the first GPU, or the CPU without one.
            seconds: Time to measure for, for each batch size.

        Raises:
            PackageError: `path` is no package.
            DeviceError: No device runs it.
        """
        from tessera.profiler.bench import bench_target
        from tessera.runtime import DeploymentPackage

        package = DeploymentPackage.load(path)
        if device is None:
            device = "cuda:0" if read_gpus().gpus else "cpu"
        target = target_latency_ms if target_latency_ms is not None else _stated_target(package)
        result = bench_target(package, device=device, batch_sizes=(1, MAX_BATCH), seconds=seconds)
        first = result.batches[0]
        return Performance(
            latency=first.timing.median_ms,
            target_latency=target,
            recommendations=tuple(recommendations(result, target)),
            device=result.device,
            result=result,
        )


def package_bytes(package: str | Path | Package) -> int:
    """Memory that running a package takes at batch size 32: weights, and inputs, outputs and
    temporary tensors of its largest program.

    Raises:
        PackageError: `package` is no package.
    """
    from tessera.package import Package

    opened = package if isinstance(package, Package) else Package.load(package)
    weights = sum(row.nbytes for row in opened.weights)
    return weights + max((_working_bytes(p) for p in opened.programs.values()), default=0)


def _working_bytes(program: Program) -> int:
    from tessera.profiler.cost import program_cost
    from tessera.profiler.sizes import choose_sizes

    sizes, _ = choose_sizes(program, batch=MAX_BATCH, given={})
    cost = program_cost(program, sizes)
    arenas = (evaluate(plan.arena_bytes, sizes) + plan.persistent_bytes for plan in program.plans)
    return cost.input_bytes + cost.output_bytes + max(arenas, default=0)


def recommendations(result: BenchResult, target_latency_ms: float) -> list[str]:
    """What the measured figures suggest; empty where the target is met and batching gains nothing."""
    first = result.batches[0]
    found = [text for advise in _ADVICE if (text := advise(result, first, target_latency_ms)) is not None]
    return [*found, *(note for note in result.notes if note.startswith("Measured on"))]


def _advise_device(result: BenchResult, first: BatchResult, target_ms: float) -> str | None:
    if first.timing.median_ms <= target_ms or result.device.startswith("cuda"):
        return None
    return (
        f"{first.timing.median_ms:.3g} ms on {result.device} is over {target_ms:.3g} ms: "
        "run it on a GPU (device='cuda:0'), or raise target_latency_ms"
    )


def _advise_step(result: BenchResult, first: BatchResult, target_ms: float) -> str | None:
    del result
    total = sum(step.median_ms for step in first.steps)
    slowest = max(first.steps, key=lambda step: step.median_ms, default=None)
    if slowest is None or first.timing.median_ms <= target_ms or slowest.median_ms < 0.4 * total:
        return None
    share = 100 * slowest.median_ms / total
    return f"step {slowest.index} ({slowest.name}) takes {share:.0f} % of the time: start there"


def _advise_overhead(result: BenchResult, first: BatchResult, target_ms: float) -> str | None:
    del result
    total = sum(step.median_ms for step in first.steps)
    outside = first.timing.median_ms - total
    if not total or first.timing.median_ms <= target_ms or outside < 0.5 * first.timing.median_ms:
        return None
    return f"{outside:.3g} ms of {first.timing.median_ms:.3g} ms pass outside the steps: send larger batches"


def _advise_batch(result: BenchResult, first: BatchResult, target_ms: float) -> str | None:
    best = max(result.batches, key=lambda row: row.per_second)
    gain = best.per_second / first.per_second
    if best is first or gain < 1.5:
        return None
    fits = "" if best.timing.median_ms <= target_ms else ", but over the target latency"
    return (
        f"batches of {best.batch} answer {gain:.1f} times as many items per second "
        f"({best.timing.median_ms:.3g} ms a batch{fits})"
    )


def _advise_jitter(result: BenchResult, first: BatchResult, target_ms: float) -> str | None:
    del result, target_ms
    timing = first.timing
    if timing.p95_ms < 2 * timing.median_ms:
        return None
    return (
        f"the slowest twentieth takes {timing.p95_ms:.3g} ms, {timing.p95_ms / timing.median_ms:.1f} times "
        "the median: other work shares this machine"
    )


_Advice = Callable[["BenchResult", "BatchResult", float], str | None]
_ADVICE: tuple[_Advice, ...] = (_advise_device, _advise_step, _advise_overhead, _advise_batch, _advise_jitter)
"""Each looks at one thing and answers with a sentence, or None."""


def _stated_target(package: Package) -> float:
    stated = package.runtime_config.get("target_latency_ms")
    if isinstance(stated, (int, float)) and not isinstance(stated, bool) and stated > 0:
        return float(stated)
    return DEFAULT_TARGET_LATENCY_MS


def _version(text: str) -> tuple[int, int]:
    try:
        major, _, minor = text.lstrip(">= ").partition(".")
        return int(major), int(minor or 0)
    except ValueError:
        raise ConfigError(f"{text!r} is not a version", hint="write it like '11.8'") from None


def _why_no_gpu(state: GpuState) -> str:
    return state.reason or "the driver sees no GPU"
