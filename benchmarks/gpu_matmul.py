"""Matrix products of Tessera on this machine's GPU against cuBLAS through CuPy: TFLOP/s and their ratio.

    python benchmarks/gpu_matmul.py [--dtype f16] [--layout nt] [--repeats 20] [MxNxK …]

Layouts: `nn` is `a @ b`; `nt` is `a @ b.T`, as a linear layer's weight of shape (out, in) lies. Operands of 8
bits are `nt` only: `i8` gives i32; `f8e4m3` gives bf16, and is compared with cuBLASLt through PyTorch.

Both work on the same device memory, one after the other in each round, timed by events on one stream; the
median of the rounds counts. Results are compared with each other first. Needs a GPU, CuPy and Tessera's
compiler; where the machine with the GPU has no compiler, `--save product.tsc --arch sm_90` elsewhere and
`--package product.tsc` there do it in two steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

SHAPES = ("4096x4096x4096", "8192x8192x8192", "2048x2048x2048", "1024x1024x1024", "128x4096x4096",
          "16x4096x4096", "64x64x16384", "4097x4093x4095")  # fmt: skip
WARM_UP = 3


def main() -> int:
    arguments = argparse.ArgumentParser(description="matrix products against cuBLAS")
    arguments.add_argument("shapes", nargs="*", default=SHAPES, metavar="MxNxK")
    arguments.add_argument("--dtype", default="f16", choices=("f16", "bf16", "tf32", "f32", "i8", "f8e4m3"))
    arguments.add_argument("--layout", default=None, choices=("nn", "nt"), help="nn, but nt for 8 bits")
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--wgmma", default=None, help="wgmma_config, such as m64n256k16")
    arguments.add_argument("--save", metavar="PKG", help="compile only, and write the package")
    arguments.add_argument("--arch", default=None, help="with --save: sm_90 and the like")
    arguments.add_argument("--package", metavar="PKG", help="measure this package")
    arguments.add_argument("--triton", action="store_true", help="measure a kernel in Triton, too")
    arguments.add_argument("--json", metavar="FILE", help="write the figures there")
    chosen = arguments.parse_args()
    chosen.layout = chosen.layout or ("nt" if chosen.dtype in ("i8", "f8e4m3") else "nn")
    if chosen.save:
        compiled(chosen, chosen.arch or "sm_90").save(chosen.save)
        return 0
    cupy = gpu()
    if cupy is None:
        print("needs a GPU: no CUDA device with CuPy here", file=sys.stderr)
        return 2
    device = cupy.cuda.runtime.getDeviceProperties(0)
    print(f"{device['name'].decode()}, {chosen.dtype} {chosen.layout}, median of {chosen.repeats}")
    triton = f"{'Triton':>9}" if chosen.triton else ""
    head = f"{'Tessera':>9}{'cuBLAS':>9}{triton}{'ratio':>7}{'difference':>12}"
    print(f"{'m × n × k':>22}  {'kernels':<34}{head}")
    rows = [measure(cupy, *map(int, shape.split("x")), chosen) for shape in chosen.shapes]
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def gpu() -> Any:
    try:
        import cupy

        return cupy if cupy.cuda.runtime.getDeviceCount() > 0 else None
    except Exception:  # noqa: BLE001 - no CuPy, no driver, no device: all mean the same here
        return None


def measure(cupy: Any, m: int, n: int, k: int, chosen: argparse.Namespace) -> dict[str, Any]:
    random = cupy.random.default_rng(0)
    shapes = ((m, k), (k, n) if chosen.layout == "nn" else (n, k))
    a, b = (made(cupy, random, shape, chosen.dtype) for shape in shapes)
    out = cupy.zeros((m, n), RESULTS.get(chosen.dtype) or a.dtype)
    steps = tessera_steps(cupy, (m, n, k), chosen, a, b, out)
    theirs = cupy.zeros_like(out)
    reference = scaled(a, b, theirs) if chosen.dtype == "f8e4m3" else cublas(chosen, a, b, theirs)
    reference()
    steps.launch()
    cupy.cuda.Device().synchronize()
    wide = widened(cupy, out, chosen.dtype), widened(cupy, theirs, chosen.dtype)
    difference = float(cupy.abs(wide[0] - wide[1]).max() / cupy.abs(wide[1]).max())
    works = {"tessera": steps.launch, "cublas": reference}
    if chosen.triton:
        works["triton"] = triton_product(chosen, a, b, cupy.zeros_like(out))
    times: dict[str, list[float]] = {name: [] for name in works}
    for round_number in range(WARM_UP + chosen.repeats):
        for name, multiply in works.items():
            spent = timed(cupy, multiply)
            if round_number >= WARM_UP:
                times[name].append(spent)
    rates = {name: 2 * m * n * k / 1e9 / statistics.median(spent) for name, spent in times.items()}
    shown = "".join(f"{rate:>9.1f}" for rate in rates.values())
    ratio = rates["tessera"] / rates["cublas"]
    print(f"{f'{m} × {n} × {k}':>22}  {steps.name:<34}{shown}{ratio:>7.2f}{difference:>12.1e}", flush=True)
    return {
        "m": m, "n": n, "k": k, "dtype": chosen.dtype, "layout": chosen.layout, "kernels": steps.name,
        "tflops": rates, "difference": difference,
    }  # fmt: skip


def triton_product(chosen: argparse.Namespace, a: Any, b: Any, out: Any) -> Any:
    """The kernel of Triton's tutorial, with the fastest of its shapes."""
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parent / "gpu"))
    from triton_matmul import product

    kinds = {"bf16": torch.bfloat16, "f8e4m3": torch.float8_e4m3fn}
    left, right, target = (
        torch.from_dlpack(x) for x in (a, b, out.view("int16") if out.itemsize == 2 else out)
    )
    if chosen.dtype in kinds:
        left, right = (x.view(kinds[chosen.dtype]) for x in (left, right))
        target = target.view(torch.bfloat16)
    elif chosen.dtype == "f16":
        target = target.view(torch.float16)
    right = right if chosen.layout == "nn" else right.t()
    return lambda: product(left, right, target, tf32=chosen.dtype == "tf32")


