"""Where it is written what rules look for."""

from __future__ import annotations

from tessera.profiler.rules.rule import Source

_BEST = "https://docs.nvidia.com/cuda/cuda-c-best-practices-guide/index.html#"
_PROGRAMMING = "https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#"
_PROFILING = "https://docs.nvidia.com/nsight-compute/ProfilingGuide/index.html#"
_BLOG = "https://developer.nvidia.com/blog/"


def _best(section: str, anchor: str) -> Source:
    return Source("CUDA C++ Best Practices Guide", section, _BEST + anchor)


def _programming(section: str, anchor: str) -> Source:
    return Source("CUDA C++ Programming Guide", section, _PROGRAMMING + anchor)


def _profiling(section: str, anchor: str) -> Source:
    return Source("Nsight Compute, Kernel Profiling Guide", section, _PROFILING + anchor)


STRIDES = _best("Strided Accesses", "strided-accesses")
MISALIGNED = _best("A Sequential but Misaligned Access Pattern", "a-sequential-but-misaligned-access-pattern")
BANKS = _best("Shared Memory and Memory Banks", "shared-memory-and-memory-banks")
TILING = _best("Shared Memory in Matrix Multiplication (C=AB)", "shared-memory-in-matrix-multiplication-c-ab")
ASYNC_COPY = _best(
    "Asynchronous Copy from Global Memory to Shared Memory",
    "asynchronous-copy-from-global-memory-to-shared-memory",
)
LOCAL = _best("Local Memory", "local-memory")
REGISTERS = _best("Register Pressure", "register-pressure")
OCCUPANCY = _best("Occupancy", "occupancy")
BLOCKS = _best("Thread and Block Heuristics", "thread-and-block-heuristics")
SHARED_BYTES = _best("Effects of Shared Memory", "effects-of-shared-memory")
DIVISION = _best("Division Modulo Operations", "division-modulo-operations")
DOUBLES = _best("Other Arithmetic Instructions", "other-arithmetic-instructions")
MATH = _best("Math Libraries", "math-libraries")
BRANCHES = _best("Branching and Divergence", "branching-and-divergence")
BARRIERS = _programming("Synchronization Instruction", "synchronization-instruction")
DEVICE_MEMORY = _programming("Device Memory Accesses", "device-memory-accesses")
ATOMICS = _programming("Atomic Functions", "atomic-functions")
TENSOR = _programming("Warp Matrix Functions", "warp-matrix-functions")
LAUNCH = _profiling("Launch Statistics: launch__waves_per_multiprocessor", "metrics-reference")
VECTORS = Source(
    "CUDA Pro Tip", "Increase Performance with Vectorized Memory Access",
    _BLOG + "cuda-pro-tip-increase-performance-with-vectorized-memory-access/",
)  # fmt: skip
GRID_STRIDE = Source(
    "CUDA Pro Tip", "Write Flexible Kernels with Grid-Stride Loops",
    _BLOG + "cuda-pro-tip-write-flexible-kernels-grid-stride-loops/",
)  # fmt: skip
REDUCTIONS = Source(
    "CUDA Pro Tip", "Faster Parallel Reductions on Kepler",
    _BLOG + "faster-parallel-reductions-kepler/",
)  # fmt: skip
AGGREGATION = Source(
    "CUDA Pro Tip", "Optimized Filtering with Warp-Aggregated Atomics",
    _BLOG + "cuda-pro-tip-optimized-filtering-warp-aggregated-atomics/",
)  # fmt: skip
HISTOGRAMS = Source(
    "GPU Pro Tip", "Fast Histograms Using Shared Atomics on Maxwell",
    _BLOG + "gpu-pro-tip-fast-histograms-using-shared-atomics-maxwell/",
)  # fmt: skip
