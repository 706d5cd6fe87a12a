"""How fast the emulator runs kernels: lane-instructions per second of the engine, the lockstep interpreter
and Numba's simulator, in one run.

    python benchmarks/emulator.py [--no-simulator]

A lane-instruction is one PTX instruction executed by one thread; the kernels' counts per thread are those of
the PTX that Numba writes for them, weighed by how often each basic block runs. The two slow ones run a small
size and are scaled up.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, float32, types

TILE = 16


@dataclass(frozen=True)
class Case:
    """One kernel with a size for each implementation."""

    name: str
    size: int
    small: int
    simulated: int


CASES = (Case("saxpy", 1 << 22, 1 << 14, 1 << 9), Case("softmax", 2048, 8, 1), Case("matmul", 512, 32, 16))


def saxpy(a, x, y):  # type: ignore[no-untyped-def]
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]


def softmax(x, y):  # type: ignore[no-untyped-def]
    own = cuda.shared.array(128, float32)
    row, t = cuda.blockIdx.x, cuda.threadIdx.x
    total = float32(0)
    for j in range(t, x.shape[1], 128):
        total += math.exp(x[row, j])
    own[t] = total
    cuda.syncthreads()
    n = 64
    while n > 0:
        if t < n:
            own[t] += own[t + n]
        cuda.syncthreads()
        n //= 2
    for j in range(t, x.shape[1], 128):
        y[row, j] = math.exp(x[row, j]) / own[0]


def matmul(a, b, c):  # type: ignore[no-untyped-def]
    sa = cuda.shared.array((TILE, TILE), float32)
    sb = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for k in range(a.shape[1] // TILE):
        sa[ty, tx] = a[y, k * TILE + tx]
        sb[ty, tx] = b[k * TILE + ty, x]
        cuda.syncthreads()
        for i in range(TILE):
            total += sa[ty, i] * sb[i, tx]
        cuda.syncthreads()
    c[y, x] = total


def kernels() -> dict[str, tuple[Callable[..., None], tuple[Any, ...]]]:
    """The kernels with their signatures."""
    f1, f2 = types.Array(float32, 1, "C"), types.Array(float32, 2, "C")
    return {
        "saxpy": (saxpy, (float32, f1, f1)),
        "softmax": (softmax, (f2, f2)),
        "matmul": (matmul, (f2, f2, f2)),
    }


def work(name: str, n: int) -> tuple[tuple[int, ...], tuple[int, ...], list[Any]]:
    """Grid, block and arguments of a size; softmax: n rows of 1000."""
    rng = np.random.default_rng(7)
    if name == "saxpy":
        return (
            (-(-n // 256),),
            (256,),
            [np.float32(2.5), rng.random(n, np.float32), rng.random(n, np.float32)],
        )
    if name == "softmax":
        x = rng.random((n, 1000), np.float32)
        return (n,), (128,), [x, np.zeros_like(x)]
    a, b = rng.random((2, n, n), np.float32)
    return (n // TILE, n // TILE), (TILE, TILE), [a, b, np.zeros((n, n), np.float32)]


def lane_instructions(name: str, n: int, ptx: str) -> float:
    """Lane-instructions of a launch, from the PTX's own instructions per pass through each part."""
    lines = [s.strip() for s in ptx[ptx.index("{") :].split("\n")]
    count = sum(bool(re.match(r"(@!?%p\d+\s+)?[a-z][\w.]*\s.*;|ret;", s)) for s in lines)
    if name == "saxpy":
        return float(n) * count
    # In these two the loops make up nearly all of the work: their bodies by hand-counted trips.
    body = _longest_loop(lines)
    if name == "softmax":
        return float(n) * 1000 * 2 * body
    return float(n) ** 3 / TILE * body


def _longest_loop(lines: list[str]) -> int:
    """Instructions of the longest basic block that branches back to its own label."""
    best, label, count = 0, "", 0
    for line in lines:
        found = re.match(r"(\$\w+):", line)
        if found:
            label, count = found[1], 0
        elif line.endswith(";") and not line.startswith("."):
            count += 1
            if "bra" in line and label and label in line:
                best = max(best, count)
    return best


def flat(args: list[Any]) -> list[Any]:
    """Numba's parameters of arrays: pointers, sizes, shape and strides."""
    found: list[Any] = []
    for a in args:
        if isinstance(a, np.ndarray):
            found += [np.uint64(0), np.uint64(0), np.int64(a.size), np.int64(a.itemsize), a]
            found += [np.int64(v) for v in (*a.shape, *a.strides)]
        else:
            found.append(a)
    return found


def best_of(function: Callable[[], Any], times: int) -> float:
    """The shortest of a few runs, in seconds."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def simulate() -> None:
    """Seconds of each kernel under Numba's simulator; run in a process of its own."""
    table = kernels()
    for case in CASES:
        grid, block, args = work(case.name, case.simulated)
        kernel = cuda.jit(table[case.name][0])
        print(case.name, best_of(lambda k=kernel, g=grid, b=block, a=args: k[g, b](*a), 1))


