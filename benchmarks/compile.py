"""Source to cubin: Tessera against numba-cuda, NVRTC, nvcc and Triton, in turns in one run.

    .venv/bin/python benchmarks/compile.py [--runs 9] [--cold 3] [--only warm]

Three kernels (vector addition, row softmax, tiled matmul), each as every tool's users write it: a traced
function (`@ts.jit`) and a Numba kernel (`@ts.kernel`) for Tessera, the same Numba kernel for numba-cuda,
CUDA C++ for NVRTC and nvcc, Triton's language for Triton. A constant in the source changes with each run,
so that no cache of any tool answers. `warm` is one more kernel in a process that has compiled before;
`cold` a new process from its start to the cubin. Tools that are not installed are left out and named.
Nothing here needs a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import linecache
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ARCH = "sm_80"
KERNELS = ("vadd", "softmax", "matmul")

JIT = {
    "vadd": """
@ts.jit
def kernel(x: ts.Tensor[ts.f32, "n"], y: ts.Tensor[ts.f32, "n"]):
    return x + y + CONST
""",
    "softmax": """
@ts.jit
def kernel(x: ts.Tensor[ts.f32, "m", "n"]):
    return ts.softmax(x * CONST)
""",
    "matmul": """
@ts.jit
def kernel(a: ts.Tensor[ts.f32, "m", "k"], b: ts.Tensor[ts.f32, "k", "n"]):
    return ts.matmul(a, b) * CONST
""",
}

NUMBA = {
    "vadd": """
def kernel(x, y, z):
    i = cuda.grid(1)
    if i < x.size:
        z[i] = x[i] + y[i] + float32(CONST)
""",
    "softmax": """
def kernel(x, y):
    part = cuda.shared.array(256, float32)
    row, t = cuda.blockIdx.x, cuda.threadIdx.x
    best = float32(-math.inf)
    for i in range(t, x.shape[1], 256):
        best = max(best, x[row, i] * float32(CONST))
    part[t] = best
    cuda.syncthreads()
    step = 128
    while step > 0:
        if t < step:
            part[t] = max(part[t], part[t + step])
        cuda.syncthreads()
        step //= 2
    best = part[0]
    cuda.syncthreads()
    total = float32(0)
    for i in range(t, x.shape[1], 256):
        total += math.exp(x[row, i] * float32(CONST) - best)
    part[t] = total
    cuda.syncthreads()
    step = 128
    while step > 0:
        if t < step:
            part[t] += part[t + step]
        cuda.syncthreads()
        step //= 2
    for i in range(t, x.shape[1], 256):
        y[row, i] = math.exp(x[row, i] * float32(CONST) - best) / part[0]
""",
    "matmul": """
def kernel(a, b, c):
    left = cuda.shared.array((32, 32), float32)
    right = cuda.shared.array((32, 32), float32)
    column, row = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for tile in range((a.shape[1] + 31) // 32):
        k = tile * 32
        left[ty, tx] = a[row, k + tx] if row < a.shape[0] and k + tx < a.shape[1] else float32(0)
        right[ty, tx] = b[k + ty, column] if column < b.shape[1] and k + ty < b.shape[0] else float32(0)
        cuda.syncthreads()
        for i in range(32):
            total += left[ty, i] * right[i, tx]
        cuda.syncthreads()
    if row < c.shape[0] and column < c.shape[1]:
        c[row, column] = total * float32(CONST)
""",
}
RANKS = {"vadd": (1, 1, 1), "softmax": (2, 2), "matmul": (2, 2, 2)}
BLOCKS = {"vadd": "256", "softmax": "256", "matmul": "(32, 32)"}

CUDA = {
    "vadd": """
extern "C" __global__ void kernel(const float *x, const float *y, float *z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) z[i] = x[i] + y[i] + CONSTf;
}
""",
    "softmax": """