RESULTS = {"i8": "int32", "f8e4m3": "float16"}
"""Types of results in memory, where they are not the operands'; bfloat16 as its bits."""


def made(cupy: Any, random: Any, shape: tuple[int, int], name: str) -> Any:
    """Random values in memory; types that CuPy has not, as their bits."""
    if name == "i8":
        return random.integers(-128, 128, shape, dtype=cupy.int8)
    values = random.standard_normal(shape, dtype=cupy.float32)
    if name == "f8e4m3":
        import torch

        return cupy.from_dlpack(torch.from_dlpack(values).to(torch.float8_e4m3fn).view(torch.uint8))
    if name == "bf16":
        return (values.view(cupy.uint32) >> 16).astype(cupy.uint16).view(cupy.float16)
    return values.astype(cupy.float32 if name in ("tf32", "f32") else cupy.float16)


def widened(cupy: Any, values: Any, name: str) -> Any:
    if name not in ("bf16", "f8e4m3"):
        return values.astype(cupy.float64)
    return (values.view(cupy.uint16).astype(cupy.uint32) << 16).view(cupy.float32).astype(cupy.float64)


def timed(cupy: Any, work: Any) -> float:
    """Milliseconds between two events around `work`."""
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop))


def cublas(chosen: argparse.Namespace, a: Any, b: Any, out: Any) -> Any:
    """`cublasGemmEx` with 32-bit sums; row-major operands are its column-major ones the other way round."""
    import numpy as np
    from cupy.cuda import cublas as library
    from cupy.cuda import device

    # CUDA_R_16F, CUDA_R_16BF, CUDA_R_32F, CUDA_R_8I.
    kind = {"f16": 2, "bf16": 14, "tf32": 0, "f32": 0, "i8": 3}[chosen.dtype]
    result = 10 if chosen.dtype == "i8" else kind
    # CUBLAS_COMPUTE_32F, …_32F_FAST_TF32, …_32I.
    compute = {"f16": 68, "bf16": 68, "tf32": 77, "f32": 68, "i8": 72}[chosen.dtype]
    scale = np.int32 if chosen.dtype == "i8" else np.float32
    one, zero = np.ones(1, scale), np.zeros(1, scale)
    (m, k), n = a.shape, out.shape[1]
    transposed, ldb = (0, n) if chosen.layout == "nn" else (1, k)
    handle = device.get_cublas_handle()

    def multiply() -> None:
        library.gemmEx(
            handle, transposed, 0, n, m, k, one.ctypes.data, b.data.ptr, kind, ldb, a.data.ptr, kind, k,
            zero.ctypes.data, out.data.ptr, result, n, compute, -1,
        )  # fmt: skip

    return multiply


