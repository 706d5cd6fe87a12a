"""What a launch costs: microseconds of the host, and from kernel to kernel, one by one and in CUDA graphs.

    python benchmarks/gpu/overhead.py --save FOLDER
    python benchmarks/gpu/overhead.py --packages FOLDER [--json FILE]

A sum of 256 float32, so that nothing but launching counts: Tessera's launch (the arguments are laid out
once), its whole `Runtime.execute` with copies both ways, PyTorch's `add`, Triton's launch, CuPy's own kernel.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from launches import prepared

ELEMENTS = 256
LAUNCHES = 500
ROUNDS = 11


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--save", type=Path, metavar="FOLDER")
    arguments.add_argument("--arch", default="sm_90")
    arguments.add_argument("--packages", type=Path, metavar="FOLDER")
    arguments.add_argument("--json", type=Path, metavar="FILE")
    chosen = arguments.parse_args()
    if chosen.save:
        save(chosen.save, chosen.arch)
    elif chosen.packages:
        found = measure(chosen.packages / "add.tsc")
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    else:
        arguments.error("--save FOLDER compiles, --packages FOLDER measures")


def save(folder: Path, arch: str) -> None:
    import tessera as ts
    from tessera.deploy import AOTCompiler

    folder.mkdir(parents=True, exist_ok=True)
    function = ts.jit(lambda x, y: x + y, name="add")
    specs = [ts.TensorSpec((ELEMENTS,), ts.f32)] * 2
    AOTCompiler(target_architectures=[arch]).compile(function, specs).save(folder / "add.tsc")


def measure(file: Path) -> dict[str, dict[str, float]]:
    import cupy
    import torch

    x, y = (cupy.random.default_rng(0).standard_normal(ELEMENTS, dtype=cupy.float32) for _ in range(2))
    launch, out, _ = prepared(cupy, file, [x, y])
    launch()
    if not bool((out == x + y).all()):
        raise SystemExit("wrong results")
    left, right = torch.from_dlpack(x), torch.from_dlpack(y)
    target = torch.empty_like(left)
    own = cupy.RawKernel(
        'extern "C" __global__ void add(const float *x, const float *y, float *z)'
        "{ int i = blockIdx.x * blockDim.x + threadIdx.x; z[i] = x[i] + y[i]; }",
        "add",
    )
    works: dict[str, Callable[[], Any]] = {
        "Tessera": launch,
        "PyTorch": lambda: torch.add(left, right, out=target),
        "Triton": triton_launch(left, right, target),
        "CuPy RawKernel": lambda: own((1,), (ELEMENTS,), (x, y, out)),
    }
    print(f"{'µs of one launch':20}{'host':>9}{'GPU':>9}{'in a graph':>12}")
    found = {}
    for name, work in works.items():
        host, device = alone(cupy, work)
        graph = in_graph(cupy, work) if name in ("Tessera", "CuPy RawKernel") else torch_graph(cupy, work)
        found[name] = {"host_us": host, "gpu_us": device, "graph_us": graph}
        print(f"{name:20}{host:9.2f}{device:9.2f}{graph:12.2f}")
    whole = executed(file, cupy.asnumpy(x), cupy.asnumpy(y))
    found["Runtime.execute"] = {"host_us": whole}
    print(f"{'Runtime.execute':20}{whole:9.2f}   with copies to the GPU and back")
    return found


def triton_launch(x: Any, y: Any, out: Any) -> Callable[[], Any]:
    from triton_rows import chain_kernel

    return lambda: chain_kernel[(1,)](x, y, out, ELEMENTS, 1024)


def alone(cupy: Any, work: Callable[[], Any]) -> tuple[float, float]:
    """Microseconds of the host for a launch, and of the GPU between two, with nothing else to do."""
    host, device = [], []
    for _ in range(ROUNDS):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        before = time.perf_counter()
        for _ in range(LAUNCHES):
            work()
        host.append((time.perf_counter() - before) / LAUNCHES * 1e6)
        stop.record()
        stop.synchronize()
        device.append(float(cupy.cuda.get_elapsed_time(start, stop)) / LAUNCHES * 1e3)
    return statistics.median(host), statistics.median(device)


def in_graph(cupy: Any, work: Callable[[], Any]) -> float:
    """Microseconds of a launch in a replayed graph, captured on a stream of its own."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        captured = prepared_on(work, stream)
        for _ in range(LAUNCHES):
            captured()
        graph = stream.end_capture()
        return replayed(cupy, lambda: graph.launch(stream), stream)


def prepared_on(work: Callable[[], Any], stream: Any) -> Callable[[], Any]:
    """The same launch on a stream: CuPy's follows the current one, Tessera's says which."""
    on = getattr(work, "on", None)
    return on(stream) if on is not None else work


def torch_graph(cupy: Any, work: Callable[[], Any]) -> float:
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            work()
    stream = cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
    return replayed(cupy, graph.replay, stream)


def replayed(cupy: Any, replay: Callable[[], Any], stream: Any) -> float:
    times = []
    for _ in range(ROUNDS):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        replay()
        start.record(stream)
        replay()
        stop.record(stream)
        stop.synchronize()
        times.append(float(cupy.cuda.get_elapsed_time(start, stop)) / LAUNCHES * 1e3)
    return statistics.median(times)


def executed(file: Path, x: Any, y: Any) -> float:
    """Microseconds of a call that copies its inputs to the GPU and the result back."""
    from tessera.runtime import DeploymentPackage

    with DeploymentPackage.load(str(file)).create_runtime("cuda:0", strict_device=True) as runtime:
        times = []
        for _ in range(LAUNCHES):
            before = time.perf_counter()
            runtime.execute("add", {"x": x, "y": y})
            times.append((time.perf_counter() - before) * 1e6)
    return statistics.median(times[50:])


if __name__ == "__main__":
    main()