extern "C" __global__ void kernel(const float *x, float *y, int n) {
    __shared__ float part[256];
    const float *row = x + (size_t)blockIdx.x * n;
    int t = threadIdx.x;
    float best = -INFINITY;
    for (int i = t; i < n; i += 256) best = fmaxf(best, row[i] * CONSTf);
    part[t] = best;
    __syncthreads();
    for (int s = 128; s > 0; s /= 2) { if (t < s) part[t] = fmaxf(part[t], part[t + s]); __syncthreads(); }
    best = part[0];
    __syncthreads();
    float total = 0;
    for (int i = t; i < n; i += 256) total += expf(row[i] * CONSTf - best);
    part[t] = total;
    __syncthreads();
    for (int s = 128; s > 0; s /= 2) { if (t < s) part[t] += part[t + s]; __syncthreads(); }
    for (int i = t; i < n; i += 256) y[(size_t)blockIdx.x * n + i] = expf(row[i] * CONSTf - best) / part[0];
}
""",
    "matmul": """
extern "C" __global__ void kernel(const float *a, const float *b, float *c, int m, int n, int depth) {
    __shared__ float left[32][32], right[32][32];
    int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * 32 + ty, column = blockIdx.x * 32 + tx;
    float total = 0;
    for (int k = 0; k < depth; k += 32) {
        left[ty][tx] = row < m && k + tx < depth ? a[row * depth + k + tx] : 0;
        right[ty][tx] = column < n && k + ty < depth ? b[(k + ty) * n + column] : 0;
        __syncthreads();
        for (int i = 0; i < 32; i++) total += left[ty][i] * right[i][tx];
        __syncthreads();
    }
    if (row < m && column < n) c[row * n + column] = total * CONSTf;
}
""",
}

TRITON = {
    "vadd": """
@triton.jit
def kernel(x, y, z, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(z + i, tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n) + CONST, mask=i < n)
""",
    "softmax": """
@triton.jit
def kernel(x, y, m, n, B: tl.constexpr):
    row, i = tl.program_id(0), tl.arange(0, B)
    v = tl.load(x + row * n + i, mask=i < n, other=-float("inf")) * CONST
    e = tl.exp(v - tl.max(v, axis=0))
    tl.store(y + row * n + i, e / tl.sum(e, axis=0), mask=i < n)
""",
    "matmul": """
@triton.jit
def kernel(a, b, c, m, n, k, B: tl.constexpr):
    rows = tl.program_id(0) * B + tl.arange(0, B)
    columns = tl.program_id(1) * B + tl.arange(0, B)
    depth = tl.arange(0, 32)
    total = tl.zeros((B, B), dtype=tl.float32)
    for at in range(0, k, 32):
        left = tl.load(
            a + rows[:, None] * k + at + depth, mask=(rows[:, None] < m) & (at + depth < k), other=0.0
        )
        right = tl.load(
            b + (at + depth)[:, None] * n + columns, mask=(at + depth)[:, None] < k, other=0.0
        )
        total += tl.dot(left, right, input_precision="ieee")
    mask = (rows[:, None] < m) & (columns < n)
    tl.store(c + rows[:, None] * n + columns, total * CONST, mask=mask)
