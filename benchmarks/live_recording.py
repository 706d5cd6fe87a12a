"""The recording that `tessera top --replay demo` plays: a GPU idle, copying, multiplying, streaming.

    python benchmarks/live_recording.py --save packages/
    python benchmarks/live_recording.py --packages packages/ -o h200.tslive

The first step compiles and needs no GPU; the second needs one, CuPy, nvidia-ml-py and no compiler.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

SIDE = 8192
"""Of the matrices, bf16."""
LENGTH = 1 << 29
"""Elements of the arrays that are streamed, f32: 2 GiB each."""
PHASES = (("idle", 2.0), ("copy", 2.5), ("matmul", 6.0), ("idle", 2.0), ("stream", 5.0), ("idle", 2.0))
AHEAD = 16
"""Launches between two waits: enough to keep the GPU busy, few enough to end a phase in time."""


def main() -> None:
    parser = argparse.ArgumentParser(description="record the demo")
    parser.add_argument("--save", metavar="DIR", type=Path, help="compile only")
    parser.add_argument("--packages", metavar="DIR", type=Path)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path)
    options = parser.parse_args()
    if options.save:
        save(options.save)
    elif options.packages and options.output:
        record(options.packages, options.output)
    else:
        parser.error("--save DIR, or --packages DIR and -o FILE")


def save(folder: Path) -> None:
    """Compile both programs for Hopper."""
    import tessera as ts
    from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget

    compiler = AOTCompiler(AOTConfig(targets=[CompilationTarget("sm_90", enable_hopper_features=True)]))
    matrices = [ts.TensorSpec((SIDE, SIDE), "bf16")] * 2
    arrays = [ts.TensorSpec((LENGTH,), "f32")] * 2
    folder.mkdir(parents=True, exist_ok=True)
    product = ts.jit(lambda x, w: ts.matmul(x, w), name="product")
    triad = ts.jit(lambda x, y: x * 0.5 + y, name="triad")
    compiler.compile(product, matrices).save(folder / "product.tsc")
    compiler.compile(triad, arrays).save(folder / "triad.tsc")


def record(packages: Path, output: Path) -> None:
    """Run the phases while a sampler watches."""
    import cupy

    from tessera.profiler.live.recorder import Recorder
    from tessera.profiler.live.sampler import Sampler

    random = cupy.random.default_rng(0)
    matrices = [random.standard_normal((SIDE, SIDE), dtype=cupy.float32) for _ in range(2)]
    # CuPy knows no bf16: its bits are the upper half of a float32's.
    bf16 = [(m.view(cupy.uint32) >> 16).astype(cupy.uint16) for m in matrices]
    arrays = [random.standard_normal(LENGTH, dtype=cupy.float32) for _ in range(2)]
    product = Launches(packages / "product.tsc", bf16, cupy.empty((SIDE, SIDE), cupy.uint16))
    triad = Launches(packages / "triad.tsc", arrays, cupy.empty(LENGTH, cupy.float32))
    host = cupy.cuda.alloc_pinned_memory(1 << 30)
    work: dict[str, Callable[[], None]] = {
        "idle": lambda: time.sleep(0.1),
        "copy": lambda: arrays[0].data.copy_from_host(host.ptr, 1 << 30),
        "matmul": product.run,
        "stream": triad.run,
    }
    check(product, bf16, triad, arrays)
    sampler = Sampler(0.1)
    # Nobody needs to know which card it was.
    devices = tuple(replace(device, uuid=None, bus_id=None) for device in sampler.machine.devices)
    machine = replace(sampler.machine, devices=devices)
    with Recorder(output, machine, interval_s=0.1, started_unix_s=sampler.started_unix_s) as recorder:
        sampler.listen(recorder.write, recorder.mark)
        with sampler:
            for name, seconds in PHASES:
                sampler.mark(name)
                done, end = 0, time.monotonic() + seconds
                while time.monotonic() < end:
                    work[name]()
                    done += 1
                    if done % AHEAD == 0:
                        cupy.cuda.Device().synchronize()
                cupy.cuda.Device().synchronize()
                print(f"{name}: {done} in {seconds} s")
    print(f"{output}: {output.stat().st_size} bytes")


def check(product: Launches, bf16: list[Any], triad: Launches, arrays: list[Any]) -> None:
    """A wrong result would make a demo of nothing."""
    import cupy

    product.run()
    triad.run()
    rows = cupy.arange(0, SIDE, 511)
    a, b = (
        (m.astype(cupy.uint32) << 16).view(cupy.float32).astype(cupy.float64)
        for m in (bf16[0][rows], bf16[1])
    )
    found = (product.output[rows].astype(cupy.uint32) << 16).view(cupy.float32).astype(cupy.float64)
    wanted = a @ b
    off = float(cupy.abs(found - wanted).max() / cupy.abs(wanted).max())
    part = slice(0, 1 << 20)
    other = float(cupy.abs(triad.output[part] - (arrays[0][part] * 0.5 + arrays[1][part])).max())
    print(f"largest differences: product {off:.1e} of the largest, triad {other:.1e}")
    if off > 1e-2 or other > 1e-5:
        raise SystemExit("wrong results")


class Launches:
    """A program's launches on memory of the GPU. `run` tells observers of each, as the runtime would."""

    def __init__(self, path: Path, inputs: list[Any], output: Any) -> None:
        import cupy
        import numpy as np
        from cupy_backends.cuda.api import driver

        from tessera.package import Package
        from tessera.program.bind import bind_symbols
        from tessera.program.dim import evaluate
        from tessera.program.program import Extent, Launch, Pointer

        package = Package.load(path)
        (self._program,) = package.programs.values()
        (plan,) = self._program.plans
        names = [port.name for port in self._program.inputs]
        symbols = bind_symbols(self._program, {n: a.shape for n, a in zip(names, inputs, strict=True)})
        self.output = output
        self._arena = cupy.empty(max(evaluate(plan.arena_bytes, symbols), 1), cupy.uint8)
        places = {b.name: self._arena.data.ptr + evaluate(b.offset_bytes, symbols) for b in plan.buffers}
        places |= {n: a.data.ptr for n, a in zip(names, inputs, strict=True)}
        self._launches = []
        for step in plan.steps:
            assert isinstance(step, Launch), f"{path} holds a step that is no launch"
            binary = package.binary(self._program.name, step.kernel, plan.targets[0], "cubin")
            assert binary is not None, f"{path} has no cubin of {step.kernel}"
            module = cupy.cuda.function.Module()
            module.load(bytes(binary.data))
            function = module.get_function(step.kernel)
            shared = evaluate(step.shared_bytes, symbols)
            if shared > 48 << 10:
                most = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                driver.funcSetAttribute(function.ptr, most, shared)
            args = []
            for arg in step.args:
                if isinstance(arg, Extent):
                    args.append(np.int64(evaluate(arg.value, symbols)))
                else:
                    assert isinstance(arg, Pointer), f"{step.kernel}: {arg} is neither size nor pointer"
                    args.append(np.uint64(places.get(arg.name, output.data.ptr)))
            grid = tuple(evaluate(d, symbols) for d in step.grid)
            self._launches.append((step.kernel, function, grid, step.block, tuple(args), shared))

    def run(self) -> None:
        """Start them, in order."""
        from tessera.runtime.launches import launched

        launched(self._program.name, [name for name, *_ in self._launches], "cuda:0")
        for _, function, grid, block, args, shared in self._launches:
            function(grid, block, args, shared_mem=shared)


if __name__ == "__main__":
    main()
