"""Attention of Tessera on this machine's GPU against PyTorch's: TFLOP/s, and the ratio to its fastest.

    python benchmarks/gpu_attention.py [--dtype bf16] [--depth 64 128] [--length 512 2048 …] [--repeats 20]

PyTorch's `scaled_dot_product_attention` is asked for each back end by name: flash, cudnn, efficient. All work
on the same device memory, one after the other in each round, timed by events on one stream; the median of the
rounds counts. Results are compared with float32 first. There are 16384 queries in all, in heads of 2048
columns together. Needs a GPU, CuPy, PyTorch and Tessera's compiler; where the machine with the GPU has no
compiler, `--save FOLDER` elsewhere and `--package FOLDER` there do it in two steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
DEPTHS = (64, 128)
QUERIES = 16384
"""Of all batches together."""
COLUMNS = 2048
"""Of all heads together."""
WARM_UP = 3
BACK_ENDS = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}


def main() -> int:
    arguments = argparse.ArgumentParser(description="attention against PyTorch's")
    arguments.add_argument("--dtype", default="bf16", choices=("f16", "bf16"))
    arguments.add_argument("--depth", type=int, nargs="+", default=DEPTHS)
    arguments.add_argument("--length", type=int, nargs="+", default=LENGTHS)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--save", metavar="FOLDER", help="compile only, and write packages there")
    arguments.add_argument("--arch", default="sm_90", help="what to compile for")
    arguments.add_argument("--warps", action="store_true", help="without wgmma, on sm_90")
    arguments.add_argument("--package", metavar="FOLDER", help="measure the packages there")
    arguments.add_argument("--json", metavar="FILE", help="write the figures there")
    chosen = arguments.parse_args()
    if chosen.save:
        Path(chosen.save).mkdir(parents=True, exist_ok=True)
        for depth, causal in itertools.product(chosen.depth, (False, True)):
            compiled(chosen, depth, causal).save(Path(chosen.save) / file_name(depth, causal))
        return 0
    cupy = gpu()
    if cupy is None:
        print("needs a GPU: no CUDA device with CuPy and PyTorch here", file=sys.stderr)
        return 2
    device = cupy.cuda.runtime.getDeviceProperties(0)
    print(f"{device['name'].decode()}, {chosen.dtype}, median of {chosen.repeats}, TFLOP/s")
    names = "".join(f"{name:>10}" for name in BACK_ENDS)
    head = f"{'depth':>5}{'causal':>8}{'length':>8}  {'kernel':<22}{'Tessera':>8}"
    print(f"{head}{names}{'ratio':>7}{'error':>10}")
    cases = itertools.product(chosen.depth, (False, True), chosen.length)
    rows = [measure(cupy, depth, causal, length, chosen) for depth, causal, length in cases]
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def file_name(depth: int, causal: bool) -> str:
    return f"attention-{depth}-{'causal' if causal else 'full'}.tsc"


def gpu() -> Any:
    try:
        import cupy
        import torch

        return cupy if torch.cuda.is_available() else None
    except Exception:  # noqa: BLE001 - no CuPy, no PyTorch, no driver, no device: all mean the same here
        return None


def measure(cupy: Any, depth: int, causal: bool, length: int, chosen: argparse.Namespace) -> dict[str, Any]:
    import torch

    dtype = torch.float16 if chosen.dtype == "f16" else torch.bfloat16
    shape = (max(QUERIES // length, 1), COLUMNS // depth, length, depth)
    torch.manual_seed(0)
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.float32).to(dtype) for _ in range(3))
    out = torch.full(shape, float("nan"), device="cuda", dtype=dtype)
    name, launch, kept = prepared(cupy, chosen, depth, causal, (q, k, v, out))
    launch()
    torch.cuda.synchronize()
    error = difference(q, k, v, out, causal)
    works = {
        "Tessera": launch,
        **{name: back_end(which, q, k, v, causal) for name, which in BACK_ENDS.items()},
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    failed: set[str] = set()
    for number in range(WARM_UP + chosen.repeats):
        for work_name, work in works.items():
            if work_name in failed:
                continue
            try:
                spent = timed(cupy, work)
            except RuntimeError:
                failed.add(work_name)
                continue
            if number >= WARM_UP:
                times[work_name].append(spent)
    work = 4 * shape[0] * shape[1] * length * length * depth / (2 if causal else 1) / 1e9
    rates = {n: work / statistics.median(t) if t else float("nan") for n, t in times.items()}
    best = max(rate for n, rate in rates.items() if n != "Tessera" and rate == rate)
    shown = "".join(f"{rates[n]:>10.0f}" for n in BACK_ENDS)
    print(
        f"{depth:>5}{'yes' if causal else 'no':>8}{length:>8}  {name:<22}{rates['Tessera']:>8.0f}{shown}"
        f"{rates['Tessera'] / best:>7.2f}{error:>10.1e}",
        flush=True,
    )
    del kept
    return {
        "depth": depth, "causal": causal, "length": length, "dtype": chosen.dtype, "kernel": name,
        "tflops": rates, "error": error,
    }  # fmt: skip


def difference(q: Any, k: Any, v: Any, out: Any, causal: bool) -> float:
    """The largest error of some heads, relative to the largest result in float32."""
    import torch

    worst = 0.0
    for batch, head in ((0, 0), (q.shape[0] - 1, q.shape[1] - 1)):
        a, b, c = (x[batch, head].to(torch.float32) for x in (q, k, v))
        scores = a @ b.T * q.shape[-1] ** -0.5
        if causal:
            scores.masked_fill_(torch.ones_like(scores, dtype=torch.bool).triu_(1), float("-inf"))
        exact = torch.softmax(scores, -1) @ c
        # Not `max`, which a NaN would pass.
        error = float((out[batch, head].to(torch.float32) - exact).abs().max() / exact.abs().max())
        worst = error if not error <= worst else worst
    return worst


def back_end(which: str, q: Any, k: Any, v: Any, causal: bool) -> Callable[[], Any]:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    def work() -> Any:
        with sdpa_kernel(getattr(SDPBackend, which)):
            return scaled_dot_product_attention(q, k, v, is_causal=causal)

    return work


def timed(cupy: Any, work: Callable[[], Any]) -> float:
    """Milliseconds between two events around `work`."""
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop))


def prepared(
    cupy: Any, chosen: argparse.Namespace, depth: int, causal: bool, tensors: tuple[Any, ...]
) -> tuple[str, Callable[[], None], Any]:
    """The kernel's name, what launches it as the runtime does, and what must live as long."""
    from tessera.package import Package
    from tessera.program.bind import bind_symbols
    from tessera.runtime.cells import ArgumentCells
    from tessera.runtime.cuda_driver import CupyDriver
    from tessera.runtime.schedule import make_schedule

    if chosen.package:
        package = Package.load(Path(chosen.package) / file_name(depth, causal))
    else:
        package = Package.from_artifact(compiled(chosen, depth, causal).artifact, name="attention")
    (program,) = package.programs.values()
    (plan,) = program.plans
    names = [port.name for port in program.inputs]
    shapes = {name: tuple(x.shape) for name, x in zip(names, tensors[:3], strict=True)}
    schedule = make_schedule(program, plan, bind_symbols(program, shapes))
    arena = cupy.empty(max(schedule.arena_bytes, 1), cupy.uint8)
    driver = CupyDriver(0)
    bases = [*(("input", name) for name in names), ("output", program.outputs[0].name), ("arena", "")]
    cells = ArgumentCells(schedule, bases, lambda _: 0, {}, driver.encode_map)
    cells.bind([*(x.data_ptr() for x in tensors), arena.data.ptr], ())
    (call,) = schedule.calls
    binary = package.binary(program.name, call.kernel, plan.targets[0], "cubin")
    assert binary is not None
    function = driver.load(bytes(binary.data), call.kernel)
    launch = driver.launcher(function, call, cells.address(0), cupy.cuda.Stream.null)
    return call.kernel.removeprefix("attention_0_attention_"), launch, (arena, cells)


def compiled(chosen: argparse.Namespace, depth: int, causal: bool) -> Any:
    """`ts.attention` for one architecture."""
    import tessera as ts
    from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget

    target = CompilationTarget(
        chosen.arch, enable_hopper_features=chosen.arch == "sm_90" and not chosen.warps
    )

    def attention(q: Any, k: Any, v: Any) -> Any:
        return ts.attention(q, k, v, causal=causal)

    specs = [ts.TensorSpec(("b", "h", "n", depth), chosen.dtype)] * 3
    return AOTCompiler(AOTConfig(targets=[target])).compile(ts.jit(attention), specs)


if __name__ == "__main__":
    raise SystemExit(main())