""",
}
TRITON_ARGUMENTS = {"vadd": "xyz n", "softmax": "xy mn", "matmul": "abc mnk"}
TRITON_BLOCK = {"vadd": 1024, "softmax": 1024, "matmul": 64}


def _module(text: str, number: float, head: str) -> dict[str, Any]:
    """A file written for this run, imported: tools read sources from files."""
    path = Path(tempfile.mkdtemp(dir=FOLDER)) / "source.py"
    path.write_text(head + text.replace("CONST", repr(number)))
    linecache.checkcache(str(path))
    names: dict[str, Any] = {"__name__": "source", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names


def tessera_jit(kernel: str, number: float) -> bytes:
    """A traced function."""
    names = _module(JIT[kernel], number, "import tessera as ts\n")
    return _tessera(names["kernel"])


def tessera_kernel(kernel: str, number: float) -> bytes:
    """The Numba kernel, as `@ts.kernel`."""
    arrays = [f"ts.Array[ts.f32, {', '.join(['1024'] * r)}]" for r in RANKS[kernel]]
    head = f"@ts.kernel(grid=1, block={BLOCKS[kernel]})\ndef kernel("
    text = NUMBA[kernel]
    names = text[text.index("(") + 1 : text.index(")")].split(", ")
    typed = ", ".join(f"{name}: {array}" for name, array in zip(names, arrays, strict=True))
    body = head + typed + text[text.index(")") :]
    return _tessera(_module(body, number, _NUMBA_HEAD + "import tessera as ts\n")["kernel"])


_NUMBA_HEAD = "import math\nfrom numba import cuda, float32\n"


def _tessera(function: Any) -> bytes:
    from tessera.compiler.cache import CompileCache
    from tessera.deploy import AOTCompiler

    compiler = AOTCompiler(target_architectures=[ARCH], cache=CompileCache.off())
    return next(b.data for b in compiler.compile(function).binaries if b.format == "cubin")


def numba_cuda(kernel: str, number: float) -> bytes:
    """numba-cuda's own way: PTX, then nvJitLink."""
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda
    from numba.cuda import types

    function = _module(NUMBA[kernel], number, _NUMBA_HEAD)["kernel"]
    signature = tuple(types.Array(types.float32, rank, "C") for rank in RANKS[kernel])
    ptx, _ = cuda.compile(function, signature, device=False, abi="numba", cc=(8, 0))
    linked = Linker(ObjectCode.from_ptx(ptx.encode()), options=LinkerOptions(arch=ARCH)).link("cubin")
    return bytes(linked.code)


def nvrtc(kernel: str, number: float) -> bytes:
    """CUDA C++ in this process."""
    from cuda.bindings import nvrtc as lib

    text = CUDA[kernel].replace("CONST", repr(number)).replace("INFINITY", "__int_as_float(0x7f800000)")
    _, program = lib.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], [])
    (status,) = lib.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={ARCH}".encode()])
    if int(status) != 0:
        raise SystemExit(f"NVRTC: {status.name}")
    _, size = lib.nvrtcGetCUBINSize(program)
    code = bytes(size)
    lib.nvrtcGetCUBIN(program, code)
    return code


def nvcc(kernel: str, number: float) -> bytes:
    """CUDA C++ by nvcc: always a process of its own."""
    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    (folder / "kernel.cu").write_text("#include <math.h>\n" + CUDA[kernel].replace("CONST", repr(number)))
    command = ["nvcc", "-cubin", f"-arch={ARCH}", "-o", "kernel.cubin", "kernel.cu"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "kernel.cubin").read_bytes()


def triton(kernel: str, number: float) -> bytes:
    """Triton, ahead of time, its cache off."""
    import triton as tr
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    head = "import triton\nimport triton.language as tl\n"
    function = _module(TRITON[kernel], number, head)["kernel"]
    pointers, sizes = TRITON_ARGUMENTS[kernel].split()
    signature = {**dict.fromkeys(pointers, "*fp32"), **dict.fromkeys(sizes, "i32"), "B": "constexpr"}
    source = ASTSource(fn=function, signature=signature, constexprs={"B": TRITON_BLOCK[kernel]})
    code: bytes = tr.compile(source, target=GPUTarget("cuda", 80, 32)).asm["cubin"]
    return code


TOOLS: dict[str, tuple[Callable[[str, float], bytes], str | None]] = {
    "tessera @ts.jit": (tessera_jit, None),
    "tessera @ts.kernel": (tessera_kernel, None),
    "numba-cuda": (numba_cuda, "numba"),
    "NVRTC": (nvrtc, "cuda.bindings"),
    "nvcc": (nvcc, None),
    "Triton": (triton, "triton"),
}
"""By name: what compiles a kernel, and the module it needs."""
PARTS = ("warm", "cold", "more", "parallel", "cached")
"""What can be measured."""
FOLDER = ""


