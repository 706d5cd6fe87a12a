"""Matrix products of Tessera on this machine's GPU against cuBLAS through CuPy: TFLOP/s and their ratio.

    python benchmarks/gpu_matmul.py [--dtype f16] [--repeats 20] [MxNxK …]

Both work on the same device memory, one after the other in each round, timed by events on one stream; the
median of the rounds counts. Results are compared with each other first. Needs a GPU, CuPy and Tessera's
compiler; where the machine with the GPU has no compiler, `--save product.tsc --arch sm_90` elsewhere and
`--package product.tsc` there do it in two steps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

SHAPES = ("4096x4096x4096", "8192x8192x8192", "2048x2048x2048", "1024x1024x1024", "128x4096x4096",
          "16x4096x4096", "64x64x16384", "4097x4093x4095")  # fmt: skip
WARM_UP = 3
DEFAULT_SHARED_BYTES = 48 << 10


def main() -> int:
    arguments = argparse.ArgumentParser(description="matrix products against cuBLAS")
    arguments.add_argument("shapes", nargs="*", default=SHAPES, metavar="MxNxK")
    arguments.add_argument("--dtype", default="f16", choices=("f16", "bf16", "tf32"))
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--wgmma", default=None, help="wgmma_config, such as m64n256k16")
    arguments.add_argument("--save", metavar="PKG", help="compile only, and write the package")
    arguments.add_argument("--arch", default=None, help="with --save: sm_90 and the like")
    arguments.add_argument("--package", metavar="PKG", help="measure this package")
    chosen = arguments.parse_args()
    if chosen.save:
        compiled(chosen, chosen.arch or "sm_90").save(chosen.save)
        return 0
    cupy = gpu()
    if cupy is None:
        print("needs a GPU: no CUDA device with CuPy here", file=sys.stderr)
        return 2
    device = cupy.cuda.runtime.getDeviceProperties(0)
    print(f"{device['name'].decode()}, {chosen.dtype}, median of {chosen.repeats}")
    print(f"{'m × n × k':>22}  {'kernel':<28}{'Tessera':>9}{'cuBLAS':>9}{'ratio':>7}{'difference':>12}")
    for shape in chosen.shapes:
        measure(cupy, *(int(part) for part in shape.split("x")), chosen)
    return 0


def gpu() -> Any:
    try:
        import cupy

        return cupy if cupy.cuda.runtime.getDeviceCount() > 0 else None
    except Exception:  # noqa: BLE001 - no CuPy, no driver, no device: all mean the same here
        return None


def measure(cupy: Any, m: int, n: int, k: int, chosen: argparse.Namespace) -> None:
    dtype = {"f16": cupy.float16, "bf16": cupy.float16, "tf32": cupy.float32}[chosen.dtype]
    random = cupy.random.default_rng(0)
    a, b = (random.standard_normal(s, dtype=cupy.float32) for s in ((m, k), (k, n)))
    a, b = bits(cupy, a, chosen.dtype, dtype), bits(cupy, b, chosen.dtype, dtype)
    out = cupy.zeros((m, n), dtype)
    steps = tessera_steps(cupy, (m, n, k), chosen, a, b, out)
    reference = cublas(cupy, chosen.dtype)
    theirs = reference(a, b)
    steps.launch()
    cupy.cuda.Device().synchronize()
    wide = widened(cupy, out, chosen.dtype), widened(cupy, theirs, chosen.dtype)
    difference = float(cupy.abs(wide[0] - wide[1]).max() / cupy.abs(wide[1]).max())
    ours_ms, theirs_ms = [], []
    for round_number in range(WARM_UP + chosen.repeats):
        mine, other = timed(cupy, steps.launch), timed(cupy, lambda: reference(a, b, out=theirs))
        if round_number >= WARM_UP:
            ours_ms.append(mine)
            theirs_ms.append(other)
    work = 2 * m * n * k / 1e9
    ours, cublas_rate = (work / statistics.median(t) for t in (ours_ms, theirs_ms))
    print(
        f"{f'{m} × {n} × {k}':>22}  {steps.name:<28}{ours:>9.1f}{cublas_rate:>9.1f}"
        f"{ours / cublas_rate:>7.2f}{difference:>12.1e}"
    )


def bits(cupy: Any, values: Any, name: str, dtype: Any) -> Any:
    """Values in memory; bfloat16 as its bits, which CuPy has no type for."""
    if name != "bf16":
        return values.astype(dtype)
    return (values.view(cupy.uint32) >> 16).astype(cupy.uint16).view(cupy.float16)


def widened(cupy: Any, values: Any, name: str) -> Any:
    if name != "bf16":
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


def cublas(cupy: Any, name: str) -> Any:
    """`cublasGemmEx` with float32 sums; row-major operands are its column-major ones the other way round."""
    from cupy.cuda import cublas as library
    from cupy.cuda import device

    kind = {"f16": 2, "bf16": 14, "tf32": 0}[name]  # CUDA_R_16F, CUDA_R_16BF, CUDA_R_32F
    compute = {"f16": 68, "bf16": 68, "tf32": 77}[name]  # CUBLAS_COMPUTE_32F, …_32F_FAST_TF32
    import numpy as np

    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)

    def multiply(a: Any, b: Any, out: Any = None) -> Any:
        (m, k), n = a.shape, b.shape[1]
        out = cupy.empty((m, n), a.dtype) if out is None else out
        handle = device.get_cublas_handle()
        library.gemmEx(
            handle, 0, 0, n, m, k, one.ctypes.data, b.data.ptr, kind, n, a.data.ptr, kind, k,
            zero.ctypes.data, out.data.ptr, kind, n, compute, -1,
        )  # fmt: skip
        return out

    return multiply


class Steps:
    """The launches of a program for one shape, on given memory."""

    def __init__(self, launches: list[Any], name: str, arena: Any) -> None:
        self.name = name
        self._launches = launches
        # CuPy would give its memory to the next array.
        self._arena = arena

    def launch(self) -> None:
        """Start them, in order."""
        for function, grid, block, args, shared in self._launches:
            function(grid, block, args, shared_mem=shared)


def tessera_steps(
    cupy: Any, sizes: tuple[int, int, int], chosen: argparse.Namespace, a: Any, b: Any, out: Any
) -> Steps:
    """Compile `ts.matmul` for this GPU and prepare its launches."""
    import numpy as np
    from cupy_backends.cuda.api import driver

    from tessera.package import Package
    from tessera.program.bind import bind_symbols
    from tessera.program.dim import evaluate
    from tessera.program.program import Choice, Extent, Pointer

    if chosen.package:
        package = Package.load(chosen.package)
    else:
        artifact = compiled(chosen, f"sm_{cupy.cuda.Device().compute_capability}").artifact
        package = Package.from_artifact(artifact, name="product")
    (program,) = package.programs.values()
    m, n, k = sizes
    names = [port.name for port in program.inputs]
    symbols = bind_symbols(program, dict(zip(names, ((m, k), (k, n)), strict=True)))
    (plan,) = program.plans
    arena = cupy.empty(max(evaluate(plan.arena_bytes, symbols), 1), cupy.uint8)
    where = {buffer.name: evaluate(buffer.offset_bytes, symbols) for buffer in plan.buffers}

    def argument(arg: Any) -> Any:
        if isinstance(arg, Extent):
            return evaluate(arg.value, symbols)
        assert isinstance(arg, Pointer)
        if arg.space == "buffer":
            return arena.data.ptr + where[arg.name]
        return {names[0]: a, names[1]: b}.get(arg.name, out).data.ptr

    (step,) = plan.steps
    taken = [step]
    if isinstance(step, Choice):
        option = next(o for o in step.options if all(holds(c, symbols) for c in o.guard))
        taken = list(option.steps)
    launches = []
    for launch in taken:
        binary = package.binary(program.name, launch.kernel, plan.targets[0], "cubin")
        assert binary is not None
        module = cupy.cuda.function.Module()
        module.load(bytes(binary.data))
        function = module.get_function(launch.kernel)
        shared = evaluate(launch.shared_bytes, symbols)
        if shared > DEFAULT_SHARED_BYTES:
            most = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver.funcSetAttribute(function.ptr, most, shared)
        grid = tuple(evaluate(d, symbols) for d in launch.grid)
        args = tuple(np.uint64(argument(arg)) for arg in launch.args)
        launches.append((function, grid, launch.block, args, shared))
    return Steps(launches, taken[0].kernel.removeprefix("product_0_matmul_"), arena)


def compiled(chosen: argparse.Namespace, arch: str) -> Any:
    """`ts.matmul` for one architecture."""
    import tessera as ts
    from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget

    hopper = arch == "sm_90"
    target = CompilationTarget(
        arch, enable_hopper_features=hopper, wgmma_config=chosen.wgmma if hopper else None
    )
    fn = ts.jit(lambda x, w: ts.matmul(x, w), name="product")
    specs = [ts.TensorSpec(s, chosen.dtype) for s in (("m", "k"), ("k", "n"))]
    return AOTCompiler(AOTConfig(targets=[target])).compile(fn, specs)


def holds(compare: Any, symbols: dict[str, int]) -> bool:
    from tessera.program.dim import evaluate

    lhs, rhs = evaluate(compare.lhs, symbols), evaluate(compare.rhs, symbols)
    return rhs % lhs == 0 if compare.op == "divides" else lhs <= rhs


if __name__ == "__main__":
    raise SystemExit(main())
