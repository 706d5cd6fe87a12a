"""Reductions, sorts, scatters and softmax of Tessera on this machine's GPU against PyTorch: milliseconds.

    python benchmarks/gpu_operators.py --save FOLDER       # anywhere: compiles for --arch
    python benchmarks/gpu_operators.py --packages FOLDER   # where the GPU is, with CuPy and PyTorch

Both work on the same device memory, timed by events on one stream; the median of the rounds counts. Results
are compared first, and Tessera's with those of a second run, bit for bit.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 15
Work = Callable[[], Any]

SIZES: dict[str, list[tuple[int, ...]]] = {
    "sum": [(100_000_000,)],
    "sum0": [(1_000_000, 64)],
    "softmax": [(4096, 4096)],
    "argsort": [(1_000_000,)],
    "argsort_rows": [(4096, 2000)],
    "scatter_add": [(1_000_000,), (1_000_000,), (1_000_000,)],
}
"""Shapes of the inputs, by function; the second of `scatter_add` holds positions."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--save", type=Path, metavar="FOLDER")
    arguments.add_argument("--arch", default="sm_90")
    arguments.add_argument("--packages", type=Path, metavar="FOLDER")
    chosen = arguments.parse_args()
    if chosen.save:
        save(chosen.save, chosen.arch)
    elif chosen.packages:
        compare(chosen.packages)
    else:
        arguments.error("--save FOLDER compiles, --packages FOLDER measures")


def save(folder: Path, arch: str) -> None:
    import tessera as ts
    from tessera.deploy import AOTCompiler

    functions: dict[str, Callable[..., Any]] = {
        "sum": lambda x: ts.sum(x),
        "sum0": lambda x: ts.sum(x, axis=0),
        "softmax": lambda x: ts.softmax(x, axis=1),
        "argsort": lambda x: ts.argsort(x, axis=0),
        "argsort_rows": lambda x: ts.argsort(x, axis=1),
        "scatter_add": lambda x, index, new: ts.scatter_add(x, index, new, axis=0),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, function in functions.items():
        specs = [ts.TensorSpec(s, ts.i64 if i == 1 else ts.f32) for i, s in enumerate(SIZES[name])]
        compiled = AOTCompiler(target_architectures=[arch]).compile(ts.jit(function), specs)
        compiled.save(folder / f"{name}.tsc")


def compare(folder: Path) -> None:
    import cupy
    import torch

    tensor = torch.from_dlpack
    peers: dict[str, Callable[..., Any]] = {
        "sum": lambda x: tensor(x).sum(),
        "sum0": lambda x: tensor(x).sum(0),
        "softmax": lambda x: torch.softmax(tensor(x), 1),
        "argsort": lambda x: torch.argsort(tensor(x), stable=True),
        "argsort_rows": lambda x: torch.argsort(tensor(x), dim=1, stable=True),
        "scatter_add": lambda x, i, new: tensor(x).clone().index_add_(0, tensor(i), tensor(new)),
    }
    random = cupy.random.default_rng(0)
    print(f"{'function':14}{'Tessera':>12}{'PyTorch':>12}{'difference':>12}  launches")
    for name, shapes in SIZES.items():
        inputs = [
            random.integers(0, shapes[0][0], s) if i == 1 else random.standard_normal(s, dtype=cupy.float32)
            for i, s in enumerate(shapes)
        ]
        ours, out, launches = prepared(cupy, folder / f"{name}.tsc", inputs)
        ours()
        first = out.copy()
        expected = cupy.from_dlpack(peers[name](*inputs))
        difference = float(abs(out.astype(cupy.float64) - expected.astype(cupy.float64)).max())
        ours()
        if not bool((first == out).all()):
            raise SystemExit(f"{name}: two runs differ")
        times = [timed(cupy, work) for work in (ours, lambda: peers[name](*inputs))]  # noqa: B023 - called here
        print(f"{name:14}{times[0]:9.3f} ms{times[1]:9.3f} ms{difference:12.2g}{launches:10}")


def prepared(cupy: Any, file: Path, inputs: list[Any]) -> tuple[Work, Any, int]:
    """A function that launches a package's kernels as the runtime does, its output, and how many they are."""
    from tessera.package import Package
    from tessera.program.bind import bind_symbols
    from tessera.program.dim import evaluate
    from tessera.runtime.cells import ArgumentCells
    from tessera.runtime.cuda_driver import CupyDriver
    from tessera.runtime.schedule import make_schedule

    package = Package.load(file)
    (program,) = package.programs.values()
    (plan,), (port,) = program.plans, program.outputs
    shapes = {p.name: tuple(x.shape) for p, x in zip(program.inputs, inputs, strict=True)}
    symbols = bind_symbols(program, shapes)
    schedule = make_schedule(program, plan, symbols)
    out = cupy.empty([evaluate(d, symbols) for d in port.shape], port.dtype.numpy)
    arena = cupy.empty(max(schedule.arena_bytes, 1), cupy.uint8)
    driver = CupyDriver(0)
    bases = [*(("input", name) for name in shapes), ("output", port.name), ("arena", "")]
    cells = ArgumentCells(schedule, bases, lambda _: 0, {}, driver.encode_map)
    cells.bind([x.data.ptr for x in (*inputs, out, arena)], ())
    launches = []
    for index, call in enumerate(schedule.calls):
        binary = package.binary(program.name, call.kernel, plan.targets[0], "cubin")
        assert binary is not None
        function = driver.load(bytes(binary.data), call.kernel)
        launches.append(driver.launcher(function, call, cells.address(index), cupy.cuda.Stream.null))

    def run(_kept: tuple[Any, ...] = (arena, cells)) -> None:
        for launch in launches:
            launch()

    return run, out, len(launches)


def timed(cupy: Any, work: Work) -> float:
    """Median milliseconds between two events around `work`."""
    times = []
    for round_number in range(ROUNDS + 3):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        work()
        stop.record()
        stop.synchronize()
        if round_number >= 3:
            times.append(float(cupy.cuda.get_elapsed_time(start, stop)))
    return statistics.median(times)


if __name__ == "__main__":
    main()
