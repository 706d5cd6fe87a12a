"""The engine on kernels that Numba compiles and on those that the compiler generates."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numba import cuda, float32, float64, int32, int64, types
from numba.cuda import compile as compile_kernel

import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.emulator import Emulator
from tessera.program.artifact import Artifact
from tessera.reference import run_graph
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice

Array = np.ndarray[Any, Any]
F1, F2 = types.Array(float32, 1, "C"), types.Array(float32, 2, "C")
I1 = types.Array(int32, 1, "C")
TILE = 16


@pytest.fixture(scope="module", params=[0, 2], ids=["fast compile", "optimized"])
def emulator(request: pytest.FixtureRequest) -> Emulator:
    return Emulator(workers=2, memory_bytes=1 << 27, level=request.param)


@cache
def ptx_of(fn: Callable[..., None], signature: tuple[Any, ...]) -> str:
    text, _ = compile_kernel(fn, signature, device=False, abi="numba", cc=(8, 0), lineinfo=True)
    return str(text)


def call(
    emulator: Emulator, fn: Callable[..., None], signature: tuple[Any, ...], grid: Any, block: Any, *args: Any
) -> None:
    """Launch a Numba kernel; arrays become their seven and more parameters."""
    flat: list[Any] = []
    for value in args:
        if isinstance(value, np.ndarray):
            flat += [np.uint64(0), np.uint64(0), np.int64(value.size), np.int64(value.itemsize), value]
            flat += [np.int64(n) for n in (*value.shape, *value.strides)]
        else:
            flat.append(value)
    module = emulator.load(ptx_of(fn, signature))
    emulator.launch(module, module.entries[0], grid, block, flat)


def saxpy(a, x, y):  # type: ignore[no-untyped-def]
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]


def block_sum(x, out):  # type: ignore[no-untyped-def]
    shared = cuda.shared.array(256, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    shared[t] = x[i] if i < x.size else 0.0
    cuda.syncthreads()
    n = 128
    while n > 0:
        if t < n:
            shared[t] += shared[t + n]
        cuda.syncthreads()
        n //= 2
    if t == 0:
        cuda.atomic.add(out, 0, shared[0])


def warp_softmax(x, y, n):  # type: ignore[no-untyped-def]
    r = cuda.blockIdx.x
    lane = cuda.threadIdx.x
    m = float32(-1e30)
    for j in range(lane, n, 32):
        m = max(m, x[r, j])
    for o in (16, 8, 4, 2, 1):
        m = max(m, cuda.shfl_xor_sync(0xFFFFFFFF, m, o))
    total = float32(0)
    for j in range(lane, n, 32):
        total += math.exp(x[r, j] - m)
    for o in (16, 8, 4, 2, 1):
        total += cuda.shfl_xor_sync(0xFFFFFFFF, total, o)
    for j in range(lane, n, 32):
        y[r, j] = math.exp(x[r, j] - m) / total


def tiled_matmul(a, b, c):  # type: ignore[no-untyped-def]
    sa = cuda.shared.array((TILE, TILE), float32)
    sb = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for k in range((a.shape[1] + TILE - 1) // TILE):
        sa[ty, tx] = a[y, k * TILE + tx] if y < a.shape[0] and k * TILE + tx < a.shape[1] else 0
        sb[ty, tx] = b[k * TILE + ty, x] if x < b.shape[1] and k * TILE + ty < b.shape[0] else 0
        cuda.syncthreads()
        for i in range(TILE):
            total += sa[ty, i] * sb[i, tx]
        cuda.syncthreads()
    if y < c.shape[0] and x < c.shape[1]:
        c[y, x] = total


def histogram(x, counts):  # type: ignore[no-untyped-def]
    local = cuda.shared.array(64, int32)
    if cuda.threadIdx.x < 64:
        local[cuda.threadIdx.x] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        cuda.atomic.add(local, x[i], 1)
    cuda.syncthreads()
    if cuda.threadIdx.x < 64:
        cuda.atomic.add(counts, cuda.threadIdx.x, local[cuda.threadIdx.x])


def collatz(x, steps):  # type: ignore[no-untyped-def]
    i = cuda.grid(1)
    if i >= x.size:
        return
    n = int64(x[i])
    count = 0
    while n != 1:
        if n % 2 == 0:
            n //= 2
        else:
            n = 3 * n + 1
        count += 1
        if count > 300:
            break
    steps[i] = count


def local_sort(x):  # type: ignore[no-untyped-def]
    own = cuda.local.array(8, float32)
    base = cuda.grid(1) * 8
    for k in range(8):
        own[k] = x[base + k]
    for a in range(1, 8):
        v = own[a]
        b = a - 1
        while b >= 0 and own[b] > v:
            own[b + 1] = own[b]
            b -= 1
        own[b + 1] = v
    for k in range(8):
        x[base + k] = own[k]


@pytest.mark.parametrize("count", [1, 31, 1000, 4096])
def test_saxpy_rounds_once(emulator: Emulator, count: int, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, count)).astype(np.float32)
    expected = (np.float64(np.float32(2.5)) * x + y.astype(np.float64)).astype(np.float32)
    call(emulator, saxpy, (float32, F1, F1), -(-count // 128), 128, np.float32(2.5), x, y)
    np.testing.assert_array_equal(y, expected)


def test_reduction_through_shared_memory_and_atomics(emulator: Emulator, rng: np.random.Generator) -> None:
    x, out = rng.random(2500, np.float32), np.zeros(1, np.float32)
    call(emulator, block_sum, (F1, F1), 10, 256, x, out)
    assert abs(out[0] - x.sum(dtype=np.float64)) < 1e-2


@pytest.mark.parametrize("columns", [1, 33, 200])
def test_softmax_over_shuffles(emulator: Emulator, columns: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((7, columns)).astype(np.float32)
    y = np.zeros_like(x)
    call(emulator, warp_softmax, (F2, F2, int64), 7, 32, x, y, np.int64(columns))
    exact = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, exact / exact.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16, 16), (33, 47, 20), (1, 5, 1)])
def test_tiled_matmul(emulator: Emulator, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    c = np.zeros((m, n), np.float32)
    call(emulator, tiled_matmul, (F2, F2, F2), (-(-n // TILE), -(-m // TILE)), (TILE, TILE), a, b, c)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, atol=1e-4)


def test_histogram_with_atomics_on_both_memories(emulator: Emulator, rng: np.random.Generator) -> None:
    x, counts = rng.integers(0, 64, 5000, np.int32), np.zeros(64, np.int32)
    call(emulator, histogram, (I1, I1), 6, 128, x, counts)
    np.testing.assert_array_equal(counts, np.bincount(x, minlength=64))


def test_loops_of_different_lengths_with_early_exit(emulator: Emulator) -> None:
    x, steps = np.arange(1, 300, dtype=np.int32), np.zeros(299, np.int32)
    call(emulator, collatz, (I1, I1), 3, 100, x, steps)

    def count(n: int) -> int:
        taken = 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            taken += 1
        return taken

    assert steps.tolist() == [count(int(n)) for n in x]


def test_local_arrays_of_threads(emulator: Emulator, rng: np.random.Generator) -> None:
    x = rng.standard_normal(8 * 96).astype(np.float32)
    expected = np.sort(x.reshape(-1, 8), axis=1).ravel()
    call(emulator, local_sort, (F1,), 3, 32, x)
    np.testing.assert_array_equal(x, expected)


def test_double_precision_functions(emulator: Emulator, rng: np.random.Generator) -> None:
    def functions(x, y):  # type: ignore[no-untyped-def]
        i = cuda.grid(1)
        y[i] = math.sqrt(x[i]) + math.log(x[i]) * math.sin(x[i]) / math.exp(-x[i])

    d1 = types.Array(float64, 1, "C")
    x, y = rng.random(64) + 0.5, np.zeros(64)
    call(emulator, functions, (d1, d1), 2, 32, x, y)
    np.testing.assert_allclose(y, np.sqrt(x) + np.log(x) * np.sin(x) / np.exp(-x), rtol=1e-12)


# -- what the compiler generates ----------------------------------------------------------------


def run_on_engine(artifact: Artifact, inputs: dict[str, Array]) -> dict[str, Array]:
    """The outputs of the only program by the emulator device, which must choose the LLVM engine."""
    (program,) = artifact.programs
    device = EmulatorDevice()
    loaded = device.load(program, ArtifactSource(artifact))
    assert device.engines == ("compiled",)
    results = loaded.run([inputs[port.name] for port in program.inputs], None)
    return {port.name: value for port, value in zip(program.outputs, results, strict=True)}


GRAPHS: dict[str, tuple[Callable[..., Any], list[tuple[Any, ...]]]] = {
    "elementwise": (lambda x, y: ts.gelu(x * y + 0.5) - ts.exp(-ts.abs(y)), [("n", 37), (37,)]),
    "softmax": (lambda x: ts.softmax(x), [("n", 130)]),
    "layernorm": (lambda x: ts.layernorm(x), [("n", 96)]),
    "matmul": (lambda x, y: ts.relu(ts.matmul(x, y)), [("n", 40), (40, 24)]),
    "sums": (lambda x: ts.sum(x, axis=0) + ts.max(x), [(9, 37)]),
    "transpose": (lambda x: ts.transpose(x) * 2.0, [(9, 37)]),
}


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("name", GRAPHS)
def test_generated_kernels_agree_with_float64(name: str, dtype: str, rng: np.random.Generator) -> None:
    fn, shapes = GRAPHS[name]
    jitted = ts.jit(fn, name=name)
    specs = [ts.TensorSpec(shape, dtype) for shape in shapes]
    artifact = AOTCompiler(target_architectures=["sm_80"]).compile(jitted, specs).artifact
    (program,) = artifact.programs
    sizes = [tuple(9 if n == "n" else n for n in shape) for shape in shapes]
    inputs = {
        p.name: rng.standard_normal(size).astype(p.dtype.numpy)
        for p, size in zip(program.inputs, sizes, strict=True)
    }
    found = run_on_engine(artifact, inputs)
    traced = jitted.trace(specs)
    expected = run_graph(traced.graph, inputs, traced.constants, precision="f64")
    tolerance = {"f32": 2e-5, "f16": 4e-3, "bf16": 4e-2}[dtype]
    for output, value in expected.items():
        scale = max(float(np.abs(value).max()), 1e-3)
        assert np.abs(found[output].astype(np.float64) - value).max() <= tolerance * scale
