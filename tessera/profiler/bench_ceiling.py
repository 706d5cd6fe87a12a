"""The roofline that a benchmark stands under: of this CPU measured here, of a GPU by its datasheet."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.profiler.bench_result import Peaks
from tessera.profiler.check_machine import cpu_model
from tessera.program.errors import OptionError

if TYPE_CHECKING:
    from tessera.program.program import Program

_STREAM_BYTES = 48 << 20
"""Of three arrays together, for each thread: several times what the caches hold of it."""
_MATRICES = (256, 512, 1024)
"""Rows of the matrices that all threads multiply together."""
_SMALL = 80
"""Rows of matrices that BLAS multiplies on one thread, in microseconds: before another process comes in."""
_CPUS = Path("/sys/devices/system/cpu")
_SECONDS = 0.25
"""To measure each of the two for."""


def ceiling_of(program: Program, device: str, hardware: str) -> Peaks | None:
    """The roofline for a program on a device; None where nothing is known of it."""
    precision = _precision(program)
    if device.startswith("cuda"):
        return gpu_ceiling(hardware.partition(", compute capability")[0], precision)
    if device == "cpu":
        return cpu_ceiling("f64" if precision == "f64" else "f32")
    return None


def gpu_ceiling(hardware: str, precision: str) -> Peaks | None:
    """What the datasheet of a GPU says; None for models that have none here.

    Args:
        hardware: The driver's name of it, such as `NVIDIA H200`.
        precision: Type of the operands; of half precision the rate of tensor cores, else that of the
            ordinary units. A type of no rate of its own has that of `f32`.
    """
    from tessera.profiler.datasheets import find_datasheet

    try:
        sheet = find_datasheet(hardware)
    except OptionError:
        return None
    pipes = {"f64": "f64", "bf16": "bf16 tensor", "f16": "f16 tensor"}
    rate = sheet.rate(pipes.get(precision, "f32"))
    return Peaks(
        device=sheet.name,
        origin="datasheet",
        gb_per_s=sheet.memory_tb_s * 1e3,
        gflop_per_s=(rate or sheet.f32_tflops) * 1e3,
        precision=precision if rate is not None and precision in pipes else "f32",
        how="NVIDIA's datasheet, dense",
    )


@functools.cache
def cpu_ceiling(precision: str) -> Peaks:
    """Bandwidth and arithmetic of this machine, measured once a process in about half a second.

    Bandwidth: `c = a + b` over arrays larger than the caches, a thread for each processor; three arrays
    count, though most processors read `c` before they write it. Arithmetic: NumPy's BLAS on square matrices
    of several sizes, small ones on one thread, times the cores; the fastest counts.
    """
    threads = _processors()
    return Peaks(
        device=cpu_model(),
        origin="measured",
        gb_per_s=_bandwidth(threads) / 1e9,
        gflop_per_s=_arithmetic(precision) / 1e9,
        precision=precision,
        how=f"sum of arrays in main memory on {threads} threads; products of matrices in NumPy's BLAS on all "
        f"threads, or on one, times {_cores()} cores",
    )


def _precision(program: Program) -> str:
    """The widest float of the program's outputs, or `f32`."""
    names = [port.dtype.name for port in (*program.inputs, *program.outputs) if port.dtype.is_float]
    order = ("f64", "f32", "tf32", "f16", "bf16")
    return next((name for name in order if name in names), "f32")


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _cores() -> int:
    """Cores of this process's processors: two threads of one core share its arithmetic."""
    try:
        cores = {
            (_CPUS / f"cpu{number}/topology/thread_siblings_list").read_text()
            for number in os.sched_getaffinity(0)
        }
    except (OSError, AttributeError):
        return _processors()
    return len(cores)


def _bandwidth(threads: int) -> float:
    """Bytes a second."""
    import numpy as np

    count = _STREAM_BYTES // 3 // 4
    arrays = [[np.full(count, k, np.float32) for k in range(3)] for _ in range(threads)]

    def add(a: Any, b: Any, c: Any) -> None:
        np.add(a, b, out=c)

    def call() -> None:
        workers = [threading.Thread(target=add, args=three) for three in arrays]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return threads * 3 * count * 4 / _best(call)


def _arithmetic(precision: str) -> float:
    """Floating-point operations a second."""
    import numpy as np

    rng = np.random.default_rng(0)
    dtype = np.float64 if precision == "f64" else np.float32

    def rate(size: int) -> float:
        a, b = rng.standard_normal((2, size, size)).astype(dtype)
        out = np.empty_like(a)
        return 2 * size**3 / _best(partial(np.matmul, a, b, out=out), _SECONDS / (len(_MATRICES) + 1))

    return max(*map(rate, _MATRICES), rate(_SMALL) * _cores())


def _best(call: Callable[[], object], seconds: float = _SECONDS) -> float:
    """Seconds of the fastest call: a ceiling is what can be reached, not what usually is."""
    clock, best = time.perf_counter, float("inf")
    end = clock() + seconds
    count = 0
    while count < 3 or clock() < end:
        start = clock()
        call()
        best = min(best, clock() - start)
        count += 1
    return best