def scaled(a: Any, b: Any, out: Any) -> Any:
    """8-bit floats by cuBLASLt, as PyTorch calls it, on the same stream."""
    import torch

    one = torch.ones((), device="cuda")
    left, right = (torch.from_dlpack(x).view(torch.float8_e4m3fn) for x in (a, b))
    target = torch.from_dlpack(out.view("uint16")).view(torch.bfloat16)

    def multiply() -> None:
        torch._scaled_mm(  # noqa: SLF001 - PyTorch has no public name for it
            left, right.t(), one, one, out_dtype=torch.bfloat16, out=target, use_fast_accum=True
        )

    return multiply


class Steps:
    """The launches of a program for one shape, on given memory."""

    def __init__(self, launches: list[Any], name: str, *kept: Any) -> None:
        self.name = name
        self._launches = launches
        # CuPy would give their memory to the next array.
        self._kept = kept

    def launch(self) -> None:
        """Start them, in order."""
        for launch in self._launches:
            launch()


def tessera_steps(
    cupy: Any, sizes: tuple[int, int, int], chosen: argparse.Namespace, a: Any, b: Any, out: Any
) -> Steps:
    """Compile the product for this GPU and prepare its launches as the runtime does."""
    from tessera.package import Package
    from tessera.program.bind import bind_symbols
    from tessera.runtime.cells import ArgumentCells
    from tessera.runtime.cuda_driver import CupyDriver
    from tessera.runtime.schedule import make_schedule

    if chosen.package:
        package = Package.load(chosen.package)
    else:
        artifact = compiled(chosen, f"sm_{cupy.cuda.Device().compute_capability}").artifact
        package = Package.from_artifact(artifact, name="product")
    (program,) = package.programs.values()
    m, n, k = sizes
    names = [port.name for port in program.inputs]
    shapes = (m, k), (k, n) if chosen.layout == "nn" else (n, k)
    (plan,) = program.plans
    schedule = make_schedule(program, plan, bind_symbols(program, dict(zip(names, shapes, strict=True))))
    arena = cupy.empty(max(schedule.arena_bytes, 1), cupy.uint8)
    driver = CupyDriver(0)
    bases = [*(("input", name) for name in names), ("output", program.outputs[0].name), ("arena", "")]
    cells = ArgumentCells(schedule, bases, lambda _: 0, {}, driver.encode_map)
    cells.bind([x.data.ptr for x in (a, b, out, arena)], ())
    launches = []
    for index, call in enumerate(schedule.calls):
        binary = package.binary(program.name, call.kernel, plan.targets[0], "cubin")
        assert binary is not None
        function = driver.load(bytes(binary.data), call.kernel)
        stream = cupy.cuda.Stream.null
        launches.append(driver.launcher(function, call, cells.address(index), stream))
    kernels = " + ".join(call.kernel.removeprefix("product_0_matmul_") for call in schedule.calls)
    return Steps(launches, kernels, arena, cells)


def compiled(chosen: argparse.Namespace, arch: str) -> Any:
    """`ts.matmul` for one architecture."""
    import tessera as ts
    from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget

    hopper = arch == "sm_90"
    target = CompilationTarget(
        arch, enable_hopper_features=hopper, wgmma_config=chosen.wgmma if hopper else None
    )
    wide = {"i8": ts.i32, "f8e4m3": ts.bf16}.get(chosen.dtype)

    def product(x: Any, w: Any) -> Any:
        w = w if chosen.layout == "nn" else ts.transpose(w, (1, 0))
        return ts.matmul(x, w) if wide is None else ts.matmul(ts.cast(x, wide), ts.cast(w, wide))

    specs = [
        ts.TensorSpec(s, chosen.dtype)
        for s in (("m", "k"), ("k", "n") if chosen.layout == "nn" else ("n", "k"))
    ]
    return AOTCompiler(AOTConfig(targets=[target])).compile(ts.jit(product), specs)


if __name__ == "__main__":
    raise SystemExit(main())