def simulated_seconds() -> dict[str, float]:
    """What `simulate` measures."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--simulate"], env=environment, capture_output=True, text=True, check=True
    )
    return {name: float(s) for name, s in (line.split() for line in done.stdout.splitlines())}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulate", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-simulator", action="store_true", help="leave Numba's simulator out")
    options = parser.parse_args()
    if options.simulate:
        simulate()
        return
    slow = {} if options.no_simulator else simulated_seconds()
    os.environ["TESSERA_CACHE"] = "off"
    print(f"{'kernel':8} {'first result':>13} {'engine':>9} {'lane-instr/s':>13} {'over lockstep':>14} "
          f"{'over simulator':>15} {'counting':>9}")  # fmt: skip
    for case in CASES:
        measure(case, slow)
    print(f"\n{'kernel':8} {'size':>10} {'engine':>12} {'with checks':>12} {'ratio':>9} {'findings':>9}")
    for name, n in CHECKED:
        measure_checks(name, n)


CHECKED = (("saxpy", 10_000_000), ("softmax", 1024), ("matmul", 512))
"""Kernels and sizes that are run with and without the sanitizer's checks."""
ROUNDS = 9


def measure_checks(name: str, n: int) -> None:
    """Print how much slower a launch is with checks: medians of rounds in turn, arrays in device memory."""
    from numba.cuda import compile as compile_kernel

    from tessera.emulator import Emulator, Sanitizer
    from tessera.emulator.checked_engine import CheckedEmulator

    fn, signature = kernels()[name]
    ptx, _ = compile_kernel(fn, signature, device=False, abi="numba", cc=(8, 0))
    grid, block, args = work(name, n)
    sanitizer = Sanitizer()
    runs = []
    for emulator in (Emulator(level=2), CheckedEmulator(sanitizer, level=2, few_blocks=0)):
        module = emulator.load(ptx)
        places = []
        for value in flat(args):
            if isinstance(value, np.ndarray):
                address = emulator.alloc(value.nbytes)
                emulator.write(address, value)
                places.append(np.uint64(address))
            else:
                places.append(value)
        runs.append(lambda e=emulator, m=module, p=places: e.launch(m, m.entries[0], grid, block, p))
        runs[-1]()
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for run, found in zip(runs, seconds, strict=True):
            found.append(best_of(run, 1))
    plain, checked = (statistics.median(s) for s in seconds)
    print(f"{name:8} {n:>10,} {plain * 1e3:9.1f} ms {checked * 1e3:9.1f} ms {checked / plain:7.1f} × "
          f"{len(sanitizer.findings):>9}")  # fmt: skip


def measure(case: Case, slow: dict[str, float]) -> None:
    """Print one row."""
    from numba.cuda import compile as compile_kernel

    from tessera.emulator import Emulator
    from tessera.emulator.lockstep import launch

    fn, signature = kernels()[case.name]
    ptx, _ = compile_kernel(fn, signature, device=False, abi="numba", cc=(8, 0))
    small, large = work(case.name, case.small), work(case.name, case.size)
    start = time.perf_counter()
    emulator = Emulator()
    module = emulator.load(ptx)
    entry = module.entries[0]

    def run(size: Any) -> None:
        emulator.launch(module, entry, *size[:2], flat(size[2]))

    run(small)
    first = time.perf_counter() - start
    lockstep = best_of(lambda: launch(ptx, entry, *small[:2], flat(small[2])), 1)
    emulator.improve(module.kernels[entry])
    better = module.kernels[entry].better
    if better is not None:
        better.result()
    seconds = best_of(lambda: run(large), 7)
    scale = scaled(case.name, case.size)
    lockstep *= scale / scaled(case.name, case.small)
    rate = lane_instructions(case.name, case.size, ptx) / seconds
    simulator = "N/A"
    if case.name in slow:
        simulator = f"{slow[case.name] * scale / scaled(case.name, case.simulated) / seconds:,.0f} ×"
    ratio = counting(ptx, case) / seconds
    print(f"{case.name:8} {first:11.2f} s {seconds * 1e3:6.1f} ms {rate / 1e9:11.2f} G "
          f"{lockstep / seconds:12,.0f} × {simulator:>15} {ratio:7.2f} ×")  # fmt: skip


def counting(ptx: str, case: Case) -> float:
    """Seconds of the engine when it counts what the kernel does."""
    from tessera.emulator import Emulator

    emulator = Emulator(count=True, level=2)
    module = emulator.load(ptx)
    grid, block, args = work(case.name, case.size)
    return best_of(lambda: emulator.launch(module, module.entries[0], grid, block, flat(args)), 7)


def scaled(name: str, n: int) -> float:
    """Work of a size, in units of its own."""
    return float(n) ** 3 if name == "matmul" else float(n)


if __name__ == "__main__":
    main()