def installed(name: str) -> bool:
    """Whether a tool is here."""
    module = TOOLS[name][1]
    return (
        bool(shutil.which("nvcc"))
        if name == "nvcc"
        else module is None or bool(importlib.util.find_spec(module))
    )


def warm(tools: list[str], kernel: str, runs: int) -> dict[str, float]:
    """Median milliseconds by tool; the tools take turns, so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {tool: [] for tool in tools}
    for run in range(-2, runs):
        for tool in tools:
            number = 1.0 + 2.0 ** -(run + 8)
            start = time.perf_counter()
            TOOLS[tool][0](kernel, number)
            if run >= 0:
                times[tool].append(time.perf_counter() - start)
    return {tool: statistics.median(t) * 1e3 for tool, t in times.items()}


def cold(tools: list[str], kernel: str, runs: int) -> dict[str, float]:
    """Median milliseconds of a whole process by tool."""
    times: dict[str, list[float]] = {tool: [] for tool in tools}
    for run in range(runs):
        for tool in tools:
            command = [sys.executable, __file__, "--one", tool, kernel, str(1.0 + 2.0 ** -(run + 1))]
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[tool].append(time.perf_counter() - start)
    return {tool: statistics.median(t) * 1e3 for tool, t in times.items()}


def show(title: str, rows: dict[str, dict[str, float]], tools: list[str]) -> None:
    """A table with the first tool's ratio to each."""
    print(f"\n{title}, milliseconds (in brackets: times the first line's)")
    print(" " * 20 + "".join(f"{k:>20}" for k in rows))
    for tool in tools:
        cells = [f"{rows[k][tool]:10.0f} ({rows[k][tool] / rows[k][tools[0]]:5.2f})" for k in rows]
        print(f"{tool:<20}" + "".join(f"{c:>20}" for c in cells))


def more_architectures(runs: int) -> None:
    """What each further architecture costs."""
    from tessera.compiler.cache import CompileCache
    from tessera.deploy import AOTCompiler

    print("\neach further architecture (sm_70, sm_86, sm_89, sm_90 after sm_80), as a part of the first")
    for kernel in KERNELS:
        shares = []
        for run in range(runs):
            times = []
            for targets in ([ARCH], [ARCH, "sm_70", "sm_86", "sm_89", "sm_90"]):
                head = "import tessera as ts\n"
                function = _module(JIT[kernel], 1.0 + 2.0 ** -(run + 3), head)["kernel"]
                start = time.perf_counter()
                AOTCompiler(target_architectures=targets, cache=CompileCache.off()).compile(function)
                times.append(time.perf_counter() - start)
            shares.append((times[1] - times[0]) / 4 / times[0])
        print(f"  {kernel:<10} {statistics.median(shares):6.0%}")


def side_by_side(runs: int) -> None:
    """Sixteen kernels for four architectures on one core and on all; the least of several, in turns."""
    cores = os.sched_getaffinity(0)
    times: dict[int, list[tuple[float, float]]] = {1: [], len(cores): []}
    for run in range(runs):
        for count in times:
            command = [sys.executable, __file__, "--sixteen", str(run)]
            allowed = set(sorted(cores)[:count])
            done = subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                preexec_fn=lambda allowed=allowed: os.sched_setaffinity(0, allowed),
            )
            wall, spent = map(float, done.stdout.split())
            times[count].append((wall, spent))
    print("\n16 kernels for 4 architectures in a warm process, seconds (in brackets: processor time)")
    for count, found in times.items():
        wall, spent = min(found)
        print(f"  {count} core{'s' * (count > 1):<48}{wall:6.2f} ({spent:5.2f})")
    ratio = min(times[1])[0] / min(times[len(cores)])[0]
    print(f"  {ratio:.2f} times as fast")


def sixteen(run: int) -> None:
    """Compile them and print seconds of wall and of processor time."""
    from tessera.compiler.cache import CompileCache
    from tessera.deploy import AOTCompiler

    compiler = AOTCompiler(target_architectures=[ARCH, "sm_75", "sm_86", "sm_90"], cache=CompileCache.off())
    head = "import tessera as ts\n"

    def functions(start: float, count: int) -> list[tuple[Any, None, str]]:
        names = (KERNELS * 6)[:count]
        return [
            (_module(JIT[k], start + i / 64, head)["kernel"], None, f"{k}_{i}") for i, k in enumerate(names)
        ]

    compiler.compile_each(functions(9.0, 3))
    given = functions(2.0 + run, 16)
    wall, spent = time.perf_counter(), time.process_time()
    compiler.compile_each(given)
    print(time.perf_counter() - wall, time.process_time() - spent)


def process_ms(commands: dict[str, list[str]], runs: int) -> dict[str, float]:
    """Median milliseconds of processor time (user and system) of a whole process, in turns, caches warm."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(-1, runs):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True, cwd=FOLDER)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if run >= 0:
                times[name].append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return {name: statistics.median(t) * 1e3 for name, t in times.items()}


def answered_from_cache(runs: int) -> None:
    """A whole process that asks for what was compiled before, beside Triton's and Python's own cost."""
    arrays = ", ".join(f"{name}: ts.Array[ts.f32, 'n']" for name in "xyz")
    text = NUMBA["vadd"].replace("x, y, z", arrays).replace("CONST", "1.5")
    files = {
        "jit": "import tessera as ts\n" + JIT["softmax"].replace("CONST", "1.5"),
        "kernel": f"{_NUMBA_HEAD}import tessera as ts\n@ts.kernel(grid=1, block=256)\n{text.lstrip()}",
        "model": "import os\nimport tessera as ts\n" + JIT["softmax"].replace("CONST", "1.5"),
    }
    for name, content in files.items():
        Path(FOLDER, f"{name}_file.py").write_text(content)
    time.sleep(0.1)

    def compile_(name: str) -> list[str]:
        words = ["compile", f"{name}_file.py", "--arch", ARCH, "-o", f"{name}.tsc"]
        return [sys.executable, "-m", "tessera", *words]

    commands = {
        "tessera compile, @ts.jit": compile_("jit"),
        "tessera compile, @ts.kernel": compile_("kernel"),
        "tessera compile, a file that is run (import os)": compile_("model"),
    }
    if installed("Triton"):
        commands["Triton, triton.compile"] = [sys.executable, __file__, "--one", "Triton", "softmax", "1.5"]
    commands["python -c 'import numpy'"] = [sys.executable, "-c", "import numpy"]
    commands["python -c pass"] = [sys.executable, "-c", "pass"]
    print("\nanswered from the cache: processor time of a whole process, milliseconds")
    for name, spent in process_ms(commands, runs).items():
        print(f"  {name:<50} {spent:6.0f}")


def main() -> None:
    """Compile and print."""
    global FOLDER
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=9, help="warm compilations of each kernel")
    parser.add_argument("--cold", type=int, default=3, help="processes for each kernel; 0 leaves this out")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; all by default")
    parser.add_argument("--sixteen", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, metavar=("TOOL", "KERNEL", "NUMBER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as FOLDER:
        # Triton keeps what it made from run to run, unless it is told another folder.
        os.environ.setdefault("TRITON_CACHE_DIR", f"{FOLDER}/triton")
        if given.sixteen is not None:
            sixteen(given.sixteen)
            return
        if given.one:
            tool, kernel, number = given.one
            TOOLS[tool][0](kernel, float(number))
            return
        tools = [tool for tool in TOOLS if installed(tool)]
        for tool in TOOLS:
            if tool not in tools:
                print(f"{tool} is not installed, so it is left out")
        parts = given.only or PARTS
        if "warm" in parts:
            show("warm", {k: warm(tools, k, given.runs) for k in KERNELS}, tools)
        if "cold" in parts and given.cold:
            show("cold process", {k: cold(tools, k, given.cold) for k in KERNELS}, tools)
        if "more" in parts:
            more_architectures(3)
        if "parallel" in parts:
            side_by_side(3)
        if "cached" in parts:
            answered_from_cache(5)


if __name__ == "__main__":
    main()
